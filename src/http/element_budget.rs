//! A budget of list elements that all requests share: an element in work takes many times its bytes.
//!
//! **Invariants.** Reads and changes have a bound each, so that neither keeps the other out. A list that fits no more is
//! shed whole, before anything is done.
//!
//! **Limits.** [`USERS_MAX`] users and [`CHANGES_MAX`] notifications, entries or invalidations at once; some 100 MiB.
//!
//! **Deliberately absent**: a queue. A change whose client hung up runs to its end uncounted, within the request's deadline.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::failure::Failure;

/// A hundred batches of the greatest length.
const USERS_MAX: usize = 100_000;
/// Twenty requests of the greatest length.
const CHANGES_MAX: usize = 200_000;

/// The budgets of users and changes.
#[derive(Debug)]
pub(super) struct ElementBudget {
    users: Semaphore,
    changes: Semaphore,
}

impl ElementBudget {
    pub(super) fn new() -> Self {
        Self {
            users: Semaphore::new(USERS_MAX),
            changes: Semaphore::new(CHANGES_MAX),
        }
    }

    /// Reserves the budget of a batch read of `count` users.
    pub(super) fn reserve_users(&self, count: usize) -> Result<SemaphorePermit<'_>, Failure> {
        acquire_room(&self.users, count)
    }

    /// Reserves the budget of `count` changes.
    pub(super) fn reserve_changes(&self, count: usize) -> Result<SemaphorePermit<'_>, Failure> {
        acquire_room(&self.changes, count)
    }
}

fn acquire_room(semaphore: &Semaphore, count: usize) -> Result<SemaphorePermit<'_>, Failure> {
    let count = u32::try_from(count).map_err(|_| Failure::Shed)?;
    semaphore.try_acquire_many(count).map_err(|_| Failure::Shed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::json;

    #[test]
    fn elements_of_all_requests_are_bounded_and_reads_and_changes_apart() {
        let elements = ElementBudget::new();
        let batch = json::BATCH_MAX;
        let mut held = Vec::new();
        while let Ok(room) = elements.reserve_users(batch) {
            held.push(room);
        }
        assert_eq!(held.len(), USERS_MAX / batch);
        assert!(matches!(elements.reserve_users(1), Err(Failure::Shed)));
        assert!(elements.reserve_users(0).is_ok());
        assert!(elements.reserve_changes(json::NOTIFICATIONS_MAX).is_ok());
        held.pop();
        assert!(elements.reserve_users(batch).is_ok());
    }
}
