//! Many users at once: one question to Redis for all that memory lacks, and a bounded number of loads.
//!
//! **Cancellation.** As for one user: loads that were begun go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{
    Answer, Ask, Error, Reader, answer_of, permit_queue::Kind, single_flight::Flight,
    timings::Spent,
};
use crate::{cache::redis::Lookup, domain::UserId, telemetry::traces};

/// Users that one batch loads at a time.
pub(super) const LOADS: usize = 32;

/// How long before the deadline no more users are warmed.
const WARM_MARGIN: Duration = Duration::from_millis(200);

/// A load, and whose it is.
pub(super) type Lead = (UserId, Arc<Flight>);

/// Loads that go on, with what Redis said.
type Rest = Vec<(Lead, Option<Lookup>)>;

impl Reader {
    /// The balances of many users, in the order asked, each by itself. Redis is asked once for all that memory lacks.
    pub(super) async fn read_each(
        self: &Arc<Self>,
        users: &[UserId],
        deadline: Instant,
    ) -> Result<Vec<Answer>, Error> {
        let begun = Instant::now();
        let ask = Ask::default();
        let mut distinct = users.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(distinct.len());
        let (mut missing, mut leading) = (Vec::new(), Vec::new());
        for (at, user) in distinct.iter().enumerate() {
            let near = self.show_near(*user, &ask, begun, |answer| answer.to_shared());
            let said = match near.map_or_else(|| self.ask_memory(*user, &ask, begun), Ok) {
                Ok(answer) => {
                    answers.push(Some(answer));
                    continue;
                }
                Err(said) => said,
            };
            answers.push(None);
            let boarded = self.board(Kind::Bulk, *user, begun);
            let (leads, flight, floors) = boarded.inspect_err(|error| {
                self.turn_away(std::mem::take(&mut leading));
                self.count(*user, Err(error), begun, begun.elapsed(), &Spent::default());
            })?;
            if leads {
                leading.push((*user, Arc::clone(&flight)));
            }
            missing.push((at, *user, flight, !leads, said, floors));
        }
        self.lead_many(leading);
        let mut spent = Spent::default();
        for (at, user, flight, follows, said, floors) in missing {
            let result = match flight.wait(deadline, &mut spent).await {
                Ok(landed) if landed.suits(&floors) => Ok(answer_of(landed, said, follows)),
                Ok(_) => {
                    let now = Instant::now();
                    self.answer(Kind::Bulk, user, &ask, now, deadline, &mut spent)
                        .await
                }
                Err(error) => self.stale_or(user, &ask, error),
            };
            let answer = result.inspect_err(|error| {
                self.count(user, Err(error), begun, begun.elapsed(), &Spent::default());
            })?;
            if let Some(place) = answers.get_mut(at) {
                *place = Some(answer);
            }
        }
        let took = begun.elapsed();
        let mut ordered = Vec::with_capacity(users.len());
        let repeated = distinct.len() < users.len();
        for user in users {
            let at = distinct.binary_search(user).ok();
            let place = at.and_then(|at| answers.get_mut(at));
            let of_user = place.and_then(|place| {
                if repeated {
                    place.clone()
                } else {
                    place.take()
                }
            });
            if let Some(answer) = of_user {
                self.count(*user, Ok(answer.view()), begun, took, &Spent::default());
                ordered.push(answer);
            }
        }
        self.slow.batch(&ordered, took);
        Ok(ordered)
    }

    /// Loads users that are not held; returns how many are held then, and how many could not be loaded.
    pub async fn warm(self: &Arc<Self>, users: &[UserId], deadline: Instant) -> (u64, u64) {
        // Users not begun by then are not begun at all, so that the answer with its counts comes in time.
        let end = deadline.checked_sub(WARM_MARGIN).unwrap_or(deadline);
        let loads = stream::iter(users.to_vec()).map(|user| {
            let reader = Arc::clone(self);
            async move {
                let (now, ask, mut spent) = (Instant::now(), Ask::default(), Spent::default());
                let answer = reader.answer(Kind::Bulk, user, &ask, now, deadline, &mut spent);
                now >= end || answer.await.is_err()
            }
        });
        let results: Vec<_> = loads.buffer_unordered(LOADS).collect().await;
        let failed = results.iter().filter(|failed| **failed).count();
        let loaded = results.len().saturating_sub(failed);
        (
            u64::try_from(loaded).unwrap_or(u64::MAX),
            u64::try_from(failed).unwrap_or(u64::MAX),
        )
    }

    /// Has a load run. Those of single readers who come at the same moment, or while as many questions are asked as may be, ask
    /// Redis together.
    pub(super) fn lead(self: &Arc<Self>, user: UserId, flight: Arc<Flight>) {
        if self.redis.is_none() || flight.start.kind == Kind::Bulk {
            return self.lead_many(vec![(user, flight)]);
        }
        if self.gathered.lock().join((user, flight)) {
            self.ask_together();
        }
    }

    /// Asks Redis for those who wait, until nobody does.
    fn ask_together(self: &Arc<Self>) {
        let (reader, tasks) = (Arc::clone(self), self.tasks.clone());
        let asks = async move {
            loop {
                // Everybody who is ready to ask now comes before this goes on.
                tokio::task::yield_now().await;
                let Some(flights) = reader.next_question() else {
                    return;
                };
                let looked = reader.look(&flights).await;
                reader.gathered.lock().answered();
                let rest = reader.land_hits(flights, looked);
                if !rest.is_empty() {
                    let reader = Arc::clone(&reader);
                    let load = async move { reader.load_all(rest).await };
                    tasks.spawn(load.instrument(Span::current()));
                }
            }
        };
        self.tasks.spawn(asks.instrument(Span::current()));
    }

    /// Those for whom Redis is asked next. Who has waited for half of the time is sent away, as [`Reader::look`] would.
    fn next_question(self: &Arc<Self>) -> Option<Vec<Lead>> {
        let mut gathered = self.gathered.lock();
        let mut flights = gathered.next()?;
        let are_left = gathered.are_left();
        drop(gathered);
        if are_left {
            self.ask_together();
        }
        let now = Instant::now();
        let in_time = |(_, flight): &Lead| now < self.doors.half_time(flight.start);
        if !flights.iter().all(in_time) {
            let late = flights.extract_if(.., |lead| !in_time(lead)).collect();
            self.turn_away(late);
        }
        Some(flights)
    }

    /// Runs loads in a task of their own; for several, Redis is asked once.
    pub(super) fn lead_many(self: &Arc<Self>, flights: Vec<Lead>) {
        if flights.is_empty() {
            return;
        }
        let reader = Arc::clone(self);
        let run = async move {
            let rest = if reader.redis.is_some() {
                let looked = reader.look(&flights).await;
                reader.land_hits(flights, looked)
            } else {
                flights.into_iter().map(|flight| (flight, None)).collect()
            };
            reader.load_all(rest).await;
        };
        self.tasks.spawn(run.instrument(Span::current()));
    }

    /// Lands those that Redis answers, and turns those away that need the source and cannot expect a place there: the rest.
    fn land_hits(&self, flights: Vec<Lead>, looked: Option<Vec<Lookup>>) -> Rest {
        let Some(looked) = looked else {
            self.turn_away(flights);
            return Rest::new();
        };
        let looked_at = Instant::now();
        let (mut rest, mut away) = (Rest::new(), Vec::new());
        for ((user, flight), looked) in flights.into_iter().zip(looked) {
            match self.take_hit(user, flight.start, &looked, looked_at) {
                Some(landed) => {
                    let spent = Spent {
                        redis: looked_at.saturating_duration_since(flight.start.at),
                        ..Spent::default()
                    };
                    self.flights.land(user, &flight, Ok(landed), spent);
                }
                // A question that Redis does not answer needs the source.
                None if self.doors.are_shut(flight.start) => away.push((user, flight)),
                None => {
                    flight.goes_on();
                    rest.push(((user, flight), Some(looked)));
                }
            }
        }
        self.turn_away(away);
        rest
    }

    /// Those that Redis does not answer at once.
    async fn load_all(&self, flights: Rest) {
        let Some(((_, first), _)) = flights.first() else {
            return;
        };
        // One that is sent away fails the batch: the rest of it would be work for nobody. What Redis holds is no work.
        let (batch, most) = match first.start.kind {
            Kind::Single => (false, flights.len()),
            Kind::Bulk => (true, LOADS),
        };
        let shut = batch && flights.len() > 1 && self.doors.source.is_shut(Kind::Bulk);
        let shed = &AtomicBool::new(shut);
        let loads = flights
            .into_iter()
            .map(|((user, flight), looked)| async move {
                let held = matches!(looked, Some(Lookup::Hit { .. }));
                if !held && shed.load(Ordering::Relaxed) {
                    return self.turn_away(vec![(user, flight)]);
                }
                let mut spent = Spent::default();
                self.meters.load_in_flight(true);
                let load = self.load(user, flight.start, looked, false, &mut spent);
                let landed = load.instrument(traces::load(user)).await;
                self.meters.load_in_flight(false);
                if batch && matches!(landed, Err(Error::Shed)) {
                    shed.store(true, Ordering::Relaxed);
                }
                self.flights.land(user, &flight, landed, spent);
            });
        stream::iter(loads)
            .for_each_concurrent(most, |load| load)
            .await;
    }

    /// The entries of them in Redis, asked in turn; none where that does not come.
    async fn look(&self, flights: &[Lead]) -> Option<Vec<Lookup>> {
        let users: Vec<_> = flights.iter().map(|(user, _)| *user).collect();
        let (redis, (_, first)) = self.redis.as_ref().zip(flights.first())?;
        let end = self.doors.half_time(first.start);
        let _place = self.doors.redis.take(first.start.kind, end).await?;
        Some(redis.get_many(&users).await)
    }

    /// Loads that are not even begun.
    fn turn_away(&self, flights: Vec<Lead>) {
        for (user, flight) in flights {
            let shed = Err(Error::Shed);
            self.flights.land(user, &flight, shed, Spent::default());
        }
    }
}
