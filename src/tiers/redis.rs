//! The Redis tier: one hash per user with snapshot, floors and lease; a feed that tells every instance what changed.
//! The interface to the redis crates is localized here and in [`stream`].
//!
//! **Invariants.** A fill needs the lease that its miss was given, and is refused below a floor (the scripts decide, in Redis).
//! Reads are never repeated; a fault is counted and handed back as an observation, never as an absence. What cannot be read is
//! a miss, counted as corrupt, and replaced by the next fill.
//!
//! **Cancellation.** A command whose future is dropped may still run; every script may run twice.
//!
//! **Limits.** [`BATCH`] commands in one pipeline.

mod conn;
mod entry;
mod link;
mod script;
pub mod stream;

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use redis::{FromRedisValue, RedisError, RedisResult, Value};

pub use self::link::{Epoch, Identity, Keys, Link, Session};
use self::{
    entry::{Corrupt, Entry},
    script::Call,
};
use crate::{
    config::{self, RedisMode},
    domain::{AssetId, Balance, Floors, Notification, Said, Snapshot, UnixMillis, UserId},
    telemetry::{Fault, Meters, Op, Refused},
    tiers::Tier,
};

/// Commands per pipeline.
const BATCH: usize = 512;

/// What Redis says of one user.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// A snapshot that may be shown, and for how long.
    Hit {
        /// All balances.
        snapshot: Snapshot,
        /// What is left of its life.
        ttl: Duration,
    },
    /// Nothing, or nothing that may be shown.
    Miss,
    /// It could not be asked.
    Fault(Fault),
}

/// What a miss gets.
#[derive(Debug, Clone)]
pub enum Lease {
    /// The right to fill.
    Granted(Grant),
    /// Somebody filled meanwhile.
    Hit {
        /// All balances.
        snapshot: Snapshot,
        /// What is left of its life.
        ttl: Duration,
    },
    /// Somebody else is filling.
    Busy,
}

/// The right to fill, with what is known of the user.
#[derive(Debug, Clone)]
pub struct Grant {
    token: String,
    session: SessionRef,
    /// Balances that are known, though not all there are.
    pub known: Snapshot,
    /// The lowest seqs that may be shown.
    pub floors: Floors,
    /// The ledger has to be read: a notification without a seq came, or Redis may have forgotten the floors.
    pub ledger: bool,
    /// Assets to be read by name.
    pub assets: Vec<AssetId>,
}

/// The session that a lease was given in.
#[derive(Clone)]
struct SessionRef(Arc<Session>);

impl std::fmt::Debug for SessionRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SessionRef").field(&self.0.epoch.id).finish()
    }
}

/// What applying one notification did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// It was known already.
    pub old: bool,
}

/// The Redis tier.
#[derive(Debug)]
pub struct Redis {
    /// The way there.
    pub link: Link,
    meters: Arc<Meters>,
    snapshot_ttl: Duration,
    floor_ttl: Duration,
    lease: Duration,
    cluster: bool,
}

impl Redis {
    /// On a way to Redis. `lease` is how long a load may take at most, `floor_ttl` how long a floor is remembered.
    #[must_use]
    pub fn new(
        link: Link,
        options: &config::Redis,
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
        }
    }

    fn session(&self, op: Op) -> Result<Arc<Session>, Fault> {
        self.link.session().ok_or_else(|| {
            self.meters.tier_failure(Tier::Redis, op, Fault::Open);
            Fault::Open
        })
    }

    /// What is held of one user.
    pub async fn get(&self, user: UserId) -> Lookup {
        self.get_many(&[user])
            .await
            .pop()
            .unwrap_or(Lookup::Fault(Fault::Error))
    }

    /// What is held of these users, in their order, in one round trip.
    pub async fn get_many(&self, users: &[UserId]) -> Vec<Lookup> {
        let looked = match self.session(Op::Get) {
            Err(fault) => Err(fault),
            Ok(session) => {
                let commands = users.iter().map(|user| {
                    let mut command = redis::cmd("HGETALL");
                    command.arg(self.link.keys.user(*user));
                    command
                });
                let replies = self.link.ask(&session, Op::Get, commands.collect()).await;
                replies.map(|replies| (session, replies))
            }
        };
        match looked {
            Err(fault) => vec![Lookup::Fault(fault); users.len()],
            Ok((session, replies)) => replies
                .into_iter()
                .map(|reply| self.lookup(&session, reply))
                .collect(),
        }
    }

    fn lookup(&self, session: &Session, reply: RedisResult<Value>) -> Lookup {
        let now = session.now();
        match reply
            .map_err(|_| Corrupt)
            .and_then(|value| decode(&value, now))
        {
            Ok(Some(entry)) if entry.servable(&session.epoch.id, now) => hit(entry, now),
            Ok(_) => Lookup::Miss,
            Err(Corrupt) => {
                self.meters
                    .tier_failure(Tier::Redis, Op::Get, Fault::Corrupt);
                Lookup::Miss
            }
        }
    }

    /// Asks for the right to fill after a miss. With `force` it is taken from whoever has it, and what is held is passed over.
    ///
    /// # Errors
    /// The fault, counted.
    pub async fn lease(&self, user: UserId, force: bool) -> Result<Lease, Fault> {
        let session = self.session(Op::Get)?;
        let token = format!("{:032x}", rand::random::<u128>());
        let call = Call::new(&script::LEASE)
            .key(self.link.keys.user(user))
            .arg(entry::VERSION)
            .arg(session.epoch.id.as_str())
            .arg(token.as_str())
            .arg(self.lease.as_millis().to_string())
            .arg(if force { "1" } else { "0" });
        let reply = self.one(&session, Op::Get, call).await?;
        let (what, now, fields): (String, i64, Value) = read(reply, &self.meters, Op::Get)?;
        if what == "foreign" {
            self.meters
                .tier_failure(Tier::Redis, Op::Get, Fault::Corrupt);
        }
        let entry = decode(&fields, now).unwrap_or_else(|Corrupt| {
            self.meters
                .tier_failure(Tier::Redis, Op::Get, Fault::Corrupt);
            None
        });
        let entry = entry.unwrap_or_default();
        Ok(match what.as_str() {
            "hit" if entry.servable(&session.epoch.id, now) => match hit(entry, now) {
                Lookup::Hit { snapshot, ttl } => Lease::Hit { snapshot, ttl },
                Lookup::Miss | Lookup::Fault(_) => Lease::Busy,
            },
            "busy" | "hit" => Lease::Busy,
            _ => Lease::Granted(Grant {
                token,
                known: entry.snapshot,
                floors: entry.floors,
                ledger: entry.reread || (what == "absent" && session.evicts),
                assets: entry.reread_assets,
                session: SessionRef(session),
            }),
        })
    }

    /// Offers what was loaded; returns for how long it is kept, or why it was refused (counted).
    ///
    /// # Errors
    /// The fault, counted.
    pub async fn fill(
        &self,
        user: UserId,
        grant: &Grant,
        snapshot: &Snapshot,
        from_ledger: bool,
    ) -> Result<Result<Duration, Refused>, Fault> {
        let session = &grant.session.0;
        let current = self.session(Op::Fill)?;
        if current.epoch != session.epoch {
            self.meters.refused_fill(Refused::Epoch);
            return Ok(Err(Refused::Epoch));
        }
        let mut call = Call::new(&script::FILL)
            .key(self.link.keys.user(user))
            .arg(entry::VERSION)
            .arg(session.epoch.id.as_str())
            .arg(grant.token.as_str())
            .arg(self.snapshot_ttl.as_millis().to_string())
            .arg(if from_ledger { "1" } else { "0" });
        for balance in snapshot.balances() {
            call = call
                .arg(balance.asset.to_string())
                .arg(entry::seq_text(balance.seq))
                .arg(entry::rest_text(balance));
        }
        let reply = self.one(&current, Op::Fill, call).await?;
        let (what, _): (String, i64) = read(reply, &self.meters, Op::Fill)?;
        let refused = match what.as_str() {
            "ok" => return Ok(Ok(self.snapshot_ttl)),
            "floor" => Refused::Floor,
            "incomplete" => Refused::Incomplete,
            "epoch" => Refused::Epoch,
            _ => Refused::Lease,
        };
        self.meters.refused_fill(refused);
        Ok(Err(refused))
    }

    /// Gives a lease back that will not be used. A fault is only counted: the lease ends by itself.
    pub async fn release(&self, user: UserId, grant: &Grant) {
        let call = Call::new(&script::RELEASE)
            .key(self.link.keys.user(user))
            .arg(grant.token.as_str());
        let _ = self.one(&grant.session.0, Op::Fill, call).await;
    }

    /// Notifications take effect, in their order: floors rise, what is held moves or may not be shown any more, leases are
    /// revoked, the feed tells the others. Each notification is atomic (in a cluster: entry first, feed second).
    ///
    /// # Errors
    /// The fault: some of them may have taken effect, and all of them may be repeated.
    pub async fn apply(
        &self,
        notifications: &[Notification],
        heard_at: UnixMillis,
    ) -> Result<Vec<Effect>, Fault> {
        let session = self.session(Op::Apply)?;
        let mut effects = Vec::with_capacity(notifications.len());
        for batch in notifications.chunks(BATCH) {
            let calls: Vec<_> = batch
                .iter()
                .map(|notification| self.apply_call(&session, notification, heard_at))
                .collect();
            let replies = self.link.run_scripts(&session, Op::Apply, &calls).await?;
            let mut untold = Vec::new();
            for (reply, notification) in replies.into_iter().zip(batch) {
                let (old, announce): (i64, i64) = read(reply, &self.meters, Op::Apply)?;
                effects.push(Effect { old: old == 1 });
                if announce == 1 {
                    untold.push(self.announce(&session, notification, heard_at));
                }
            }
            try_join_all(untold).await?;
        }
        Ok(effects)
    }

    fn apply_call(
        &self,
        session: &Session,
        notification: &Notification,
        heard_at: UnixMillis,
    ) -> Call {
        let call = Call::new(&script::APPLY).key(self.link.keys.user(notification.user));
        let call = if self.cluster {
            call
        } else {
            call.key(self.link.keys.feed())
        };
        let (asset, seq, rest) = told(notification, heard_at);
        call.arg(entry::VERSION)
            .arg(session.epoch.id.as_str())
            .arg(self.floor_ttl.as_millis().to_string())
            .arg(notification.user.to_string())
            .arg(asset)
            .arg(seq)
            .arg(rest)
            .arg("0")
    }

    /// The feed and the user's entry are apart: entry first, feed second, and last that it was told.
    async fn announce(
        &self,
        session: &Arc<Session>,
        notification: &Notification,
        heard_at: UnixMillis,
    ) -> Result<(), Fault> {
        let (asset, seq, rest) = told(notification, heard_at);
        let user = notification.user.to_string();
        let mut tell = Call::new(&script::ANNOUNCE).key(self.link.keys.feed());
        for (field, value) in [
            ("u", user.as_str()),
            ("a", &asset),
            ("s", &seq),
            ("r", &rest),
        ] {
            tell = tell.arg(field).arg(value);
        }
        let _: String = read(
            self.one(session, Op::Apply, tell).await?,
            &self.meters,
            Op::Apply,
        )?;
        if !seq.is_empty() {
            let done = Call::new(&script::ANNOUNCED)
                .key(self.link.keys.user(notification.user))
                .arg(asset)
                .arg(seq);
            let _: i64 = read(
                self.one(session, Op::Apply, done).await?,
                &self.meters,
                Op::Apply,
            )?;
        }
        Ok(())
    }

    /// Balances that a reader found in the ledger: what is held moves forward. Nothing else happens, and a fault is only
    /// counted.
    pub async fn observed(&self, user: UserId, balances: &[Balance]) {
        let Ok(session) = self.session(Op::Fill) else {
            return;
        };
        let calls: Vec<_> = balances
            .iter()
            .map(|balance| {
                Call::new(&script::APPLY)
                    .key(self.link.keys.user(user))
                    .arg(entry::VERSION)
                    .arg(session.epoch.id.as_str())
                    .arg("0")
                    .arg(user.to_string())
                    .arg(balance.asset.to_string())
                    .arg(entry::seq_text(balance.seq))
                    .arg(entry::rest_text(balance))
                    .arg("1")
            })
            .collect();
        let _ = self.link.run_scripts(&session, Op::Fill, &calls).await;
    }

    /// Snapshots are dropped, here and by the feed everywhere; floors too if they are to be forgotten.
    ///
    /// # Errors
    /// The fault: some may be dropped.
    pub async fn drop_users(&self, users: &[UserId], floors: bool) -> Result<(), Fault> {
        let session = self.session(Op::Apply)?;
        for batch in users.chunks(BATCH) {
            let calls: Vec<_> = batch
                .iter()
                .map(|user| {
                    let call = Call::new(&script::DROP).key(self.link.keys.user(*user));
                    let call = if self.cluster {
                        call
                    } else {
                        call.key(self.link.keys.feed())
                    };
                    call.arg(entry::VERSION)
                        .arg(user.to_string())
                        .arg(if floors { "1" } else { "0" })
                })
                .collect();
            for reply in self.link.run_scripts(&session, Op::Apply, &calls).await? {
                let _: i64 = read(reply, &self.meters, Op::Apply)?;
            }
            if self.cluster {
                let tell = batch.iter().map(|user| {
                    let call = Call::new(&script::ANNOUNCE)
                        .key(self.link.keys.feed())
                        .arg("u")
                        .arg(user.to_string())
                        .arg("k")
                        .arg(if floors { "forget" } else { "drop" });
                    self.one(&session, Op::Apply, call)
                });
                try_join_all(tell).await?;
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        session: &Arc<Session>,
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

/// Asset, seq and the rest of a notification, as the scripts and the feed have them.
fn told(notification: &Notification, heard_at: UnixMillis) -> (String, String, String) {
    match notification.said {
        Said::Values { asset, seq, .. } => {
            let rest = notification
                .balance(heard_at)
                .map(|balance| entry::rest_text(&balance))
                .unwrap_or_default();
            (asset.to_string(), entry::seq_text(seq), rest)
        }
        Said::Seq { asset, seq } => (asset.to_string(), entry::seq_text(seq), String::new()),
        Said::Asset { asset } => (asset.to_string(), String::new(), String::new()),
        Said::User => ("*".to_owned(), String::new(), String::new()),
    }
}

fn hit(entry: Entry, now: i64) -> Lookup {
    let left = u64::try_from(entry.until.saturating_sub(now)).unwrap_or(0);
    Lookup::Hit {
        snapshot: entry.snapshot,
        ttl: Duration::from_millis(left),
    }
}

/// A reply as what it should be; an error that the command got is a fault of Redis.
fn read<T: FromRedisValue>(reply: RedisResult<Value>, meters: &Meters, op: Op) -> Result<T, Fault> {
    reply
        .and_then(|value| T::from_redis_value(value).map_err(RedisError::from))
        .map_err(|error| {
            tracing::warn!(
                reason = error.category(),
                code = error.code(),
                "redis refused a command"
            );
            meters.tier_failure(Tier::Redis, op, Fault::Error);
            Fault::Error
        })
}

/// The fields of a hash, from an array or a map.
fn decode(value: &Value, now: i64) -> Result<Option<Entry>, Corrupt> {
    let pairs: Vec<_> = value
        .as_map_iter()
        .ok_or(Corrupt)?
        .map(|(field, value)| Ok((as_bytes(field)?, as_bytes(value)?)))
        .collect::<Result<_, Corrupt>>()?;
    Entry::decode(pairs.into_iter(), now)
}

fn as_bytes(value: &Value) -> Result<&[u8], Corrupt> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.as_bytes()),
        _ => Err(Corrupt),
    }
}
