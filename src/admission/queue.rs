//! Permits under an adaptive concurrency limit, a bounded FIFO queue, and immediate shedding when the expected wait exceeds a quarter
//! of the deadline. Rejecting costs nearly as much as answering, so the expected wait decides and not the length of the queue.
//!
//! Batches ([`LoadClass::Batch`]) have half of the permits at most, and a queue of their own, so that they do not starve single reads.
//! A batch is admitted when it begins ([`PermitQueue::is_closed`]); its loads then wait to their end.
//!
//! **Invariants.** The permits in use never exceed the limit; when the limit falls, the holders keep theirs. Each permit and each
//! reservation returns when it is dropped. `waiting` counts the callers that wait.
//!
//! **Cancellation, limits.** A waiting caller may be dropped at any time. [`QUEUE_MAX`] callers wait in each queue. There are no
//! priorities among single reads; [`super::per_user`] bounds a user.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::adaptive_limit::{AdaptiveLimit, LimitRange, LoadSample};

/// The most callers that wait in one queue.
const QUEUE_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadClass {
    /// A read of one user.
    Single,
    /// A user of a batch, or of a warm-up.
    Batch,
}

#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    pub bounds: LimitRange,
    /// Permits that batches may hold, if half of the limit is more.
    pub bulk: usize,
}

#[derive(Debug)]
pub struct PermitQueue {
    all: Semaphore,
    bulk: Semaphore,
    limits: QueueLimits,
    patience: Duration,
    state: Mutex<QueueState>,
}

#[derive(Debug)]
struct QueueState {
    limit: AdaptiveLimit,
    busy: usize,
    /// When a permit was last issued or returned.
    moved: Instant,
    all: PoolState,
    bulk: PoolState,
}

/// The size of one of the two semaphores, and its waiting callers.
#[derive(Debug, Default)]
struct PoolState {
    /// Permits that should exist, free or in use.
    size: usize,
    /// Permits above the size, removed when they return.
    owed: usize,
    waiting: usize,
}

#[derive(Debug, Clone, Copy)]
enum Pool {
    All,
    Bulk,
}

/// The right to run one load; it returns when dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    queue: &'a PermitQueue,
    begun: Instant,
    _all: PoolPermit<'a>,
    _bulk: Option<PoolPermit<'a>>,
}

#[derive(Debug)]
struct PoolPermit<'a> {
    queue: &'a PermitQueue,
    pool: Pool,
    permit: Option<SemaphorePermit<'a>>,
}

/// A caller counted as waiting until this is dropped.
#[derive(Debug)]
pub struct Reservation<'a> {
    queue: &'a PermitQueue,
    pool: Pool,
}

impl PermitQueue {
    /// An empty queue.
    pub fn new(limits: QueueLimits, patience: Duration, now: Instant) -> Self {
        let queue = Self {
            all: Semaphore::new(0),
            bulk: Semaphore::new(0),
            limits,
            patience,
            state: Mutex::new(QueueState {
                limit: AdaptiveLimit::new(limits.bounds, now),
                busy: 0,
                moved: now,
                all: PoolState::default(),
                bulk: PoolState::default(),
            }),
        };
        queue.resize_pools(&mut queue.state.lock());
        queue
    }

    /// Waits for a permit until `end`, and no longer than the patience; none when the caller is shed.
    pub async fn acquire_permit(&self, class: LoadClass, end: Instant) -> Option<Permit<'_>> {
        let bulk = match class {
            LoadClass::Single => None,
            LoadClass::Batch => Some(self.acquire_from(Pool::Bulk, class, end).await?),
        };
        let all = self.acquire_from(Pool::All, class, end).await?;
        Some(self.issue_permit(all, bulk))
    }

    /// Reserves a place in the queue before work that would be wasted without a permit; none when the caller is shed. A reservation
    /// counts as waiting, so a crowd that prepares at the same time is admitted only as far as permits can be expected.
    pub fn reserve_place(&self) -> Option<Reservation<'_>> {
        let mut state = self.state.lock();
        if !self.can_expect_permit(&state, Pool::All, Instant::now()) {
            return None;
        }
        state.all.waiting = state.all.waiting.saturating_add(1);
        Some(Reservation {
            queue: self,
            pool: Pool::All,
        })
    }

    /// Waits for the permit of a reservation, as [`Self::acquire_permit`] does.
    pub async fn take_reserved(
        &self,
        reservation: Reservation<'_>,
        end: Instant,
    ) -> Option<Permit<'_>> {
        let patient = Instant::now().checked_add(self.patience);
        let until = patient.map_or(end, |patient| patient.min(end));
        let all = self.wait_for(Pool::All, until).await;
        drop(reservation);
        Some(self.issue_permit(all?, None))
    }

    fn issue_permit<'a>(&'a self, all: PoolPermit<'a>, bulk: Option<PoolPermit<'a>>) -> Permit<'a> {
        let begun = Instant::now();
        let mut state = self.state.lock();
        state.busy = state.busy.saturating_add(1);
        state.moved = begun;
        let busy = state.busy;
        state.limit.note_begin(busy);
        drop(state);
        Permit {
            queue: self,
            begun,
            _all: all,
            _bulk: bulk,
        }
    }

    /// A caller of this class would be shed now.
    pub fn is_closed(&self, class: LoadClass) -> bool {
        let pool = match class {
            LoadClass::Single => Pool::All,
            LoadClass::Batch => Pool::Bulk,
        };
        if self.pool_semaphore(pool).available_permits() > 0 {
            return false;
        }
        let state = self.state.lock();
        !self.can_expect_permit(&state, pool, Instant::now())
    }

    /// Less than half of the permits are in use.
    pub fn has_spare_half(&self) -> bool {
        let state = self.state.lock();
        state.busy.saturating_mul(2) < state.limit.current_limit()
    }

    /// The limit in force, and the callers that wait.
    pub fn current_usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        let waiting = state.all.waiting.saturating_add(state.bulk.waiting);
        (state.limit.current_limit(), waiting)
    }

    async fn acquire_from(
        &self,
        pool: Pool,
        class: LoadClass,
        end: Instant,
    ) -> Option<PoolPermit<'_>> {
        if let Ok(permit) = self.pool_semaphore(pool).try_acquire() {
            return Some(self.pool_permit(pool, permit));
        }
        let until = self.join_waiters(pool, class, end)?;
        let _waiting = Reservation { queue: self, pool };
        self.wait_for(pool, until).await
    }

    async fn wait_for(&self, pool: Pool, until: Instant) -> Option<PoolPermit<'_>> {
        let permit = tokio::time::timeout_at(until, self.pool_semaphore(pool).acquire()).await;
        Some(self.pool_permit(pool, permit.ok()?.ok()?))
    }

    const fn pool_permit<'a>(&'a self, pool: Pool, permit: SemaphorePermit<'a>) -> PoolPermit<'a> {
        PoolPermit {
            queue: self,
            pool,
            permit: Some(permit),
        }
    }

    /// Counts a caller as waiting and returns until when; none when it is shed.
    fn join_waiters(&self, pool: Pool, class: LoadClass, end: Instant) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let until = match class {
            LoadClass::Single if self.can_expect_permit(&state, pool, now) => {
                now.checked_add(self.patience)
            }
            LoadClass::Single => return None,
            LoadClass::Batch => None,
        };
        let pool_state = state.pool_state(pool);
        if pool_state.waiting >= QUEUE_MAX {
            return None;
        }
        pool_state.waiting = pool_state.waiting.saturating_add(1);
        Some(until.map_or(end, |until| until.min(end)))
    }

    /// One more caller can expect a permit within the patience.
    fn can_expect_permit(&self, state: &QueueState, pool: Pool, now: Instant) -> bool {
        let pool_state = match pool {
            Pool::All => &state.all,
            Pool::Bulk => &state.bulk,
        };
        // If no permit moved for longer than a load takes, a load takes that long now.
        let silence = now.saturating_duration_since(state.moved);
        let each = state.limit.typical_latency().max(silence);
        // Reserved permits may still be free: they are not for this caller.
        let free = self.pool_semaphore(pool).available_permits();
        let ahead = pool_state.waiting.saturating_add(1).saturating_sub(free);
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        let at_once = u32::try_from(pool_state.size.max(1)).unwrap_or(u32::MAX);
        let expected = each
            .saturating_mul(ahead)
            .checked_div(at_once)
            .unwrap_or(Duration::MAX);
        pool_state.waiting < QUEUE_MAX && expected <= self.patience
    }

    const fn pool_semaphore(&self, pool: Pool) -> &Semaphore {
        match pool {
            Pool::All => &self.all,
            Pool::Bulk => &self.bulk,
        }
    }

    /// Sizes both semaphores by the limit.
    fn resize_pools(&self, state: &mut QueueState) {
        let limit = state.limit.current_limit();
        state.all.resize_pool(&self.all, limit);
        state
            .bulk
            .resize_pool(&self.bulk, limit.div_ceil(2).min(self.limits.bulk).max(1));
    }
}

impl QueueState {
    const fn pool_state(&mut self, pool: Pool) -> &mut PoolState {
        match pool {
            Pool::All => &mut self.all,
            Pool::Bulk => &mut self.bulk,
        }
    }
}

impl PoolState {
    fn resize_pool(&mut self, semaphore: &Semaphore, size: usize) {
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

impl Permit<'_> {
    /// Feeds the limit with the latency of a load that was sent. Without samples the limit does not move.
    pub async fn record_sample(&self, took: Duration, timed_out: bool) {
        let ready = Instant::now();
        tokio::task::yield_now().await;
        let now = Instant::now();
        let sample = LoadSample {
            begun: self.begun,
            took,
            timed_out,
            lag: now.saturating_duration_since(ready),
        };
        let mut state = self.queue.state.lock();
        let busy = state.busy;
        state.limit.record_sample(sample, busy, now);
        self.queue.resize_pools(&mut state);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.queue.state.lock();
        state.busy = state.busy.saturating_sub(1);
        state.moved = now;
        let busy = state.busy;
        state.limit.note_end(busy, now);
        self.queue.resize_pools(&mut state);
    }
}

impl Drop for PoolPermit<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let mut state = self.queue.state.lock();
        let pool_state = state.pool_state(self.pool);
        if pool_state.owed > 0 {
            pool_state.owed = pool_state.owed.saturating_sub(1);
            permit.forget();
        } else {
            drop(permit);
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        let pool_state = state.pool_state(self.pool);
        pool_state.waiting = pool_state.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
