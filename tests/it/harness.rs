//! Proof that what the tests stand on stands: a test that cannot fail proves nothing, nor does a wire that is not cut.

use std::{
    collections::HashSet,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::{
    eventually::{eventually, eventually_async},
    port::Port,
    process::Process,
    proxy::{Mode, Proxy, Way},
    redis::{Options, Redis},
    redis_cluster::RedisCluster,
};

const SOON: Duration = Duration::from_secs(30);

/// Long enough for what should not come, on a wire of 127.0.0.1.
const NEVER: Duration = Duration::from_millis(200);

// === waiting, ports, processes ===

#[test]
#[should_panic(expected = "not within 10ms: the sun rises in the west")]
fn what_does_not_happen_in_time_fails_the_test() {
    eventually(
        Duration::from_millis(10),
        "the sun rises in the west",
        || None::<()>,
    );
}

#[tokio::test]
#[should_panic(expected = "not within 10ms: an answer")]
async fn a_question_that_hangs_fails_the_test() {
    eventually_async(
        Duration::from_millis(10),
        "an answer",
        std::future::pending::<Option<()>>,
    )
    .await;
}

#[test]
fn reserved_ports_are_distinct_refuse_connections_and_let_a_server_in() {
    let ports: Vec<Port> = (0..200).map(|_| Port::reserve()).collect();
    let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
    assert_eq!(numbers.len(), ports.len());
    for _life in 0..2 {
        let refused = TcpStream::connect(ports[0].address()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let listener = TcpListener::bind(ports[0].address()).unwrap();
        TcpStream::connect(ports[0].address()).unwrap();
        drop(listener);
    }
}

fn sh(script: &str, folder: &Path) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("WORD", "there");
    Process::start(&command, folder)
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_process_tells_its_output_and_its_exit_code() {
    let folder = TempDir::new().unwrap();
    let mut process = sh("echo hello $WORD; echo why >&2; exit 7", folder.path());
    assert_eq!(process.exit(SOON), 7);
    assert_eq!(process.stdout(), "hello there\n");
    assert_eq!(process.stderr(), "why\n");
    assert!(process.logs().contains("hello there"));
}

#[test]
fn a_process_ends_by_signal_by_kill_and_with_the_test() {
    let folder = TempDir::new().unwrap();
    let lasting = "echo up; exec tail -f /dev/null";
    for way in ["signal", "kill", "drop"] {
        let logs = folder.path().join(way);
        fs::create_dir(&logs).unwrap();
        let mut process = sh(lasting, &logs);
        let pid = process.pid();
        eventually(SOON, "the process is up", || {
            (process.stdout() == "up\n").then_some(())
        });
        assert_eq!(process.exited(), None);
        assert!(alive(pid));
        match way {
            "signal" => {
                process.signal("TERM");
                assert_eq!(process.exit(SOON), 128 + 15);
            }
            "kill" => process.kill9(),
            _ => drop(process),
        }
        assert!(!alive(pid), "{way}");
    }
}

// === redis ===

#[test]
fn redis_forgets_at_a_crash_unless_it_writes_to_disk() {
    for appendonly in [false, true] {
        let mut redis = Redis::start_with(Options {
            appendonly,
            ..Options::default()
        });
        let address = redis.address();
        let () = redis.ask(&["SET", "balance:user:1", "9100"]);
        redis.kill9();
        assert!(redis.try_connection().is_err());
        redis.restart();
        assert_eq!(redis.address(), address);
        let kept: Option<String> = redis.ask(&["GET", "balance:user:1"]);
        assert_eq!(kept.is_some(), appendonly);
        redis.restart_empty();
        assert_eq!(redis.ask::<u64>(&["DBSIZE"]), 0);
    }
}

#[test]
fn redis_keeps_what_is_on_disk_over_an_orderly_restart() {
    let mut redis = Redis::start_with(Options {
        appendonly: true,
        ..Options::default()
    });
    let () = redis.ask(&["SET", "a", "1"]);
    redis.restart();
    assert_eq!(redis.ask::<u64>(&["GET", "a"]), 1);
}

#[test]
fn a_paused_redis_is_silent_and_goes_on_when_resumed() {
    let mut redis = Redis::start();
    let mut connection = redis.connection();
    redis.pause();
    connection.set_read_timeout(Some(NEVER)).unwrap();
    let asked = Instant::now();
    redis::cmd("PING")
        .query::<String>(&mut connection)
        .unwrap_err();
    assert!(asked.elapsed() >= NEVER);
    redis.resume();
    assert_eq!(redis.ask::<String>(&["PING"]), "PONG");
}

#[test]
fn redis_takes_settings_and_a_unix_socket() {
    let settings = vec![
        ("maxmemory", "2mb".to_owned()),
        ("maxmemory-policy", "allkeys-lru".to_owned()),
    ];
    let redis = Redis::start_with(Options {
        settings,
        ..Options::default()
    });
    let mut connection = redis::Client::open(redis.unix_url())
        .unwrap()
        .get_connection()
        .unwrap();
    let policy: Vec<String> = redis::cmd("CONFIG")
        .arg(&["GET", "maxmemory-policy"])
        .query(&mut connection)
        .unwrap();
    assert_eq!(policy, ["maxmemory-policy", "allkeys-lru"]);
}

#[test]
fn redis_with_tls_answers_those_who_know_its_authority_only() {
    let redis = Redis::start_with(Options {
        tls: true,
        ..Options::default()
    });
    assert!(redis.url().starts_with("rediss://"));
    assert_eq!(redis.ask::<String>(&["PING"]), "PONG");
    assert!(
        fs::read_to_string(redis.ca_file())
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
    redis::Client::open(redis.url())
        .unwrap()
        .get_connection_with_timeout(SOON)
        .err()
        .unwrap();
}

#[test]
fn a_redis_cluster_of_six_serves_every_slot_and_replaces_a_dead_master() {
    let mut cluster = RedisCluster::start();
    // A node that stands still for a second may have been replaced.
    let masters = |cluster: &RedisCluster| {
        let three = || Some(cluster.masters()).filter(|all| all.len() == 3);
        eventually(3 * SOON, "there are three masters", three)
    };
    let urls: Vec<String> = cluster.url().split(',').map(str::to_owned).collect();
    assert_eq!(urls.len(), 6);
    let client = redis::cluster::ClusterClient::new(urls).unwrap();
    let mut connection = client.get_connection().unwrap();
    for user in 0..50 {
        let () = redis::cmd("SET")
            .arg(format!("balance:user:{user}"))
            .arg(user)
            .query(&mut connection)
            .unwrap();
    }
    let dead = masters(&cluster)[0];
    cluster.nodes()[dead].kill9();
    masters(&cluster);
}

// === proxy ===

/// A server that sends back what it gets, until everybody has left.
fn echo() -> Port {
    let port = Port::reserve();
    let listener = TcpListener::bind(port.address()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, word: &[u8]) {
    stream.write_all(word).unwrap();
    expect(stream, word);
}

fn expect(stream: &mut TcpStream, word: &[u8]) {
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, word);
}

fn silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(NEVER)).unwrap();
    let kind = stream.read(&mut [0]).unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{kind}"
    );
    stream.set_read_timeout(Some(SOON)).unwrap();
}

fn reset(stream: &mut TcpStream) {
    let kind = stream.read(&mut [0]).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::ConnectionReset);
}

#[test]
fn the_proxy_passes_and_counts() {
    let server = echo();
    let proxy = Proxy::start(server.address());
    let mut stream = connect(&proxy);
    ask(&mut stream, b"hello");
    let large = vec![7; 3_000_000];
    let mut writer = stream.try_clone().unwrap();
    let written = thread::spawn(move || {
        writer.write_all(&large).unwrap();
        large
    });
    let mut answer = vec![0; 3_000_000];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, written.join().unwrap());
    let counts = proxy.counts();
    assert_eq!((counts.accepted(), counts.open()), (1, 1));
    let told =
        || (counts.to_server() == 3_000_005 && counts.to_client() == 3_000_005).then_some(());
    eventually(SOON, "all bytes are counted", told);
    drop(stream);
    eventually(SOON, "the connection is closed", || {
        (counts.open() == 0).then_some(())
    });
}

#[test]
fn the_proxy_cuts_and_heals() {
    let server = echo();
    let proxy = Proxy::start(server.address());
    let mut stream = connect(&proxy);
    ask(&mut stream, b"hello");
    proxy.set(Mode::Cut);
    reset(&mut stream);
    let refused = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(proxy.counts().open(), 0);
    proxy.set(Mode::Pass);
    ask(&mut connect(&proxy), b"again");
}

#[test]
fn the_proxy_swallows_and_never_continues_a_connection_that_lost_bytes() {
    let server = echo();
    let proxy = Proxy::start(server.address());
    let (mut old, mut idle) = (connect(&proxy), connect(&proxy));
    ask(&mut old, b"hello");
    ask(&mut idle, b"hello");
    proxy.set(Mode::Swallow(Way::Both));
    let mut new = connect(&proxy);
    for stream in [&mut old, &mut new] {
        stream.write_all(b"lost").unwrap();
        silent(stream);
    }
    let lost = || (proxy.counts().swallowed() == 8).then_some(());
    eventually(SOON, "both words are lost", lost);
    proxy.set(Mode::Pass);
    reset(&mut old);
    reset(&mut new);
    ask(&mut idle, b"still here");
}

#[test]
fn the_proxy_swallows_one_direction() {
    let server = echo();
    let proxy = Proxy::start(server.address());
    let mut stream = connect(&proxy);
    proxy.set(Mode::Swallow(Way::ToClient));
    stream.write_all(b"heard").unwrap();
    silent(&mut stream);
    let counts = proxy.counts();
    let told = || ((counts.to_server(), counts.swallowed()) == (5, 5)).then_some(());
    eventually(SOON, "it is heard, and the answer lost", told);
    assert_eq!(counts.to_client(), 0);
}

#[test]
fn the_proxy_stalls_and_delivers_late() {
    let server = echo();
    let proxy = Proxy::start(server.address());
    let mut stream = connect(&proxy);
    ask(&mut stream, b"hello");
    proxy.set(Mode::Stall(Way::ToServer));
    stream.write_all(b"late").unwrap();
    silent(&mut stream);
    proxy.set(Mode::Pass);
    expect(&mut stream, b"late");
}

#[test]
fn the_proxy_delays_both_ways() {
    let server = echo();
    let proxy = Proxy::start(server.address());
    let mut stream = connect(&proxy);
    let delay = Duration::from_millis(100);
    proxy.set(Mode::Delay(delay));
    let asked = Instant::now();
    ask(&mut stream, b"hello");
    assert!(asked.elapsed() >= 2 * delay);
}

#[test]
fn a_redis_behind_a_cut_wire_is_back_when_it_heals() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    let client = redis::Client::open(format!("redis://{}", proxy.address())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let () = redis::cmd("SET")
        .arg("a")
        .arg(1)
        .query(&mut connection)
        .unwrap();
    proxy.set(Mode::Cut);
    redis::cmd("GET")
        .arg("a")
        .query::<u64>(&mut connection)
        .unwrap_err();
    client.get_connection().err().unwrap();
    proxy.set(Mode::Pass);
    let mut connection = client.get_connection().unwrap();
    assert_eq!(
        redis::cmd("GET")
            .arg("a")
            .query::<u64>(&mut connection)
            .unwrap(),
        1
    );
}
