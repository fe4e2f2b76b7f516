//! A real Apache Cassandra, started from a folder of jars: one node on a loopback address and ports of its own.
//!
//! **Invariants.** No node outlives the test process, whatever ends it: the JVM is the child of a small shell that reads
//! its standard input, which is a pipe from here, and kills the JVM and removes its folder when the pipe closes.
//! Missing jars are a failure, never a skip.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use scylla::client::{session::Session, session_builder::SessionBuilder};

use super::eventually::step;

const START_MAX: Duration = Duration::from_mins(2);

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
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `materialized_views_enabled: false`
    pub without_views: bool,
    /// Ask for user and password: `cassandra`, `cassandra`.
    pub password: bool,
    /// What was acknowledged outlives [`Cassandra::stop`]; each write waits for the disk. Else the last second is lost.
    pub durable: bool,
    /// PEM file with key and certificate chain: TLS for clients.
    pub tls: Option<PathBuf>,
}

/// A node.
#[derive(Debug)]
pub struct Cassandra {
    folder: PathBuf,
    ip: Ipv4Addr,
    port: u16,
    durable: bool,
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
    /// A new node, empty.
    pub fn start(options: &Options) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("balance-cache-cassandra-")
            .tempdir()
            .unwrap()
            .keep();
        let ip = own_address();
        let (port, storage) = free_ports(ip);
        fs::write(
            folder.join("cassandra.yaml"),
            yaml(&folder, ip, port, storage, options),
        )
        .unwrap();
        fs::write(folder.join("logback.xml"), LOGBACK).unwrap();
        let mut node = Self {
            folder,
            ip,
            port,
            durable: options.durable,
            running: None,
        };
        node.start_again();
        node
    }

    /// Starts the stopped node with the data it had.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let log = self.folder.join("out.log");
        let _ = fs::remove_file(&log);
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([&self.folder, &log])
            .arg("java")
            .args(self.java_arguments(&jars()))
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
        self.await_startup(&log);
    }

    fn await_startup(&self, log: &Path) {
        let deadline = Instant::now() + START_MAX;
        loop {
            let text = fs::read_to_string(log).unwrap_or_default();
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

    fn java_arguments(&self, jars: &Path) -> Vec<String> {
        const EXPORTS: &str = "java.base/jdk.internal.misc java.base/jdk.internal.ref java.base/sun.nio.ch \
        java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server \
        java.sql/java.sql jdk.unsupported/sun.misc";
        const OPENS: &str = "java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref \
        java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module \
        java.base/jdk.internal.util.jar java.base/jdk.internal.misc java.base/sun.nio.ch java.base/java.io \
        java.base/java.util java.base/java.util.concurrent java.base/java.util.concurrent.atomic \
        java.base/java.nio java.base/java.lang java.base/java.lang.ref java.base/java.lang.reflect \
        java.base/java.math java.base/java.net java.base/java.time jdk.management/com.sun.management.internal";
        let (folder, jars) = (self.folder.display(), jars.display());
        let mut arguments: Vec<String> = [
            &format!("-javaagent:{jars}/jamm-0.4.0.jar"),
            "-Xms256m",
            "-Xmx1g",
            "-XX:+UseSerialGC",
            "-Djdk.attach.allowAttachSelf=true",
            &format!("-Dcassandra.config=file://{folder}/cassandra.yaml"),
            &format!("-Dcassandra.storagedir={folder}"),
            &format!("-Dlogback.configurationFile={folder}/logback.xml"),
            // Else it closes its standard output before it says that it is up.
            "-Dcassandra-foreground=yes",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            "-Dcassandra.ring_delay_ms=1",
            "-Dcassandra.superuser_setup_delay_ms=-1",
        ]
        .map(str::to_owned)
        .into();
        if !self.durable {
            // Each change of the schema would be flushed table by table: more than half a second.
            arguments.push("-Dcassandra.test.flush_local_schema_changes=false".to_owned());
            arguments.push("-Dcassandra.unsafesystem=true".to_owned());
        }
        let flags = [("--add-exports", EXPORTS), ("--add-opens", OPENS)];
        for (flag, packages) in flags {
            for package in packages.split_whitespace() {
                arguments.extend([flag.to_owned(), format!("{package}=ALL-UNNAMED")]);
            }
        }
        let class = "org.apache.cassandra.service.CassandraDaemon".to_owned();
        arguments.extend(["-cp".to_owned(), format!("{jars}/*"), class]);
        arguments
    }

    /// `address:port` of the native protocol.
    pub fn node(&self) -> String {
        format!("{}:{}", self.ip, self.port)
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

    /// A bare driver session.
    pub async fn session(&self) -> Session {
        SessionBuilder::new()
            .known_node(self.node())
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

/// Two ports, both held until both are known.
fn free_ports(ip: Ipv4Addr) -> (u16, u16) {
    let [one, two] = [(); 2].map(|()| TcpListener::bind((IpAddr::V4(ip), 0)).unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    (port(&one), port(&two))
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the jars are is told by the environment"
)]
fn jars() -> PathBuf {
    let folder = env::var_os("BALANCE_CACHE_TEST_CASSANDRA_LIB").map_or_else(
        || {
            let home = PathBuf::from(env::var_os("HOME").expect("HOME is set"));
            home.join(".cache/balance-cache-test/cassandra-5.0.6/lib")
        },
        PathBuf::from,
    );
    assert!(
        folder.join("cassandra-all-5.0.6.jar").exists(),
        "these tests need a real Cassandra: its jars are not in {}; ./test fetches them, or name their folder in \
         BALANCE_CACHE_TEST_CASSANDRA_LIB",
        folder.display()
    );
    folder
}

const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %F:%L - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"#;

fn yaml(folder: &Path, ip: Ipv4Addr, port: u16, storage: u16, options: &Options) -> String {
    let folder = folder.display();
    let views = !options.without_views;
    let sync = if options.durable {
        "commitlog_sync: batch"
    } else {
        "commitlog_sync: periodic\ncommitlog_sync_period: 1000ms"
    };
    let authenticator = if options.password {
        "PasswordAuthenticator"
    } else {
        "AllowAllAuthenticator"
    };
    let tls = options.tls.as_ref().map_or(String::new(), |pem| {
        format!(
            "client_encryption_options:\n  enabled: true\n  optional: false\n  require_client_auth: false\n  \
             ssl_context_factory:\n    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n  \
             keystore: {}\n",
            pem.display()
        )
    });
    format!(
        "cluster_name: test
num_tokens: 1
initial_token: \"0\"
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
authenticator: {authenticator}
{sync}
commitlog_segment_size: 8MiB
commitlog_directory: {folder}/commitlog
data_file_directories: [{folder}/data]
saved_caches_directory: {folder}/saved_caches
hints_directory: {folder}/hints
cdc_raw_directory: {folder}/cdc_raw
endpoint_snitch: SimpleSnitch
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: \"{ip}:{storage}\"
listen_address: {ip}
rpc_address: {ip}
storage_port: {storage}
native_transport_port: {port}
start_native_transport: true
materialized_views_enabled: {views}
auto_snapshot: false
auto_bootstrap: false
key_cache_size: 16MiB
row_cache_size: 0MiB
counter_cache_size: 0MiB
file_cache_size: 64MiB
memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
concurrent_reads: 16
concurrent_writes: 16
{tls}"
    )
}
