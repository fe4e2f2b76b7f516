//! The locks under which entries change, and how often what stands under each was changed.
//!
//! **Invariants.** A version is odd while a change under its lock is under way, and another even one afterwards. A reader that
//! finds the same even version before and after it copied an entry has the entry as it was at that version.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::domain::UserId;

/// Changes at once, of users that share no lock. A change takes about a microsecond.
const STRIPES: usize = 1024;

#[derive(Default)]
struct Stripe {
    lock: Mutex<()>,
    version: AtomicU64,
}

pub(super) struct Stripes(Vec<Stripe>);

/// A change of the entries under a stripe, under way.
pub(super) struct Changing<'a> {
    version: &'a AtomicU64,
    _locked: MutexGuard<'a, ()>,
}

impl Default for Stripes {
    fn default() -> Self {
        Self(
            std::iter::repeat_with(Stripe::default)
                .take(STRIPES)
                .collect(),
        )
    }
}

impl Stripes {
    /// Locks the user's stripe for a change. Every user has a stripe, so none is never returned.
    pub(super) fn lock_stripe(&self, user: UserId) -> Option<Changing<'_>> {
        let Stripe { lock, version } = self.stripe_of(user)?;
        let locked = lock.lock();
        version.fetch_add(1, Ordering::SeqCst);
        Some(Changing {
            version,
            _locked: locked,
        })
    }

    /// The version, where nothing is being changed.
    pub(super) fn stable_version(&self, user: UserId) -> Option<u64> {
        let version = self.stripe_of(user)?.version.load(Ordering::SeqCst);
        (version & 1 == 0).then_some(version)
    }

    fn stripe_of(&self, user: UserId) -> Option<&Stripe> {
        self.0.get(user.part_of(STRIPES))
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.version.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_version_is_hidden_during_a_change_and_another_one_after_it() {
        let stripes = Stripes::default();
        let user = |id| UserId::new(id).unwrap();
        let before = stripes.stable_version(user(1)).unwrap();
        let changing = stripes.lock_stripe(user(1));
        assert_eq!(stripes.stable_version(user(1)), None);
        assert!(stripes.stable_version(user(2)).is_some(), "another stripe");
        drop(changing);
        let after = stripes.stable_version(user(1)).unwrap();
        assert!(after > before);
        let of = |id: i64| user(id).part_of(STRIPES);
        let beside = (2..1_000_000).find(|id| of(*id) == of(1)).unwrap();
        assert_eq!(
            stripes.stable_version(user(beside)),
            Some(after),
            "the same stripe"
        );
    }

    #[test]
    fn users_whose_ids_end_alike_share_no_more_stripes_than_others() {
        for step in [1, 1 << 4, 1 << 10, 1 << 20, 1 << 32, 1 << 40] {
            let users = (1..=2_048_i64).map(|number| UserId::new(number * step).unwrap());
            let used: HashSet<_> = users.map(|user| user.part_of(STRIPES)).collect();
            assert!(used.len() > STRIPES / 2, "{step}: {}", used.len());
        }
    }
}
