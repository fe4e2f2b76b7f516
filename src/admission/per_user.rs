//! Per-user concurrency limit for source loads, so that one hot user (with `no-cache`, with a `min_seq`, or because it changes all
//! the time) cannot starve the others.
//!
//! **Invariants.** At most [`PERMITS_MAX`] loads of one user are with the source, or wait for a permit there. A user without loads
//! is not remembered.
//!
//! **Cancellation.** A waiting load may be dropped at any time.
//!
//! **Limits.** [`WAITING_MAX`] loads of one user wait; further ones are shed.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::domain::UserId;

/// Loads of one user at a time: one under way, and one that began after the last change.
const PERMITS_MAX: usize = 2;
/// Loads of one user that wait.
const WAITING_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct PerUserLimit(Mutex<HashMap<UserId, UserState>>);

#[derive(Debug)]
struct UserState {
    permits: Arc<Semaphore>,
    /// Loads that run or wait.
    loads: usize,
}

/// The right to run one load of the user; it returns when dropped.
#[derive(Debug)]
pub struct UserPermit<'a> {
    _permit: OwnedSemaphorePermit,
    _slot: UserSlot<'a>,
}

#[derive(Debug)]
struct UserSlot<'a> {
    limit: &'a PerUserLimit,
    user: UserId,
}

impl PerUserLimit {
    /// Waits until `end` for the user's permit; none when the load is shed.
    pub async fn acquire_permit(&self, user: UserId, end: Instant) -> Option<UserPermit<'_>> {
        let (permits, slot) = self.enter_user(user)?;
        let permit = tokio::time::timeout_at(end, permits.acquire_owned()).await;
        Some(UserPermit {
            _permit: permit.ok()?.ok()?,
            _slot: slot,
        })
    }

    /// One more load of this user would be shed.
    pub fn is_full(&self, user: UserId) -> bool {
        let users = self.0.lock();
        users.get(&user).is_some_and(|user| user.loads >= LOADS_MAX)
    }

    fn enter_user(&self, user: UserId) -> Option<(Arc<Semaphore>, UserSlot<'_>)> {
        let mut users = self.0.lock();
        let state = users.entry(user).or_insert_with(|| UserState {
            permits: Arc::new(Semaphore::new(PERMITS_MAX)),
            loads: 0,
        });
        if state.loads >= LOADS_MAX {
            return None;
        }
        state.loads = state.loads.saturating_add(1);
        Some((Arc::clone(&state.permits), UserSlot { limit: self, user }))
    }
}

const LOADS_MAX: usize = PERMITS_MAX + WAITING_MAX;

impl Drop for UserSlot<'_> {
    fn drop(&mut self) {
        let mut users = self.limit.0.lock();
        if let Some(state) = users.get_mut(&self.user) {
            state.loads = state.loads.saturating_sub(1);
            if state.loads == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_has_two_turns_and_a_bounded_queue_and_others_have_theirs() {
        let limit = PerUserLimit::default();
        let (hot, other) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let soon = Instant::now() + Duration::from_secs(1);
        let first = limit.acquire_permit(hot, soon).await.unwrap();
        let second = limit.acquire_permit(hot, soon).await.unwrap();
        assert!(
            limit.acquire_permit(hot, soon).await.is_none(),
            "the time is over"
        );
        assert!(limit.acquire_permit(other, soon).await.is_some());

        let later = Instant::now() + Duration::from_secs(1);
        let mut crowd: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(limit.acquire_permit(hot, later)))
            .collect();
        for waits in &mut crowd {
            assert!(futures::poll!(waits).is_pending());
        }
        assert!(limit.is_full(hot) && !limit.is_full(other));
        assert!(limit.acquire_permit(hot, later).await.is_none(), "at once");
        assert!(Instant::now() < later);
        drop(first);
        assert!(crowd.remove(0).await.is_some());
        drop((second, crowd));
        assert!(limit.0.lock().is_empty());
    }
}
