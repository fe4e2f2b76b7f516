//! One connection to Redis, or to a Redis Cluster; `dialer.rs` opens it.
//!
//! **Cancellation.** A command whose future is dropped may still run.

use futures::future::join_all;
use redis::{
    Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};

use super::server::Server;

/// A connection that many may use at once; a clone is the same connection.
#[derive(Clone)]
pub(super) enum SharedConnection {
    Single(MultiplexedConnection),
    /// Connections to all masters of a cluster.
    Cluster(ClusterConnection),
}

impl SharedConnection {
    /// Each command with its own reply, in one round trip. An error that one command got is in its place; the outer
    /// error is the connection's.
    pub(super) async fn send_commands(
        &self,
        commands: Vec<Cmd>,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        match self {
            Self::Single(conn) => {
                let mut conn = conn.clone();
                if let [command] = commands.as_slice() {
                    return split_error(conn.send_packed_command(command).await)
                        .map(|reply| vec![reply]);
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
                    async move { split_error(conn.req_packed_command(&command).await) }
                }));
                replies.await.into_iter().collect()
            }
        }
    }

    /// One command and its reply as what it should be.
    pub(super) async fn send_one<T: FromRedisValue>(&self, command: Cmd) -> RedisResult<T> {
        let mut replies = self.send_commands(vec![command]).await?;
        let value = replies.pop().unwrap_or_else(|| Err(no_pool()))?;
        T::from_redis_value(value).map_err(RedisError::from)
    }

    /// Whether the server, or each master, answers.
    pub(super) async fn ping_server(&self) -> RedisResult<()> {
        let ping = redis::cmd("PING");
        match self {
            Self::Single(_) => self.send_one::<Value>(ping).await.map(drop),
            Self::Cluster(conn) => {
                let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                conn.clone().route_command(ping, routing).await.map(drop)
            }
        }
    }

    /// The server, or each master, as it describes itself.
    pub(super) async fn read_servers(&self) -> RedisResult<Vec<Server>> {
        let infos = self.read_info().await?;
        Ok(infos.iter().map(|info| Server::parse_info(info)).collect())
    }

    /// `INFO` of the server, or of each master.
    async fn read_info(&self) -> RedisResult<Vec<String>> {
        match self {
            Self::Single(_) => self
                .send_one::<String>(redis::cmd("INFO"))
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
fn split_error(reply: RedisResult<Value>) -> RedisResult<RedisResult<Value>> {
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

pub(super) fn no_pool() -> RedisError {
    RedisError::from((redis::ErrorKind::Client, "no connection to be had"))
}

pub(super) fn timed_out() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}
