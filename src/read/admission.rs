//! The doors that a read goes through: to Redis, to the source, and of those its user's own.
//!
//! **Invariants.** Shared Redis lookups are made in turn, and nothing is asked of the source out of turn, but by the
//! auditor and by those who write.
//!
//! **Cancellation.** A waiting reader may be dropped at any time.
//!
//! **Deliberately absent**: turns for leases and fills. There are no more than loads.
//!
//! **Limits.** [`REDIS_ASKS`] questions to Redis and `limits.source_loads` loads at once; fewer loads, where they take long.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Error,
    adaptive_limit::Bounds,
    per_user::{Own, Turn},
    permit_queue::{Kind, Place, Places, Turns, Waiting},
    single_flight::Start,
};
use crate::{config::Settings, domain::UserId};

/// Loads at once, where the source is slow: enough to notice that it is quick again.
const SOURCE_LOADS_MIN: usize = 4;
/// Slowness of a load that no reader minds.
const SOURCE_SLACK: Duration = Duration::from_millis(2);
/// Questions to Redis at once. It needs no more to be busy, and a round trip that takes longer than `redis.timeout_ms` because
/// there are too many of them would look like an outage. Batches ask for up to a thousand users in one.
const REDIS_ASKS: usize = 128;
const REDIS_BATCHES: usize = 8;
/// The part of a request's time that it may wait for a turn: the rest belongs to the answer.
const PATIENCE_PART: u32 = 4;

/// All of them.
#[derive(Debug)]
pub(super) struct Doors {
    /// To Redis.
    pub(super) redis: Turns,
    /// To the source.
    pub(super) source: Turns,
    own: Own,
    /// Half of a request's time.
    pub(super) half: Duration,
}

impl Doors {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        let deadline = settings.limits.deadline_ms.0;
        let part = |time: Duration, of| time.checked_div(of).unwrap_or_default();
        let patience = part(deadline, PATIENCE_PART);
        let loads = Places {
            bounds: Bounds {
                floor: SOURCE_LOADS_MIN,
                ceiling: settings.limits.source_loads,
                slack: SOURCE_SLACK,
                longest: part(settings.source.timeout_ms.0, 2),
            },
            bulk: settings.limits.source_loads,
        };
        // Fixed: what it takes follows this process' own load, as it is near.
        let asks = Places {
            bounds: Bounds {
                floor: REDIS_ASKS,
                ceiling: REDIS_ASKS,
                slack: Duration::ZERO,
                longest: Duration::MAX,
            },
            bulk: REDIS_BATCHES,
        };
        Self {
            redis: Turns::new(asks, patience, now),
            source: Turns::new(loads, patience, now),
            own: Own::default(),
            half: part(deadline, 2),
        }
    }

    /// A place among the loads from the source, had before half of the time is over; the one that was expected, if one was.
    pub(super) async fn place(
        &self,
        user: UserId,
        start: Start,
        expected: Option<Waiting<'_>>,
    ) -> Result<(Place<'_>, Turn<'_>), Error> {
        let end = self.half_time(start);
        let turn = self.own.take(user, end).await.ok_or(Error::Shed)?;
        let place = match expected {
            Some(expected) => self.source.take_expected(expected, end).await,
            None => self.source.take(start.kind, end).await,
        };
        Ok((place.ok_or(Error::Shed)?, turn))
    }

    /// When half of the time is over: what begins later would come too late.
    pub(super) fn half_time(&self, start: Start) -> Instant {
        start.at.checked_add(self.half).unwrap_or(start.at)
    }

    /// Nobody could expect a place now. To be asked before a load is even begun.
    pub(super) fn are_shut(&self, start: Start) -> bool {
        // Batches were asked when they began.
        start.kind == Kind::Single && self.source.is_shut(Kind::Single)
    }

    /// [`Doors::place`] can be expected to have one. To be asked before Redis is given work that would be in vain.
    pub(super) fn expect(&self, user: UserId, start: Start) -> Result<Option<Waiting<'_>>, Error> {
        if self.own.is_full(user) {
            return Err(Error::Shed);
        }
        match start.kind {
            Kind::Single => self.source.expect().map(Some).ok_or(Error::Shed),
            // Was asked when the batch began.
            Kind::Bulk => Ok(None),
        }
    }
}
