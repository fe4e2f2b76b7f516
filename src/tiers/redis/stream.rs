//! The streams: the feed that every instance follows with its own cursor, and the settlement events that one of them takes.
//! Both are read on connections of their own, because they block.
//!
//! **Invariants.** Every entry of the feed names the entry before it (`p`), so that a follower knows whether it saw all:
//! whatever was trimmed, flushed or replaced shows as a break in the chain.
//!
//! **Cancellation.** A blocking read that is dropped has taken nothing: the cursor moves when its entries took effect.

use std::time::Duration;

use redis::{FromRedisValue, RedisError, RedisResult, Value};
use tokio::time::{Instant, timeout};

use super::{Redis, conn::Conn, entry};
use crate::domain::{AssetId, Balance, Seq, UserId, Wire};

/// Entries per read of a stream.
pub const PAGE: usize = 1_000;
/// How long a read may take beyond its block before the connection counts as lost.
const GRACE: Duration = Duration::from_millis(500);
/// The consumer group of all instances.
const GROUP: &str = "balance-cache";
/// Entries of the dead stream, at most, about.
const DEAD_MAX: usize = 100_000;
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

/// One entry of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Post {
    /// Its place.
    pub id: StreamId,
    /// The entry before it.
    pub before: StreamId,
    /// What it says; none where it says nothing to us.
    pub news: Option<News>,
}

/// What the feed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A balance is at this seq, and maybe what it is.
    Changed {
        /// Whose.
        user: UserId,
        /// In what.
        asset: AssetId,
        /// The version.
        seq: Seq,
        /// The balance itself.
        balance: Option<Balance>,
    },
    /// An asset of the user, or any, changed to something that nobody said.
    Reread {
        /// Whose.
        user: UserId,
        /// In what.
        asset: Option<AssetId>,
    },
    /// The user's snapshot is dropped; with `floors` these are forgotten too.
    Dropped {
        /// Whose.
        user: UserId,
        /// Floors too.
        floors: bool,
    },
}

/// What one read of the feed brought.
#[derive(Debug)]
pub struct Page {
    /// When it was asked for.
    pub sent: Instant,
    /// The entries, in order.
    pub posts: Vec<Post>,
    /// There may be more.
    pub full: bool,
    /// The last entry that there ever was, before this read.
    pub last: StreamId,
}

/// A connection of its own.
pub struct Tap {
    conn: Conn,
}

/// An entry of the settlement stream.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place, as text.
    pub id: String,
    /// Its fields and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl StreamId {
    fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        Some(Self {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    }

    /// The first place of a millisecond.
    #[must_use]
    pub fn at_ms(ms: i64) -> Self {
        Self {
            ms: u64::try_from(ms).unwrap_or(0),
            seq: 0,
        }
    }
}

impl Redis {
    /// A connection of its own, for commands that block.
    ///
    /// # Errors
    /// Whatever the connection says.
    pub async fn tap(&self) -> RedisResult<Tap> {
        Ok(Tap {
            conn: self.link.dedicated().await?,
        })
    }
}

impl Tap {
    async fn one<T: FromRedisValue>(
        &self,
        command: redis::Cmd,
        patience: Duration,
    ) -> RedisResult<T> {
        match timeout(patience, self.conn.one(command)).await {
            Ok(reply) => reply,
            Err(_) => Err(RedisError::from(std::io::Error::from(
                std::io::ErrorKind::TimedOut,
            ))),
        }
    }

    /// What came into the feed after the cursor; waits for `block` at most where there is nothing.
    ///
    /// # Errors
    /// A connection that is of no use any more, or a stream that is not one.
    pub async fn feed(&self, feed: &str, after: StreamId, block: Duration) -> RedisResult<Page> {
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(feed);
        let last = match self.one::<Value>(info, GRACE).await {
            Ok(info) => last_id(&info),
            Err(error) if error.code() == Some("ERR") => StreamId::default(),
            Err(error) => return Err(error),
        };
        let sent = Instant::now();
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT")
            .arg(PAGE)
            .arg("BLOCK")
            .arg(millis(block))
            .arg("STREAMS")
            .arg(feed)
            .arg(after.to_string());
        let reply = self.one::<Value>(read, block.saturating_add(GRACE)).await?;
        let posts: Vec<_> = entries(reply)?.into_iter().filter_map(post).collect();
        Ok(Page {
            sent,
            full: posts.len() >= PAGE,
            posts,
            last,
        })
    }

    /// The id of the current epoch; none where it is gone.
    ///
    /// # Errors
    /// A connection that is of no use any more.
    pub async fn epoch(&self, key: &str) -> RedisResult<Option<String>> {
        let mut read = redis::cmd("HGET");
        read.arg(key).arg("id");
        self.one(read, GRACE).await
    }

    /// Forgets entries of the feed that are older than `before`, about.
    ///
    /// # Errors
    /// A connection that is of no use any more.
    pub async fn trim(&self, feed: &str, before: StreamId) -> RedisResult<()> {
        let mut trim = redis::cmd("XTRIM");
        trim.arg(feed).arg("MINID").arg("~").arg(before.to_string());
        self.one::<i64>(trim, GRACE).await?;
        let mut cap = redis::cmd("XTRIM");
        cap.arg(feed).arg("MAXLEN").arg("~").arg(FEED_MAX);
        self.one::<i64>(cap, GRACE).await.map(drop)
    }

    /// Makes the consumer group, from the stream's beginning, where there is none.
    ///
    /// # Errors
    /// Whatever the connection or Redis says.
    pub async fn make_group(&self, stream: &str) -> RedisResult<()> {
        let mut make = redis::cmd("XGROUP");
        make.arg("CREATE")
            .arg(stream)
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM");
        match self.one::<Value>(make, GRACE).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// New events for this consumer, or those that it took and did not acknowledge; waits for `block` at most.
    ///
    /// # Errors
    /// Whatever the connection or Redis says (`NOGROUP` where the stream was deleted).
    pub async fn events(
        &self,
        stream: &str,
        consumer: &str,
        new: bool,
        block: Duration,
    ) -> RedisResult<Vec<Event>> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(GROUP)
            .arg(consumer)
            .arg("COUNT")
            .arg(PAGE)
            .arg("BLOCK")
            .arg(millis(block));
        read.arg("STREAMS")
            .arg(stream)
            .arg(if new { ">" } else { "0" });
        let reply = self.one::<Value>(read, block.saturating_add(GRACE)).await?;
        Ok(entries(reply)?
            .into_iter()
            .map(|(id, fields)| Event { id, fields })
            .collect())
    }

    /// Events that a consumer took and did not acknowledge for `idle`: now ours.
    ///
    /// # Errors
    /// Whatever the connection or Redis says.
    pub async fn claim(
        &self,
        stream: &str,
        consumer: &str,
        idle: Duration,
    ) -> RedisResult<Vec<Event>> {
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim
            .arg(stream)
            .arg(GROUP)
            .arg(consumer)
            .arg(millis(idle))
            .arg("0-0")
            .arg("COUNT")
            .arg(PAGE);
        let reply = self.one::<Value>(claim, GRACE).await?;
        let Value::Array(parts) = reply else {
            return Ok(Vec::new());
        };
        let claimed = parts.into_iter().nth(1).unwrap_or(Value::Nil);
        Ok(stream_entries(claimed)?
            .into_iter()
            .map(|(id, fields)| Event { id, fields })
            .collect())
    }

    /// These events took effect.
    ///
    /// # Errors
    /// Whatever the connection or Redis says.
    pub async fn acknowledge(&self, stream: &str, ids: &[String]) -> RedisResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(stream).arg(GROUP).arg(ids);
        self.one::<i64>(acknowledge, GRACE).await.map(drop)
    }

    /// Puts an event that could not be read aside, with its id and the reason.
    ///
    /// # Errors
    /// Whatever the connection or Redis says.
    pub async fn bury(&self, dead: &str, event: &Event, reason: &str) -> RedisResult<()> {
        let mut bury = redis::cmd("XADD");
        bury.arg(dead).arg("MAXLEN").arg("~").arg(DEAD_MAX).arg("*");
        for (field, value) in &event.fields {
            bury.arg(field).arg(value);
        }
        bury.arg("id").arg(&event.id).arg("reason").arg(reason);
        self.one::<String>(bury, GRACE).await.map(drop)
    }

    /// Removes this consumer, if nothing is left with it, and others that have had nothing for `idle`.
    ///
    /// # Errors
    /// Whatever the connection or Redis says.
    pub async fn tidy(&self, stream: &str, me: Option<&str>, idle: Duration) -> RedisResult<()> {
        let mut info = redis::cmd("XINFO");
        info.arg("CONSUMERS").arg(stream).arg(GROUP);
        let consumers: Vec<std::collections::HashMap<String, Value>> =
            self.one(info, GRACE).await?;
        for consumer in consumers {
            let number = |name: &str| match consumer.get(name) {
                Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
                Some(_) | None => 0,
            };
            let name = consumer.get("name").cloned().map(String::from_redis_value);
            let Some(Ok(name)) = name else { continue };
            let over = me == Some(name.as_str()) || number("idle") >= millis(idle);
            if over && number("pending") == 0 {
                let mut remove = redis::cmd("XGROUP");
                remove.arg("DELCONSUMER").arg(stream).arg(GROUP).arg(&name);
                self.one::<i64>(remove, GRACE).await?;
            }
        }
        Ok(())
    }
}

impl Event {
    /// The notification's fields, or its JSON; else why it cannot be read.
    ///
    /// # Errors
    /// In words for whoever looks into the dead stream.
    pub fn read(&self) -> Result<crate::domain::Notification, String> {
        let mut wire = Wire::default();
        for (field, value) in &self.fields {
            let slot = match field.as_slice() {
                b"event" => {
                    let json = std::str::from_utf8(value).map_err(|_| "event is not UTF-8")?;
                    return crate::domain::Notification::parse(json);
                }
                b"user_id" => &mut wire.user_id,
                b"asset_id" => &mut wire.asset_id,
                b"seq" => &mut wire.seq,
                b"avail" => &mut wire.avail,
                b"frozen" => &mut wire.frozen,
                b"created_at" => &mut wire.created_at,
                _ => continue,
            };
            let text = std::str::from_utf8(value).unwrap_or_default();
            let name = String::from_utf8_lossy(field);
            *slot = match text {
                "" | "null" => None,
                text => Some(
                    text.parse()
                        .map_err(|_| format!("{name} is not a whole number"))?,
                ),
            };
        }
        wire.check()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

type RawEntry = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// The entries of the one stream that was read.
fn entries(reply: Value) -> RedisResult<Vec<RawEntry>> {
    let streams = match reply {
        Value::Array(mut streams) if !streams.is_empty() => streams.swap_remove(0),
        Value::Map(mut streams) if !streams.is_empty() => {
            return stream_entries(streams.swap_remove(0).1);
        }
        _ => return Ok(Vec::new()),
    };
    match streams {
        Value::Array(parts) => stream_entries(parts.into_iter().nth(1).unwrap_or(Value::Nil)),
        _ => Ok(Vec::new()),
    }
}

fn stream_entries(value: Value) -> RedisResult<Vec<RawEntry>> {
    let Value::Array(entries) = value else {
        return Ok(Vec::new());
    };
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Array(parts) = entry else { continue };
        let mut parts = parts.into_iter();
        let id = parts.next().map(String::from_redis_value).transpose()?;
        let fields: Vec<Vec<u8>> = match parts.next() {
            Some(fields @ Value::Array(_)) => Vec::from_redis_value(fields)?,
            Some(_) | None => continue,
        };
        let mut pairs = Vec::with_capacity(fields.len());
        let mut fields = fields.into_iter();
        while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
            pairs.push((field, value));
        }
        if let Some(id) = id {
            read.push((id, pairs));
        }
    }
    Ok(read)
}

fn last_id(info: &Value) -> StreamId {
    let mut pairs = info.as_map_iter().into_iter().flatten();
    let found = pairs
        .find(|(name, _)| matches!(name, Value::BulkString(name) if name == b"last-generated-id"));
    match found {
        Some((_, Value::BulkString(id))) => std::str::from_utf8(id)
            .ok()
            .and_then(StreamId::parse)
            .unwrap_or_default(),
        Some(_) | None => StreamId::default(),
    }
}

/// Reads an entry of the feed. One that is not ours still is a link of the chain, if it says which it follows.
fn post((id, fields): RawEntry) -> Option<Post> {
    let field = |name: &[u8]| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let id = StreamId::parse(&id)?;
    let before = field(b"p").and_then(StreamId::parse).unwrap_or_default();
    let news = || -> Option<News> {
        let user: UserId = field(b"u")?.parse().ok()?;
        match field(b"k") {
            Some("drop") => {
                return Some(News::Dropped {
                    user,
                    floors: false,
                });
            }
            Some("forget") => return Some(News::Dropped { user, floors: true }),
            Some(_) | None => {}
        }
        let asset = field(b"a")?;
        match (asset, field(b"s")?) {
            ("*", _) => Some(News::Reread { user, asset: None }),
            (asset, "") => Some(News::Reread {
                user,
                asset: Some(asset.parse().ok()?),
            }),
            (asset, seq) => {
                let rest = field(b"r").unwrap_or_default();
                let balance = if rest.is_empty() {
                    None
                } else {
                    Some(entry::balance(asset, &format!("{seq} {rest}")).ok()?)
                };
                Some(News::Changed {
                    user,
                    asset: asset.parse().ok()?,
                    seq: entry::seq_of(seq).ok()?,
                    balance,
                })
            }
        }
    };
    Some(Post {
        id,
        before,
        news: news(),
    })
}
