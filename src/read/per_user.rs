//! One user's part of the source: whoever asks for the same user again and again (with `no-cache`, with a `min_seq`, or because
//! the user changes all the time) keeps nobody else out.
//!
//! **Invariants.** Of one user at most [`OWN_MAX`] questions are with the source, or wait for a place there. A user with
//! none is not remembered.
//!
//! **Cancellation.** A waiting reader may be dropped at any time.
//!
//! **Limits.** [`WAITING_MAX`] wait for their user's turn; more are sent away.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::domain::UserId;

/// Questions of one user at a time: one that is asked, and one that began after the last change.
const OWN_MAX: usize = 2;
/// Questions of one user that wait for that.
const WAITING_MAX: usize = 64;

/// Whose questions are under way.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<HashMap<UserId, User>>);

#[derive(Debug)]
struct User {
    room: Arc<Semaphore>,
    /// The readers that have a turn or wait for one.
    here: usize,
}

/// A turn. Dropped, it is the next one's.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _permit: OwnedSemaphorePermit,
    _here: Here<'a>,
}

#[derive(Debug)]
struct Here<'a> {
    own: &'a Own,
    user: UserId,
}

impl Own {
    /// This user's turn, if it comes before `end`.
    pub(super) async fn take(&self, user: UserId, end: Instant) -> Option<Turn<'_>> {
        let (room, here) = self.enter(user)?;
        let permit = tokio::time::timeout_at(end, room.acquire_owned()).await;
        Some(Turn {
            _permit: permit.ok()?.ok()?,
            _here: here,
        })
    }

    /// One more of this user would be sent away.
    pub(super) fn is_full(&self, user: UserId) -> bool {
        let users = self.0.lock();
        users.get(&user).is_some_and(|user| user.here >= MOST)
    }

    fn enter(&self, user: UserId) -> Option<(Arc<Semaphore>, Here<'_>)> {
        let mut users = self.0.lock();
        let one = users.entry(user).or_insert_with(|| User {
            room: Arc::new(Semaphore::new(OWN_MAX)),
            here: 0,
        });
        if one.here >= MOST {
            return None;
        }
        one.here = one.here.saturating_add(1);
        Some((Arc::clone(&one.room), Here { own: self, user }))
    }
}

const MOST: usize = OWN_MAX + WAITING_MAX;

impl Drop for Here<'_> {
    fn drop(&mut self) {
        let mut users = self.own.0.lock();
        if let Some(one) = users.get_mut(&self.user) {
            one.here = one.here.saturating_sub(1);
            if one.here == 0 {
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
        let own = Own::default();
        let (hot, other) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let soon = Instant::now() + Duration::from_secs(1);
        let first = own.take(hot, soon).await.unwrap();
        let second = own.take(hot, soon).await.unwrap();
        assert!(own.take(hot, soon).await.is_none(), "the time is over");
        assert!(own.take(other, soon).await.is_some());

        let later = Instant::now() + Duration::from_secs(1);
        let mut crowd: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(own.take(hot, later)))
            .collect();
        for waits in &mut crowd {
            assert!(futures::poll!(waits).is_pending());
        }
        assert!(own.is_full(hot) && !own.is_full(other));
        assert!(own.take(hot, later).await.is_none(), "at once");
        assert!(Instant::now() < later);
        drop(first);
        assert!(crowd.remove(0).await.is_some());
        drop((second, crowd));
        assert!(own.0.lock().is_empty());
    }
}
