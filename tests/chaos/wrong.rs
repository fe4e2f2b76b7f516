//! A deliberately wrong service: what most caches of balances do. Memory and Redis in front of the view, `DEL` on notification.
//!
//! It is here so that the checker can be seen to find something.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redis::{AsyncCommands, AsyncConnectionConfig, aio::MultiplexedConnection};
use scylla::client::session::Session;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How long memory holds a snapshot; Redis five times that.
const TTL: Duration = Duration::from_secs(1);
/// How long Redis may take: it is wrong by what it does, not by what a busy machine does to it.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Naive {
    memory: Mutex<HashMap<u64, (Instant, String)>>,
    redis: MultiplexedConnection,
    session: Session,
    keyspace: String,
}

/// Listens; everything else happens in the tasks.
pub async fn start(
    redis_url: &str,
    session: Session,
    keyspace: &str,
    tasks: &mut JoinSet<()>,
) -> SocketAddr {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let redis = redis::Client::open(redis_url)
        .unwrap()
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .unwrap();
    let naive = Arc::new(Naive {
        memory: Mutex::default(),
        redis,
        session,
        keyspace: keyspace.to_owned(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let naive = Arc::clone(&naive);
            connections.spawn(async move { naive.serve(stream).await });
        }
    });
    address
}

impl Naive {
    /// Just enough HTTP for our own client.
    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut read = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                if stream.read_buf(&mut read).await.ok()? == 0 {
                    return None;
                }
            };
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            while read.len() < end + length {
                stream.read_buf(&mut read).await.ok()?;
            }
            let body: Value =
                serde_json::from_slice(&read[end..end + length]).unwrap_or(Value::Null);
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            read.drain(..end + length);
            let data = match target.split_once("user_id=") {
                Some((_, user)) => self.balances(user.parse().unwrap()).await,
                None => self.notified(body["user_id"].as_u64().unwrap()).await,
            };
            let answer = format!(r#"{{"status":0,"msg":"ok","data":{data}}}"#);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            stream
                .write_all(format!("{head}{answer}").as_bytes())
                .await
                .ok()?;
        }
    }

    async fn notified(&self, user: u64) -> String {
        self.memory.lock().remove(&user);
        let _: () = self
            .redis
            .clone()
            .del(format!("naive:{user}"))
            .await
            .unwrap();
        "null".to_owned()
    }

    async fn balances(&self, user: u64) -> String {
        if let Some((until, data)) = self.memory.lock().get(&user)
            && *until > Instant::now()
        {
            return data.clone();
        }
        let mut redis = self.redis.clone();
        let held: Option<String> = redis.get(format!("naive:{user}")).await.unwrap();
        let data = if let Some(data) = held {
            data
        } else {
            let data = self.view(user).await;
            let _: () = redis
                .set_ex(format!("naive:{user}"), &data, TTL.as_secs() * 5)
                .await
                .unwrap();
            data
        };
        self.memory
            .lock()
            .insert(user, (Instant::now() + TTL, data.clone()));
        data
    }

    async fn view(&self, user: u64) -> String {
        let text = format!(
            "SELECT asset_id, seq, avail FROM {}.user_balances_by_user WHERE user_id = {user} GROUP BY asset_id",
            self.keyspace
        );
        let rows = self
            .session
            .query_unpaged(text, ())
            .await
            .unwrap()
            .into_rows_result()
            .unwrap();
        let balances: Vec<Value> = rows
            .rows::<(i32, i64, i64)>()
            .unwrap()
            .map(|row| {
                let (asset, seq, avail) = row.unwrap();
                json!({"asset": format!("A{asset}"), "avail": avail.to_string(), "seq": seq})
            })
            .collect();
        Value::from(balances).to_string()
    }
}
