//! Whose entries were asked for last: the nearest thing to a list of active users that there is.
//!
//! Redis keeps for each key how long nobody touched it (`OBJECT IDLETIME`), or how often it is touched where its policy is
//! LFU (`OBJECT FREQ`); every lookup that memory did not answer touches the user's key, and looking at these does not.
//!
//! **Limits.** [`SCANNED_MAX`] keys are looked at; one Redis, no cluster.

use std::collections::BTreeSet;

use redis::{RedisResult, Value};

use super::{RedisInspector, RedisTrouble};
use crate::{config::RedisMode, domain::UserId};

/// Keys that are looked at, at most.
pub const SCANNED_MAX: usize = 1_000_000;

/// Keys of one step.
const STEP: &str = "1000";

impl RedisInspector {
    /// The `most` users whose entries were asked for most recently, the latest first.
    /// Errors: [`RedisTrouble`]; a cluster is refused.
    pub async fn recent_users(&self, most: usize) -> Result<Vec<UserId>, RedisTrouble> {
        if self.mode == RedisMode::Cluster {
            return Err(RedisTrouble::Unsupported("a cluster is not walked through"));
        }
        // Seconds since the last touch, or how seldom it is touched: the lowest first.
        let mut kept: BTreeSet<(i64, UserId)> = BTreeSet::new();
        let prefix = self.keys.user_prefix();
        let pattern = format!("{}*", escape_pattern(prefix));
        let (mut cursor, mut scanned) = ("0".to_owned(), 0_usize);
        loop {
            let words = ["SCAN", &cursor, "MATCH", &pattern, "COUNT", STEP];
            let (next, keys): (String, Vec<String>) = self.send_one(&words).await?;
            scanned = scanned.saturating_add(keys.len());
            for (idle, key) in self.idle_times(&keys).await?.into_iter().zip(&keys) {
                let user = key.strip_prefix(prefix).and_then(|id| id.parse().ok());
                if let (Some(idle), Some(user)) = (idle, user) {
                    kept.insert((idle, user));
                }
                if kept.len() > most {
                    kept.pop_last();
                }
            }
            if next == "0" || scanned >= SCANNED_MAX {
                return Ok(kept.into_iter().map(|(_, user)| user).collect());
            }
            cursor = next;
        }
    }

    async fn idle_times(&self, keys: &[String]) -> Result<Vec<Option<i64>>, RedisTrouble> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let ask = |what: &'static str| {
            let commands = keys.iter().map(|key| {
                let mut command = redis::cmd("OBJECT");
                command.arg(what).arg(key);
                command
            });
            self.limit_time(self.conn.send_commands(commands.collect()))
        };
        let read = |reply: RedisResult<Value>| match reply {
            Ok(Value::Int(number)) => Some(number),
            // Gone meanwhile, or the other policy.
            Ok(_) | Err(_) => None,
        };
        let idle: Vec<_> = ask("IDLETIME").await?.into_iter().map(read).collect();
        if idle.iter().any(Option::is_some) {
            return Ok(idle);
        }
        let often = ask("FREQ").await?.into_iter().map(read);
        Ok(often.map(|often| often.map(i64::saturating_neg)).collect())
    }
}

/// A text that stands for itself in a pattern.
fn escape_pattern(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if ['*', '?', '[', ']', '^', '-', '\\'].contains(&letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
