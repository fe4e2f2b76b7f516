//! Admission control: the permits that a load needs for Redis, for the source, and for its user.
//!
//! **Invariants.** Coalesced Redis lookups run under permits; the source is read without one only by the auditor and by writers.
//! Leases and fills need none: there are no more of them than loads.
//!
//! **Cancellation.** A waiting caller may be dropped at any time.
//!
//! **Limits.** [`REDIS_LOOKUPS`] lookups and `limits.source_loads` loads at once; fewer loads, where they take long.

pub mod adaptive_limit;
pub mod per_user;
pub mod queue;

use std::time::Duration;

use tokio::time::Instant;

use self::{
    adaptive_limit::LimitRange,
    per_user::{PerUserLimit, UserPermit},
    queue::QueueLimits,
};
use crate::{config::Settings, domain::UserId};

pub use self::queue::{LoadClass, Permit, PermitQueue, Reservation};

/// Loads at once, where the source is slow: enough to notice that it is quick again.
const SOURCE_LOADS_MIN: usize = 4;
/// Slowness of a load that no reader minds.
const SOURCE_SLACK: Duration = Duration::from_millis(2);
/// Lookups in Redis at once. It needs no more to be busy, and a round trip that takes longer than `redis.timeout_ms` because
/// there are too many of them would look like an outage. Batches look up to a thousand users up in one.
const REDIS_LOOKUPS: usize = 128;
const REDIS_BATCHES: usize = 8;
/// The part of a request's time that it may wait for a permit: the rest belongs to the answer.
const PATIENCE_PART: u32 = 4;

/// The load was shed: no permit came in time, or none could be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many loads in flight")]
pub struct Shed;

/// A load as admission sees it.
#[derive(Debug, Clone, Copy)]
pub struct Admitted {
    pub user: UserId,
    /// Single read or batch.
    pub class: LoadClass,
    pub began_at: Instant,
}

/// All permits of one instance.
#[derive(Debug)]
pub struct Admission {
    pub redis: PermitQueue,
    pub source: PermitQueue,
    users: PerUserLimit,
    /// Half of a request's time.
    half_deadline: Duration,
}

impl Admission {
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let deadline = settings.limits.deadline_ms.0;
        let part = |time: Duration, of| time.checked_div(of).unwrap_or_default();
        let patience = part(deadline, PATIENCE_PART);
        let loads = QueueLimits {
            bounds: LimitRange {
                floor: SOURCE_LOADS_MIN,
                ceiling: settings.limits.source_loads,
                slack: SOURCE_SLACK,
                longest: part(settings.source.timeout_ms.0, 2),
            },
            bulk: settings.limits.source_loads,
        };
        // Fixed: Redis is near, so its latency follows the load of this process itself.
        let lookups = QueueLimits {
            bounds: LimitRange {
                floor: REDIS_LOOKUPS,
                ceiling: REDIS_LOOKUPS,
                slack: Duration::ZERO,
                longest: Duration::MAX,
            },
            bulk: REDIS_BATCHES,
        };
        Self {
            redis: PermitQueue::new(lookups, patience, now),
            source: PermitQueue::new(loads, patience, now),
            users: PerUserLimit::default(),
            half_deadline: part(deadline, 2),
        }
    }

    /// Waits for the user's permit and for one of the source, until half of the load's time is over.
    pub async fn acquire_source_permit(
        &self,
        load: Admitted,
        reservation: Option<Reservation<'_>>,
    ) -> Result<(Permit<'_>, UserPermit<'_>), Shed> {
        let end = self.half_time(load.began_at);
        let user_permit = self
            .users
            .acquire_permit(load.user, end)
            .await
            .ok_or(Shed)?;
        let permit = match reservation {
            Some(reservation) => self.source.take_reserved(reservation, end).await,
            None => self.source.acquire_permit(load.class, end).await,
        };
        Ok((permit.ok_or(Shed)?, user_permit))
    }

    /// Reserves a source permit before Redis is given work that would be wasted without one. Batches were admitted when they began.
    pub fn reserve_source_permit(&self, load: Admitted) -> Result<Option<Reservation<'_>>, Shed> {
        if self.users.is_full(load.user) {
            return Err(Shed);
        }
        match load.class {
            LoadClass::Single => self.source.reserve_place().map(Some).ok_or(Shed),
            LoadClass::Batch => Ok(None),
        }
    }

    /// A load of this class would be shed by the source now. Batches were admitted when they began.
    pub fn is_source_closed(&self, class: LoadClass) -> bool {
        class == LoadClass::Single && self.source.is_closed(LoadClass::Single)
    }

    /// When half of the time of a load is over: what begins later would come too late.
    pub fn half_time(&self, began_at: Instant) -> Instant {
        began_at.checked_add(self.half_deadline).unwrap_or(began_at)
    }

    /// Whether something that takes so long is over before half of a request's time.
    pub fn ends_before_half_time(&self, time: Duration) -> bool {
        time < self.half_deadline
    }
}
