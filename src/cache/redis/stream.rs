//! The streams: the feed that every instance follows with its own cursor, and the settlement events that one of them takes.
//! Both are read on connections of their own, because they block.
//!
//! **Invariants.** Every entry of the feed names the entry before it (`p`), so that a follower knows whether it saw all:
//! whatever was trimmed, flushed or replaced shows as a break in the chain.
//!
//! **Cancellation.** A blocking read that is dropped has taken nothing: the cursor moves when its entries took effect.

mod events;
mod page_size;
mod wire;

use std::time::Duration;

use redis::{FromRedisValue, RedisError, RedisResult, Value};
use tokio::time::{Instant, timeout};

use self::wire::{last_id, parse_post, reply_entries};
pub use self::{
    events::{END, Event, GroupStanding, StreamFailure, StreamGroup},
    page_size::PageSize,
};
use super::{
    Redis, RedisSession,
    connection::SharedConnection,
    script::{self, Call},
    server::{Server, same_servers},
};
use crate::domain::{BalanceChange, UserId};

/// How long a read may take beyond its block before the connection counts as lost.
const GRACE: Duration = Duration::from_millis(500);
/// The same of a command with one entry, which may be large and cannot be had in parts.
const GRACE_OF_ONE: Duration = Duration::from_secs(5);
/// Entries of the feed, at most, about. Trimming deeper than `floor_ttl` makes new instances read the ledger for a while.
const FEED_MAX: usize = 4_000_000;

/// The place of an entry in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct StreamId {
    /// Milliseconds of Redis' clock.
    pub ms: u64,
    /// Among those of one millisecond.
    pub seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEntry {
    /// Its place.
    pub id: StreamId,
    /// The entry before it; none where it does not say, or says something that cannot be read.
    pub before: Option<StreamId>,
    /// The changes in order; empty where the entry means nothing to us.
    pub news: Vec<FeedNews>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedNews {
    /// A user's balances changed: all of this becomes visible together.
    Changed {
        user: UserId,
        /// The changes, in their order.
        changes: Vec<BalanceChange>,
    },
    /// The user's snapshot is dropped; with `floors` these are forgotten too.
    Dropped {
        user: UserId,
        /// Floors too.
        floors: bool,
    },
}

/// The result of one read of the feed.
#[derive(Debug)]
pub struct FeedPage {
    /// When it was asked for.
    pub sent: Instant,
    /// The entries, in order.
    pub posts: Vec<FeedEntry>,
    /// There may be more.
    pub full: bool,
    /// The last entry that there ever was, before this read; none where there is no stream.
    pub last: Option<StreamId>,
}

/// A connection of its own.
pub struct BlockingConnection {
    conn: SharedConnection,
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl StreamId {
    fn parse_id(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }

    /// The first place of a millisecond.
    pub fn at_ms(ms: i64) -> Self {
        Self {
            ms: u64::try_from(ms).unwrap_or(0),
            seq: 0,
        }
    }
}

impl Redis {
    /// A connection of its own, for commands that block.
    pub async fn open_blocking(&self) -> RedisResult<BlockingConnection> {
        Ok(BlockingConnection {
            conn: self.link.open_dedicated().await?,
        })
    }
}

impl BlockingConnection {
    async fn send_one<T: FromRedisValue>(
        &self,
        command: redis::Cmd,
        patience: Duration,
    ) -> RedisResult<T> {
        match timeout(patience, self.conn.send_one(command)).await {
            Ok(reply) => reply,
            Err(_) => Err(RedisError::from(std::io::Error::from(
                std::io::ErrorKind::TimedOut,
            ))),
        }
    }

    /// The feed's entries after the cursor; waits for `block` at most where there is nothing.
    /// Errors: a connection that is of no use any more, or a stream that is not one.
    pub async fn read_feed(
        &self,
        feed: &str,
        after: StreamId,
        block: Duration,
        pages: &mut PageSize,
    ) -> RedisResult<FeedPage> {
        // Before the first question: what is deleted between the two is seen by neither.
        let sent = Instant::now();
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(feed);
        // It holds the first and the last entry.
        let last = match self.send_one::<Value>(info, pages.grace_time()).await {
            Ok(info) => Some(last_id(&info)),
            // Only these say that there is no stream: a command that is forbidden or renamed says nothing of the feed.
            Err(error) if is_no_stream(&error) => None,
            Err(error) => {
                pages.note_read(Err(&error));
                return Err(error);
            }
        };
        let count = pages.entry_count();
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT")
            .arg(count)
            .arg("BLOCK")
            .arg(whole_millis(block))
            .arg("STREAMS")
            .arg(feed)
            .arg(after.to_string());
        let reply = self
            .send_one::<Value>(read, block.saturating_add(pages.grace_time()))
            .await;
        let entries = reply.and_then(reply_entries);
        pages.note_read(entries.as_deref());
        let entries = entries?;
        Ok(FeedPage {
            sent,
            full: entries.len() >= count,
            posts: entries.into_iter().filter_map(parse_post).collect(),
            last,
        })
    }

    /// Makes a feed that is gone, with an entry that says nothing.
    /// Errors: a connection that is of no use any more.
    pub async fn begin_feed(&self, feed: &str, epoch: &str) -> RedisResult<()> {
        let begin = Call::new(&script::ANNOUNCE)
            .with_key(feed)
            .with_arg("e")
            .with_arg(epoch);
        self.send_one::<Value>(begin.by_code(), GRACE)
            .await
            .map(drop)
    }

    /// Leads to the servers that the session was opened to, and not to what came after them: an older copy of the data has
    /// the same epoch.
    /// Errors: a connection that is of no use any more.
    pub async fn is_of(&self, session: &RedisSession) -> RedisResult<bool> {
        let gone = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let servers = timeout(GRACE, self.conn.read_servers())
            .await
            .map_err(|_| gone())??;
        Ok(same_servers(&session.fingerprint, &servers))
    }

    /// Still leads to a master with the data of the session's epoch, asked in one round trip.
    ///
    /// A node of a cluster that is no master any more refuses reads, so its role is not asked for.
    /// Errors: a connection that is of no use any more.
    pub async fn vouches_for(&self, session: &RedisSession, epoch_key: &str) -> RedisResult<bool> {
        let mut epoch = redis::cmd("HGET");
        epoch.arg(epoch_key).arg("id");
        let mut commands = vec![epoch];
        if matches!(self.conn, SharedConnection::Single(_)) {
            let mut role = redis::cmd("INFO");
            role.arg("replication");
            commands.push(role);
        }
        let gone = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let asked = timeout(GRACE, self.conn.send_commands(commands)).await;
        let mut replies = asked.map_err(|_| gone())??.into_iter();
        let Some(epoch) = replies.next() else {
            return Err(gone());
        };
        let epoch = Option::<String>::from_redis_value(epoch?)?;
        let master = match replies.next() {
            None => true,
            Some(role) => {
                let server = Server::parse_info(&String::from_redis_value(role?)?);
                let histories = session.fingerprint.split_once('/');
                histories.is_some_and(|(_, history)| server.continues_history(history))
            }
        };
        Ok(master && epoch.as_deref() == Some(session.epoch.id.as_str()))
    }

    /// Forgets entries of the feed that are older than `before`, about.
    /// Errors: a connection that is of no use any more.
    pub async fn trim_feed(&self, feed: &str, before: StreamId) -> RedisResult<()> {
        let mut trim = redis::cmd("XTRIM");
        trim.arg(feed).arg("MINID").arg("~").arg(before.to_string());
        self.send_one::<i64>(trim, GRACE).await?;
        let mut cap = redis::cmd("XTRIM");
        cap.arg(feed).arg("MAXLEN").arg("~").arg(FEED_MAX);
        self.send_one::<i64>(cap, GRACE).await.map(drop)
    }
}

/// The key is absent, or holds something that is no stream.
fn is_no_stream(error: &RedisError) -> bool {
    let says = |words: &str| error.detail().is_some_and(|detail| detail.contains(words));
    error.code() == Some("WRONGTYPE") || error.code() == Some("ERR") && says("no such key")
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
