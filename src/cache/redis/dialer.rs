//! How connections are opened: to one Redis, to a cluster, or to the master that sentinels name.
//!
//! Connections of a single Redis come out of a deadpool pool and are then shared as clones: a checkout would cost a PING.
//! A cluster's client has its own connections and follows its nodes.
//!
//! **Invariants.** A name is resolved, and sentinels are asked, for each connection anew: a master that moved is found. Connections
//! are opened one after the other.

use std::{fmt, path::Path, time::Duration};

use deadpool_redis::{Manager, Pool};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates,
    cluster::ClusterClient,
};
use url::Url;

use super::{
    batch_reader::BatchReader,
    connection::{SharedConnection, no_pool, timed_out},
};
use crate::config::{self, RedisMode};

/// How often a cluster's client follows a redirection, or tries again while a slot is in migration, and the longest pause before.
const REDIRECTIONS: u32 = 3;
const REDIRECTION_WAIT_MAX_MS: u64 = 20;

/// A cluster's client wants a bound on replies; for a connection that blocks, the caller has its own.
const UNBOUNDED: Duration = Duration::from_hours(1);

/// The port of a sentinel whose address names none.
const SENTINEL_PORT: u16 = 26379;

/// How long things may take on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionTimeouts {
    /// Opening it.
    pub(super) connect: Duration,
    /// One reply; none for a connection that blocks.
    pub(super) reply: Option<Duration>,
}

/// The certificate files, read.
#[derive(Clone, PartialEq, Eq)]
struct RedisCertificates {
    authorities: Option<Vec<u8>>,
    /// Certificate and key of this client.
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// The way to the servers of `redis.url`.
#[derive(Clone)]
pub(super) struct Dialer {
    /// Servers, or sentinels with the credentials of the master.
    nodes: Vec<ConnectionInfo>,
    mode: RedisMode,
    certificates: RedisCertificates,
    sentinel: Sentinel,
}

/// The question to the sentinels, and its user.
#[derive(Clone)]
struct Sentinel {
    master: String,
    credentials: RedisConnectionInfo,
}

/// Passwords and keys are left out.
impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("address", &self.node_addresses())
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

// === impl Certificates ===

impl RedisCertificates {
    fn read_files(settings: &config::RedisSettings) -> Result<Self, String> {
        let authorities = read_pem(&settings.ca_file, "redis.ca_file", "CERTIFICATE")?;
        let cert = read_pem(&settings.cert_file, "redis.cert_file", "CERTIFICATE")?;
        let key = read_pem(&settings.key_file, "redis.key_file", "PRIVATE KEY")?;
        Ok(Self {
            authorities,
            client: cert.zip(key),
        })
    }

    fn for_driver(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: self
                .client
                .as_ref()
                .map(|(client_cert, client_key)| ClientTlsConfig {
                    client_cert: client_cert.clone(),
                    client_key: client_key.clone(),
                }),
            root_cert: self.authorities.clone(),
        }
    }
}

// === impl Dialer ===

impl Dialer {
    /// For the nodes of `redis.url`.
    pub(super) fn new(settings: &config::RedisSettings) -> Result<Self, String> {
        let certificates = RedisCertificates::read_files(settings)?;
        let nodes = settings
            .url
            .split(',')
            .map(|url| node_info(url.trim(), settings, &certificates))
            .collect::<RedisResult<Vec<_>>>()
            .map_err(|error| format!("redis.url: {}", url_fault(&error)))?;
        let sentinel = Sentinel {
            master: settings.sentinel_master.clone(),
            credentials: with_user(
                RedisConnectionInfo::default(),
                &settings.sentinel_username,
                &settings.sentinel_password,
            ),
        };
        Ok(Self {
            nodes,
            mode: settings.mode,
            certificates,
            sentinel,
        })
    }

    /// The nodes, without user and password.
    pub(super) fn node_addresses(&self) -> String {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.addr().to_string())
            .collect();
        let nodes = nodes.join(", ");
        match self.mode {
            RedisMode::Sentinel => format!("{} of the sentinels {nodes}", self.sentinel.master),
            RedisMode::Single | RedisMode::Cluster => nodes,
        }
    }

    pub(super) async fn open_one(
        &self,
        tempers: ConnectionTimeouts,
    ) -> RedisResult<SharedConnection> {
        self.open_connections(1, tempers)
            .await?
            .pop()
            .ok_or_else(no_pool)
    }

    /// Whether the certificate files are those of the other one.
    pub(super) fn trusts_as(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }

    /// Opens `count` connections.
    pub(super) async fn open_connections(
        &self,
        count: usize,
        tempers: ConnectionTimeouts,
    ) -> RedisResult<Vec<SharedConnection>> {
        let opened = tokio::time::timeout(tempers.connect, self.open_all(count, tempers)).await;
        opened.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Opens `count` batch readers; none where there is no way for them.
    pub(super) async fn open_batch_readers(
        &self,
        count: usize,
        connect: Duration,
    ) -> RedisResult<Vec<BatchReader>> {
        if self.mode == RedisMode::Cluster {
            return Ok(Vec::new());
        }
        let opening = async {
            let server = self.find_server(connect).await?;
            let mut batch_readers = Vec::with_capacity(count);
            for _ in 0..count {
                batch_readers.extend(BatchReader::open_batch_reader(&server).await?);
            }
            Ok(batch_readers)
        };
        let opened = tokio::time::timeout(connect, opening).await;
        opened.unwrap_or_else(|_| Err(timed_out()))
    }

    async fn open_all(
        &self,
        count: usize,
        tempers: ConnectionTimeouts,
    ) -> RedisResult<Vec<SharedConnection>> {
        let mut conns = Vec::with_capacity(count);
        if self.mode == RedisMode::Cluster {
            let mut builder = ClusterClient::builder(self.nodes.clone())
                .retries(REDIRECTIONS)
                .min_retry_wait(1)
                .max_retry_wait(REDIRECTION_WAIT_MAX_MS)
                .connection_timeout(tempers.connect)
                .response_timeout(tempers.reply.unwrap_or(UNBOUNDED))
                .overall_response_timeout(None);
            // Given to a cluster without TLS they would switch it on.
            if self.nodes.iter().any(is_tls) {
                builder = builder.certs(self.certificates.for_driver());
            }
            let client = builder.build()?;
            for _ in 0..count {
                conns.push(SharedConnection::Cluster(
                    client.get_async_connection().await?,
                ));
            }
            return Ok(conns);
        }
        let server = self.find_server(tempers.connect).await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(tempers.connect))
            .set_response_timeout(tempers.reply);
        let manager = Manager::new_with_config(server, config)?;
        let pool = Pool::builder(manager)
            .max_size(count)
            .build()
            .map_err(|_| no_pool())?;
        for _ in 0..count {
            let object = pool.get().await.map_err(|error| match error {
                deadpool_redis::PoolError::Backend(error) => error,
                _ => no_pool(),
            })?;
            conns.push(SharedConnection::Single(deadpool_redis::Connection::take(
                object,
            )));
        }
        Ok(conns)
    }

    /// The server to connect to: that of `redis.url`, or the master that the sentinels name now.
    async fn find_server(&self, connect: Duration) -> RedisResult<ConnectionInfo> {
        if self.mode != RedisMode::Sentinel {
            return self.nodes.first().cloned().ok_or_else(no_pool);
        }
        let count = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        // A silent sentinel leaves time for the others.
        let share = connect.checked_div(count.saturating_add(1));
        let share = share.unwrap_or(connect);
        let mut failure = no_pool();
        for node in &self.nodes {
            let asked = tokio::time::timeout(share, self.ask_sentinel(node)).await;
            match asked.unwrap_or_else(|_| Err(timed_out())) {
                Ok(master) => return Ok(master),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn ask_sentinel(&self, node: &ConnectionInfo) -> RedisResult<ConnectionInfo> {
        let sentinel = node
            .clone()
            .set_redis_settings(self.sentinel.credentials.clone());
        let client = Client::open(sentinel)?;
        let mut conn = client.get_multiplexed_async_connection().await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&self.sentinel.master);
        let named: Option<(String, u16)> = ask.query_async(&mut conn).await?;
        let (host, port) = named.ok_or_else(|| {
            RedisError::from((
                ErrorKind::MasterNameNotFoundBySentinel,
                "no such master",
                self.sentinel.master.clone(),
            ))
        })?;
        Ok(node.clone().set_addr(address_at(node.addr(), host, port)))
    }
}

/// The address of another server that is reached the same way.
fn address_at(like: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match like {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    }
}

fn node_info(
    url: &str,
    settings: &config::RedisSettings,
    certificates: &RedisCertificates,
) -> RedisResult<ConnectionInfo> {
    let mut info = url.into_connection_info()?;
    let parsed = Url::parse(url).ok();
    if settings.mode == RedisMode::Sentinel
        && let Some(url) = &parsed
        && url.port().is_none()
    {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        let addr = address_at(info.addr(), host, SENTINEL_PORT);
        info = info.set_addr(addr);
    }
    let credentials = info.redis_settings().clone();
    info = info.set_redis_settings(with_user(
        credentials,
        &settings.username,
        &settings.password,
    ));
    if is_tls(&info) {
        let client = Client::build_with_tls(info, certificates.for_driver())?;
        info = client.get_connection_info().clone();
    }
    Ok(info)
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

fn with_user(info: RedisConnectionInfo, name: &str, password: &str) -> RedisConnectionInfo {
    match (name, password) {
        (_, "") => info,
        ("", password) => info.set_password(password),
        (name, password) => info.set_username(name).set_password(password),
    }
}

/// The reason of a URL or a certificate that the driver does not take, without a part of either.
fn url_fault(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::InvalidClientConfig => format!(
            "{} (redis.ca_file, redis.cert_file, redis.key_file)",
            error.category()
        ),
        _ => error.category().to_owned(),
    }
}

/// The text of a PEM file; none where the setting is empty.
fn read_pem(file: &Path, key: &str, kind: &str) -> Result<Option<Vec<u8>>, String> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let pem = std::fs::read(file).map_err(|error| format!("{key}: {error}"))?;
    // The client takes a file without any certificate, and then trusts no server.
    let text = String::from_utf8_lossy(&pem);
    let has = text
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.contains(kind));
    if has {
        Ok(Some(pem))
    } else {
        Err(format!("{key}: holds no {}", kind.to_lowercase()))
    }
}
