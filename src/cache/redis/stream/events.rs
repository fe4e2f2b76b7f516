//! The settlement stream: its consumer group, and the stream of what could not be read.
//!
//! **Limits.** [`PageSize`] entries at a time; the dead stream has about [`DEAD_MAX`].

use std::{collections::HashMap, time::Duration};

use redis::{FromRedisValue, RedisError, RedisResult, Value};

use super::{
    BlockingConnection, GRACE, GRACE_OF_ONE, PageSize, whole_millis,
    wire::{RawEntry, reply_entries, stream_entries},
};
use crate::{
    cache::redis::{
        Redis,
        script::{self, Call},
    },
    diagnosis::{Code, Finding, FindingPart},
    domain::{FieldMap, Notification, NotificationWire},
};

/// Where a pass through the claimed entries ends, and the next begins.
pub const END: &str = "0-0";
/// Entries of the dead stream, at most, about.
const DEAD_MAX: usize = 100_000;

/// An entry of the settlement stream.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: String,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A stream, and the consumer group that reads it.
#[derive(Debug, Clone)]
pub struct StreamGroup {
    pub stream: String,
    pub group: String,
    /// The name that tells this consumer from the others of the group.
    pub consumer: String,
}

/// Why a command on the settlement stream did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamFailure {
    /// The connection is of no use any more, or the group is gone: to be begun again.
    Lost,
    /// Redis refuses the command, on another connection too.
    Refused(Finding),
    /// Several reads in a row got no whole reply in time; the connection is of no use any more.
    TimedOut(Finding),
}

/// How the group stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupStanding {
    /// Entries that did not take effect yet: not handed out, or not acknowledged.
    pub waiting: u64,
    /// The other groups of the stream.
    pub others: Vec<String>,
}

impl From<RawEntry> for Event {
    fn from((id, fields): RawEntry) -> Self {
        Self { id, fields }
    }
}

impl Redis {
    /// Judges a failed command on this stream.
    pub fn stream_failure(&self, error: &RedisError, stream: &str) -> StreamFailure {
        let finding = self.link.finding_of(error).with_part(FindingPart::Stream);
        if error.code() == Some("NOGROUP") || !finding.code.is_refusal() {
            StreamFailure::Lost
        } else if finding.code == Code::RedisWrongType {
            StreamFailure::Refused(finding.with_detail(stream))
        } else if finding.code == Code::RedisKeyForbidden {
            StreamFailure::Refused(finding.with_detail(format!("a command on {stream}")))
        } else {
            StreamFailure::Refused(finding)
        }
    }

    /// The finding of a page that could not be read. Where several in a row did not come in time, though Redis answers, it names
    /// the stream.
    pub fn page_finding(&self, error: &RedisError, stream: &str, pages: &PageSize) -> Finding {
        if error.is_timeout() && pages.is_stuck() && self.link.open_session().is_some() {
            Finding::new(FindingPart::Stream, Code::StreamSilent, stream)
        } else {
            self.link.finding_of(error)
        }
    }

    /// Judges a failed read of a page of this stream.
    pub fn page_failure(
        &self,
        error: &RedisError,
        stream: &str,
        pages: &PageSize,
    ) -> StreamFailure {
        let finding = self.page_finding(error, stream, pages);
        if finding.code == Code::StreamSilent {
            StreamFailure::TimedOut(finding)
        } else {
            self.stream_failure(error, stream)
        }
    }
}

impl Event {
    /// The notification's fields, or the JSON of one or several with the field names of `fields`; else why it cannot be read.
    /// Errors: in words for the dead stream.
    pub fn read_notifications(&self, fields: &FieldMap) -> Result<Vec<Notification>, String> {
        if self.fields.is_empty() {
            return Err("it was deleted from the stream before it took effect".to_owned());
        }
        let mut wire = NotificationWire::default();
        let mut event = None;
        // One bit for each field of a notification, in the order of the arms.
        let mut seen = 0_u8;
        for (field, value) in &self.fields {
            let (bit, slot) = match field.as_slice() {
                b"event" => (EVENT, None),
                b"user_id" => (1 << 1, Some(&mut wire.user_id)),
                b"asset_id" => (1 << 2, Some(&mut wire.asset_id)),
                b"seq" => (1 << 3, Some(&mut wire.seq)),
                b"avail" => (1 << 4, Some(&mut wire.avail)),
                b"frozen" => (1 << 5, Some(&mut wire.frozen)),
                b"created_at" => (1 << 6, Some(&mut wire.created_at)),
                _ => continue,
            };
            let wrong = |what: &str| format!("{} {what}", String::from_utf8_lossy(field));
            if seen & bit != 0 {
                return Err(wrong("stands twice"));
            }
            seen |= bit;
            let text = std::str::from_utf8(value).map_err(|_| wrong("is not UTF-8"))?;
            match slot {
                None => event = Some(text),
                Some(slot) => *slot = whole_number(text).map_err(wrong)?,
            }
        }
        match event {
            Some(json) if seen == EVENT => fields.parse_all(json),
            Some(_) => Err("event stands beside other fields of a notification".to_owned()),
            None => Ok(vec![wire.check_fields()?]),
        }
    }
}

/// The bit of the field that is a whole notification.
const EVENT: u8 = 1;

/// Digits as JSON would have them: no plus, no leading zero. Empty and `null` are absent.
fn whole_number(text: &str) -> Result<Option<i64>, &'static str> {
    if matches!(text, "" | "null") {
        return Ok(None);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = digits == "0"
        || (!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    if !canonical || text == "-0" {
        return Err("is not a whole number");
    }
    text.parse()
        .map(Some)
        .map_err(|_| "is not a whole number of 64 bits")
}

impl BlockingConnection {
    /// Makes the consumer group, from the stream's beginning, where there is none. False where there was one.
    pub async fn make_group(&self, inlet: &StreamGroup) -> RedisResult<bool> {
        let mut make = redis::cmd("XGROUP");
        make.arg("CREATE")
            .arg(&inlet.stream)
            .arg(&inlet.group)
            .arg("0")
            .arg("MKSTREAM");
        match self.send_one::<Value>(make, GRACE).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// New events for this consumer (`after` is `>`), or those behind `after` that it took and did not acknowledge; waits for
    /// `block` at most.
    /// Errors: whatever the connection or Redis says (`NOGROUP` where the stream was deleted).
    pub async fn read_events(
        &self,
        inlet: &StreamGroup,
        after: &str,
        block: Duration,
        pages: &mut PageSize,
    ) -> RedisResult<Vec<Event>> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(&inlet.group)
            .arg(&inlet.consumer)
            .arg("COUNT")
            .arg(pages.entry_count())
            .arg("BLOCK")
            .arg(whole_millis(block));
        read.arg("STREAMS").arg(&inlet.stream).arg(after);
        let reply = self
            .send_one::<Value>(read, block.saturating_add(pages.grace_time()))
            .await;
        let entries = reply.and_then(reply_entries);
        pages.note_read(entries.as_deref());
        Ok(entries?.into_iter().map(Event::from).collect())
    }

    /// A page of events that consumers took and did not acknowledge for `idle`, now ours; and where the next page begins (`0-0`:
    /// that was all).
    pub async fn claim_events(
        &self,
        inlet: &StreamGroup,
        idle: Duration,
        from: &str,
        pages: &mut PageSize,
    ) -> RedisResult<(String, Vec<Event>)> {
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim
            .arg(&inlet.stream)
            .arg(&inlet.group)
            .arg(&inlet.consumer)
            .arg(whole_millis(idle))
            .arg(from)
            .arg("COUNT")
            .arg(pages.entry_count());
        let reply = self.send_one::<Value>(claim, pages.grace_time()).await;
        let claimed = reply.and_then(claimed_entries);
        pages.note_read(claimed.as_ref().map(|(_, entries)| entries.as_slice()));
        let (next, entries) = claimed?;
        Ok((next, entries.into_iter().map(Event::from).collect()))
    }

    /// These events took effect.
    pub async fn acknowledge_events(&self, inlet: &StreamGroup, ids: &[String]) -> RedisResult<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut acknowledge = redis::cmd("XACK");
        acknowledge.arg(&inlet.stream).arg(&inlet.group).arg(ids);
        self.send_one::<i64>(acknowledge, GRACE).await.map(drop)
    }

    /// Puts an event that could not be read aside, with its id and the reason.
    pub async fn bury_event(&self, dead: &str, event: &Event, reason: &str) -> RedisResult<()> {
        let mut bury = redis::cmd("XADD");
        bury.arg(dead).arg("MAXLEN").arg("~").arg(DEAD_MAX).arg("*");
        for (field, value) in &event.fields {
            bury.arg(field).arg(value);
        }
        bury.arg("id").arg(&event.id).arg("reason").arg(reason);
        self.send_one::<String>(bury, GRACE_OF_ONE).await.map(drop)
    }

    /// Returns how many entries wait, and the other groups of the stream. Where Redis does not know what was not handed out
    /// (entries were deleted, or it is older than 7), that is counted up to a page.
    pub async fn read_standing(
        &self,
        inlet: &StreamGroup,
        pages: &mut PageSize,
    ) -> RedisResult<GroupStanding> {
        let mut info = redis::cmd("XINFO");
        info.arg("GROUPS").arg(&inlet.stream);
        let groups: Vec<HashMap<String, Value>> = self.send_one(info, GRACE).await?;
        let text = |value: &Value| String::from_redis_value_ref(value).unwrap_or_default();
        let name = |group: &HashMap<String, Value>| group.get("name").map(text).unwrap_or_default();
        let (ours, others): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|group| name(group) == inlet.group);
        let others = others.iter().map(name).collect();
        let Some(ours) = ours.first() else {
            return Ok(GroupStanding { waiting: 0, others });
        };
        let number = |name: &str| match ours.get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            Some(_) | None => None,
        };
        let taken = number("pending").unwrap_or(0);
        let rest = if let Some(lag) = number("lag") {
            lag
        } else {
            let last = ours.get("last-delivered-id").map(text).unwrap_or_default();
            let mut rest = redis::cmd("XRANGE");
            rest.arg(&inlet.stream).arg(format!("({last}")).arg("+");
            rest.arg("COUNT").arg(pages.entry_count());
            let reply = self.send_one::<Value>(rest, pages.grace_time()).await;
            let rest = reply.and_then(stream_entries);
            pages.note_read(rest.as_deref());
            u64::try_from(rest?.len()).unwrap_or(u64::MAX)
        };
        let waiting = taken.saturating_add(rest);
        Ok(GroupStanding { waiting, others })
    }

    /// Removes consumers that have had nothing for `idle`; with `leaves` this one too, if nothing is left with it. A consumer that
    /// got an entry meanwhile stays.
    pub async fn remove_consumers(
        &self,
        inlet: &StreamGroup,
        leaves: bool,
        idle: Duration,
    ) -> RedisResult<()> {
        let mut info = redis::cmd("XINFO");
        info.arg("CONSUMERS").arg(&inlet.stream).arg(&inlet.group);
        let consumers: Vec<HashMap<String, Value>> = self.send_one(info, GRACE).await?;
        for consumer in consumers {
            let number = |name: &str| match consumer.get(name) {
                Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
                Some(_) | None => 0,
            };
            let name = consumer.get("name").cloned().map(String::from_redis_value);
            let Some(Ok(name)) = name else { continue };
            let own = name == inlet.consumer;
            let over = (leaves && own) || (!own && number("idle") >= whole_millis(idle));
            if over && number("pending") == 0 {
                let remove = Call::new(&script::REMOVE_CONSUMER)
                    .with_key(inlet.stream.as_str())
                    .with_arg(inlet.group.as_str())
                    .with_arg(name);
                self.send_one::<i64>(remove.by_code(), GRACE).await?;
            }
        }
        Ok(())
    }
}

/// Where the next page of claims begins, and the entries of this one.
fn claimed_entries(reply: Value) -> RedisResult<(String, Vec<RawEntry>)> {
    let Value::Array(parts) = reply else {
        return Ok((END.to_owned(), Vec::new()));
    };
    let mut parts = parts.into_iter();
    let next = parts.next().map(String::from_redis_value).transpose()?;
    let claimed = stream_entries(parts.next().unwrap_or(Value::Nil))?;
    Ok((next.unwrap_or_else(|| END.to_owned()), claimed))
}
