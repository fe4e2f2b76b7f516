//! One load per user and instance: whoever comes first leads, the others follow.
//!
//! **Invariants.** A load runs in its own task, so that a reader that hangs up stops nobody. An entry is removed only by its own
//! load. A reader never follows a load that may not know what the reader has to be shown, nor a single reader a batch's load, which
//! waits in the batches' queue ([`may_load_be_joined`]).
//!
//! **Cancellation.** Followers may be dropped at any time; the load goes on.
//!
//! **Limits.** [`FLIGHTS_MAX`] loads at once, waiting or not; batches begin none beyond half of that. Nobody waits beyond a deadline:
//! Redis' answer comes or fails in its own time, and who waits for more than that has a timer.

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

use super::{Error, permit_queue::Kind, timings::Spent};
use crate::{
    cache_status::{Detail, Forward, Tier},
    domain::{Floors, UserId},
    protocol::rules::{JoinFacts, may_load_be_joined},
    protocol::{Freshness, Knowledge},
    render::Held,
};

/// Loads at once, of all kinds and in all states: what they take of memory has a bound.
const FLIGHTS_MAX: usize = 16_384;

/// The knowledge when a load began.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// When it began.
    pub at: Instant,
    /// The knowledge of changes.
    pub knowledge: Knowledge,
    /// Freshness was proven then. If not, nothing that lags was asked.
    pub proven: bool,
    /// For whom it began.
    pub(super) kind: Kind,
    /// A batch's load of the same user was under way and not joined: its lease at Redis is taken over.
    pub(super) overtakes: bool,
}

/// The result of a load.
#[derive(Debug, Clone)]
pub struct Landed {
    /// The balances.
    pub held: Held,
    /// The readers that had them.
    pub tier: Tier,
    /// For how long Redis has them.
    pub ttl: Option<Duration>,
    /// Their faults.
    pub detail: Option<Detail>,
    /// The floors that were looked for in vain, where they are behind.
    pub unmet: Floors,
    /// Redis' reply, if it was no answer.
    pub redis: Option<Forward>,
}

impl Landed {
    /// A reader with these floors may be shown it: it reaches them, or looked for just these in vain.
    pub fn suits(&self, floors: &Floors) -> bool {
        let in_vain = |asset| self.unmet.get(asset) >= floors.get(asset);
        floors.is_empty() || floors.unmet_by(&self.held.snapshot()).all(in_vain)
    }
}

/// A load under way.
#[derive(Debug)]
pub struct Flight {
    /// The knowledge when it began.
    pub start: Start,
    landed: OnceLock<(Result<Landed, Error>, Spent)>,
    /// Redis' answer is not what it waits for, or may itself take longer than a reader has.
    slow: AtomicBool,
    bell: Notify,
}

/// The role of a reader in a load.
#[derive(Debug)]
pub enum Role {
    /// It has to run the load.
    Leader(Arc<Flight>),
    /// It waits for somebody else's.
    Follower(Arc<Flight>),
}

/// All loads under way.
#[derive(Debug)]
pub struct Flights {
    under_way: Mutex<HashMap<UserId, Arc<Flight>>>,
    slow: bool,
}

impl Start {
    /// Facts about this load and a reader that begins at `reader`.
    fn facts_for(&self, reader: &Self, freshness: &Freshness) -> JoinFacts {
        JoinFacts {
            same_generation: self.knowledge.generation == reader.knowledge.generation,
            same_reread: self.knowledge.reread == reader.knowledge.reread
                && self.knowledge.given_up == reader.knowledge.given_up,
            reader_proven: reader.proven,
            load_proven: self.proven,
            load_young: freshness.young_enough(self.at, reader.at),
            batch_load_single_reader: self.kind == Kind::Bulk && reader.kind == Kind::Single,
        }
    }
}

impl Flights {
    /// None yet. `slow` where there is no Redis that answers, or fails to, well before any reader's deadline.
    pub fn new(slow: bool) -> Self {
        Self {
            under_way: Mutex::default(),
            slow,
        }
    }

    /// The user's load under way, or a new one that the caller has to run; none where there are too many.
    pub fn board(&self, user: UserId, start: Start, freshness: &Freshness) -> Option<Role> {
        let mut flights = self.under_way.lock();
        let mut overtakes = false;
        if let Some(flight) = flights.get(&user) {
            let facts = flight.start.facts_for(&start, freshness);
            if may_load_be_joined(&facts).is_ok() {
                return Some(Role::Follower(Arc::clone(flight)));
            }
            overtakes = facts.batch_load_single_reader;
        }
        let most = match start.kind {
            Kind::Single => FLIGHTS_MAX,
            Kind::Bulk => FLIGHTS_MAX / 2,
        };
        if flights.len() >= most {
            return None;
        }
        let flight = Arc::new(Flight {
            start: Start { overtakes, ..start },
            landed: OnceLock::new(),
            slow: AtomicBool::new(self.slow),
            bell: Notify::new(),
        });
        flights.insert(user, Arc::clone(&flight));
        Some(Role::Leader(flight))
    }

    /// The load is over: nobody joins it any more, and all followers hear.
    pub(super) fn land(
        &self,
        user: UserId,
        flight: &Arc<Flight>,
        result: Result<Landed, Error>,
        spent: Spent,
    ) {
        let mut flights = self.under_way.lock();
        if flights
            .get(&user)
            .is_some_and(|current| Arc::ptr_eq(current, flight))
        {
            flights.remove(&user);
        }
        drop(flights);
        let _ = flight.landed.set((result, spent));
        flight.bell.notify_waiters();
    }

    /// Loads under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.lock().len()
    }
}

impl Flight {
    /// Redis has answered, and more has to be asked: whoever waits looks at the clock from now on.
    pub(super) fn goes_on(&self) {
        self.slow.store(true, Ordering::SeqCst);
        self.bell.notify_waiters();
    }

    /// Waits for the landing; `spent` is what the load spent then.
    ///
    /// # Errors
    /// The load's own, or [`Error::Deadline`].
    pub(super) async fn wait(&self, deadline: Instant, spent: &mut Spent) -> Result<Landed, Error> {
        loop {
            // Before the look: it rings for whoever waits by then.
            let rings = self.bell.notified();
            if self.landed.get().is_some() {
                break;
            }
            // It also rings when it goes on. A timer for each reader whom Redis answers would cost more than the look into
            // memory did.
            if !self.slow.load(Ordering::SeqCst) {
                rings.await;
            } else if tokio::time::timeout_at(deadline, rings).await.is_err() {
                break;
            }
        }
        let (result, of_load) = self.landed.get().ok_or(Error::Deadline)?;
        spent.follow(*of_load);
        result.clone()
    }
}

#[cfg(test)]
pub(super) mod tests;
