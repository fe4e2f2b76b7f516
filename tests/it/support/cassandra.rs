//! A real Apache Cassandra, started from a folder of jars: a node on a loopback address and ports of its own, alone or
//! one of a cluster's.
//!
//! **Invariants.** No node outlives the test process, whatever ends it: the JVM is the child of a small shell that reads
//! its standard input, which is a pipe from here, and kills the JVM and removes its folder when the pipe closes.
//! Missing jars are a failure, never a skip.

#[path = "cassandra_config.rs"]
mod config;

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use scylla::client::{
    execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder,
};

use self::config::{java_arguments, write_files};
use super::eventually::step;

const START_MAX: Duration = Duration::from_mins(4);
/// A start that takes longer stands still: one takes some seconds, and up to a minute on a busy machine.
const STALLED: Duration = Duration::from_mins(2);

/// Kills the JVM when standard input ends; removes the folder if told to. Ignores the terminal's signals, which go to
/// the whole group, so that it is still there to do that.
const KEEPER: &str = r#"trap '' INT TERM HUP
remove=$1; log=$2; shift 2
"$@" >"$log" 2>&1 </dev/null &
jvm=$!
echo "$jvm"
exec >/dev/null 2>&1
cat >/dev/null
kill -9 "$jvm"; wait "$jvm"
rm -rf "$remove""#;

/// What a node is started with.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `materialized_views_enabled: false`
    pub without_views: bool,
    /// Ask for user and password: `cassandra`, `cassandra`.
    pub password: bool,
    /// What was acknowledged outlives [`Cassandra::stop`]; each write waits for the disk. Else the last second is lost.
    pub durable: bool,
    /// It is empty and takes the place of the node that had its address.
    pub replaces: bool,
    /// PEM file with key and certificate chain: TLS for clients.
    pub tls: Option<PathBuf>,
    pub compiled: Compiled,
}

/// How the JVM compiles a node's code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compiled {
    /// A third less work at the start, which is most of what a node does in a test.
    #[default]
    Quickly,
    /// For what is measured.
    Well,
}

/// A node's place among others: all of them have the same ports, which is how they and their clients find each other.
#[derive(Debug, Clone)]
pub struct Seat {
    pub ip: Ipv4Addr,
    /// Of clients.
    pub port: u16,
    /// Of the other nodes.
    pub storage: u16,
    /// Where its part of the ring begins.
    pub token: i64,
    /// Whom it asks who else is there.
    pub seeds: Vec<Ipv4Addr>,
}

impl Seat {
    /// Seats of one cluster, the ring divided evenly.
    pub fn several(count: u8) -> Vec<Self> {
        let seeds: Vec<_> = (0..count).map(|_| own_address()).collect();
        let [port, storage] = free_ports(&seeds);
        (0..count)
            .zip(&seeds)
            .map(|(at, ip)| Self {
                ip: *ip,
                port,
                storage,
                token: token(at, count),
                seeds: seeds.clone(),
            })
            .collect()
    }
}

/// A node.
#[derive(Debug)]
pub struct Cassandra {
    folder: PathBuf,
    seat: Seat,
    options: Options,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    keeper: Child,
    jvm: u32,
}

impl Running {
    /// A process that ended and was not waited for yet is a zombie. (Its command line would not do: it is empty for a
    /// moment at every exec, too.)
    fn alive(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.jvm)).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        !state.is_empty() && !state.starts_with(['Z', 'X'])
    }
}

static SHARED: LazyLock<Cassandra> = LazyLock::new(|| Cassandra::start(&Options::default()));

/// The node that all tests of this binary share; each takes a keyspace of its own.
pub fn shared() -> &'static Cassandra {
    &SHARED
}

impl Cassandra {
    /// A new node, empty and alone.
    pub fn start(options: &Options) -> Self {
        let mut seats = Seat::several(1);
        let mut node = Self::prepare(seats.remove(0), options);
        node.start_again();
        node
    }

    /// Without starting it.
    pub fn prepare(seat: Seat, options: &Options) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("balance-cache-cassandra-")
            .tempdir()
            .unwrap()
            .keep();
        write_files(&folder, &seat, options);
        Self {
            folder,
            seat,
            options: options.clone(),
            running: None,
        }
    }

    /// Starts the stopped node with the data it had, and waits until it takes clients.
    ///
    /// A node that was killed seldom stops in the middle of its start without a word: it is ended, and started once more.
    pub fn start_again(&mut self) {
        self.launch();
        if self.stalls() {
            self.print_threads();
            self.stop();
            self.launch();
        }
        self.await_startup();
    }

    /// It lives, and does not take clients in [`STALLED`].
    fn stalls(&self) -> bool {
        let deadline = Instant::now() + STALLED;
        while self.running.as_ref().is_some_and(Running::alive) {
            let text = fs::read_to_string(self.log()).unwrap_or_default();
            if text.contains("Startup complete") {
                return false;
            }
            if Instant::now() > deadline {
                return true;
            }
            step();
        }
        false
    }

    /// The JVM writes its threads into its log at SIGQUIT; the test prints the log's end.
    fn print_threads(&self) {
        self.signal("-QUIT");
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut text = String::new();
        while !text.contains("Full thread dump") && Instant::now() < deadline {
            step();
            text = fs::read_to_string(self.log()).unwrap_or_default();
        }
        let lines: Vec<_> = text.lines().collect();
        let (_, end) = lines.split_at(lines.len().saturating_sub(1_500));
        let told = format!("a node's start stands still:\n{}\n", end.join("\n"));
        // The bench that includes this file may not print by macro.
        let _ = io::stderr().write_all(told.as_bytes());
    }

    /// The same without waiting.
    pub fn launch(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let log = self.log();
        let _ = fs::remove_file(&log);
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([&self.folder, &log])
            .arg("java")
            .args(java_arguments(&self.folder, &self.seat, &self.options))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh can be started");
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap())
            .read_line(&mut pid)
            .unwrap();
        self.running = Some(Running {
            keeper,
            jvm: pid.trim().parse().unwrap(),
        });
    }

    fn log(&self) -> PathBuf {
        self.folder.join("out.log")
    }

    /// Starts the stopped node without its data, in the place of the one that it was: it reads its part of the ring from the others.
    pub fn replace(&mut self) {
        for part in ["data", "commitlog", "saved_caches", "hints", "cdc_raw"] {
            let _ = fs::remove_dir_all(self.folder.join(part));
        }
        self.options.replaces = true;
        write_files(&self.folder, &self.seat, &self.options);
        self.launch();
        self.await_startup();
    }

    /// Waits until it takes clients.
    pub fn await_startup(&self) {
        let log = self.log();
        let deadline = Instant::now() + START_MAX;
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains("Startup complete") {
                return;
            }
            let alive = self.running.as_ref().is_some_and(Running::alive);
            let tail = || text.chars().rev().take(4_000).collect::<Vec<_>>();
            assert!(
                alive && Instant::now() < deadline,
                "Cassandra did not start (java 17 is needed):\n{}",
                tail().into_iter().rev().collect::<String>()
            );
            step();
        }
    }

    /// `address:port` of the native protocol.
    pub fn node(&self) -> String {
        format!("{}:{}", self.seat.ip, self.seat.port)
    }

    /// SIGSTOP: it holds its connections and says nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// kill −9; the data stay as far as they were on disk, see [`Options::durable`].
    pub fn stop(&mut self) {
        self.signal("-KILL");
        if let Some(mut running) = self.running.take() {
            let deadline = Instant::now() + START_MAX;
            while running.alive() {
                assert!(Instant::now() < deadline, "it does not end");
                step();
            }
            // The folder stays: the keeper is ended before it could remove it.
            running.keeper.kill().unwrap();
            running.keeper.wait().unwrap();
        }
    }

    fn signal(&self, signal: &str) {
        let jvm = self.running.as_ref().expect("it runs").jvm.to_string();
        let done = Command::new("kill").args([signal, &jvm]).status().unwrap();
        assert!(done.success());
    }

    /// A bare driver session, with more patience than the driver has by itself.
    pub async fn session(&self) -> Session {
        let patient = ExecutionProfile::builder().request_timeout(Some(START_MAX));
        SessionBuilder::new()
            .known_node(self.node())
            .connection_timeout(STALLED)
            .default_execution_profile_handle(patient.build().into_handle())
            .build()
            .await
            .expect("the node takes sessions")
    }
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.keeper.stdin.take());
            let _ = running.keeper.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A loopback address that no other test process is likely to use.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = process::id().to_be_bytes();
    let last = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, high.max(1), low, last)
}

/// The first of a part of the ring; the lowest number is no token.
fn token(at: u8, count: u8) -> i64 {
    let whole = i128::from(u64::MAX);
    let first = i128::from(i64::MIN) + 1 + whole * i128::from(at) / i128::from(count);
    i64::try_from(first).unwrap()
}

/// Two ports that are free on all of these addresses; all are held until both are known.
fn free_ports(addresses: &[Ipv4Addr]) -> [u16; 2] {
    let mut held = Vec::new();
    [(); 2].map(|()| {
        loop {
            if let Some(port) = free_port(addresses, &mut held) {
                return port;
            }
        }
    })
}

/// The kernel chooses it on the first; it may be taken on another.
fn free_port(addresses: &[Ipv4Addr], held: &mut Vec<TcpListener>) -> Option<u16> {
    let mut port = 0;
    for ip in addresses {
        let listener = TcpListener::bind((IpAddr::V4(*ip), port)).ok()?;
        port = listener.local_addr().unwrap().port();
        held.push(listener);
    }
    Some(port)
}
