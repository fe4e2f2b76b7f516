//! A real Redis in a folder of its own.
//!
//! `BALANCE_CACHE_TEST_REDIS_SERVER` names another server program, as that of Valkey.
//!
//! **Invariants.** Port and folder stay the same over `kill9`, `stop` and `restart`. Nothing is written to disk unless
//! `appendonly` says so, so a restart forgets everything by default.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use redis::{Client, ClientTlsConfig, Connection, FromRedisValue, RedisResult, TlsCertificates};
use tempfile::TempDir;

use super::{eventually::eventually, port::Port, process::Process};

/// How long it may take to start or end.
const TURN: Duration = Duration::from_mins(1);

/// How long a test's own question may take.
const ANSWER: Duration = Duration::from_secs(20);

/// The kind of a Redis.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Writes every command to disk before it answers (`appendfsync always`).
    pub appendonly: bool,
    /// Listens with TLS only; its authority is `Redis::ca_file`.
    pub tls: bool,
    /// With `tls`: wants a certificate of its clients; that of [`Redis::client_files`] will do.
    pub tls_clients: bool,
    /// Is a node of a cluster that is still to be formed.
    pub cluster: bool,
    /// Further settings, as in redis.conf: `("maxmemory-policy", "allkeys-lru")`.
    pub settings: Vec<(&'static str, String)>,
}

/// A Redis, killed when it is dropped.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    options: Options,
    port: Port,
    bus: Port,
    ca: Option<String>,
    folder: TempDir,
}

impl Redis {
    /// The usual one: a port, nothing on disk, no limit of memory.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Another one. Returns when it answers.
    pub fn start_with(options: Options) -> Self {
        let mut redis = Self::prepare(options);
        redis.launch();
        redis
    }

    /// Without starting it; [`Redis::launch`] does.
    pub fn prepare(options: Options) -> Self {
        let folder = TempDir::with_prefix("redis-").unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let ca = options.tls.then(|| certificates(&folder));
        Self {
            process: None,
            options,
            port: Port::reserve(),
            bus: Port::reserve(),
            ca,
            folder,
        }
    }

    /// Starts it, on the data that it left, and waits until it answers.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "redis runs already");
        let mut process = Process::start(&self.command(), self.folder.path());
        eventually(TURN, "redis answers", || {
            let ended = process.exited();
            assert_eq!(ended, None, "redis ended\n{}", process.logs());
            let mut connection = self.try_connection().ok()?;
            let pong: RedisResult<String> = redis::cmd("PING").query(&mut connection);
            pong.ok()
        });
        self.process = Some(process);
    }

    fn command(&self) -> Command {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let port = self.port.number().to_string();
        let mut settings = vec![
            ("bind", "127.0.0.1".to_owned()),
            ("dir", path("data")),
            ("unixsocket", path("socket")),
            ("save", String::new()),
        ];
        if self.options.appendonly {
            settings.push(("appendonly", "yes".to_owned()));
            settings.push(("appendfsync", "always".to_owned()));
        }
        if self.options.tls {
            settings.push(("port", "0".to_owned()));
            settings.push(("tls-port", port));
            settings.push(("tls-ca-cert-file", path("ca.pem")));
            settings.push(("tls-cert-file", path("cert.pem")));
            settings.push(("tls-key-file", path("key.pem")));
            let wants = if self.options.tls_clients {
                "yes"
            } else {
                "no"
            };
            settings.push(("tls-auth-clients", wants.to_owned()));
        } else {
            settings.push(("port", port));
        }
        if self.options.cluster {
            settings.push(("cluster-enabled", "yes".to_owned()));
            settings.push(("cluster-port", self.bus.number().to_string()));
            // A node that a busy machine lets stand still for seconds is not dead.
            settings.push(("cluster-node-timeout", "3000".to_owned()));
        }
        settings.extend(self.options.settings.iter().cloned());
        let mut command = Command::new(program());
        for (key, value) in settings {
            command.arg(format!("--{key}")).arg(value);
        }
        command
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where the nodes of a cluster talk to each other.
    pub fn bus(&self) -> u16 {
        self.bus.number()
    }

    /// `redis://…`, or `rediss://…` with TLS.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        format!("{scheme}://{}", self.address())
    }

    /// `unix://…`, open beside the port.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.folder.path().join("socket").display())
    }

    /// The PEM file of the authority that signed its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The PEM files of a client's certificate, signed by the same authority, and its key.
    pub fn client_files(&self) -> [PathBuf; 2] {
        ["client.pem", "client-key.pem"].map(|name| self.folder.path().join(name))
    }

    /// Asks something, on a connection of its own.
    #[track_caller]
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(&mut self.connection())
            .unwrap()
    }

    /// A connection to ask on, with a bound of [`ANSWER`] for each answer.
    #[track_caller]
    pub fn connection(&self) -> Connection {
        self.try_connection().unwrap()
    }

    /// The same, of a Redis that may be down.
    pub fn try_connection(&self) -> RedisResult<Connection> {
        let client = match &self.ca {
            None => Client::open(self.url())?,
            Some(ca) => {
                // Fails when it was done before, which is as good.
                let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                let root_cert = Some(ca.clone().into_bytes());
                let [cert, key] = self.client_files();
                let client_tls = Some(ClientTlsConfig {
                    client_cert: fs::read(cert).unwrap(),
                    client_key: fs::read(key).unwrap(),
                });
                let certificates = TlsCertificates {
                    client_tls,
                    root_cert,
                };
                Client::build_with_tls(self.url(), certificates)?
            }
        };
        let connection = client.get_connection_with_timeout(ANSWER)?;
        connection.set_read_timeout(Some(ANSWER))?;
        connection.set_write_timeout(Some(ANSWER))?;
        Ok(connection)
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("redis is down")
    }

    /// Stops it where it stands: connections stay, nothing answers (SIGSTOP).
    pub fn pause(&mut self) {
        self.running().signal("STOP");
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&mut self) {
        self.running().signal("CONT");
    }

    /// Kills it, as a crash would.
    pub fn kill9(&mut self) {
        self.running().kill9();
        self.process = None;
    }

    /// Ends it in good order (SIGTERM).
    pub fn stop(&mut self) {
        self.running().signal("TERM");
        self.running().exit(TURN);
        self.process = None;
    }

    /// Starts it again with what it has on disk; stops it first if it runs.
    pub fn restart(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        self.launch();
    }

    /// Starts it again with nothing; stops it first if it runs.
    pub fn restart_empty(&mut self) {
        if self.process.is_some() {
            self.kill9();
        }
        let data = self.folder.path().join("data");
        fs::remove_dir_all(&data).unwrap();
        fs::create_dir(&data).unwrap();
        self.launch();
    }
}

/// The program of the server.
#[expect(
    clippy::disallowed_methods,
    reason = "the environment chooses the server"
)]
pub fn program() -> String {
    std::env::var("BALANCE_CACHE_TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// Whether the server is Valkey's, by its name.
pub fn is_valkey() -> bool {
    program().ends_with("valkey-server")
}

/// An authority, and a certificate of 127.0.0.1 and localhost and one of a client signed by it, as files. Returns the authority's.
fn certificates(folder: &TempDir) -> String {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let client_key = KeyPair::generate().unwrap();
    let mut client = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    // Of the authority's own name it would count as signed by itself.
    client.distinguished_name.push(DnType::CommonName, "client");
    let client = client.signed_by(&client_key, &authority).unwrap();
    for (name, text) in [
        ("client.pem", client.pem()),
        ("client-key.pem", client_key.serialize_pem()),
        ("ca.pem", authority.pem()),
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    authority.pem()
}
