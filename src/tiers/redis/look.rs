//! A look at Redis from outside, for the tools: what stands there, who it is, how fast it answers.
//!
//! **Invariants.** Nothing is written: every command here is a read, and no script runs. (`SET balance:source … NX`, which an
//! instance begins with, is not sent: a tool must not claim a Redis.) No text here holds an address or a password.
//!
//! **Cancellation.** Nothing is kept of a question that was dropped.
//!
//! **Limits.** Each question has [`PATIENCE`], which is longer than a reader of the service would wait: what is slow is to
//! be measured, not hidden. [`recent`](Look::recent) looks at [`SCANNED_MAX`] keys at most.
//!
//! **Deliberately absent**: the breaker and the session. Whoever looks wants to see what is there, not what may be used.

mod entry;
mod recent;
mod server;

use std::time::Duration;

use redis::{FromRedisValue, RedisError, RedisResult, Value, streams::StreamInfoGroupsReply};
use tokio::time::{Instant, timeout};

pub use self::{
    entry::{Floor, Held, Shown},
    recent::SCANNED_MAX,
    server::Server,
};
use super::{
    conn::{Conn, Dialer, Tempers},
    keys::Keys,
    session::Epoch,
};
use crate::{
    config::{self, RedisMode},
    domain::UserId,
};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Our consumer group in the settlement stream.
const GROUP: &str = "balance-cache";

/// Why Redis did not say what was asked. The texts are for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(String),
    /// User or password are not taken, or are missing.
    #[error("it refuses the user or password ({0})")]
    Password(String),
    /// No connection.
    #[error("it cannot be reached: {0}")]
    Unreached(String),
    /// It was silent.
    #[error("it does not answer in {} ms", PATIENCE.as_millis())]
    Silent,
    /// It answered something else than what was asked for.
    #[error("it refuses a question: {0}")]
    Refused(String),
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let code = error.code().unwrap_or_default().to_owned();
        let text = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.category()),
            None => error.category().to_owned(),
        };
        if error.kind() == redis::ErrorKind::AuthenticationFailed
            || ["NOAUTH", "WRONGPASS"].contains(&code.as_str())
        {
            Self::Password(if code.is_empty() { text } else { code })
        } else if error.is_timeout() {
            Self::Silent
        } else if error.is_connection_refusal() {
            Self::Unreached("the connection is refused".to_owned())
        } else if error.is_io_error() {
            Self::Unreached(error.to_string())
        } else {
            Self::Refused(text)
        }
    }
}

/// What Redis holds of one user, and when it was asked.
#[derive(Debug, Clone)]
pub struct UserKey {
    /// The key's name.
    pub key: String,
    /// What stands there.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inbox {
    /// Entries that nobody was given yet; none where Redis cannot say.
    pub waiting: Option<u64>,
    /// Entries that were given out and are not acknowledged.
    pub pending: u64,
    /// Whether our group is there.
    pub followed: bool,
    /// Entries that could not be read.
    pub dead: u64,
}

/// A connection to look through.
pub struct Look {
    conn: Conn,
    keys: Keys,
    single: bool,
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
        let conn = dialer.open(1, tempers).await?.pop();
        let look = Self {
            conn: conn.ok_or_else(|| Trouble::Unreached("no connection".to_owned()))?,
            keys: Keys::new(&settings.namespace),
            single: settings.mode == RedisMode::Single,
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

    /// What stands under a user's key.
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
        let texts = within(self.conn.info()).await?;
        Ok(texts.iter().map(|text| Server::read(text)).collect())
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
        let dead = self.length(&self.keys.dead()).await?;
        let asked = self.one(&["XINFO", "GROUPS", stream]).await;
        let groups: StreamInfoGroupsReply = match asked {
            // There is none yet, or it is no stream: nobody follows it.
            Err(Trouble::Refused(_)) => StreamInfoGroupsReply::default(),
            told => told?,
        };
        let ours = groups.groups.into_iter().find(|group| group.name == GROUP);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(Inbox {
            waiting: ours.as_ref().and_then(|group| group.lag).map(count),
            pending: ours.as_ref().map_or(0, |group| count(group.pending)),
            followed: ours.is_some(),
            dead,
        })
    }

    async fn length(&self, stream: &str) -> Result<u64, Trouble> {
        match self.one::<u64>(&["XLEN", stream]).await {
            // Not a stream: another check's business.
            Err(Trouble::Refused(_)) => Ok(0),
            told => told,
        }
    }

    async fn one<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, Trouble> {
        let mut words = words.iter();
        let mut command = redis::cmd(words.next().copied().unwrap_or_default());
        for word in words {
            command.arg(*word);
        }
        within(self.conn.one(command)).await
    }
}

async fn within<T>(asked: impl Future<Output = RedisResult<T>>) -> Result<T, Trouble> {
    match timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(Trouble::from),
        Err(_) => Err(Trouble::Silent),
    }
}
