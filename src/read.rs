//! Reading balances: memory, then one shared load of Redis and the source. The only place that knows the order of the tiers.
//!
//! **Invariants.** Memory is asked before any lock is taken and without a task. Who cannot prove freshness is not served from memory.
//! A read shows nothing below what was notified or shown here before it began, or says so (`behind`). Only the source can
//! fail a read. A client's `min_seq` concerns that client only. Too much at once is an error of those who come too much, before
//! it is anybody's wait: what memory holds needs no turn.
//!
//! **Cancellation.** A reader may be dropped at any time; the load that it began goes on for those who follow.
//!
//! **Limits.** Each wait ends with the request's deadline. Questions to Redis and loads from the source have turns below a limit
//! that follows how long they take ([`turns`]), up to `limits.source_loads`; one user has few of them ([`doors`], [`own`]). A batch
//! loads [`batch::LOADS`] users at a time.

mod adaptive_limit;
mod admission;
mod batch;
mod load;
mod memory_hit;
mod min_seq;
mod per_user;
mod permit_queue;
mod record;
mod redis_batcher;
mod redis_hit;
mod single_flight;
mod stale;
#[cfg(test)]
mod tests;
mod timings;
mod whole_batch;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use crate::render::Held;
use crate::{
    audit::Sampler,
    cache::{memory::Memory, redis::Redis},
    cache_status::{Forward, Trail},
    config::Settings,
    domain::{Catalogue, Floors, UserId},
    ledger::{self, Source},
    protocol::{Freshness, Marks},
    telemetry::{Meters, traces},
};
use admission::Doors;
use permit_queue::Kind;
use redis_batcher::Gathered;
use single_flight::{Flight, Flights, Landed, Role, Start};
use timings::{Slow, Spent, Ways};

/// How often a reader boards another flight because one landed below what it has to be shown.
const BOARDINGS: usize = 2;

/// A reader's demands beside the user.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Not older than that, for this request only.
    pub min_seq: Floors,
    /// Read the ledger, whatever is held.
    pub no_cache: bool,
    /// Memory's answer, where it was asked a moment ago ([`Reader::held`]).
    pub passed_on: Option<PassedOn>,
}

/// Memory did not answer a reader.
#[derive(Debug, Clone, Copy)]
pub struct PassedOn {
    /// Why not.
    pub said: Forward,
    /// When the reader came.
    pub came: Instant,
}

/// An answer to one user's read.
#[derive(Debug, Clone, Copy)]
pub struct Answer<B: AsRef<[u8]> = Bytes> {
    /// The balances, whole, with their rendered body.
    pub held: Held<B>,
    /// How it came about.
    pub trail: Trail,
}

/// Why a read was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The source cannot answer, and nothing that may be shown is held.
    #[error(transparent)]
    Source(#[from] ledger::Error),
    /// `min_seq` was not reached in time.
    #[error("min_seq was not reached in time")]
    NotReached,
    /// A turn at Redis or at the source was not had in time, or could not be expected.
    #[error("too many loads in flight")]
    Shed,
    /// The request's deadline, elsewhere than in the source.
    #[error("the request's deadline passed")]
    Deadline,
}

/// How long things may take or last.
#[derive(Debug, Clone, Copy)]
struct Times {
    memory_ttl: Duration,
    snapshot_ttl: Duration,
    lag_budget: Duration,
    lease_wait: Duration,
    stale: Option<Duration>,
}

impl Times {
    /// With up to a tenth less, so that what was filled together does not end together.
    fn memory_ttl(&self) -> Duration {
        let tenth = u64::try_from(self.memory_ttl.as_millis())
            .unwrap_or(u64::MAX)
            .checked_div(10)
            .unwrap_or(0);
        self.memory_ttl
            .saturating_sub(Duration::from_millis(rand::rng().random_range(0..=tenth)))
    }
}

/// The parts that reading is made of.
#[derive(Debug)]
pub struct Parts {
    /// Names and scales.
    pub catalogue: Arc<Catalogue>,
    /// The nearest tier.
    pub memory: Arc<Memory>,
    /// The tier between, if there is one.
    pub redis: Option<Arc<Redis>>,
    /// The truth.
    pub source: Arc<dyn Source>,
    /// The knowledge of changes.
    pub marks: Arc<Marks>,
    /// How fresh that is.
    pub freshness: Arc<Freshness>,
    /// The counted thing.
    pub meters: Arc<Meters>,
    /// Where loads run.
    pub tasks: TaskTracker,
    /// The notes of answers.
    pub sampler: Arc<Sampler>,
}

/// Answers reads.
#[derive(Debug)]
pub struct Reader {
    catalogue: Arc<Catalogue>,
    memory: Arc<Memory>,
    redis: Option<Arc<Redis>>,
    source: Arc<dyn Source>,
    ways: Ways,
    marks: Arc<Marks>,
    freshness: Arc<Freshness>,
    meters: Arc<Meters>,
    tasks: TaskTracker,
    flights: Flights,
    gathered: Mutex<Gathered>,
    doors: Doors,
    times: Times,
    sampler: Arc<Sampler>,
    slow: Slow,
}

impl Reader {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: Parts, settings: &Settings) -> Arc<Self> {
        let Parts {
            catalogue,
            memory,
            redis,
            source,
            marks,
            freshness,
            meters,
            tasks,
            sampler,
        } = parts;
        let doors = Doors::new(settings, Instant::now());
        // A turn at Redis is had in half of the time, or not at all, and then it answers, or fails to, in its own time.
        let answers_soon = redis.is_some() && settings.redis.timeout_ms.0 < doors.half;
        Arc::new(Self {
            catalogue,
            memory,
            redis,
            source,
            ways: Ways::of(&settings.source),
            marks,
            freshness,
            meters,
            tasks,
            flights: Flights::new(!answers_soon),
            gathered: Mutex::new(Gathered::new(settings.redis.connections)),
            doors,
            times: Times {
                memory_ttl: settings.memory.ttl_ms.0,
                snapshot_ttl: settings.redis.snapshot_ttl_ms.0,
                lag_budget: settings.settlement.lag_budget_ms.0,
                lease_wait: settings.redis.lease_wait_ms.0,
                // Changes are remembered for that long.
                stale: settings.stale.enabled.then_some(
                    settings
                        .stale
                        .max_age_ms
                        .0
                        .min(settings.settlement.floor_ttl_ms.0),
                ),
            },
            sampler,
            slow: Slow::new(settings.telemetry.slow_read_ms.0),
        })
    }

    /// One user's balances.
    ///
    /// # Errors
    /// [`Error`]; never an empty answer for a failure.
    pub async fn read(
        self: &Arc<Self>,
        user: UserId,
        ask: Ask,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let begun = ask
            .passed_on
            .map_or_else(Instant::now, |memory| memory.came);
        let mut spent = Spent::default();
        // Awaited where it is made, here and above: kept under a name it would be there twice.
        let result = self
            .answer(Kind::Single, user, &ask, begun, deadline, &mut spent)
            .await;
        let took = begun.elapsed();
        let shown = || result.as_ref().map(Answer::view);
        let outcome = self.count(user, shown(), begun, took, &spent);
        self.slow.read(user, shown(), outcome, took, &spent);
        result
    }

    /// More than half of the places among the loads are free: somebody else may use the source a little.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.doors.source.has_room()
    }

    /// Tells the meters how much is let in now.
    pub fn keep_up(&self) {
        let (loads, waiting) = self.doors.source.now();
        let (_, waiting_for_redis) = self.doors.redis.now();
        let waiting = waiting.saturating_add(waiting_for_redis);
        self.meters.turns(loads, waiting);
    }

    /// Loads under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.under_way()
    }

    async fn answer(
        self: &Arc<Self>,
        kind: Kind,
        user: UserId,
        ask: &Ask,
        begun: Instant,
        deadline: Instant,
        spent: &mut Spent,
    ) -> Result<Answer, Error> {
        let said = if let Some(PassedOn { said, .. }) = ask.passed_on {
            said
        } else {
            let asked = self.ask_memory(user, ask, begun);
            spent.memory = begun.elapsed();
            match asked {
                Ok(answer) => return Ok(answer),
                Err(said) => said,
            }
        };
        // Boxed, as whatever few readers need: it takes no room in what each reader is while it waits.
        if ask.no_cache {
            let alone = self.fly_alone(kind, user, ask, said, deadline, spent);
            return Box::pin(alone).await;
        }
        match self.fly(kind, user, begun, said, deadline, spent).await {
            Ok(answer) if ask.min_seq.is_empty() => Ok(answer),
            Ok(answer) => {
                let satisfied = Box::pin(self.satisfy(user, ask, answer, deadline, spent));
                let in_time = tokio::time::timeout_at(deadline, satisfied).await;
                in_time.unwrap_or(Err(Error::Deadline))
            }
            Err(error) => self.stale_or(user, ask, error),
        }
    }

    /// Boards the user's flight: whether this reader leads it, the flight, and what it has to show beside what its own load
    /// knows.
    fn board(
        &self,
        kind: Kind,
        user: UserId,
        begun: Instant,
    ) -> Result<(bool, Arc<Flight>, Floors), Error> {
        let start = self.start(kind, user, begun);
        match self.flights.board(user, start, &self.freshness) {
            // A load knows the floors that were known when it began.
            Some(Role::Leader(flight)) => Ok((true, flight, Floors::NONE)),
            Some(Role::Follower(flight)) => Ok((false, flight, self.marks.floors(user))),
            None => Err(Error::Shed),
        }
    }

    fn start(&self, kind: Kind, user: UserId, at: Instant) -> Start {
        Start {
            at,
            knowledge: self.marks.knowledge(user),
            proven: self.freshness.proven(at),
            kind,
            overtakes: false,
        }
    }

    /// Leads or follows a load, until one lands that this reader may be shown.
    async fn fly(
        self: &Arc<Self>,
        kind: Kind,
        user: UserId,
        begun: Instant,
        said: Forward,
        deadline: Instant,
        spent: &mut Spent,
    ) -> Result<Answer, Error> {
        let mut begun = begun;
        for _ in 0..BOARDINGS {
            let (leads, flight, floors) = self.board(kind, user, begun)?;
            if leads {
                self.lead(user, Arc::clone(&flight));
            }
            fail::fail_point!("boarded");
            let landed = flight.wait(deadline, spent).await?;
            if landed.suits(&floors) {
                return Ok(answer_of(landed, said, !leads));
            }
            begun = Instant::now();
        }
        // The flights that it followed were too old each time: one of its own.
        let ask = Ask::default();
        Box::pin(self.fly_alone(kind, user, &ask, said, deadline, spent)).await
    }

    /// A load of its own, in its own task, that nobody follows: for who asked for the ledger, or found no flight young enough.
    async fn fly_alone(
        self: &Arc<Self>,
        kind: Kind,
        user: UserId,
        ask: &Ask,
        said: Forward,
        deadline: Instant,
        spent: &mut Spent,
    ) -> Result<Answer, Error> {
        let floors = self.marks.floors(user);
        let start = self.start(kind, user, Instant::now());
        let (reader, fresh) = (Arc::clone(self), ask.no_cache);
        let load = async move {
            let mut spent = Spent::default();
            let landed = reader.load(user, start, None, fresh, &mut spent).await;
            (landed, spent)
        };
        let load = self.tasks.spawn(load.instrument(traces::load(user)));
        let landed = match tokio::time::timeout_at(deadline, load).await {
            Ok(Ok((landed, of_load))) => {
                spent.follow(of_load);
                landed?
            }
            Ok(Err(_)) | Err(_) => return Err(Error::Deadline),
        };
        if !landed.suits(&floors) && !landed.suits(&self.marks.floors(user)) {
            // The load compares its result with the marks, and floors that ended meanwhile do not count: this cannot be.
            self.meters.seq_regression();
            return Err(Error::Deadline);
        }
        Ok(answer_of(landed, said, false))
    }
}

fn answer_of(landed: Landed, memory_said: Forward, collapsed: bool) -> Answer {
    let Landed {
        held,
        tier,
        ttl,
        detail,
        redis,
        unmet: _,
    } = landed;
    let ttl = ttl.map(|ttl| ttl.as_secs());
    let trail = Trail {
        answered: tier,
        ttl,
        detail,
        redis,
        memory: Some(memory_said),
        collapsed,
        source_failed: false,
    };
    Answer { held, trail }
}
