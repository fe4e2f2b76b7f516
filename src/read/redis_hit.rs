//! A user's entry in Redis, or the right to fill it.
//!
//! **Invariants.** Taken only by who is sure of all changes, and only if this instance knows nothing better.
//!
//! **Limits.** `redis.lease_wait_ms` for the instance that has the lease; then it is taken.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Error, Reader,
    load::{Asked, Origin, pauses},
    single_flight::{Landed, Start},
};
use crate::{
    cache::redis::{Known, Lease, Lookup, Redis},
    cache_status::{Forward, Tier},
    clock,
    domain::{Floors, Snapshot, UnixMillis, UserId},
};

impl Reader {
    /// The entry in Redis, or the right to fill it. The error: neither, and the source cannot be asked now either.
    pub(super) async fn ask_redis<'a>(
        &'a self,
        redis: &Redis,
        user: UserId,
        start: Start,
        looked: Option<Lookup>,
        fresh: bool,
    ) -> Result<Result<Landed, Asked<'a>>, Error> {
        let refused = |forward, known| {
            Ok(Err(Asked {
                forward: Some(forward),
                grant: None,
                known,
                expected: None,
            }))
        };
        let nothing = Known::default;
        let mut forward = if fresh {
            Forward::Request
        } else {
            Forward::Miss
        };
        // The entry there is good by its own floors, and this instance knows better.
        let mut outdone = false;
        if !fresh {
            let looked = match looked {
                Some(looked) => looked,
                None => redis.get(user).await,
            };
            fail::fail_point!("looked");
            match looked {
                Lookup::Fault(_) => return refused(Forward::Bypass, nothing()),
                // An entry that was deleted or dropped took its floors with it, and may have been filled again by somebody who
                // did not know them. Who is not sure of all changes cannot tell, and is no good filler either. Its floors and
                // balances are real all the same: a notification that ran ahead of its row may stand nowhere else.
                Lookup::Hit { snapshot, .. } if !start.proven => {
                    let known = Known {
                        snapshot,
                        ..nothing()
                    };
                    return refused(Forward::Stale, known);
                }
                Lookup::Stale(known) if !start.proven => {
                    return refused(Forward::Stale, known);
                }
                Lookup::Miss(known) if !start.proven => {
                    return refused(Forward::Miss, known);
                }
                Lookup::Hit { snapshot, ttl } => {
                    if let Some(landed) = self.accept(user, start, &snapshot, ttl, Instant::now()) {
                        return Ok(Ok(landed));
                    }
                    (forward, outdone) = (Forward::Stale, true);
                }
                Lookup::Miss(_) => {}
                Lookup::Stale(_) => forward = Forward::Stale,
            }
        }
        let force = fresh || outdone || start.overtakes;
        self.ask_for_lease(redis, user, start, forward, force).await
    }

    /// The right to fill, or what somebody else has filled meanwhile. With `force` the right is taken from whoever has it.
    async fn ask_for_lease<'a>(
        &'a self,
        redis: &Redis,
        user: UserId,
        start: Start,
        mut forward: Forward,
        mut force: bool,
    ) -> Result<Result<Landed, Asked<'a>>, Error> {
        let expected = self.doors.expect(user, start)?;
        let patience = Instant::now().checked_add(self.times.lease_wait);
        for pause in pauses() {
            let late = patience.is_none_or(|patience| Instant::now() >= patience);
            match redis.lease(user, force || late).await {
                Err(_) => {
                    forward = Forward::Bypass;
                    break;
                }
                Ok(Lease::Granted(grant, known)) => {
                    return Ok(Err(Asked {
                        forward: Some(forward),
                        grant: Some(grant),
                        known,
                        expected,
                    }));
                }
                Ok(Lease::Hit { snapshot, ttl }) => {
                    if let Some(landed) = self.accept(user, start, &snapshot, ttl, Instant::now()) {
                        return Ok(Ok(landed));
                    }
                    (forward, force) = (Forward::Stale, true);
                }
                Ok(Lease::Busy) => tokio::time::sleep(pause).await,
            }
        }
        Ok(Err(Asked {
            forward: Some(forward),
            grant: None,
            known: Known::default(),
            expected,
        }))
    }

    /// A hit that may be shown, with no question more.
    pub(super) fn take_hit(
        &self,
        user: UserId,
        start: Start,
        looked: &Lookup,
        now: Instant,
    ) -> Option<Landed> {
        let Lookup::Hit { snapshot, ttl } = looked else {
            return None;
        };
        fail::fail_point!("looked");
        self.accept(user, start, snapshot, *ttl, now)
    }

    /// Takes what Redis holds, unless this instance knows better.
    fn accept(
        &self,
        user: UserId,
        start: Start,
        snapshot: &Snapshot,
        ttl: Duration,
        now: Instant,
    ) -> Option<Landed> {
        let began = (start.proven, start.knowledge);
        let newest = self.marks.take(user, began, snapshot, now)?;
        let snapshot = &*newest;
        // It was loaded when its life in Redis began.
        let age = self.times.snapshot_ttl.saturating_sub(ttl);
        let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let heard_at = UnixMillis(clock::wall_at_last_tick().0.saturating_sub(millis));
        let loaded = start.at.checked_sub(age).unwrap_or(start.at);
        let held = self.keep(
            user,
            start,
            snapshot,
            Origin {
                redis_ttl: Some(ttl),
                loaded,
                from_ledger: false,
                heard_at,
            },
        );
        Some(Landed {
            held,
            tier: Tier::Redis,
            ttl: Some(ttl),
            detail: None,
            unmet: Floors::NONE,
            redis: None,
        })
    }
}
