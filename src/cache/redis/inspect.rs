//! Read-only inspection of Redis for the command-line tools: its keys, its identity, its latency.
//!
//! **Invariants.** Nothing is written: every command here is a read, but for the trial of a settlement's commands, which changes
//! nothing. (`SET balance:source … NX`, which an instance begins with, is not sent: a tool must not claim a Redis.)
//!
//! **Cancellation.** Nothing is kept of a question that was dropped.
//!
//! **Limits.** Each question has [`PATIENCE`], which is longer than a reader of the service would wait: what is slow is to
//! be measured, not hidden. [`RedisInspector::recent_users`] looks at [`SCANNED_MAX`] keys at most.
//!
//! **Deliberately absent**: the breaker and the session. A tool shows what Redis holds, not what the service may use of it.

mod entry;
mod recent;
mod stream_probe;

use std::time::Duration;

use redis::{FromRedisValue, RedisError, RedisResult, Value, streams::StreamInfoGroupsReply};
use tokio::time::{Instant, timeout};

pub use self::{
    entry::{Floor, KeyState, ShownEntry},
    recent::SCANNED_MAX,
};
pub use super::server::Server;
use super::{
    advice,
    connection::SharedConnection,
    dialer::{ConnectionTimeouts, Dialer},
    faults,
    keys::Keys,
    session::Epoch,
    write_probe,
};
use crate::{
    config::{self, RedisMode},
    diagnosis::{Code, Finding, FindingPart},
    domain::UserId,
};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why Redis did not say what was asked. The texts are for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisTrouble {
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A question that cannot be asked of such a Redis.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The error that Redis or the way to it gave instead.
    #[error("{}", .0.cause_text())]
    Found(Finding),
}

impl RedisTrouble {
    /// The cure.
    pub fn remedy(&self) -> String {
        match self {
            Self::Setting(_) => "correct that setting".to_owned(),
            Self::Unsupported(_) => "ask another way".to_owned(),
            Self::Found(finding) => finding.remedy_text(),
        }
    }

    fn finding_code(&self) -> Option<Code> {
        match self {
            Self::Found(finding) => Some(finding.code),
            Self::Setting(_) | Self::Unsupported(_) => None,
        }
    }
}

/// A user's entry in Redis, and when it was asked.
#[derive(Debug, Clone)]
pub struct UserKey {
    pub key: String,
    /// The value that stands there.
    pub held: KeyState,
    /// How long the key lives on; none for one that lives for ever, or is not there.
    pub ttl: Option<Duration>,
    /// Redis' clock, in ms.
    pub now: i64,
}

/// Whose balances this Redis holds, and since when.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The source's identity; none before an instance came.
    pub source: Option<String>,
    /// The unbroken life of the data; none before an instance came.
    pub epoch: Option<Epoch>,
}

/// The settlement stream and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamState {
    /// Entries that no consumer has received; none if Redis cannot say.
    pub waiting: Option<u64>,
    /// Entries that were given out and are not acknowledged.
    pub pending: u64,
    /// Whether our group is there.
    pub followed: bool,
    /// The other groups that read it: of other deployments or programs.
    pub others: Vec<String>,
    /// Entries that could not be read.
    pub dead: u64,
}

/// A connection to look through.
pub struct RedisInspector {
    conn: SharedConnection,
    keys: Keys,
    mode: RedisMode,
    address: String,
}

impl std::fmt::Debug for RedisInspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisInspector").finish_non_exhaustive()
    }
}

impl RedisInspector {
    pub async fn open_connection(settings: &config::RedisSettings) -> Result<Self, RedisTrouble> {
        let tempers = ConnectionTimeouts {
            connect: settings.connect_timeout_ms.0.max(PATIENCE),
            reply: Some(PATIENCE),
        };
        let dialer = Dialer::new(settings).map_err(RedisTrouble::Setting)?;
        let address = dialer.node_addresses();
        let opened = dialer.open_one(tempers).await;
        let look = Self {
            conn: opened.map_err(|error| trouble_of(&error, &address))?,
            keys: Keys::new(&settings.namespace),
            mode: settings.mode,
            address,
        };
        look.ping_server().await?;
        Ok(look)
    }

    /// How long a PING takes there and back.
    pub async fn ping_server(&self) -> Result<Duration, RedisTrouble> {
        let begun = Instant::now();
        self.send_one::<Value>(&["PING"]).await?;
        Ok(begun.elapsed())
    }

    /// Redis' clock in ms since 1970, and how long the answer took.
    pub async fn read_clock(&self) -> Result<(i64, Duration), RedisTrouble> {
        let begun = Instant::now();
        let (seconds, micros): (i64, i64) = self.send_one(&["TIME"]).await?;
        let millis = micros.checked_div(1000).unwrap_or(0);
        let now = seconds.saturating_mul(1000).saturating_add(millis);
        Ok((now, begun.elapsed()))
    }

    pub async fn read_user(&self, user: UserId) -> Result<UserKey, RedisTrouble> {
        let key = self.keys.user_key(user);
        let (now, _) = self.read_clock().await?;
        let kind: String = self.send_one(&["TYPE", &key]).await?;
        let ttl: i64 = self.send_one(&["PTTL", &key]).await?;
        let held = match kind.as_str() {
            "none" => KeyState::Nothing,
            "hash" => {
                let fields: Vec<(Vec<u8>, Vec<u8>)> = self.send_one(&["HGETALL", &key]).await?;
                KeyState::read_fields(&fields, now)
            }
            other => KeyState::Foreign(format!("it is a {other}, not a hash")),
        };
        Ok(UserKey {
            key,
            held,
            ttl: u64::try_from(ttl).ok().map(Duration::from_millis),
            now,
        })
    }

    /// Whose balances these are.
    pub async fn read_owner(&self) -> Result<Owner, RedisTrouble> {
        let source: Option<String> = self.send_one(&["GET", &self.keys.source_key()]).await?;
        let of_epoch = ["HMGET", &self.keys.epoch_key(), "id", "birth"];
        let (id, birth): (Option<String>, Option<i64>) = self.send_one(&of_epoch).await?;
        Ok(Owner {
            source,
            epoch: id.zip(birth).map(|(id, birth)| Epoch { id, birth }),
        })
    }

    /// Every master, as it describes itself.
    pub async fn read_servers(&self) -> Result<Vec<Server>, RedisTrouble> {
        self.limit_time(self.conn.read_servers()).await
    }

    /// Advice about a master: settings that work and could hurt.
    pub async fn advice_for(&self, server: &Server) -> Vec<Finding> {
        let fsync = self.read_setting("appendfsync").await;
        advice::findings_of(
            std::slice::from_ref(server),
            fsync.as_deref(),
            &self.address,
        )
    }

    /// Tries every command of a settlement without changing anything.
    pub async fn try_settling(&self) -> Result<(), Finding> {
        let tried = write_probe::try_settling(&self.conn, &self.keys, self.mode, &self.address);
        match timeout(PATIENCE, tried).await {
            Ok(tried) => tried,
            Err(_) => {
                Err(
                    Finding::new(FindingPart::Redis, Code::RedisSilent, self.address.as_str())
                        .with_detail(format!("{} ms", PATIENCE.as_millis())),
                )
            }
        }
    }

    /// A setting of the server; none where it may not be asked.
    pub async fn read_setting(&self, name: &str) -> Option<String> {
        let found: Vec<String> = self.send_one(&["CONFIG", "GET", name]).await.ok()?;
        found.into_iter().nth(1)
    }

    /// The settlement stream of this name, and our dead one.
    pub async fn read_inbox(&self, stream: &str) -> Result<StreamState, RedisTrouble> {
        let dead = self.stream_length(&self.keys.dead_key(stream)).await?;
        let asked = self.send_one(&["XINFO", "GROUPS", stream]).await;
        let groups: StreamInfoGroupsReply = match asked {
            // There is none yet: nobody follows it.
            Err(trouble) if trouble.finding_code() == Some(Code::RedisUnexpected) => {
                StreamInfoGroupsReply::default()
            }
            Err(RedisTrouble::Found(finding)) if finding.code == Code::RedisWrongType => {
                return Err(RedisTrouble::Found(finding.with_detail(stream)));
            }
            told => told?,
        };
        let name = self.keys.group_name();
        let (ours, others): (Vec<_>, Vec<_>) = groups
            .groups
            .into_iter()
            .partition(|group| group.name == name);
        let ours = ours.first();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(StreamState {
            waiting: ours.and_then(|group| group.lag).map(count),
            pending: ours.map_or(0, |group| count(group.pending)),
            followed: ours.is_some(),
            others: others.into_iter().map(|group| group.name).collect(),
            dead,
        })
    }

    /// Addresses of the clients that block on a stream as consumers of a group: normally instances of this service.
    pub async fn list_followers(&self) -> Result<Vec<String>, RedisTrouble> {
        let clients: String = self.send_one(&["CLIENT", "LIST"]).await?;
        let followers = clients.lines().filter_map(|client| {
            let mut fields = client.split(' ');
            let address = fields.find_map(|field| field.strip_prefix("addr="))?;
            fields
                .any(|field| field == "cmd=xreadgroup")
                .then(|| address.to_owned())
        });
        Ok(followers.collect())
    }

    async fn stream_length(&self, stream: &str) -> Result<u64, RedisTrouble> {
        match self.send_one::<u64>(&["XLEN", stream]).await {
            Err(RedisTrouble::Found(finding)) if finding.code == Code::RedisWrongType => {
                Err(RedisTrouble::Found(finding.with_detail(stream)))
            }
            told => told,
        }
    }

    async fn send_one<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisTrouble> {
        let mut words = words.iter();
        let mut command = redis::cmd(words.next().copied().unwrap_or_default());
        for word in words {
            command.arg(*word);
        }
        self.limit_time(self.conn.send_one(command)).await
    }

    async fn limit_time<T>(
        &self,
        asked: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, RedisTrouble> {
        let silent = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(silent()));
        answer.map_err(|error| trouble_of(&error, &self.address))
    }
}

fn trouble_of(error: &RedisError, address: &str) -> RedisTrouble {
    let finding = faults::finding_of(error, address);
    RedisTrouble::Found(match finding.code {
        Code::RedisSilent => finding.with_detail(format!("{} ms", PATIENCE.as_millis())),
        _ => finding,
    })
}
