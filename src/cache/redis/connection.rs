//! One connection to Redis, or to a Redis Cluster, and how it is opened.
//!
//! Connections of a single Redis come out of a deadpool pool and are then shared as clones: a checkout would cost a PING.
//! A cluster's client has its own connections and follows its nodes.
//!
//! **Cancellation.** A command whose future is dropped may still run.

use std::{path::Path, time::Duration};

use deadpool_redis::{Manager, Pool};
use futures::future::{join_all, try_join_all};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, FromRedisValue, IntoConnectionInfo,
    Pipeline, RedisError, RedisResult, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};

use super::{batch_reader::Lane, server::Server};
use crate::config::{self, RedisMode};

/// How often a cluster's client follows a redirection, or tries again while a slot is in migration, and the longest pause before.
const REDIRECTIONS: u32 = 3;
const REDIRECTION_WAIT_MAX_MS: u64 = 20;

/// A cluster's client wants a bound on replies; for a connection that blocks, the caller has its own.
const UNBOUNDED: Duration = Duration::from_hours(1);

/// A connection that many may use at once; a clone is the same connection.
#[derive(Clone)]
pub(super) enum Conn {
    /// To one server.
    Single(MultiplexedConnection),
    /// To all masters of a cluster.
    Cluster(ClusterConnection),
}

/// How long things may take on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempers {
    /// Opening it.
    pub(super) connect: Duration,
    /// One reply; none for a connection that blocks.
    pub(super) reply: Option<Duration>,
}

/// How connections are opened.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    nodes: Vec<ConnectionInfo>,
    mode: RedisMode,
    authorities: Option<Vec<u8>>,
}

impl Dialer {
    /// For the nodes of `redis.url`.
    pub(super) fn new(settings: &config::Redis) -> Result<Self, String> {
        let authorities = read_authorities(&settings.ca_file)?;
        let nodes = settings
            .url
            .split(',')
            .map(|url| info(url.trim(), authorities.as_deref()))
            .collect::<RedisResult<Vec<_>>>()
            .map_err(|error| format!("redis.url: {}", error.category()))?;
        Ok(Self {
            nodes,
            mode: settings.mode,
            authorities,
        })
    }

    /// The nodes, without user and password.
    pub(super) fn address(&self) -> String {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.addr().to_string())
            .collect();
        nodes.join(", ")
    }

    /// Opens one connection.
    pub(super) async fn open_one(&self, tempers: Tempers) -> RedisResult<Conn> {
        self.open(1, tempers).await?.pop().ok_or_else(no_pool)
    }

    /// Whether other authorities are trusted than by the other one.
    pub(super) fn trusts_as(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }

    /// Opens `count` connections.
    pub(super) async fn open(&self, count: usize, tempers: Tempers) -> RedisResult<Vec<Conn>> {
        let opened = tokio::time::timeout(tempers.connect, self.open_all(count, tempers)).await;
        opened.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Opens `count` lanes; none where there is no way for them.
    pub(super) async fn lanes(&self, count: usize, connect: Duration) -> RedisResult<Vec<Lane>> {
        let (RedisMode::Single, Some(node)) = (self.mode, self.nodes.first()) else {
            return Ok(Vec::new());
        };
        let opening = try_join_all((0..count).map(|_| Lane::open(node)));
        let opened = tokio::time::timeout(connect, opening).await;
        let opened = opened.unwrap_or_else(|_| Err(timed_out()))?;
        Ok(opened.into_iter().flatten().collect())
    }

    async fn open_all(&self, count: usize, tempers: Tempers) -> RedisResult<Vec<Conn>> {
        let mut conns = Vec::with_capacity(count);
        match (self.mode, self.nodes.first()) {
            (RedisMode::Single, Some(node)) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(tempers.connect))
                    .set_response_timeout(tempers.reply);
                let manager = Manager::new_with_config(node.clone(), config)?;
                let pool = Pool::builder(manager)
                    .max_size(count)
                    .build()
                    .map_err(|_| no_pool())?;
                for _ in 0..count {
                    let object = pool.get().await.map_err(|error| match error {
                        deadpool_redis::PoolError::Backend(error) => error,
                        _ => no_pool(),
                    })?;
                    conns.push(Conn::Single(deadpool_redis::Connection::take(object)));
                }
            }
            (RedisMode::Cluster, Some(_)) => {
                let mut builder = ClusterClient::builder(self.nodes.clone())
                    .retries(REDIRECTIONS)
                    .min_retry_wait(1)
                    .max_retry_wait(REDIRECTION_WAIT_MAX_MS)
                    .connection_timeout(tempers.connect)
                    .response_timeout(tempers.reply.unwrap_or(UNBOUNDED));
                if let Some(authorities) = &self.authorities {
                    builder = builder.certs(TlsCertificates {
                        client_tls: None,
                        root_cert: Some(authorities.clone()),
                    });
                }
                let client = builder.overall_response_timeout(None).build()?;
                for _ in 0..count {
                    conns.push(Conn::Cluster(client.get_async_connection().await?));
                }
            }
            (RedisMode::Single | RedisMode::Cluster, None) => return Err(no_pool()),
        }
        Ok(conns)
    }
}

impl Conn {
    /// Each command with its own reply, in one round trip. An error that one command got is in its place; the outer
    /// error is the connection's.
    pub(super) async fn ask(&self, commands: Vec<Cmd>) -> RedisResult<Vec<RedisResult<Value>>> {
        match self {
            Self::Single(conn) => {
                let mut conn = conn.clone();
                if let [command] = commands.as_slice() {
                    return split(conn.send_packed_command(command).await).map(|reply| vec![reply]);
                }
                let count = commands.len();
                let mut pipeline = Pipeline::with_capacity(count);
                for command in commands {
                    pipeline.add_command(command);
                }
                let replies = conn.send_packed_commands(&pipeline, 0, count).await?;
                Ok(replies.into_iter().map(Value::extract_error).collect())
            }
            Self::Cluster(conn) => {
                // A pipeline would have to stay in one slot; concurrent commands share each node's connection.
                let replies = join_all(commands.into_iter().map(|command| {
                    let mut conn = conn.clone();
                    async move { split(conn.req_packed_command(&command).await) }
                }));
                replies.await.into_iter().collect()
            }
        }
    }

    /// One command and its reply as what it should be.
    pub(super) async fn one<T: FromRedisValue>(&self, command: Cmd) -> RedisResult<T> {
        let mut replies = self.ask(vec![command]).await?;
        let value = replies.pop().unwrap_or_else(|| Err(no_pool()))?;
        T::from_redis_value(value).map_err(RedisError::from)
    }

    /// Whether the server, or each master, answers.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        let ping = redis::cmd("PING");
        match self {
            Self::Single(_) => self.one::<Value>(ping).await.map(drop),
            Self::Cluster(conn) => {
                let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                conn.clone().route_command(ping, routing).await.map(drop)
            }
        }
    }

    /// The server, or each master, as it describes itself.
    pub(super) async fn servers(&self) -> RedisResult<Vec<Server>> {
        let infos = self.info().await?;
        Ok(infos.iter().map(|info| Server::read(info)).collect())
    }

    /// `INFO` of the server, or of each master.
    async fn info(&self) -> RedisResult<Vec<String>> {
        match self {
            Self::Single(_) => self
                .one::<String>(redis::cmd("INFO"))
                .await
                .map(|text| vec![text]),
            Self::Cluster(conn) => {
                let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let replies = conn
                    .clone()
                    .route_command(redis::cmd("INFO"), routing)
                    .await?;
                let Value::Map(nodes) = replies else {
                    return Err(no_pool());
                };
                nodes
                    .into_iter()
                    .map(|(_, text)| String::from_redis_value(text).map_err(RedisError::from))
                    .collect()
            }
        }
    }
}

/// An error that the server gave for this command stays with the command. The driver may hand it out as a value.
fn split(reply: RedisResult<Value>) -> RedisResult<RedisResult<Value>> {
    match reply {
        Ok(value) => Ok(value.extract_error()),
        Err(error)
            if matches!(
                error.kind(),
                redis::ErrorKind::Server(_) | redis::ErrorKind::Extension
            ) =>
        {
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}

fn info(url: &str, authorities: Option<&[u8]>) -> RedisResult<ConnectionInfo> {
    let plain = url.into_connection_info()?;
    match authorities {
        Some(pem) if url.starts_with("rediss://") => {
            let certificates = TlsCertificates {
                client_tls: None,
                root_cert: Some(pem.to_vec()),
            };
            Client::build_with_tls(plain, certificates)
                .map(|client| client.get_connection_info().clone())
        }
        Some(_) | None => Ok(plain),
    }
}

fn read_authorities(file: &Path) -> Result<Option<Vec<u8>>, String> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let pem = std::fs::read(file).map_err(|error| format!("redis.ca_file: {error}"))?;
    // The client takes a file without any certificate, and then trusts nobody.
    let begins = b"-----BEGIN CERTIFICATE-----";
    if pem.windows(begins.len()).any(|part| part == begins) {
        Ok(Some(pem))
    } else {
        Err("redis.ca_file: holds no certificate".to_owned())
    }
}

fn no_pool() -> RedisError {
    RedisError::from((redis::ErrorKind::Client, "no connection to be had"))
}

fn timed_out() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}
