//! The Redis tier: one hash per user with snapshot, floors and lease; a feed that tells every instance what changed.
//! The interface to the redis crates is localized here and in [`stream`].
//!
//! **Invariants.** A fill needs the lease that its miss was given, and is refused below a floor (the scripts decide, in Redis).
//! Reads are never repeated; a fault is counted and handed back as an observation, never as an absence. What cannot be read is
//! a miss, counted as corrupt, and replaced by the next fill.
//!
//! **Cancellation.** A command whose future is dropped may still run; every script may run twice.
//!
//! **Limits.** `notifications`'s batches of commands in one pipeline.

mod advice;
mod backfill_progress;
mod backfills;
mod backoff;
mod batch_reader;
mod client;
mod clock;
mod connection;
mod connection_slot;
mod connections;
mod dialer;
pub mod entry;
mod faults;
pub mod inspect;
mod keys;
mod lookup;
mod most_read;
mod notifications;
mod rates;
mod script;
mod server;
mod session;
mod session_keeper;
pub mod stream;
pub mod totals;
mod write_probe;

use std::{sync::Arc, time::Duration};

use redis::{FromRedisValue, RedisError, RedisResult, Value};
use tokio::time::Instant;

pub use self::{
    backfill_progress::{BackfillPhase, BackfillProgress, ENDED_TTL, KnownBackfills, RUNNING_TTL},
    backfills::BackfillWriter,
    backoff::jittered_wait,
    client::{Identity, NewAuthorities, RedisLink},
    keys::Keys,
    lookup::{KnownBalances, Lease, LeaseGrant, Lookup},
    notifications::Effect,
    session::{Epoch, RedisSession},
};
use self::{
    clock::{ClockReading, RedisTime},
    entry::{Corrupt, EntryLifetime, StoredEntry},
    lookup::SessionRef,
    script::Call,
};
use crate::{
    cache_status::Tier,
    config::{self, RedisMode},
    diagnosis::{Code, Finding, FindingPart},
    domain::{Snapshot, UserId},
    telemetry::{Fault, Meters, Op, RateLimitedLog, Refused},
};

#[derive(Debug)]
pub struct Redis {
    /// The way there.
    pub link: RedisLink,
    meters: Arc<Meters>,
    snapshot_ttl: Duration,
    floor_ttl: Duration,
    lease: Duration,
    cluster: bool,
    log: RateLimitedLog,
}

impl Redis {
    /// On a way to Redis. `lease` is how long a load may take at most, `floor_ttl` how long a floor is remembered.
    pub fn new(
        link: RedisLink,
        options: &config::RedisSettings,
        floor_ttl: Duration,
        lease: Duration,
        meters: Arc<Meters>,
    ) -> Self {
        Self {
            link,
            meters,
            snapshot_ttl: options.snapshot_ttl_ms.0,
            floor_ttl,
            lease,
            cluster: options.mode == RedisMode::Cluster,
            log: RateLimitedLog::default(),
        }
    }

    fn session_for(&self, op: Op) -> Result<Arc<RedisSession>, Fault> {
        self.link.open_session().ok_or_else(|| {
            self.meters.tier_failure(Tier::Redis, op, Fault::Open);
            Fault::Open
        })
    }

    /// The snapshot that is held of one user.
    pub async fn get_user(&self, user: UserId) -> Lookup {
        self.get_many(&[user])
            .await
            .pop()
            .unwrap_or(Lookup::Fault(Fault::Error))
    }

    /// The entries of these users, in their order, in one round trip.
    pub async fn get_many(&self, users: &[UserId]) -> Vec<Lookup> {
        let look_up = async {
            let session = self.session_for(Op::Get)?;
            if let Some(slot) = session.sound_batch_reader() {
                let answer = self.link.read_hashes(&session, slot, users).await?;
                let now = session.now();
                let looked = answer.replies().map(|reply| {
                    if let Some(text) = reply.error_text() {
                        return self.no_hash(self.link.finding_of_reply(text));
                    }
                    let entry = reply.hash_pairs();
                    let entry =
                        entry.and_then(|pairs| StoredEntry::decode_fields(pairs, now.earliest));
                    self.judge_entry(&session, entry, now)
                });
                return Ok(looked.collect());
            }
            let commands = users.iter().map(|user| {
                let mut command = redis::cmd("HGETALL");
                command.arg(self.link.keys.user_key(*user));
                command
            });
            let replies = self
                .link
                .send_commands(&session, Op::Get, commands.collect())
                .await?;
            let now = session.now();
            let looked = replies.iter().map(|reply| match reply {
                Ok(value) => self.judge_entry(&session, decode_entry(value, now.earliest), now),
                Err(error) => self.no_hash(self.link.finding_of(error)),
            });
            Ok(looked.collect())
        };
        let looked: Result<Vec<Lookup>, Fault> = look_up.await;
        looked.unwrap_or_else(|fault| vec![Lookup::Fault(fault); users.len()])
    }

    /// An error in place of a hash: a key that holds something else is a miss, and whatever else Redis refuses is its fault.
    fn no_hash(&self, finding: Finding) -> Lookup {
        if finding.code == Code::RedisWrongType {
            self.meters
                .tier_failure(Tier::Redis, Op::Get, Fault::Corrupt);
            Lookup::Miss(KnownBalances::default())
        } else {
            Lookup::Fault(self.note_refused(finding, Op::Get))
        }
    }

    fn judge_entry(
        &self,
        session: &RedisSession,
        entry: Result<Option<StoredEntry<'_>>, Corrupt>,
        now: RedisTime,
    ) -> Lookup {
        match entry {
            Ok(Some(entry)) if entry.may_serve(&session.epoch.id, self.entry_life(now)) => {
                hit_of(entry, now)
            }
            Ok(Some(entry)) if entry.is_outdated(&session.epoch.id, self.entry_life(now)) => {
                Lookup::Stale(known_balances(entry))
            }
            Ok(entry) => Lookup::Miss(entry.map(known_balances).unwrap_or_default()),
            Err(Corrupt) => {
                self.meters
                    .tier_failure(Tier::Redis, Op::Get, Fault::Corrupt);
                Lookup::Miss(KnownBalances::default())
            }
        }
    }

    fn entry_life(&self, now: RedisTime) -> EntryLifetime {
        EntryLifetime {
            now: now.latest,
            longest: i64::try_from(self.snapshot_ttl.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Asks for the lease after a miss. With `force` the lease is taken from its owner, and a snapshot in Redis is ignored.
    /// Errors: the fault, counted.
    pub async fn ask_lease(&self, user: UserId, force: bool) -> Result<Lease, Fault> {
        let session = self.session_for(Op::Get)?;
        let how = if force { "1" } else { "0" };
        if let Ok(lease) = self.lease_in(&session, user, how).await? {
            return Ok(lease);
        }
        // No fill would mend what cannot be read: it compares with what it finds.
        let replaced = self.lease_in(&session, user, "2").await?;
        replaced.map_err(|Corrupt| Fault::Corrupt)
    }

    async fn lease_in(
        &self,
        session: &Arc<RedisSession>,
        user: UserId,
        how: &str,
    ) -> Result<Result<Lease, Corrupt>, Fault> {
        let token = format!("{:032x}", rand::random::<u128>());
        let call = Call::new(&script::LEASE)
            .with_key(self.link.keys.user_key(user))
            .with_arg(entry::VERSION)
            .with_arg(session.epoch.id.as_str())
            .with_arg(token.as_str())
            .with_arg(self.lease.as_millis().to_string())
            .with_arg(how);
        let asked = Instant::now();
        let reply = self.call_one(session, Op::Get, call).await?;
        let (what, redis_ms, fields): (String, i64, Value) = self.read_reply(reply, Op::Get)?;
        let now = ClockReading::just_now(asked, redis_ms).time_then();
        if what == "foreign" {
            self.meters
                .tier_failure(Tier::Redis, Op::Get, Fault::Corrupt);
        }
        let Ok(entry) = decode_entry(&fields, now.earliest) else {
            return Ok(Err(Corrupt));
        };
        let entry = entry.unwrap_or_default();
        Ok(Ok(match what.as_str() {
            "hit" if entry.may_serve(&session.epoch.id, self.entry_life(now)) => {
                match hit_of(entry, now) {
                    Lookup::Hit { snapshot, ttl } => Lease::Hit { snapshot, ttl },
                    Lookup::Miss(_) | Lookup::Stale(_) | Lookup::Fault(_) => Lease::Busy,
                }
            }
            "busy" | "hit" => Lease::Busy,
            _ => {
                let grant = LeaseGrant {
                    token,
                    // The floors went with whatever was dropped or replaced.
                    ledger: entry.reread
                        || what == "foreign"
                        || (what == "absent" && session.evicts)
                        // A young epoch has forgotten floors, whatever the follower of the feed has done about it yet.
                        || !session.young_for(self.floor_ttl).is_zero(),
                    session: SessionRef(Arc::clone(session)),
                };
                Lease::Granted(grant, known_balances(entry))
            }
        }))
    }

    /// Offers what was loaded; returns for how long it is still kept, or why it was refused (counted).
    /// Errors: the fault, counted.
    pub async fn fill_entry(
        &self,
        user: UserId,
        grant: &LeaseGrant,
        snapshot: &Snapshot,
        from_ledger: bool,
    ) -> Result<Result<Duration, Refused>, Fault> {
        let session = &grant.session.0;
        let current = self.session_for(Op::Fill)?;
        if current.epoch != session.epoch {
            self.meters.refused_fill(Refused::Epoch);
            return Ok(Err(Refused::Epoch));
        }
        let mut call = Call::new(&script::FILL)
            .with_key(self.link.keys.user_key(user))
            .with_arg(entry::VERSION)
            .with_arg(session.epoch.id.as_str())
            .with_arg(grant.token.as_str())
            .with_arg(self.snapshot_ttl.as_millis().to_string())
            .with_arg(if from_ledger { "1" } else { "0" });
        for balance in snapshot.balances() {
            call = call
                .with_arg(balance.asset.to_string())
                .with_arg(balance.seq.to_string())
                .with_arg(entry::rest_text(balance));
        }
        let asked = Instant::now();
        let reply = self.call_one(&current, Op::Fill, call).await?;
        let (what, _): (String, i64) = self.read_reply(reply, Op::Fill)?;
        let refused = match what.as_str() {
            "ok" => return Ok(Ok(self.snapshot_ttl.saturating_sub(asked.elapsed()))),
            "floor" => Refused::Floor,
            "incomplete" => Refused::Incomplete,
            "epoch" => Refused::Epoch,
            _ => Refused::Lease,
        };
        self.meters.refused_fill(refused);
        Ok(Err(refused))
    }

    /// Gives a lease back that will not be used. A fault is only counted: the lease ends by itself.
    pub async fn release_lease(&self, user: UserId, grant: &LeaseGrant) {
        let call = Call::new(&script::RELEASE)
            .with_key(self.link.keys.user_key(user))
            .with_arg(grant.token.as_str());
        if let Ok(reply) = self.call_one(&grant.session.0, Op::Fill, call).await {
            let _: Result<i64, Fault> = self.read_reply(reply, Op::Fill);
        }
    }

    /// A reply as what it should be; an error that the command got is a fault of Redis.
    fn read_reply<T: FromRedisValue>(&self, reply: RedisResult<Value>, op: Op) -> Result<T, Fault> {
        let read = reply.and_then(|value| T::from_redis_value(value).map_err(RedisError::from));
        read.map_err(|error| self.note_refused(self.link.finding_of(&error), op))
    }

    /// An error that one command got, counted and logged.
    fn note_refused(&self, finding: Finding, op: Op) -> Fault {
        self.meters.tier_failure(Tier::Redis, op, Fault::Error);
        let finding = finding.with_part(FindingPart::Settlements);
        if let Some(left_out) = self.log.permit_line() {
            tracing::warn!(
                reason = %finding,
                lines.left_out = left_out,
                "redis refused a command"
            );
        }
        if op == Op::Apply {
            self.link.note_refusal(finding);
        }
        Fault::Error
    }

    async fn call_one(
        &self,
        session: &Arc<RedisSession>,
        op: Op,
        call: Call,
    ) -> Result<RedisResult<Value>, Fault> {
        let mut replies = self
            .link
            .run_scripts(session, op, std::slice::from_ref(&call))
            .await?;
        replies.pop().ok_or(Fault::Error)
    }
}

fn known_balances(entry: StoredEntry<'_>) -> KnownBalances {
    KnownBalances {
        snapshot: entry.snapshot,
        floors: entry.floors,
        assets: entry.reread_assets,
    }
}

fn hit_of(entry: StoredEntry<'_>, now: RedisTime) -> Lookup {
    let left = u64::try_from(entry.until.saturating_sub(now.latest)).unwrap_or(0);
    Lookup::Hit {
        snapshot: entry.snapshot,
        ttl: Duration::from_millis(left),
    }
}

/// The fields of a hash, from an array or a map.
fn decode_entry(value: &Value, now: i64) -> Result<Option<StoredEntry<'_>>, Corrupt> {
    let pairs = value.as_map_iter().ok_or(Corrupt)?;
    StoredEntry::decode_fields(
        pairs.map(|(field, value)| Ok((as_bytes(field)?, as_bytes(value)?))),
        now,
    )
}

fn as_bytes(value: &Value) -> Result<&[u8], Corrupt> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.as_bytes()),
        _ => Err(Corrupt),
    }
}
