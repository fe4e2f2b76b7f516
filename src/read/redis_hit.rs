//! The Redis tier of a read: a snapshot that may be served, or a miss with the lease to fill.
//!
//! **Invariants.** A snapshot is accepted only while freshness is proven, and only if this instance knows nothing better.
//!
//! **Limits.** An instance that holds the lease is waited for `redis.lease_wait_ms`; then the lease is taken over.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ReadError,
    memory_hit::{MemoryTier, SnapshotOrigin},
    single_flight::{LoadResult, LoadStart},
    timings::Timings,
};
use crate::{
    admission::{Admission, Reservation},
    cache::redis::{KnownBalances, Lease, LeaseGrant, Lookup, Redis},
    cache_status::ForwardReason,
    clock,
    config::Settings,
    domain::{Snapshot, UnixMillis, UserId},
    fail_points,
};

/// Pauses between two looks at a lease that another instance holds, and at a ledger that lags behind a floor.
const PAUSES_MS: [u64; 6] = [1, 2, 4, 8, 16, 32];

pub(super) fn lease_pauses() -> impl Iterator<Item = Duration> {
    let last = PAUSES_MS.last().copied().unwrap_or(1);
    PAUSES_MS
        .into_iter()
        .chain(std::iter::repeat(last))
        .map(Duration::from_millis)
}

/// The Redis tier, with all that decides whether it may serve.
#[derive(Debug)]
pub(super) struct RedisTier {
    pub(super) redis: Arc<Redis>,
    memory: MemoryTier,
    admission: Arc<Admission>,
    snapshot_ttl: Duration,
    lease_wait: Duration,
}

pub(super) enum RedisAnswer<'a> {
    /// A snapshot that may be served.
    Hit(LoadResult),
    /// No snapshot that may be served.
    Miss(RedisMiss<'a>),
}

/// Redis did not answer: the facts for the load from the source.
#[derive(Default)]
pub(super) struct RedisMiss<'a> {
    /// The reason; none without a Redis.
    pub(super) forward: Option<ForwardReason>,
    /// The lease, if it was granted.
    pub(super) lease: Option<RedisLease<'a>>,
    /// The knowledge of Redis about the user.
    pub(super) known: KnownBalances,
    /// The reserved permit of the source.
    pub(super) reservation: Option<Reservation<'a>>,
}

/// The lease of one user's entry in Redis.
pub(super) struct RedisLease<'a> {
    redis: &'a Redis,
    user: UserId,
    grant: LeaseGrant,
}

impl RedisLease<'_> {
    /// The ledger has to be read: Redis does not know all changes of the user.
    pub(super) const fn wants_ledger(&self) -> bool {
        self.grant.ledger
    }

    /// Fills the entry; returns its lifetime, or none if Redis refused the snapshot.
    pub(super) async fn fill_entry(
        &self,
        snapshot: &Snapshot,
        from_ledger: bool,
        timings: &mut Timings,
    ) -> Option<Duration> {
        let begun = Instant::now();
        let filled = self
            .redis
            .fill_entry(self.user, &self.grant, snapshot, from_ledger)
            .await;
        timings.redis = timings.redis.saturating_add(begun.elapsed());
        filled.ok().and_then(Result::ok)
    }

    /// Gives the lease back.
    pub(super) async fn release_lease(&self) {
        self.redis.release_lease(self.user, &self.grant).await;
    }
}

impl<'a> RedisMiss<'a> {
    fn without_lease(forward: ForwardReason, known: KnownBalances) -> RedisAnswer<'a> {
        RedisAnswer::Miss(Self {
            forward: Some(forward),
            known,
            ..Self::default()
        })
    }
}

impl RedisTier {
    pub(super) fn new(
        redis: &Arc<Redis>,
        memory: &MemoryTier,
        admission: &Arc<Admission>,
        settings: &Settings,
    ) -> Self {
        Self {
            redis: Arc::clone(redis),
            memory: memory.clone(),
            admission: Arc::clone(admission),
            snapshot_ttl: settings.redis.snapshot_ttl_ms.0,
            lease_wait: settings.redis.lease_wait_ms.0,
        }
    }

    /// Serves a snapshot from Redis, or asks for the lease. `looked` is the answer to a lookup that was sent before; with `fresh`
    /// only the lease is asked for. The error: the source cannot be asked now either.
    pub(super) async fn serve_or_lease(
        &self,
        user: UserId,
        start: LoadStart,
        looked: Option<Lookup>,
        fresh: bool,
    ) -> Result<RedisAnswer<'_>, ReadError> {
        if fresh {
            return self
                .acquire_lease(user, start, ForwardReason::Request, true)
                .await;
        }
        let looked = match looked {
            Some(looked) => looked,
            None => self.redis.get_user(user).await,
        };
        fail_points::reach("looked");
        let mut outdone = false;
        let forward = match looked {
            Lookup::Fault(_) => {
                return Ok(RedisMiss::without_lease(
                    ForwardReason::Bypass,
                    KnownBalances::default(),
                ));
            }
            // An entry that was deleted or dropped took its floors with it, and an instance that did not know them may have filled it
            // again. Without proof of freshness this instance cannot tell, and must not fill either. The floors and balances of
            // the entry are real all the same: a notification that ran ahead of its row may stand nowhere else.
            Lookup::Hit { snapshot, .. } if !start.proven => {
                let known = KnownBalances {
                    snapshot,
                    ..KnownBalances::default()
                };
                return Ok(RedisMiss::without_lease(ForwardReason::Stale, known));
            }
            Lookup::Stale(known) if !start.proven => {
                return Ok(RedisMiss::without_lease(ForwardReason::Stale, known));
            }
            Lookup::Miss(known) if !start.proven => {
                return Ok(RedisMiss::without_lease(ForwardReason::Miss, known));
            }
            Lookup::Hit { snapshot, ttl } => {
                match self.accept_snapshot(user, start, &snapshot, ttl, Instant::now()) {
                    Some(result) => return Ok(RedisAnswer::Hit(result)),
                    None => outdone = true,
                }
                ForwardReason::Stale
            }
            Lookup::Miss(_) => ForwardReason::Miss,
            Lookup::Stale(_) => ForwardReason::Stale,
        };
        // A snapshot that this instance outdoes is good by its own floors: only a lease taken by force replaces it.
        self.acquire_lease(user, start, forward, outdone || start.overtakes)
            .await
    }

    /// Asks for the lease until it is granted, or another instance has filled meanwhile. With `force` the lease is taken over.
    async fn acquire_lease(
        &self,
        user: UserId,
        start: LoadStart,
        mut forward: ForwardReason,
        mut force: bool,
    ) -> Result<RedisAnswer<'_>, ReadError> {
        let reservation = self
            .admission
            .reserve_source_permit(start.as_admitted(user))?;
        let patience = Instant::now().checked_add(self.lease_wait);
        let (mut lease, mut known) = (None, KnownBalances::default());
        for pause in lease_pauses() {
            let late = patience.is_none_or(|patience| Instant::now() >= patience);
            match self.redis.ask_lease(user, force || late).await {
                Err(_) => {
                    forward = ForwardReason::Bypass;
                    break;
                }
                Ok(Lease::Granted(grant, of_user)) => {
                    let redis = &*self.redis;
                    (lease, known) = (Some(RedisLease { redis, user, grant }), of_user);
                    break;
                }
                Ok(Lease::Hit { snapshot, ttl }) => {
                    let now = Instant::now();
                    if let Some(result) = self.accept_snapshot(user, start, &snapshot, ttl, now) {
                        return Ok(RedisAnswer::Hit(result));
                    }
                    (forward, force) = (ForwardReason::Stale, true);
                }
                Ok(Lease::Busy) => tokio::time::sleep(pause).await,
            }
        }
        Ok(RedisAnswer::Miss(RedisMiss {
            forward: Some(forward),
            lease,
            known,
            reservation,
        }))
    }

    /// The result of a lookup, if it is a hit that may be served.
    pub(super) fn accept_hit(
        &self,
        user: UserId,
        start: LoadStart,
        looked: &Lookup,
        now: Instant,
    ) -> Option<LoadResult> {
        let Lookup::Hit { snapshot, ttl } = looked else {
            return None;
        };
        fail_points::reach("looked");
        self.accept_snapshot(user, start, snapshot, *ttl, now)
    }

    /// Accepts a snapshot of Redis, unless this instance knows better, and keeps it in memory.
    fn accept_snapshot(
        &self,
        user: UserId,
        start: LoadStart,
        snapshot: &Snapshot,
        ttl: Duration,
        now: Instant,
    ) -> Option<LoadResult> {
        let began = (start.proven, start.knowledge);
        let newest = self.memory.changes.take_redis(user, began, snapshot, now)?;
        // It was loaded when its life in Redis began.
        let age = self.snapshot_ttl.saturating_sub(ttl);
        let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let origin = SnapshotOrigin {
            redis_ttl: Some(ttl),
            loaded: start.at.checked_sub(age).unwrap_or(start.at),
            from_ledger: false,
            heard_at: UnixMillis(clock::wall_at_last_tick().0.saturating_sub(millis)),
        };
        let held = self.memory.keep_snapshot(user, start, &newest, origin);
        Some(LoadResult::from_redis(held, ttl))
    }

    /// How the tier stands: in a session, or bypassed.
    pub(super) fn forward_reason(&self) -> ForwardReason {
        match self.redis.link.open_session() {
            Some(_) => ForwardReason::Miss,
            None => ForwardReason::Bypass,
        }
    }
}
