//! Admission control: permits under an adaptive [`Limit`], a bounded FIFO queue, and immediate shedding where the expected wait is too long.
//!
//! A request enters the queue only if a permit can be expected within its patience, so no wait is wasted. Rejecting costs nearly as
//! much as answering, so the patience may be a quarter of the deadline. Batches ([`Kind::Bulk`]) get at most half of the permits and
//! have a queue of their own; a batch is judged once, at its beginning ([`Turns::is_shut`]).
//!
//! **Invariants.** Not more permits are given than the limit allows; those given before it fell stay. A dropped permit or wait is given back.
//!
//! **Cancellation.** A waiting reader may be dropped at any time.
//!
//! **Limits.** [`QUEUE_MAX`] wait in each queue. No priorities among single reads: a hot user is bounded by [`super::per_user`].

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::adaptive_limit::{Bounds, Limit, Sample};

/// The readers that may wait in one queue.
const QUEUE_MAX: usize = 4_096;

/// The kind of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A reader of one user.
    Single,
    /// A batch of users, or a warming.
    Bulk,
}

/// The places there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Of the limit.
    pub(super) bounds: Bounds,
    /// For [`Kind::Bulk`] at most, where half of the limit is more.
    pub(super) bulk: usize,
}

/// The places.
#[derive(Debug)]
pub(super) struct Turns {
    room: Semaphore,
    share: Semaphore,
    places: Places,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    busy: usize,
    /// The last time at which a place was taken or given back.
    moved: Instant,
    room: Queue,
    share: Queue,
}

/// One of the two semaphores, and who waits for it.
#[derive(Debug, Default)]
struct Queue {
    /// Permits that there should be, free or not.
    size: usize,
    /// Permits too many, to be taken out when they come back.
    owed: usize,
    waiting: usize,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Room,
    Share,
}

/// A place. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct Place<'a> {
    turns: &'a Turns,
    begun: Instant,
    _room: Held<'a>,
    _share: Option<Held<'a>>,
}

#[derive(Debug)]
struct Held<'a> {
    turns: &'a Turns,
    which: Which,
    permit: Option<SemaphorePermit<'a>>,
}

/// One who waits, or will. Dropped, it does not any more.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    turns: &'a Turns,
    which: Which,
}

impl Turns {
    pub(super) fn new(places: Places, patience: Duration, now: Instant) -> Self {
        let turns = Self {
            room: Semaphore::new(0),
            share: Semaphore::new(0),
            places,
            patience,
            state: Mutex::new(State {
                limit: Limit::new(places.bounds, now),
                busy: 0,
                moved: now,
                room: Queue::default(),
                share: Queue::default(),
            }),
        };
        turns.resize(&mut turns.state.lock());
        turns
    }

    /// A place, if one can be had before `end` and with patience.
    pub(super) async fn take(&self, kind: Kind, end: Instant) -> Option<Place<'_>> {
        let share = match kind {
            Kind::Single => None,
            Kind::Bulk => Some(self.wait(Which::Share, kind, end).await?),
        };
        let room = self.wait(Which::Room, kind, end).await?;
        Some(self.seat(room, share))
    }

    /// A single reader may come for a place, and is counted among those who wait from now on; none where it would wait in vain. For
    /// who has something to do before, which would be in vain then too: of those who do it together not all may find a place.
    pub(super) fn expect(&self) -> Option<Waiting<'_>> {
        let mut state = self.state.lock();
        if !self.may_hope(&state, Which::Room, Instant::now()) {
            return None;
        }
        state.room.waiting = state.room.waiting.saturating_add(1);
        Some(Waiting {
            turns: self,
            which: Which::Room,
        })
    }

    /// The place that was expected, if it can be had before `end` and with patience.
    pub(super) async fn take_expected(
        &self,
        expected: Waiting<'_>,
        end: Instant,
    ) -> Option<Place<'_>> {
        let patient = Instant::now().checked_add(self.patience);
        let until = patient.map_or(end, |patient| patient.min(end));
        let room = self.acquire(Which::Room, until).await;
        drop(expected);
        Some(self.seat(room?, None))
    }

    fn seat<'a>(&'a self, room: Held<'a>, share: Option<Held<'a>>) -> Place<'a> {
        let begun = Instant::now();
        let mut state = self.state.lock();
        state.busy = state.busy.saturating_add(1);
        state.moved = begun;
        let busy = state.busy;
        state.limit.began(busy);
        drop(state);
        Place {
            turns: self,
            begun,
            _room: room,
            _share: share,
        }
    }

    /// Nobody of this kind would be let in now.
    pub(super) fn is_shut(&self, kind: Kind) -> bool {
        let which = match kind {
            Kind::Single => Which::Room,
            Kind::Bulk => Which::Share,
        };
        if self.semaphore(which).available_permits() > 0 {
            return false;
        }
        let state = self.state.lock();
        !self.may_hope(&state, which, Instant::now())
    }

    /// Less than half of the places are taken.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.busy.saturating_mul(2) < state.limit.in_force()
    }

    /// The limit in force, and how many wait for a place.
    pub(super) fn now(&self) -> (usize, usize) {
        let state = self.state.lock();
        let waiting = state.room.waiting.saturating_add(state.share.waiting);
        (state.limit.in_force(), waiting)
    }

    async fn wait(&self, which: Which, kind: Kind, end: Instant) -> Option<Held<'_>> {
        if let Ok(permit) = self.semaphore(which).try_acquire() {
            return Some(self.held(which, permit));
        }
        let until = self.join(which, kind, end)?;
        let _waiting = Waiting { turns: self, which };
        self.acquire(which, until).await
    }

    async fn acquire(&self, which: Which, until: Instant) -> Option<Held<'_>> {
        let permit = tokio::time::timeout_at(until, self.semaphore(which).acquire()).await;
        Some(self.held(which, permit.ok()?.ok()?))
    }

    const fn held<'a>(&'a self, which: Which, permit: SemaphorePermit<'a>) -> Held<'a> {
        Held {
            turns: self,
            which,
            permit: Some(permit),
        }
    }

    /// Counts one more who waits, and says until when; none for who would wait in vain.
    fn join(&self, which: Which, kind: Kind, end: Instant) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let until = match kind {
            Kind::Single if self.may_hope(&state, which, now) => now.checked_add(self.patience),
            Kind::Single => return None,
            Kind::Bulk => None,
        };
        let queue = state.queue(which);
        if queue.waiting >= QUEUE_MAX {
            return None;
        }
        queue.waiting = queue.waiting.saturating_add(1);
        Some(until.map_or(end, |until| until.min(end)))
    }

    /// One more can expect a place within the patience.
    fn may_hope(&self, state: &State, which: Which, now: Instant) -> bool {
        let queue = match which {
            Which::Room => &state.room,
            Which::Share => &state.share,
        };
        // If nothing moves for longer than a question takes, that is what it takes now.
        let silence = now.saturating_duration_since(state.moved);
        let each = state.limit.typical().max(silence);
        // A reader that is expected and not there yet leaves places free that are not for everybody.
        let free = self.semaphore(which).available_permits();
        let ahead = queue.waiting.saturating_add(1).saturating_sub(free);
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        let at_once = u32::try_from(queue.size.max(1)).unwrap_or(u32::MAX);
        let expected = each
            .saturating_mul(ahead)
            .checked_div(at_once)
            .unwrap_or(Duration::MAX);
        queue.waiting < QUEUE_MAX && expected <= self.patience
    }

    const fn semaphore(&self, which: Which) -> &Semaphore {
        match which {
            Which::Room => &self.room,
            Which::Share => &self.share,
        }
    }

    /// As many permits as the limit says.
    fn resize(&self, state: &mut State) {
        let limit = state.limit.in_force();
        state.room.resize(&self.room, limit);
        state
            .share
            .resize(&self.share, limit.div_ceil(2).min(self.places.bulk).max(1));
    }
}

impl State {
    const fn queue(&mut self, which: Which) -> &mut Queue {
        match which {
            Which::Room => &mut self.room,
            Which::Share => &mut self.share,
        }
    }
}

impl Queue {
    fn resize(&mut self, semaphore: &Semaphore, size: usize) {
        if size >= self.size {
            let more = size.saturating_sub(self.size);
            let kept = more.min(self.owed);
            self.owed = self.owed.saturating_sub(kept);
            semaphore.add_permits(more.saturating_sub(kept));
        } else {
            let less = self.size.saturating_sub(size);
            let gone = semaphore.forget_permits(less);
            self.owed = self.owed.saturating_add(less.saturating_sub(gone));
        }
        self.size = size;
    }
}

impl Place<'_> {
    /// Records the time of the question. Not to be called for what was not asked; where it never is, the limit stands still.
    pub(super) async fn told(&self, took: Duration, timed_out: bool) {
        let ready = Instant::now();
        tokio::task::yield_now().await;
        let now = Instant::now();
        let sample = Sample {
            begun: self.begun,
            took,
            timed_out,
            lag: now.saturating_duration_since(ready),
        };
        let mut state = self.turns.state.lock();
        let busy = state.busy;
        state.limit.told(sample, busy, now);
        self.turns.resize(&mut state);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.turns.state.lock();
        state.busy = state.busy.saturating_sub(1);
        state.moved = now;
        let busy = state.busy;
        state.limit.ended(busy, now);
        self.turns.resize(&mut state);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let mut state = self.turns.state.lock();
        let queue = state.queue(self.which);
        if queue.owed > 0 {
            queue.owed = queue.owed.saturating_sub(1);
            permit.forget();
        } else {
            drop(permit);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        let queue = state.queue(self.which);
        queue.waiting = queue.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
