//! A real PostgreSQL from the system's packages, on a port and in a folder of its own; a standby of one, where a test wants it.
//!
//! **Invariants.** No server outlives the test process, whatever ends it: it is the child of a small shell that reads its standard
//! input, which is a pipe from here, and ends the server and removes its folder when the pipe closes. Port and folder stay the same
//! over a restart. Nothing is forced to disk unless `durable` says so. A missing package is a failure, never a skip.

#[path = "postgres_programs.rs"]
mod programs;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use tokio_postgres::{Client, NoTls};
use tokio_util::task::TaskTracker;

use self::programs::{
    binary, children, give_to_server, new_folder, program, run, send_signal, stat,
};
use super::{eventually::step, port::Port};

/// How long it may take to start or end.
const TURN: Duration = Duration::from_mins(2);

/// Ends the server when standard input ends, and removes the folder. Ignores the terminal's signals, which go to the whole group.
const KEEPER: &str = r#"trap '' INT TERM HUP
remove=$1; log=$2; shift 2
"$@" >>"$log" 2>&1 </dev/null &
server=$!
echo "$server"
exec >/dev/null 2>&1
cat >/dev/null
kill -QUIT "$server"; kill -CONT "$server"; wait "$server"
rm -rf "$remove""#;

/// The superuser of every server here.
pub const SUPERUSER: &str = "postgres";

/// What a server is started with.
#[derive(Debug, Clone, Default)]
pub struct PgOptions {
    /// Each commit waits for the disk, so that what was acknowledged outlives [`PgServer::kill9`] of the machine. A killed server alone
    /// loses nothing either way.
    pub durable: bool,
    /// PEM files of certificate and key: TCP by TLS only.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// TCP asks for the password of each user but [`SUPERUSER`].
    pub password: bool,
    /// Further lines of postgresql.conf.
    pub settings: Vec<String>,
}

/// A server, ended when it is dropped.
#[derive(Debug)]
pub struct PgServer {
    folder: PathBuf,
    port: Port,
    running: Option<RunningServer>,
}

#[derive(Debug)]
struct RunningServer {
    keeper: Child,
    pid: u32,
}

static SHARED: LazyLock<PgServer> = LazyLock::new(|| PgServer::start(&PgOptions::default()));

/// Removes a folder when standard input ends.
const REMOVER: &str = r#"trap '' INT TERM HUP
cat >/dev/null
rm -rf "$1""#;

/// An empty cluster, made once and copied; removed by a process of its own when this one has ended.
static TEMPLATE: LazyLock<(PathBuf, Child)> = LazyLock::new(|| {
    let folder = new_folder();
    let mut remover = Command::new("sh");
    remover.args(["-c", REMOVER, "remover"]).arg(&folder);
    let remover = remover.stdin(Stdio::piped()).spawn().unwrap();
    let mut initdb = program("initdb");
    initdb.arg("-D").arg(folder.join("data"));
    initdb.args([
        "-U",
        SUPERUSER,
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]);
    run(initdb);
    (folder, remover)
});

/// The server that all tests of this program share; each takes a database of its own.
pub fn shared() -> &'static PgServer {
    &SHARED
}

impl PgServer {
    /// A new server, empty. Returns when it answers.
    pub fn start(options: &PgOptions) -> Self {
        let folder = new_folder();
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .arg(TEMPLATE.0.join("data"))
            .arg(folder.join("data"));
        run(copy);
        let server = Self {
            folder,
            port: Port::reserve(),
            running: None,
        };
        server.write_settings(options);
        server.started()
    }

    /// A standby that follows a running server, with its data so far.
    pub fn start_standby(of: &Self, options: &PgOptions) -> Self {
        let mut server = Self {
            folder: new_folder(),
            port: Port::reserve(),
            running: None,
        };
        server.copy_from(of, options);
        server.started()
    }

    /// Gives a stopped server the data of a running one, whose standby it is when it is launched, at the address that it had.
    pub fn copy_from(&mut self, of: &Self, options: &PgOptions) {
        assert!(self.running.is_none(), "it runs");
        let data = self.folder.join("data");
        let _ = fs::remove_dir_all(&data);
        let mut backup = program("pg_basebackup");
        backup.arg("-D").arg(data);
        backup.args(["-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]);
        backup.args(["-h", &of.folder.display().to_string()]);
        backup.args(["-p", &of.port.number().to_string(), "-U", SUPERUSER]);
        run(backup);
        self.write_settings(options);
    }

    fn started(mut self) -> Self {
        self.launch();
        self
    }

    fn write_settings(&self, options: &PgOptions) {
        let (socket, port) = (self.folder.display(), self.port.number());
        let durable = if options.durable { "on" } else { "off" };
        let mut lines = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("port = {port}"),
            format!("unix_socket_directories = '{socket}'"),
            format!("fsync = {durable}"),
            format!("full_page_writes = {durable}"),
            "shared_buffers = 32MB".to_owned(),
            "max_connections = 300".to_owned(),
            "dynamic_shared_memory_type = mmap".to_owned(),
            "track_commit_timestamp = on".to_owned(),
            "wal_retrieve_retry_interval = 200ms".to_owned(),
        ];
        let mut access = vec![
            "local all all trust".to_owned(),
            "local replication all trust".to_owned(),
            "host replication all 127.0.0.1/32 trust".to_owned(),
        ];
        let by = if options.tls.is_some() {
            "hostssl"
        } else {
            "host"
        };
        if options.password {
            access.push(format!("{by} all {SUPERUSER} 127.0.0.1/32 trust"));
            access.push(format!("{by} all all 127.0.0.1/32 scram-sha-256"));
        } else {
            access.push(format!("{by} all all 127.0.0.1/32 trust"));
        }
        if let Some((certificate, key)) = &options.tls {
            for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
                let to = self.folder.join("data").join(name);
                fs::copy(from, &to).unwrap();
                give_to_server(&to);
            }
            lines.push("ssl = on".to_owned());
        }
        lines.extend(options.settings.iter().cloned());
        let data = self.folder.join("data");
        for (name, lines) in [("postgresql.auto.conf", &lines), ("pg_hba.conf", &access)] {
            let path = data.join(name);
            // A standby has its way to the primary there already.
            let before = if name.starts_with("postgresql") {
                fs::read_to_string(&path).unwrap_or_default()
            } else {
                String::new()
            };
            fs::write(&path, format!("{before}\n{}\n", lines.join("\n"))).unwrap();
            give_to_server(&path);
        }
    }

    /// Starts the stopped server with the data that it has, and waits until it answers.
    pub fn launch(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let deadline = Instant::now() + TURN;
        self.running = Some(self.spawn());
        loop {
            let alive = self.running.as_ref().is_some_and(RunningServer::is_alive);
            if alive && self.is_ready() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "PostgreSQL did not start:\n{}",
                self.log()
            );
            if !alive {
                // Right after a kill, the last of the old processes may still be there.
                self.end_keeper();
                self.running = Some(self.spawn());
            }
            step();
        }
    }

    fn spawn(&self) -> RunningServer {
        let mut server = program("postgres");
        server.arg("-D").arg(self.folder.join("data"));
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]);
        keeper.args([&self.folder, &self.folder.join("log")]);
        keeper.arg(server.get_program()).args(server.get_args());
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().expect("sh can be started");
        let mut pid = String::new();
        let output = keeper.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut pid).unwrap();
        RunningServer {
            keeper,
            pid: pid.trim().parse().unwrap(),
        }
    }

    fn is_ready(&self) -> bool {
        let mut ask = Command::new(binary("pg_isready"));
        ask.args(["-q", "-h", &self.folder.display().to_string()]);
        ask.args(["-p", &self.port.number().to_string()]);
        ask.status().is_ok_and(|status| status.success())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `postgresql://…` of a database, for [`SUPERUSER`].
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{SUPERUSER}@{}/{database}", self.address())
    }

    /// A bare driver session by the Unix socket, whatever TCP asks for.
    pub async fn client(&self, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).port(self.port.number());
        config.user(SUPERUSER).dbname(database);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        TaskTracker::new().spawn(connection);
        client
    }

    /// Runs statements of the test's own.
    pub async fn execute(&self, database: &str, text: &str) {
        let client = self.client(database).await;
        client.batch_execute(text).await.unwrap();
    }

    /// Stops all its processes where they stand: connections stay, nothing answers (SIGSTOP).
    pub fn pause(&self) {
        self.signal_all("STOP");
    }

    /// Lets it go on after [`PgServer::pause`].
    pub fn resume(&self) {
        self.signal_all("CONT");
    }

    /// Kills all its processes, as a crash would.
    pub fn kill9(&mut self) {
        self.signal_all("KILL");
        self.end_keeper();
    }

    /// Ends it in good order, without waiting for its clients.
    pub fn stop(&mut self) {
        let pid = self.running.as_ref().expect("it runs").pid;
        send_signal("INT", &[pid]);
        self.end_keeper();
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        let mut promote = program("pg_ctl");
        promote
            .arg("promote")
            .arg("-D")
            .arg(self.folder.join("data"));
        run(promote);
    }

    /// Waits until the server is gone, and ends the keeper, which would remove the folder.
    fn end_keeper(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let deadline = Instant::now() + TURN;
        while running.is_alive() {
            assert!(Instant::now() < deadline, "it does not end");
            step();
        }
        running.keeper.kill().unwrap();
        running.keeper.wait().unwrap();
    }

    /// The children first told apart by their parent; none is born while the first process stands still.
    fn signal_all(&self, name: &str) {
        let pid = self.running.as_ref().expect("it runs").pid;
        send_signal("STOP", &[pid]);
        let mut all = children(pid);
        all.push(pid);
        send_signal(name, &all);
    }
}

impl RunningServer {
    /// A process that ended and was not waited for yet is a zombie.
    fn is_alive(&self) -> bool {
        let state = stat(self.pid).map(|(state, _)| state);
        state.is_some_and(|state| state != 'Z' && state != 'X')
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            if std::thread::panicking() {
                eprintln!("{}", self.log());
            }
            drop(running.keeper.stdin.take());
            let _ = running.keeper.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
