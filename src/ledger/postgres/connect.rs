//! Opens connections: hosts, user, TLS, and the settings of each session.
//!
//! Several hosts are tried at the same time, and the first that takes writes is used (`target_session_attrs=read-write`): a standby, or
//! an old primary that accepts connections and says nothing, delays nobody. A replica is taken as it is.
//!
//! **Invariants.** The server ends a statement after `source.timeout_ms`, and a transaction that its client left open after twice that.
//! Plans do not flip with the statistics of a table that grows: each statement has an index that serves it, and its session
//! prefers that index (`enable_seqscan` and the like), with one plan for all values.
//!
//! **Limits.** `postgres.connect_timeout_ms` for each host.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use deadpool_postgres::{Connect, Manager, ManagerConfig, RecyclingMethod};
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error as PgError, NoTls, Socket,
    config::{ChannelBinding, SslMode, TargetSessionAttrs},
};
use tokio_util::task::TaskTracker;

use super::{
    bad_setting::BadPostgresSetting,
    faults,
    pool::PgPool,
    tls::{TlsFiles, TlsInForce},
};
use crate::{
    config::{self, PostgresAddress},
    diagnosis::Code,
    ledger::LedgerError,
};

/// Silence of a connection after which the kernel tests it.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Whether a server may be a standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerRole {
    /// It must take writes.
    Primary,
    /// It may be anything.
    Replica,
}

/// Everything that connections need, checked.
#[derive(Debug)]
pub(super) struct PgConnector {
    primary: PostgresAddress,
    replicas: Vec<PostgresAddress>,
    tls: Option<Arc<TlsInForce>>,
    options: String,
    settings: config::PostgresSettings,
    timeout: Duration,
}

impl PgConnector {
    pub(super) fn new(
        settings: &config::PostgresSettings,
        timeout: Duration,
    ) -> Result<Self, BadPostgresSetting> {
        let read = |key, url: &str| {
            PostgresAddress::parse_url(url).map_err(|fault| BadPostgresSetting::new(key, fault))
        };
        let replicas = settings.read_urls.iter();
        let replicas = replicas.map(|url| read("postgres.read_urls", url));
        Ok(Self {
            primary: read("postgres.url", &settings.url)?,
            replicas: replicas.collect::<Result<_, _>>()?,
            tls: TlsFiles::read_files(settings)?.map(TlsInForce::new),
            options: session_options(&settings.schema, timeout),
            settings: settings.clone(),
            timeout,
        })
    }

    /// The certificates in force, where TLS is on.
    pub(super) fn tls(&self) -> Option<&TlsInForce> {
        self.tls.as_deref()
    }

    /// The name of the schema.
    pub(super) fn schema(&self) -> &str {
        &self.settings.schema
    }

    /// The pool of the server that takes writes.
    pub(super) fn open_primary(&self) -> Result<PgPool, BadPostgresSetting> {
        self.open_pool(&self.primary, ServerRole::Primary)
    }

    /// One pool for each replica.
    pub(super) fn open_replicas(&self) -> Result<Vec<PgPool>, BadPostgresSetting> {
        let replicas = self.replicas.iter();
        replicas
            .map(|address| self.open_pool(address, ServerRole::Replica))
            .collect()
    }

    /// A connection to the server that takes writes, for the caller alone, and what it hears: a token for each NOTIFY. The receiver
    /// ends with the connection.
    pub(super) async fn open_listener(&self) -> Result<(Client, mpsc::Receiver<()>), LedgerError> {
        let (sender, wakeups) = mpsc::channel(1);
        let dialer = PgDialer {
            hosts: self.host_configs(&self.primary, ServerRole::Primary),
            tls: self.tls.clone(),
            timeout: self.settings.connect_timeout_ms.0,
            connections: TaskTracker::new(),
            wakeups: Some(sender),
        };
        let opened = dialer.open_connection().await;
        let (client, _) = opened.map_err(|error| faults::map_error(&error))?;
        Ok((client, wakeups))
    }

    fn open_pool(
        &self,
        address: &PostgresAddress,
        role: ServerRole,
    ) -> Result<PgPool, BadPostgresSetting> {
        let dialer = PgDialer {
            hosts: self.host_configs(address, role),
            tls: self.tls.clone(),
            timeout: self.settings.connect_timeout_ms.0,
            connections: TaskTracker::new(),
            wakeups: None,
        };
        let recycling_method = RecyclingMethod::Fast;
        let manager =
            Manager::from_connect(Config::new(), dialer, ManagerConfig { recycling_method });
        PgPool::new(manager, &self.settings, self.timeout, address.show_place())
    }

    /// One configuration for each host.
    fn host_configs(&self, address: &PostgresAddress, role: ServerRole) -> Vec<Config> {
        let configure = |(host, port): &(String, u16)| {
            let mut config = Config::new();
            config
                .host(host)
                .port(*port)
                .dbname(&address.database)
                .application_name("balance-cache")
                .options(&self.options)
                .connect_timeout(self.settings.connect_timeout_ms.0)
                .tcp_user_timeout(self.timeout.saturating_mul(2))
                .keepalives_idle(KEEPALIVE)
                .keepalives_interval(KEEPALIVE)
                .keepalives_retries(2)
                .channel_binding(ChannelBinding::Disable)
                .ssl_mode(if self.tls.is_some() {
                    SslMode::Require
                } else {
                    SslMode::Disable
                });
            if role == ServerRole::Primary {
                config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            let (user, password) = if address.username.is_empty() {
                (&self.settings.username, &self.settings.password)
            } else {
                (&address.username, &address.password)
            };
            if !user.is_empty() {
                config.user(user);
            }
            if !password.is_empty() {
                config.password(password);
            }
            config
        };
        address.hosts.iter().map(configure).collect()
    }
}

/// The parameters that a session begins with.
fn session_options(schema: &str, timeout: Duration) -> String {
    let timeout = timeout.as_millis();
    let idle = timeout.saturating_mul(2);
    let options = [
        format!("search_path={schema}"),
        format!("statement_timeout={timeout}"),
        format!("idle_in_transaction_session_timeout={idle}"),
        "plan_cache_mode=force_generic_plan".to_owned(),
        "jit=off".to_owned(),
        "enable_seqscan=off".to_owned(),
        "enable_bitmapscan=off".to_owned(),
        "enable_sort=off".to_owned(),
    ];
    options.map(|option| format!("-c {option}")).join(" ")
}

/// Opens one connection: to the first of several hosts that will do.
struct PgDialer {
    hosts: Vec<Config>,
    tls: Option<Arc<TlsInForce>>,
    timeout: Duration,
    connections: TaskTracker,
    /// Hears of each NOTIFY.
    wakeups: Option<mpsc::Sender<()>>,
}

type Opened = Result<(Client, JoinHandle<()>), PgError>;

impl Connect for PgDialer {
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Opened> + Send + '_>> {
        Box::pin(self.open_connection())
    }
}

impl PgDialer {
    async fn open_connection(&self) -> Opened {
        let mut tries: FuturesUnordered<_> = self
            .hosts
            .iter()
            .map(|host| self.open_host(host).boxed())
            .collect();
        let mut failed: Vec<PgError> = Vec::new();
        while let Some(tried) = tries.next().await {
            match tried {
                Some(Ok(opened)) => return Ok(opened),
                Some(Err(error)) => failed.push(error),
                None => {}
            }
        }
        match failed.into_iter().max_by_key(severity) {
            Some(telling) => Err(telling),
            // Each was silent: the pool has given up, or is about to.
            None => std::future::pending().await,
        }
    }

    /// None where the host was silent.
    async fn open_host(&self, host: &Config) -> Option<Opened> {
        let opening = async {
            if let Some(tls) = &self.tls {
                let (client, connection) = host.connect(tls.make_connector()).await?;
                let task = self
                    .connections
                    .spawn(run_connection(connection, self.wakeups.clone()));
                Ok((client, task))
            } else {
                let (client, connection) = host.connect(NoTls).await?;
                let task = self
                    .connections
                    .spawn(run_connection(connection, self.wakeups.clone()));
                Ok((client, task))
            }
        };
        tokio::time::timeout(self.timeout, opening).await.ok()
    }
}

/// Runs a connection until it ends.
async fn run_connection<T>(mut connection: Connection<Socket, T>, wakeups: Option<mpsc::Sender<()>>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(_), Some(wakeups)) = (message, &wakeups) {
            // A token that nobody has taken yet stands for this one, too.
            let _ = wakeups.try_send(());
        }
    }
}

/// How much the failure of one host says about the failure of all: a standby says little beside a wrong password.
fn severity(error: &PgError) -> u8 {
    match faults::find_fault(error).code {
        Code::PostgresUnreachable => 0,
        Code::PostgresRefused => 1,
        Code::PostgresReadOnly => 2,
        Code::PostgresStarting => 3,
        _ => 4,
    }
}
