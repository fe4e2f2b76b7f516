//! Many users at once: one question to Redis for all that memory lacks, and a bounded number of loads.
//!
//! **Cancellation.** As for one user: loads that were begun go on.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{Answer, Ask, Error, Reader, answer_of, flight::Flight, spent::Spent, turns::Kind};
use crate::{
    domain::UserId,
    telemetry::traces,
    tiers::redis::{Lookup, Redis},
};

/// Users that one batch loads at a time.
pub(super) const LOADS: usize = 32;

/// How long before the deadline no more users are warmed.
const WARM_MARGIN: Duration = Duration::from_millis(200);

impl Reader {
    /// The balances of many users, in the order asked. Redis is asked once for all that memory lacks.
    ///
    /// # Errors
    /// The first failure of any of them.
    pub async fn read_many(
        self: &Arc<Self>,
        users: &[UserId],
        deadline: Instant,
    ) -> Result<Vec<Answer>, Error> {
        let begun = Instant::now();
        let ask = Ask::default();
        let mut answers: HashMap<UserId, Answer> = HashMap::with_capacity(users.len());
        let mut missing = HashMap::new();
        let mut leading = Vec::new();
        for user in users {
            if answers.contains_key(user) || missing.contains_key(user) {
                continue;
            }
            match self.ask_memory(*user, &ask, begun) {
                Ok(answer) => {
                    answers.insert(*user, answer);
                }
                Err(said) => {
                    let boarded = self.board(Kind::Bulk, *user, begun);
                    let (role, flight, floors) = boarded.inspect_err(|error| {
                        self.turn_away(std::mem::take(&mut leading));
                        self.count(*user, Err(error), begun, begun.elapsed(), &Spent::default());
                    })?;
                    if role {
                        leading.push((*user, Arc::clone(&flight)));
                    }
                    missing.insert(*user, (flight, !role, said, floors));
                }
            }
        }
        self.lead_many(leading);
        let mut spent = Spent::default();
        for (user, (flight, follows, said, floors)) in missing {
            let result = match flight.wait(deadline, &mut spent).await {
                Ok(landed) if landed.suits(&floors) => Ok(answer_of(landed, said, follows)),
                Ok(_) => {
                    let now = Instant::now();
                    self.answer(Kind::Bulk, user, &ask, now, deadline, &mut spent)
                        .await
                }
                Err(error) => self.stale_or(user, &ask, error),
            };
            answers.insert(
                user,
                result.inspect_err(|error| {
                    self.count(user, Err(error), begun, begun.elapsed(), &Spent::default());
                })?,
            );
        }
        let mut ordered = Vec::with_capacity(users.len());
        for user in users {
            if let Some(answer) = answers.get(user) {
                let took = begun.elapsed();
                self.count(*user, Ok(answer), begun, took, &Spent::default());
                ordered.push(answer.clone());
            }
        }
        self.slow.batch(&ordered, begun.elapsed());
        Ok(ordered)
    }

    /// Loads users that are not held; returns how many are held then, and how many could not be loaded.
    pub async fn warm(self: &Arc<Self>, users: &[UserId], deadline: Instant) -> (u64, u64) {
        // Who is not begun by then is not begun at all, so that the answer with its counts comes in time.
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

    /// Runs loads in a task of their own; for several, Redis is asked once.
    pub(super) fn lead_many(self: &Arc<Self>, flights: Vec<(UserId, Arc<Flight>)>) {
        if flights.is_empty() {
            return;
        }
        let reader = Arc::clone(self);
        let run: BoxFuture<'static, ()> = Box::pin(async move {
            let looked = match &reader.redis {
                Some(redis) => match reader.look(redis, &flights).await {
                    Some(looked) => looked.into_iter().map(Some).collect(),
                    None => return reader.turn_away(flights),
                },
                None => vec![None; flights.len()],
            };
            // One that is sent away fails the batch: the rest of it would be work for nobody. What Redis holds is no work.
            let shut = flights.len() > 1 && reader.doors.source.is_shut(Kind::Bulk);
            let shed = &AtomicBool::new(shut);
            let loads = flights
                .into_iter()
                .zip(looked)
                .map(|((user, flight), looked)| {
                    let reader = &reader;
                    async move {
                        let held = matches!(looked, Some(Lookup::Hit { .. }));
                        if !held && shed.load(Ordering::Relaxed) {
                            return reader.turn_away(vec![(user, flight)]);
                        }
                        let mut spent = Spent::default();
                        reader.meters.load_in_flight(true);
                        let load = reader.load(user, flight.start, looked, false, &mut spent);
                        let landed = load.instrument(traces::load(user)).await;
                        reader.meters.load_in_flight(false);
                        if matches!(landed, Err(Error::Shed)) {
                            shed.store(true, Ordering::Relaxed);
                        }
                        reader.flights.land(user, &flight, landed, spent);
                    }
                });
            stream::iter(loads)
                .for_each_concurrent(LOADS, |load| load)
                .await;
        });
        self.tasks.spawn(run.instrument(Span::current()));
    }

    /// What Redis holds of them, asked in its turn; none where that does not come.
    async fn look(&self, redis: &Redis, flights: &[(UserId, Arc<Flight>)]) -> Option<Vec<Lookup>> {
        let users: Vec<_> = flights.iter().map(|(user, _)| *user).collect();
        let [(_, first), rest @ ..] = flights else {
            return Some(Vec::new());
        };
        let kind = if rest.is_empty() {
            Kind::Single
        } else {
            Kind::Bulk
        };
        let end = self.doors.half_time(first.start);
        let _place = self.doors.redis.take(kind, end).await?;
        Some(redis.get_many(&users).await)
    }

    /// Loads that are not even begun.
    fn turn_away(&self, flights: Vec<(UserId, Arc<Flight>)>) {
        for (user, flight) in flights {
            let shed = Err(Error::Shed);
            self.flights.land(user, &flight, shed, Spent::default());
        }
    }
}
