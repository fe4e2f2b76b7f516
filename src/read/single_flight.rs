//! One load per user and instance: the first reader leads, the others follow.
//!
//! **Invariants.** A load runs in its own task, so that a reader that hangs up stops no follower. An entry is removed only by its own
//! load. [`may_load_be_joined`] decides whether a reader may follow a load.
//!
//! **Cancellation.** Followers may be dropped at any time; the load goes on.
//!
//! **Limits.** [`FLIGHTS_MAX`] loads at once; batches begin none beyond half of that. A wait ends by the deadline: Redis answers or
//! fails in its own time, and a wait for more than Redis has a timer.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{ReadAnswer, ReadError, timings::Timings};
use crate::{
    admission::{Admitted, LoadClass},
    cache_status::{CacheStatus, Detail, ForwardReason, Tier},
    domain::{Floors, UserId},
    protocol::rules::{JoinFacts, may_load_be_joined},
    protocol::{Freshness, Knowledge},
    render::RenderedSnapshot,
};

/// Loads at once, of all kinds and in all states: what they take of memory has a bound.
const FLIGHTS_MAX: usize = 16_384;

/// The knowledge with which a load began.
#[derive(Debug, Clone, Copy)]
pub struct LoadStart {
    /// When it began.
    pub at: Instant,
    pub knowledge: Knowledge,
    /// Freshness was proven then. If not, nothing that lags was asked.
    pub proven: bool,
    /// Single read or batch.
    pub(super) class: LoadClass,
    /// A batch's load of the same user was under way and not joined: this load takes its lease over.
    pub(super) overtakes: bool,
}

/// The result of a load, for all its readers.
#[derive(Debug, Clone)]
pub struct LoadResult {
    held: RenderedSnapshot,
    tier: Tier,
    /// The rest of its life in Redis.
    ttl: Option<Duration>,
    /// The floors that were not reached, where the balances are behind.
    unmet: Floors,
    /// Why Redis did not answer.
    redis: Option<ForwardReason>,
}

impl LoadResult {
    pub const fn from_redis(held: RenderedSnapshot, ttl: Duration) -> Self {
        Self {
            held,
            tier: Tier::Redis,
            ttl: Some(ttl),
            unmet: Floors::NONE,
            redis: None,
        }
    }

    /// The source answered, after Redis did not; without the floors `unmet`.
    pub const fn from_source(
        held: RenderedSnapshot,
        unmet: Floors,
        redis: Option<ForwardReason>,
    ) -> Self {
        Self {
            held,
            tier: Tier::Source,
            ttl: None,
            unmet,
            redis,
        }
    }

    /// A reader with these floors may be shown the result: it reaches them, or looked for just these in vain.
    pub fn suits_floors(&self, floors: &Floors) -> bool {
        let in_vain = |asset| self.unmet.floor_of(asset) >= floors.floor_of(asset);
        floors.is_empty() || floors.unmet_by(&self.held.read_snapshot()).all(in_vain)
    }

    /// The answer, and the floors that it does not reach.
    pub fn into_parts(self, memory: ForwardReason, collapsed: bool) -> (ReadAnswer, Floors) {
        let unmet = self.unmet.clone();
        (self.into_answer(memory, collapsed), unmet)
    }

    pub fn into_answer(self, memory: ForwardReason, collapsed: bool) -> ReadAnswer {
        let cache_status = CacheStatus {
            answered: self.tier,
            ttl: self.ttl.map(|ttl| ttl.as_secs()),
            detail: (!self.unmet.is_empty()).then_some(Detail::Behind),
            redis: self.redis,
            memory: Some(memory),
            collapsed,
            source_failed: false,
        };
        ReadAnswer {
            held: self.held,
            cache_status,
        }
    }
}

/// One load under way.
#[derive(Debug)]
pub struct Flight {
    /// The knowledge when it began.
    pub start: LoadStart,
    result: OnceLock<(Result<LoadResult, ReadError>, Timings)>,
    /// The load waits for more than Redis, or Redis may take longer than a reader has.
    slow: AtomicBool,
    done: Notify,
}

#[derive(Debug)]
pub enum LoadRole {
    /// The reader has to start the load.
    Leader(Arc<Flight>),
    /// The reader waits for a load under way.
    Follower(Arc<Flight>),
}

/// All loads under way.
#[derive(Debug)]
pub struct SingleFlight {
    under_way: Mutex<HashMap<UserId, Arc<Flight>>>,
    slow: bool,
}

impl LoadStart {
    /// This load of the user as admission sees it.
    pub(super) const fn as_admitted(&self, user: UserId) -> Admitted {
        Admitted {
            user,
            class: self.class,
            began_at: self.at,
        }
    }

    /// Facts about this load and a reader that begins at `reader`.
    fn facts_for(&self, reader: &Self, freshness: &Freshness) -> JoinFacts {
        JoinFacts {
            same_generation: self.knowledge.generation == reader.knowledge.generation,
            same_reread: self.knowledge.reread == reader.knowledge.reread
                && self.knowledge.given_up == reader.knowledge.given_up,
            reader_proven: reader.proven,
            load_proven: self.proven,
            load_young: freshness.young_enough(self.at, reader.at),
            batch_load_single_reader: self.class == LoadClass::Batch
                && reader.class == LoadClass::Single,
        }
    }
}

impl SingleFlight {
    /// No loads yet. `slow`: there is no Redis that answers, or fails, well before any deadline.
    pub fn new(slow: bool) -> Self {
        Self {
            under_way: Mutex::default(),
            slow,
        }
    }

    /// Joins the load under way, or begins one that the caller has to start; none where there are too many.
    pub fn join_or_lead(
        &self,
        user: UserId,
        start: LoadStart,
        freshness: &Freshness,
    ) -> Option<LoadRole> {
        let mut flights = self.under_way.lock();
        let mut overtakes = false;
        if let Some(flight) = flights.get(&user) {
            let facts = flight.start.facts_for(&start, freshness);
            if may_load_be_joined(&facts).is_ok() {
                return Some(LoadRole::Follower(Arc::clone(flight)));
            }
            overtakes = facts.batch_load_single_reader;
        }
        let most = match start.class {
            LoadClass::Single => FLIGHTS_MAX,
            LoadClass::Batch => FLIGHTS_MAX / 2,
        };
        if flights.len() >= most {
            return None;
        }
        let flight = Arc::new(Flight {
            start: LoadStart { overtakes, ..start },
            result: OnceLock::new(),
            slow: AtomicBool::new(self.slow),
            done: Notify::new(),
        });
        flights.insert(user, Arc::clone(&flight));
        Some(LoadRole::Leader(flight))
    }

    /// Ends a load: no reader joins it any more, and all followers get its result.
    pub(super) fn finish_load(
        &self,
        user: UserId,
        flight: &Arc<Flight>,
        result: Result<LoadResult, ReadError>,
        timings: Timings,
    ) {
        let mut flights = self.under_way.lock();
        if flights
            .get(&user)
            .is_some_and(|current| Arc::ptr_eq(current, flight))
        {
            flights.remove(&user);
        }
        drop(flights);
        let _ = flight.result.set((result, timings));
        flight.done.notify_waiters();
    }
}

impl Flight {
    /// Redis has answered and the source is needed: from now on the followers wait with a timer.
    pub(super) fn mark_slow(&self) {
        self.slow.store(true, Ordering::SeqCst);
        self.done.notify_waiters();
    }

    /// Waits for the result; `timings` are those of the load then.
    /// Errors: the load's own, or [`ReadError::Deadline`].
    pub(super) async fn wait_for_result(
        &self,
        deadline: Instant,
        timings: &mut Timings,
    ) -> Result<LoadResult, ReadError> {
        loop {
            // Registered before the check: a result that is set in between wakes it.
            let notified = self.done.notified();
            if self.result.get().is_some() {
                break;
            }
            // A timer for each reader that Redis answers would cost more than the lookup in memory did.
            if !self.slow.load(Ordering::SeqCst) {
                notified.await;
            } else if tokio::time::timeout_at(deadline, notified).await.is_err() {
                break;
            }
        }
        let (result, of_load) = self.result.get().ok_or(ReadError::Deadline)?;
        timings.adopt_load(*of_load);
        result.clone()
    }
}

#[cfg(test)]
pub(super) mod tests;
