//! Settings that connections are opened with: hosts, user, TLS, and the parameters of each session.
//!
//! **Invariants.** The server ends a statement after `source.timeout_ms`, and a transaction that its client left open after twice that.
//! Plans do not flip with the statistics of a table that grows: each statement has an index that serves it, and its session
//! prefers that index (`enable_seqscan` and the like), with one plan for all values.
//!
//! **Limits.** `postgres.connect_timeout_ms` for each host.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use tokio::sync::mpsc;
use tokio_postgres::{
    Client, Config,
    config::{ChannelBinding, SslMode, TargetSessionAttrs},
};
use tokio_util::task::TaskTracker;

use super::{
    dialer::PgDialer,
    faults,
    pool::PgPool,
    timeline::NewestPrimary,
    tls::{CheckedPgCertificates, TlsInForce},
};
use crate::{
    config::{self, BadSetting, PostgresAddress},
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
    newest: Arc<NewestPrimary>,
}

impl PgConnector {
    pub(super) fn new(
        settings: &config::PostgresSettings,
        timeout: Duration,
    ) -> Result<Self, BadSetting> {
        let read = |key, url: &str| {
            PostgresAddress::parse_url(url).map_err(|fault| BadSetting::new(key, fault))
        };
        let replicas = settings.read_urls.iter();
        let replicas = replicas.map(|url| read("postgres.read_urls", url));
        Ok(Self {
            primary: read("postgres.url", &settings.url)?,
            replicas: replicas.collect::<Result<_, _>>()?,
            tls: CheckedPgCertificates::read_files(settings)?.map(TlsInForce::new),
            options: session_options(&settings.schema, timeout),
            settings: settings.clone(),
            timeout,
            newest: Arc::default(),
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
    pub(super) fn open_primary(&self) -> Result<PgPool, BadSetting> {
        self.open_pool(&self.primary, ServerRole::Primary)
    }

    pub(super) fn open_replicas(&self) -> Result<Vec<PgPool>, BadSetting> {
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
            wakeups: Some(sender),
            ..self.make_dialer(&self.primary, ServerRole::Primary)
        };
        let opened = dialer.open_connection().await;
        let (client, _) = opened.map_err(|error| faults::map_error(&error))?;
        Ok((client, wakeups))
    }

    /// The newest primary that was seen.
    pub(super) fn newest(&self) -> Arc<NewestPrimary> {
        Arc::clone(&self.newest)
    }

    /// Looks which of several hosts is the newest primary.
    pub(super) async fn look_for_primaries(&self) {
        if self.primary.hosts.len() > 1 {
            let dialer = self.make_dialer(&self.primary, ServerRole::Primary);
            dialer.look_for_primaries().await;
        }
    }

    fn make_dialer(&self, address: &PostgresAddress, role: ServerRole) -> PgDialer {
        PgDialer {
            hosts: self.host_configs(address, role),
            tls: self.tls.clone(),
            timeout: self.settings.connect_timeout_ms.0,
            connections: TaskTracker::new(),
            wakeups: None,
            newest: self.newest(),
        }
    }

    fn open_pool(&self, address: &PostgresAddress, role: ServerRole) -> Result<PgPool, BadSetting> {
        let dialer = self.make_dialer(address, role);
        let recycling_method = RecyclingMethod::Fast;
        let manager =
            Manager::from_connect(Config::new(), dialer, ManagerConfig { recycling_method });
        let (place, newest) = (address.show_place(), self.newest());
        PgPool::new(manager, &self.settings, self.timeout, place, newest)
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
