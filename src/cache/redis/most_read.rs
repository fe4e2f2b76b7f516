//! The users that were read most, by all instances: a sorted set of reads by user for each hour.
//!
//! **Invariants.** It decides nothing about balances: what is wrong or lost in it costs a miss.
//!
//! **Limits.** [`COMMANDS`] users in one round trip; a set keeps as many users as [`Redis::add_reads`] is told, and ends [`KEPT_HOURS`]
//! hours after it was added to last.

use std::collections::HashMap;

use redis::{FromRedisValue, RedisResult, Value};

use super::Redis;
use crate::{
    domain::{UnixMillis, UserId},
    telemetry::{Fault, Op},
};

const COMMANDS: usize = 200;
const KEPT_HOURS: i64 = 3;
const HOUR_SECONDS: i64 = 3_600;
/// Members of one reply.
const REPLY: usize = 2_000;

fn hour_of(now: UnixMillis) -> i64 {
    now.0.div_euclid(HOUR_SECONDS.saturating_mul(1_000))
}

impl Redis {
    /// Adds reads to this hour's, and drops the least read of more than `users_max` users.
    /// Errors: the fault, counted; some of the reads may have been added.
    pub async fn add_reads(
        &self,
        reads: &[(UserId, u32)],
        users_max: usize,
        now: UnixMillis,
    ) -> Result<(), Fault> {
        let key = self.link.keys.most_read(hour_of(now));
        for some in reads.chunks(COMMANDS) {
            let adds = some.iter().map(|(user, reads)| {
                let mut command = redis::cmd("ZINCRBY");
                command.arg(&key).arg(*reads).arg(user.get());
                command
            });
            self.ask_in_order(adds.collect()).await?;
        }
        let above = i64::try_from(users_max).unwrap_or(i64::MAX);
        let mut trim = redis::cmd("ZREMRANGEBYRANK");
        trim.arg(&key)
            .arg(0)
            .arg(above.saturating_add(1).saturating_neg());
        let mut expire = redis::cmd("EXPIRE");
        expire
            .arg(&key)
            .arg(KEPT_HOURS.saturating_mul(HOUR_SECONDS));
        self.ask_in_order(vec![trim, expire]).await.map(drop)
    }

    /// The users that were read most in this hour and the one before, the most read first.
    /// Errors: the fault, counted.
    pub async fn most_read(&self, users_max: usize, now: UnixMillis) -> Result<Vec<UserId>, Fault> {
        let mut reads: HashMap<UserId, u64> = HashMap::new();
        let this_hour = hour_of(now);
        for hour in [this_hour, this_hour.saturating_sub(1)] {
            self.read_hour(hour, users_max, &mut reads).await?;
        }
        let mut all: Vec<(UserId, u64)> = reads.into_iter().collect();
        all.sort_unstable_by_key(|(user, reads)| (std::cmp::Reverse(*reads), *user));
        all.truncate(users_max);
        Ok(all.into_iter().map(|(user, _)| user).collect())
    }

    async fn read_hour(
        &self,
        hour: i64,
        users_max: usize,
        reads: &mut HashMap<UserId, u64>,
    ) -> Result<(), Fault> {
        let key = self.link.keys.most_read(hour);
        let mut from = 0;
        while from < users_max {
            let to = from.saturating_add(REPLY).min(users_max).saturating_sub(1);
            let mut command = redis::cmd("ZREVRANGE");
            command.arg(&key).arg(from).arg(to).arg("WITHSCORES");
            let replies = self.ask_in_order(vec![command]).await?;
            let pairs = replies.into_iter().filter_map(pairs_of).flatten();
            let before = from;
            for (user, score) in pairs {
                from = from.saturating_add(1);
                if let Ok(user) = user.parse() {
                    // A score is a float; whatever is no number counts once.
                    let score = score.split('.').next().and_then(|text| text.parse().ok());
                    let sum = reads.entry(user).or_default();
                    *sum = sum.saturating_add(score.unwrap_or(1));
                }
            }
            if from.saturating_sub(before) < REPLY {
                break;
            }
        }
        Ok(())
    }

    /// Commands in one round trip, all of which must succeed.
    async fn ask_in_order(&self, commands: Vec<redis::Cmd>) -> Result<Vec<Value>, Fault> {
        let session = self.session_for(Op::Fill)?;
        let replies = self
            .link
            .send_commands(&session, Op::Fill, commands)
            .await?;
        let replies: RedisResult<Vec<Value>> = replies.into_iter().collect();
        replies.map_err(|error| self.note_refused(self.link.finding_of(&error), Op::Fill))
    }
}

fn pairs_of(reply: Value) -> Option<Vec<(String, String)>> {
    Vec::from_redis_value(reply).ok()
}
