//! Coalesces the lookups of concurrent single reads in Redis into one pipelined request, and runs the loads that Redis does not
//! answer.
//!
//! A lookup costs Redis and this process the less, the more others are in the same request.
//!
//! **Invariants.** Each pending lookup has a task that will send it: the one that [`RedisBatcher::add_lookup`] asked for, or one
//! whose request is under way.
//!
//! **Limits.** `redis.connections` requests at once, of [`LOOKUPS_MAX`] users each. A lookup that waited for half of its load's
//! time is shed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{ReadError, Reader, single_flight::Flight, timings::Timings};
use crate::{admission::LoadClass, cache::redis::Lookup, domain::UserId, telemetry::traces};

/// Users of one request.
const LOOKUPS_MAX: usize = 512;

/// Users that one batch loads at a time.
pub(super) const BATCH_LOADS: usize = 32;

/// A load whose user is to be looked up in Redis.
pub(super) type PendingLookup = (UserId, Arc<Flight>);

/// Loads that Redis did not answer, with what it said.
type Misses = Vec<(PendingLookup, Option<Lookup>)>;

/// The pending lookups of single reads.
#[derive(Debug)]
pub(super) struct RedisBatcher {
    pending: Vec<PendingLookup>,
    requests: usize,
    requests_max: usize,
}

impl RedisBatcher {
    /// No lookups yet; at most so many requests at once.
    pub(super) const fn new(requests_max: usize) -> Self {
        Self {
            pending: Vec::new(),
            requests: 0,
            requests_max,
        }
    }

    /// Adds a lookup. True if the caller has to start a task: the lookups before it have one.
    pub(super) fn add_lookup(&mut self, lookup: PendingLookup) -> bool {
        self.pending.push(lookup);
        self.pending.len() == 1 && self.may_request()
    }

    /// Takes the lookups of the next request, if there are any and one more request is allowed.
    pub(super) fn begin_request(&mut self) -> Option<Vec<PendingLookup>> {
        if self.pending.is_empty() || !self.may_request() {
            return None;
        }
        self.requests = self.requests.saturating_add(1);
        let later = self.pending.split_off(self.pending.len().min(LOOKUPS_MAX));
        Some(std::mem::replace(&mut self.pending, later))
    }

    /// Lookups are left that another task may send.
    pub(super) const fn needs_task(&self) -> bool {
        !self.pending.is_empty() && self.may_request()
    }

    pub(super) const fn end_request(&mut self) {
        self.requests = self.requests.saturating_sub(1);
    }

    const fn may_request(&self) -> bool {
        self.requests < self.requests_max
    }
}

/// Starts the load of one user in a task. A single read looks its user up in Redis together with others.
pub(super) fn start_load(reader: &Arc<Reader>, user: UserId, flight: Arc<Flight>) {
    if reader.redis.is_none() || flight.start.class == LoadClass::Batch {
        return start_loads(reader, vec![(user, flight)]);
    }
    if reader.batcher.lock().add_lookup((user, flight)) {
        spawn_lookups(reader);
    }
}

/// Starts the loads of several users in one task, with one lookup in Redis.
pub(super) fn start_loads(reader: &Arc<Reader>, flights: Vec<PendingLookup>) {
    if flights.is_empty() {
        return;
    }
    let (reader, tasks) = (Arc::clone(reader), reader.tasks.clone());
    let run = async move {
        let misses = if reader.redis.is_some() {
            let looked = look_up_users(&reader, &flights).await;
            finish_hits(&reader, flights, looked)
        } else {
            flights.into_iter().map(|flight| (flight, None)).collect()
        };
        run_loads(&reader, misses).await;
    };
    tasks.spawn(run.instrument(Span::current()));
}

/// Spawns a task that sends pending lookups until none is left.
fn spawn_lookups(reader: &Arc<Reader>) {
    let (reader, tasks) = (Arc::clone(reader), reader.tasks.clone());
    let run = async move {
        loop {
            // All reads that are ready now add their lookups before this goes on.
            tokio::task::yield_now().await;
            let Some(flights) = take_lookups(&reader) else {
                return;
            };
            let looked = look_up_users(&reader, &flights).await;
            reader.batcher.lock().end_request();
            let misses = finish_hits(&reader, flights, looked);
            if !misses.is_empty() {
                let (reader, tasks) = (Arc::clone(&reader), &reader.tasks);
                let load = async move { run_loads(&reader, misses).await };
                tasks.spawn(load.instrument(Span::current()));
            }
        }
    };
    tasks.spawn(run.instrument(Span::current()));
}

/// The lookups of the next request, without those that waited for half of their time: they are shed.
fn take_lookups(reader: &Arc<Reader>) -> Option<Vec<PendingLookup>> {
    let mut batcher = reader.batcher.lock();
    let mut flights = batcher.begin_request()?;
    let needs_task = batcher.needs_task();
    drop(batcher);
    if needs_task {
        spawn_lookups(reader);
    }
    let now = Instant::now();
    let in_time = |(_, flight): &PendingLookup| now < reader.admission.half_time(flight.start.at);
    if !flights.iter().all(in_time) {
        let late = flights.extract_if(.., |flight| !in_time(flight)).collect();
        shed_loads(reader, late);
    }
    Some(flights)
}

/// Looks the users up in Redis under a permit; none where no permit came.
async fn look_up_users(reader: &Reader, flights: &[PendingLookup]) -> Option<Vec<Lookup>> {
    let users: Vec<_> = flights.iter().map(|(user, _)| *user).collect();
    let (tier, (_, first)) = reader.redis.as_ref().zip(flights.first())?;
    let end = reader.admission.half_time(first.start.at);
    let permits = &reader.admission.redis;
    let _permit = permits.acquire_permit(first.start.class, end).await?;
    Some(tier.redis.get_many(&users).await)
}

/// Ends the loads that Redis answered, and sheds those that cannot expect a permit of the source; returns the rest.
fn finish_hits(
    reader: &Reader,
    flights: Vec<PendingLookup>,
    looked: Option<Vec<Lookup>>,
) -> Misses {
    let Some(looked) = looked else {
        shed_loads(reader, flights);
        return Misses::new();
    };
    let looked_at = Instant::now();
    let (mut misses, mut shed) = (Misses::new(), Vec::new());
    for ((user, flight), looked) in flights.into_iter().zip(looked) {
        let start = flight.start;
        let tier = reader.redis.as_ref();
        match tier.and_then(|tier| tier.accept_hit(user, start, &looked, looked_at)) {
            Some(result) => {
                let timings = Timings {
                    redis: looked_at.saturating_duration_since(start.at),
                    ..Timings::default()
                };
                reader
                    .single_flight
                    .finish_load(user, &flight, Ok(result), timings);
            }
            None if reader.admission.is_source_closed(start.class) => shed.push((user, flight)),
            None => {
                flight.mark_slow();
                misses.push(((user, flight), Some(looked)));
            }
        }
    }
    shed_loads(reader, shed);
    misses
}

/// Runs the loads that Redis did not answer.
async fn run_loads(reader: &Reader, misses: Misses) {
    let Some(((_, first), _)) = misses.first() else {
        return;
    };
    // A load that is shed fails its batch, so the rest of the batch is shed too. What Redis holds is served all the same.
    let (batch, at_once) = match first.start.class {
        LoadClass::Single => (false, misses.len()),
        LoadClass::Batch => (true, BATCH_LOADS),
    };
    let source = &reader.admission.source;
    let closed = batch && misses.len() > 1 && source.is_closed(LoadClass::Batch);
    let shed = &AtomicBool::new(closed);
    let loads = misses
        .into_iter()
        .map(|((user, flight), looked)| async move {
            let held = matches!(looked, Some(Lookup::Hit { .. }));
            if !held && shed.load(Ordering::Relaxed) {
                return shed_loads(reader, vec![(user, flight)]);
            }
            let mut timings = Timings::default();
            reader.recorder.meters.load_in_flight(true);
            let load = reader.load_user(user, flight.start, looked, false, &mut timings);
            let result = load.instrument(traces::load(user)).await;
            reader.recorder.meters.load_in_flight(false);
            if batch && matches!(result, Err(ReadError::Shed)) {
                shed.store(true, Ordering::Relaxed);
            }
            reader
                .single_flight
                .finish_load(user, &flight, result, timings);
        });
    stream::iter(loads)
        .for_each_concurrent(at_once, |load| load)
        .await;
}

/// Ends loads before they began.
pub(super) fn shed_loads(reader: &Reader, flights: Vec<PendingLookup>) {
    for (user, flight) in flights {
        let shed = Err(ReadError::Shed);
        reader
            .single_flight
            .finish_load(user, &flight, shed, Timings::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::single_flight::tests::begin_flight;

    fn pending_lookup(user: usize) -> PendingLookup {
        let (_, user, flight) = begin_flight(false, user.try_into().unwrap());
        (user, flight)
    }

    fn lookup_users(leads: Option<Vec<PendingLookup>>) -> Vec<i64> {
        let users = leads.into_iter().flatten();
        users.map(|(user, _)| user.get()).collect()
    }

    #[test]
    fn who_comes_while_enough_is_asked_is_asked_for_in_the_next_question() {
        let mut batcher = RedisBatcher::new(1);
        assert!(batcher.add_lookup(pending_lookup(1)), "nobody asks yet");
        assert!(!batcher.add_lookup(pending_lookup(2)), "the first one will");
        assert_eq!(lookup_users(batcher.begin_request()), [1, 2]);
        assert!(
            !batcher.add_lookup(pending_lookup(3)),
            "who asks now goes on with it"
        );
        assert!(!batcher.needs_task() && batcher.begin_request().is_none());
        batcher.end_request();
        assert_eq!(lookup_users(batcher.begin_request()), [3]);
        batcher.end_request();
        assert!(batcher.begin_request().is_none(), "nobody waits");
        assert!(
            batcher.add_lookup(pending_lookup(4)),
            "whoever asked has stopped"
        );
    }

    #[test]
    fn another_question_may_be_asked_beside_the_first() {
        let mut batcher = RedisBatcher::new(2);
        assert!(batcher.add_lookup(pending_lookup(1)));
        assert_eq!(lookup_users(batcher.begin_request()), [1]);
        assert!(batcher.add_lookup(pending_lookup(2)));
        assert_eq!(lookup_users(batcher.begin_request()), [2]);
        assert!(!batcher.add_lookup(pending_lookup(3)));
        assert!(batcher.begin_request().is_none());
    }

    #[test]
    fn a_question_has_an_end_and_what_is_left_is_another_one() {
        let mut batcher = RedisBatcher::new(2);
        for id in 1..=LOOKUPS_MAX + 2 {
            batcher.add_lookup(pending_lookup(id));
        }
        assert_eq!(lookup_users(batcher.begin_request()).len(), LOOKUPS_MAX);
        assert!(batcher.needs_task());
        assert_eq!(lookup_users(batcher.begin_request()).len(), 2);
        assert!(!batcher.needs_task());
    }
}
