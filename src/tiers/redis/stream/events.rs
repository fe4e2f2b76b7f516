//! The settlement stream: its consumer group, and the stream of what could not be read.

use std::{collections::HashMap, time::Duration};

use redis::{FromRedisValue, RedisResult, Value};

use super::{
    GRACE, PAGE, Tap, millis,
    wire::{entries, stream_entries},
};
use crate::domain::{Notification, Wire};

/// The consumer group of all instances.
const GROUP: &str = "balance-cache";
/// Entries of the dead stream, at most, about.
const DEAD_MAX: usize = 100_000;

/// An entry of the settlement stream.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place, as text.
    pub id: String,
    /// Its fields and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Event {
    /// The notification's fields, or its JSON; else why it cannot be read.
    ///
    /// # Errors
    /// In words for whoever looks into the dead stream.
    pub fn read(&self) -> Result<Notification, String> {
        let mut wire = Wire::default();
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
            Some(json) if seen == EVENT => Notification::parse(json),
            Some(_) => Err("event stands beside other fields of a notification".to_owned()),
            None => wire.check(),
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

impl Tap {
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

    /// How many entries of the stream did not take effect yet: not handed out, or not acknowledged. Where Redis does not
    /// know (entries were deleted, or it is older than 7), those not handed out are counted up to [`PAGE`].
    ///
    /// # Errors
    /// Whatever the connection or Redis says.
    pub async fn waiting(&self, stream: &str) -> RedisResult<u64> {
        let mut info = redis::cmd("XINFO");
        info.arg("GROUPS").arg(stream);
        let groups: Vec<HashMap<String, Value>> = self.one(info, GRACE).await?;
        let text = |value: &Value| String::from_redis_value_ref(value).unwrap_or_default();
        let ours = groups
            .into_iter()
            .find(|group| group.get("name").is_some_and(|name| text(name) == GROUP));
        let Some(ours) = ours else { return Ok(0) };
        let number = |name: &str| match ours.get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            Some(_) | None => None,
        };
        let taken = number("pending").unwrap_or(0);
        if let Some(lag) = number("lag") {
            return Ok(taken.saturating_add(lag));
        }
        let last = ours.get("last-delivered-id").map(text).unwrap_or_default();
        let mut rest = redis::cmd("XRANGE");
        rest.arg(stream).arg(format!("({last}")).arg("+");
        rest.arg("COUNT").arg(PAGE);
        let rest = stream_entries(self.one(rest, GRACE).await?)?;
        Ok(taken.saturating_add(u64::try_from(rest.len()).unwrap_or(u64::MAX)))
    }

    /// Removes this consumer, if nothing is left with it, and others that have had nothing for `idle`.
    ///
    /// # Errors
    /// Whatever the connection or Redis says.
    pub async fn tidy(&self, stream: &str, me: Option<&str>, idle: Duration) -> RedisResult<()> {
        let mut info = redis::cmd("XINFO");
        info.arg("CONSUMERS").arg(stream).arg(GROUP);
        let consumers: Vec<HashMap<String, Value>> = self.one(info, GRACE).await?;
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
