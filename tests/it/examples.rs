//! The clients of `examples`, against the real binary: a read with `min_seq`, a notification, and 503 and 429 that pass.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    eventually::{eventually, eventually_async},
    redis::Redis,
    service::{Service, Setup},
    stage::{counted, in_order},
};

const TOKEN: &str = "example";

/// A client may be told ten times to come back after three seconds.
const SOON: Duration = Duration::from_mins(1);

/// Types of `client.ts`, for a Node that cannot erase them itself. The longer ones first.
const TYPES: [&str; 11] = [
    "?: string",
    ": Record<string, string>",
    ": Promise<Balance[]>",
    ": Promise<Applied>",
    ": Promise<void>",
    ": Promise<any>",
    ": RequestInit",
    ": string[]",
    ": string",
    ": unknown",
    ": number",
];

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

/// Program and first arguments of each client.
struct Clients {
    all: Vec<(&'static str, Vec<String>)>,
    _folder: TempDir,
}

impl Clients {
    /// Those that this machine has an interpreter for; the others are named.
    fn of_this_machine() -> Self {
        let folder = TempDir::with_prefix("examples-").unwrap();
        let mut all = vec![("curl", words(&["sh", &text(&example("curl.sh"))]))];
        if is_there("python3", "--version") {
            all.push(("python3", words(&["python3", &text(&example("client.py"))])));
        }
        if is_there("go", "version") {
            let program = text(&folder.path().join("client"));
            let mut build = Command::new("go");
            build
                .args(["build", "-o", &program])
                .arg(example("client.go"));
            let output = build.current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            all.push(("go", vec![program]));
        }
        if is_there("node", "--version") {
            all.push(("node", typescript(&folder)));
        }
        Self {
            all,
            _folder: folder,
        }
    }

    /// Starts each of them.
    fn start(&self, asked: SocketAddr, arguments: &[&str]) -> Vec<(&'static str, Child)> {
        let start = |(name, program): &(&'static str, Vec<String>)| {
            let child = Command::new(&program[0])
                .args(&program[1..])
                .args(arguments)
                .env("BALANCE_CACHE_URL", format!("http://{asked}"))
                .env("BALANCE_CACHE_TOKEN", TOKEN)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            (*name, child)
        };
        self.all.iter().map(start).collect()
    }

    /// Runs each of them to its end.
    fn run(&self, asked: SocketAddr, arguments: &[&str]) -> Vec<(&'static str, Output)> {
        ended(self.start(asked, arguments))
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn is_there(program: &str, question: &str) -> bool {
    let said = Command::new(program).arg(question).output();
    let there = said.is_ok_and(|said| said.status.success());
    if !there {
        eprintln!("SKIPPED: the example for {program}: this machine has none");
    }
    there
}

/// Node itself erases types from 22.6 on; for an older one the test does.
fn typescript(folder: &TempDir) -> Vec<String> {
    let strip = "--experimental-strip-types";
    let known = Command::new("node")
        .args([strip, "-e", ""])
        .output()
        .unwrap();
    if known.status.success() {
        return words(&["node", strip, "--no-warnings", &text(&example("client.ts"))]);
    }
    let mut erased = String::new();
    let mut in_interface = false;
    for line in fs::read_to_string(example("client.ts")).unwrap().lines() {
        in_interface |= line.starts_with("interface ");
        if !in_interface {
            let line = TYPES
                .iter()
                .fold(line.to_owned(), |line, of| line.replace(of, ""));
            erased.push_str(&line);
            erased.push('\n');
        }
        in_interface &= line != "}";
    }
    let file = folder.path().join("client.mjs");
    fs::write(&file, erased).unwrap();
    words(&["node", &text(&file)])
}

fn ended(clients: Vec<(&'static str, Child)>) -> Vec<(&'static str, Output)> {
    let end = |(name, mut child): (&'static str, Child)| {
        eventually(SOON, name, || child.try_wait().unwrap());
        (name, child.wait_with_output().unwrap())
    };
    clients.into_iter().map(end).collect()
}

/// The JSON that a client printed. curl shows the envelope, the others its data.
#[track_caller]
fn data((name, output): &(&'static str, Output)) -> Value {
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {printed}{complaint}");
    let value: Value = serde_json::from_str(&printed).unwrap();
    value.get("data").cloned().unwrap_or(value)
}

fn notification(seq: i64) -> String {
    json!({"user_id": 1001, "asset_id": 1, "seq": seq, "avail": 920_000_000_000_i64, "frozen": 0})
        .to_string()
}

/// A service with Redis before a ledger of its own, and every client.
async fn stage() -> (Redis, Service, Clients) {
    let redis = Redis::start();
    let setup = Setup::default()
        .with("redis.url", redis.url())
        .with_token(TOKEN, r#""read", "settle""#);
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    (redis, service, Clients::of_this_machine())
}

/// Waits until each client was told once more that it failed.
async fn each_failed(
    service: &Service,
    clients: &Clients,
    name: &str,
    labels: &[&str],
    before: u64,
) {
    let count = u64::try_from(clients.all.len()).unwrap();
    eventually_async(SOON, "each client was told to come back", async || {
        let failed = counted(service, name, labels).await;
        (failed >= before + count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_clients_read_with_min_seq_and_notify() {
    let (_redis, service, clients) = stage().await;
    for said in clients.run(service.http(), &["read", "1001"]) {
        let btc = &data(&said)[0];
        let seen = (&btc["asset"], &btc["avail"], &btc["seq"]);
        assert_eq!(
            seen,
            (&json!("BTC"), &json!("9100"), &json!(17)),
            "{}",
            said.0
        );
    }
    let mut applied = 0;
    for said in clients.run(service.http(), &["notify", &notification(18)]) {
        let counts = data(&said);
        let (new, old) = (counts["applied"].as_i64(), counts["old"].as_i64());
        let both = new.zip(old).map(|(new, old)| new + old);
        assert_eq!(both, Some(1), "{}", said.0);
        applied += new.unwrap();
    }
    // None, where the answer of the one that changed something was lost on a busy machine, and it asked again.
    assert!(applied <= 1, "{applied}");
    for said in clients.run(service.http(), &["read", "1001", "BTC:18"]) {
        assert_eq!(data(&said)[0]["avail"], "9200", "{}", said.0);
    }
    // A request that can never succeed is not tried again.
    for (name, output) in clients.run(service.http(), &["read", "nobody"]) {
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(complaint.contains("1001"), "{name}: {complaint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_clients_wait_out_a_503() {
    let (mut redis, service, clients) = stage().await;
    // A seq that is not reached yet (5032): each client comes back until it is.
    let failed = [r#"outcome="failed""#];
    let before = counted(&service, "reads_total", &failed).await;
    let waiting = clients.start(service.http(), &["read", "1001", "BTC:19"]);
    each_failed(&service, &clients, "reads_total", &failed, before).await;
    let body: Value = serde_json::from_str(&notification(19)).unwrap();
    eventually_async(SOON, "it takes effect", async || {
        let request = service
            .request(reqwest::Method::POST, "/api/v1/settlements")
            .bearer_auth(TOKEN)
            .json(&body);
        (service.send(request).await.status == 200).then_some(())
    })
    .await;
    for said in ended(waiting) {
        assert_eq!(data(&said)[0]["seq"], 19, "{}", said.0);
    }
    // Redis is away (5033): a notification is sent again until it is acknowledged.
    let refused = [r#"via="http""#, r#"result="failed""#];
    let before = counted(&service, "notifications_total", &refused).await;
    redis.kill9();
    let waiting = clients.start(service.http(), &["notify", &notification(20)]);
    each_failed(&service, &clients, "notifications_total", &refused, before).await;
    redis.launch();
    for said in ended(waiting) {
        let _ = data(&said);
    }
    for said in clients.run(service.http(), &["read", "1001", "BTC:20"]) {
        assert_eq!(data(&said)[0]["seq"], 20, "{}", said.0);
    }
}

#[test]
fn the_example_clients_come_back_after_a_429_when_they_are_told_to() {
    let clients = Clients::of_this_machine();
    for client in &clients.all {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve_busy_then_free(&listener));
        let only = Clients {
            all: vec![client.clone()],
            _folder: TempDir::new().unwrap(),
        };
        let said = only.run(asked, &["read", "1001"]);
        assert_eq!(data(&said[0]), json!([]), "{}", client.0);
        let between = server.join().unwrap();
        assert!(
            between >= Duration::from_secs(1),
            "{}: {between:?}",
            client.0
        );
    }
}

/// Answers 429 with `Retry-After: 1`, then 200. Returns the time between.
fn serve_busy_then_free(listener: &TcpListener) -> Duration {
    let busy = r#"{"status":4291,"msg":"too much work in flight","data":null}"#;
    let free = r#"{"status":0,"msg":"ok","data":[]}"#;
    let mut times = Vec::new();
    for (head, body) in [
        ("429 Too Many Requests\r\nretry-after: 1", busy),
        ("200 OK", free),
    ] {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        times.push(Instant::now());
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).unwrap();
    }
    times[1] - times[0]
}
