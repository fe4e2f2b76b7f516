//! A look at Redis from outside, for the tools: what stands there, who it is, how fast it answers.
//!
//! **Invariants.** Nothing is written: every command here is a read, but for the trial of a settlement's commands, which changes
//! nothing. (`SET balance:source … NX`, which an instance begins with, is not sent: a tool must not claim a Redis.)
//!
//! **Cancellation.** Nothing is kept of a question that was dropped.
//!
//! **Limits.** Each question has [`PATIENCE`], which is longer than a reader of the service would wait: what is slow is to
//! be measured, not hidden. [`recent`](Look::recent) looks at [`SCANNED_MAX`] keys at most.
//!
//! **Deliberately absent**: the breaker and the session. Whoever looks wants to see what is there, not what may be used.

mod entry;
mod recent;
mod stream_probe;

use std::time::Duration;

use redis::{FromRedisValue, RedisError, RedisResult, Value, streams::StreamInfoGroupsReply};
use tokio::time::{Instant, timeout};

pub use self::{
    entry::{Floor, Held, Shown},
    recent::SCANNED_MAX,
};
pub use super::server::Server;
use super::{
    advice,
    connection::Conn,
    dialer::{Dialer, Tempers},
    faults,
    keys::Keys,
    session::Epoch,
    write_probe,
};
use crate::{
    config::{self, RedisMode},
    diagnosis::{Code, Finding, Part},
    domain::UserId,
};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why Redis did not say what was asked. The texts are for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A question that cannot be asked of such a Redis.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The error that Redis or the way to it gave instead.
    #[error("{}", .0.cause())]
    Found(Finding),
}

impl Trouble {
    /// The cure.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Setting(_) => "correct that setting".to_owned(),
            Self::Unsupported(_) => "ask another way".to_owned(),
            Self::Found(finding) => finding.remedy(),
        }
    }

    fn code(&self) -> Option<Code> {
        match self {
            Self::Found(finding) => Some(finding.code),
            Self::Setting(_) | Self::Unsupported(_) => None,
        }
    }
}

/// A user's entry in Redis, and when it was asked.
#[derive(Debug, Clone)]
pub struct UserKey {
    /// The key's name.
    pub key: String,
    /// The value that stands there.
    pub held: Held,
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
pub struct Inbox {
    /// Entries that nobody was given yet; none where Redis cannot say.
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
pub struct Look {
    conn: Conn,
    keys: Keys,
    mode: RedisMode,
    address: String,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl Look {
    /// Connects to the Redis of the settings.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn open(settings: &config::Redis) -> Result<Self, Trouble> {
        let tempers = Tempers {
            connect: settings.connect_timeout_ms.0.max(PATIENCE),
            reply: Some(PATIENCE),
        };
        let dialer = Dialer::new(settings).map_err(Trouble::Setting)?;
        let address = dialer.address();
        let opened = dialer.open_one(tempers).await;
        let look = Self {
            conn: opened.map_err(|error| trouble(&error, &address))?,
            keys: Keys::new(&settings.namespace),
            mode: settings.mode,
            address,
        };
        look.ping().await?;
        Ok(look)
    }

    /// How long a PING takes there and back.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn ping(&self) -> Result<Duration, Trouble> {
        let begun = Instant::now();
        self.one::<Value>(&["PING"]).await?;
        Ok(begun.elapsed())
    }

    /// Redis' clock in ms since 1970, and how long the answer took.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn clock(&self) -> Result<(i64, Duration), Trouble> {
        let begun = Instant::now();
        let (seconds, micros): (i64, i64) = self.one(&["TIME"]).await?;
        let millis = micros.checked_div(1000).unwrap_or(0);
        let now = seconds.saturating_mul(1000).saturating_add(millis);
        Ok((now, begun.elapsed()))
    }

    /// The state of a user's key.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn user(&self, user: UserId) -> Result<UserKey, Trouble> {
        let key = self.keys.user(user);
        let (now, _) = self.clock().await?;
        let kind: String = self.one(&["TYPE", &key]).await?;
        let ttl: i64 = self.one(&["PTTL", &key]).await?;
        let held = match kind.as_str() {
            "none" => Held::Nothing,
            "hash" => {
                let fields: Vec<(Vec<u8>, Vec<u8>)> = self.one(&["HGETALL", &key]).await?;
                Held::read(&fields, now)
            }
            other => Held::Foreign(format!("it is a {other}, not a hash")),
        };
        Ok(UserKey {
            key,
            held,
            ttl: u64::try_from(ttl).ok().map(Duration::from_millis),
            now,
        })
    }

    /// Whose balances these are.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn owner(&self) -> Result<Owner, Trouble> {
        let source: Option<String> = self.one(&["GET", &self.keys.source()]).await?;
        let of_epoch = ["HMGET", &self.keys.epoch(), "id", "birth"];
        let (id, birth): (Option<String>, Option<i64>) = self.one(&of_epoch).await?;
        Ok(Owner {
            source,
            epoch: id.zip(birth).map(|(id, birth)| Epoch { id, birth }),
        })
    }

    /// Every master, as it describes itself.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn servers(&self) -> Result<Vec<Server>, Trouble> {
        self.within(self.conn.servers()).await
    }

    /// Advice about a master: settings that work and could hurt.
    pub async fn advice(&self, server: &Server) -> Vec<Finding> {
        let fsync = self.setting("appendfsync").await;
        advice::of(
            std::slice::from_ref(server),
            fsync.as_deref(),
            &self.address,
        )
    }

    /// Tries every command of a settlement without changing anything.
    ///
    /// # Errors
    /// Faults.
    pub async fn try_settling(&self) -> Result<(), Finding> {
        let tried = write_probe::try_settling(&self.conn, &self.keys, self.mode, &self.address);
        match timeout(PATIENCE, tried).await {
            Ok(tried) => tried,
            Err(_) => Err(
                Finding::new(Part::Redis, Code::RedisSilent, self.address.as_str())
                    .with(format!("{} ms", PATIENCE.as_millis())),
            ),
        }
    }

    /// A setting of the server; none where it may not be asked.
    pub async fn setting(&self, name: &str) -> Option<String> {
        let found: Vec<String> = self.one(&["CONFIG", "GET", name]).await.ok()?;
        found.into_iter().nth(1)
    }

    /// The settlement stream of this name, and our dead one.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn inbox(&self, stream: &str) -> Result<Inbox, Trouble> {
        let dead = self.length(&self.keys.dead(stream)).await?;
        let asked = self.one(&["XINFO", "GROUPS", stream]).await;
        let groups: StreamInfoGroupsReply = match asked {
            // There is none yet: nobody follows it.
            Err(trouble) if trouble.code() == Some(Code::RedisUnexpected) => {
                StreamInfoGroupsReply::default()
            }
            Err(Trouble::Found(finding)) if finding.code == Code::RedisWrongType => {
                return Err(Trouble::Found(finding.with(stream)));
            }
            told => told?,
        };
        let name = self.keys.group();
        let (ours, others): (Vec<_>, Vec<_>) = groups
            .groups
            .into_iter()
            .partition(|group| group.name == name);
        let ours = ours.first();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(Inbox {
            waiting: ours.and_then(|group| group.lag).map(count),
            pending: ours.map_or(0, |group| count(group.pending)),
            followed: ours.is_some(),
            others: others.into_iter().map(|group| group.name).collect(),
            dead,
        })
    }

    /// The addresses of those who wait for entries of a stream as consumers of a group: instances of this service, as a rule.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn followers(&self) -> Result<Vec<String>, Trouble> {
        let clients: String = self.one(&["CLIENT", "LIST"]).await?;
        let followers = clients.lines().filter_map(|client| {
            let mut fields = client.split(' ');
            let address = fields.find_map(|field| field.strip_prefix("addr="))?;
            fields
                .any(|field| field == "cmd=xreadgroup")
                .then(|| address.to_owned())
        });
        Ok(followers.collect())
    }

    async fn length(&self, stream: &str) -> Result<u64, Trouble> {
        match self.one::<u64>(&["XLEN", stream]).await {
            Err(Trouble::Found(finding)) if finding.code == Code::RedisWrongType => {
                Err(Trouble::Found(finding.with(stream)))
            }
            told => told,
        }
    }

    async fn one<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, Trouble> {
        let mut words = words.iter();
        let mut command = redis::cmd(words.next().copied().unwrap_or_default());
        for word in words {
            command.arg(*word);
        }
        self.within(self.conn.one(command)).await
    }

    async fn within<T>(&self, asked: impl Future<Output = RedisResult<T>>) -> Result<T, Trouble> {
        let silent = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let answer = timeout(PATIENCE, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(silent()));
        answer.map_err(|error| trouble(&error, &self.address))
    }
}

fn trouble(error: &RedisError, address: &str) -> Trouble {
    let finding = faults::finding(error, address);
    Trouble::Found(match finding.code {
        Code::RedisSilent => finding.with(format!("{} ms", PATIENCE.as_millis())),
        _ => finding,
    })
}
