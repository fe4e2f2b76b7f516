//! The settings as the components take them. What each means stands in `config/default.toml`.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::{Asset, Symbol};

/// Milliseconds in a file, a duration in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub Duration);

impl Millis {
    /// Returns the milliseconds, for messages and scripts.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.as_millis())
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(|millis| Self(Duration::from_millis(millis)))
    }
}

/// All settings of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub http: ListenerSettings,
    pub ops: OpsSettings,
    pub auth: AuthSettings,
    pub memory: MemorySettings,
    pub redis: RedisSettings,
    pub source: SourceSettings,
    pub scylla: ScyllaSettings,
    pub postgres: PostgresSettings,
    pub embedded: EmbeddedSettings,
    pub settlement: SettlementSettings,
    pub ledger: LedgerSettings,
    pub totals: TotalsSettings,
    pub stale: StaleSettings,
    pub limits: LimitSettings,
    pub audit: AuditSettings,
    pub telemetry: TelemetrySettings,
    pub assets: Vec<Asset>,
    #[serde(default)]
    pub symbols: Vec<Symbol>,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $(pub $field: $type,)*
        }
    };
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($variant,)*
        }
    };
}

mod derived;
mod inlets;
mod postgres;

pub use self::{
    derived::LedgerSide,
    inlets::{FieldSettings, KafkaSasl, KafkaSettings},
    postgres::{PostgresOutbox, PostgresSettings, SslMode},
};

section! {
    /// A listening socket.
    #[derive(Debug)]
    ListenerSettings { listen: SocketAddr, }
}

choice! {
    /// Whether the operators' page may look up a user.
    UserLookupMode { Off, Loopback, On, }
}

section! {
    /// The operators' listener.
    #[derive(Debug)]
    OpsSettings { listen: SocketAddr, user_lookup: UserLookupMode, }
}

impl OpsSettings {
    /// Whether the page may show what is held of a user, amounts too.
    pub const fn may_look_up(&self) -> bool {
        match self.user_lookup {
            UserLookupMode::Off => false,
            UserLookupMode::Loopback => self.listen.ip().is_loopback(),
            UserLookupMode::On => true,
        }
    }
}

choice! {
    AuthMode { None, Network, Token, }
}

choice! {
    /// The rights of a token.
    Scope { Read, Settle, Admin, }
}

impl Scope {
    /// The word in a configuration file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Settle => "settle",
            Self::Admin => "admin",
        }
    }
}

section! {
    /// A bearer token, kept as its digest.
    TokenSettings { name: String, sha256: String, scopes: Vec<Scope>, }
}

/// Without the digest: settings may be logged whole.
impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

/// Access to the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// How callers are told apart.
    pub mode: AuthMode,
    /// The tokens of `mode = "token"`.
    #[serde(default)]
    pub tokens: Vec<TokenSettings>,
}

choice! {
    /// Whether the users that were read most are loaded after a start.
    WarmOnStart { Off, Background, BeforeReady, }
}

section! {
    /// The memory tier.
    #[derive(Debug)]
    MemorySettings {
        max_bytes: u64,
        ttl_ms: Millis,
        warm_on_start: WarmOnStart,
        warm_users: u32,
        warm_users_per_second: u32,
        warm_max_ms: Millis,
    }
}

choice! {
    /// One Redis, the masters of a cluster, or the master that sentinels name.
    RedisMode { Single, Cluster, Sentinel, }
}

section! {
    /// The Redis tier.
    RedisSettings {
        url: String,
        mode: RedisMode,
        username: String,
        password: String,
        sentinel_master: String,
        sentinel_username: String,
        sentinel_password: String,
        namespace: String,
        snapshot_ttl_ms: Millis,
        timeout_ms: Millis,
        connect_timeout_ms: Millis,
        connections: usize,
        breaker_failures: u32,
        breaker_probe_ms: Millis,
        lease_wait_ms: Millis,
        ca_file: PathBuf,
        cert_file: PathBuf,
        key_file: PathBuf,
    }
}

impl RedisSettings {
    /// The addresses in `url`: none without a Redis, one, the nodes of a cluster, or the sentinels.
    pub fn node_urls(&self) -> impl Iterator<Item = &str> {
        self.url
            .split(',')
            .map(str::trim)
            .filter(|node| !node.is_empty())
    }
}

/// With user and password in `url` hidden: settings may be logged whole.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("url", &super::redis_url::hide_secrets(self))
            .field("mode", &self.mode)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

choice! {
    SourceKind { Embedded, Scylla, Postgres, }
}

choice! {
    /// Which table a load reads.
    ReadFrom { View, Table, Ledger, }
}

section! {
    #[derive(Debug)]
    SourceSettings { kind: SourceKind, read_from: ReadFrom, timeout_ms: Millis, }
}

choice! {
    /// The meaning of a view that is not built.
    ViewCheck { Required, Warn, Off, }
}

choice! {
    /// How many replicas must agree.
    Consistency { One, LocalOne, Two, Three, Quorum, LocalQuorum, All, }
}

/// In `scylla.names.<table>`: the name of the table itself. The other keys are its columns.
pub const TABLE_NAME_KEY: &str = "table";

section! {
    /// `ScyllaDB` or Cassandra.
    ScyllaSettings {
        nodes: Vec<String>,
        keyspace: String,
        view_check: ViewCheck,
        username: String,
        password: String,
        datacenter: String,
        rack: String,
        consistency: Consistency,
        replication_factor: u32,
        connect_timeout_ms: Millis,
        tls_ca_file: PathBuf,
        tls_cert_file: PathBuf,
        tls_key_file: PathBuf,
        names: BTreeMap<String, BTreeMap<String, String>>,
    }
}

/// Without the password: settings may be logged whole.
impl fmt::Debug for ScyllaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScyllaSettings")
            .field("nodes", &self.nodes)
            .field("keyspace", &self.keyspace)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

section! {
    /// The ledger in a file.
    #[derive(Debug)]
    EmbeddedSettings { path: PathBuf, sample_data: bool, check_at_start: bool, }
}

section! {
    /// Settlement notifications and their times.
    #[derive(Debug)]
    SettlementSettings {
        stream: String,
        max_staleness_ms: Millis,
        floor_ttl_ms: Millis,
        lag_budget_ms: Millis,
        claim_idle_ms: Millis,
        change_log_max_bytes: u64,
        fields: FieldSettings,
        kafka: KafkaSettings,
    }
}

choice! {
    /// The writer, which assigns seqs, as a file names it.
    LedgerWriter { Auto, Service, External, }
}

section! {
    /// Transactions and trades.
    #[derive(Debug)]
    LedgerSettings { writer: LedgerWriter, recovery_ms: Millis, }
}

section! {
    /// Sums over all users.
    #[derive(Debug)]
    TotalsSettings { interval_ms: Millis, rows_per_second: u32, }
}

section! {
    /// Answers while the source is down.
    #[derive(Debug)]
    StaleSettings { enabled: bool, max_age_ms: Millis, }
}

section! {
    /// Bounds.
    #[derive(Debug)]
    LimitSettings {
        deadline_ms: Millis,
        body_bytes: usize,
        connections: usize,
        header_timeout_ms: Millis,
        source_loads: usize,
        drain_ms: Millis,
    }
}

section! {
    /// The auditor, which compares answers with the ledger afterwards.
    #[derive(Debug)]
    AuditSettings { samples_per_second: u32, reads_per_second: u32, pending_max: usize, grace_ms: Millis, }
}

choice! {
    /// The form of log lines.
    LogFormat { Text, Json, }
}

section! {
    /// Metrics and logs of the process.
    #[derive(Debug)]
    TelemetrySettings { log: String, format: LogFormat, slow_read_ms: Millis, otlp_endpoint: String, }
}
