//! Counts reads by user, for the list of users that are loaded after a start.
//!
//! A hit among a thread's copies counts nothing. One in 256 of them goes to the map and counts for 256; every other read counts for
//! itself. So the counts are right on average, and a usual hit costs nothing more.
//!
//! **Invariants.** No read waits: a stripe that is in use loses the count.
//!
//! **Limits.** [`STRIPES`] times [`USERS_MAX`] users between two calls of [`MostRead::take_counts`]; further ones are not counted.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::Reader;
use crate::{
    config::{Settings, WarmOnStart},
    domain::UserId,
};

const STRIPES: usize = 16;
/// Users in a stripe.
const USERS_MAX: usize = 2_048;
/// Users whose counts wait for the next call of [`MostRead::take_counts`]: half of the room, so that others are counted too.
const WAITING_MAX: usize = STRIPES * USERS_MAX / 2;

/// Counts of reads by user.
#[derive(Debug, Default)]
pub(super) struct MostRead {
    /// Empty if reads are not counted.
    stripes: Vec<Mutex<HashMap<UserId, u32>>>,
}

impl MostRead {
    /// The counts are for other instances, and for the next life of this one: without Redis there are none.
    pub(super) fn new(settings: &Settings) -> Self {
        let on = settings.memory.warm_on_start != WarmOnStart::Off;
        Self::when_counting(on && !settings.redis.url.is_empty())
    }

    fn when_counting(on: bool) -> Self {
        let stripes = if on { STRIPES } else { 0 };
        Self {
            stripes: (0..stripes).map(|_| Mutex::default()).collect(),
        }
    }

    pub(super) const fn is_off(&self) -> bool {
        self.stripes.is_empty()
    }

    pub(super) fn count_reads(&self, user: UserId, reads: u32) {
        let stripes = u64::try_from(self.stripes.len()).unwrap_or(0);
        let at = user.get().cast_unsigned().checked_rem(stripes);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let Some(stripe) = at.and_then(|at| self.stripes.get(at)) else {
            return;
        };
        let Some(mut counts) = stripe.try_lock() else {
            return;
        };
        if let Some(count) = counts.get_mut(&user) {
            *count = count.saturating_add(reads);
        } else if counts.len() < USERS_MAX {
            counts.insert(user, reads);
        }
    }

    /// Takes the counts of `users_max` users, the highest first; those of [`WAITING_MAX`] more stay, the rest is dropped.
    pub(super) fn take_counts(&self, users_max: usize) -> Vec<(UserId, u32)> {
        let taken = self
            .stripes
            .iter()
            .flat_map(|stripe| std::mem::take(&mut *stripe.lock()));
        let mut all: Vec<(UserId, u32)> = taken.collect();
        all.sort_unstable_by_key(|(user, reads)| (std::cmp::Reverse(*reads), *user));
        let waiting = all.split_off(users_max.min(all.len()));
        for (user, reads) in waiting.into_iter().take(WAITING_MAX) {
            self.count_reads(user, reads);
        }
        all
    }
}

impl Reader {
    /// Takes the reads by user since the last call, the most read first, for [`Redis::add_reads`](crate::cache::redis::Redis::add_reads).
    pub fn take_most_read(&self, users_max: usize) -> Vec<(UserId, u32)> {
        self.recorder.most_read.take_counts(users_max)
    }

    /// The reads that a read of the user stands for which no hot copy served.
    pub(super) fn reads_behind(&self, user: UserId) -> u32 {
        if self.recorder.most_read.is_off() {
            return 0;
        }
        let generation = self.memory.changes.generation();
        self.memory.memory.reads_behind(user, generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn the_most_read_come_first_and_are_taken_once() {
        let counts = MostRead::when_counting(true);
        for id in 1..=40 {
            (0..id).for_each(|_| counts.count_reads(test_user(id), 1));
        }
        counts.count_reads(test_user(3), 256);
        let taken = counts.take_counts(3);
        assert_eq!(
            taken,
            [
                (test_user(3), 259),
                (test_user(40), 40),
                (test_user(39), 39)
            ]
        );
        assert_eq!(counts.take_counts(1), [(test_user(38), 38)]);
        assert_eq!(counts.take_counts(usize::MAX).len(), 36);
        assert!(counts.take_counts(3).is_empty());
    }

    #[test]
    fn users_without_room_are_not_counted_and_the_others_still_are() {
        let counts = MostRead::when_counting(true);
        let most = i64::try_from(STRIPES * USERS_MAX).unwrap();
        (1..=most * 2).for_each(|id| counts.count_reads(test_user(id), 1));
        counts.count_reads(test_user(1), 5);
        let taken = counts.take_counts(usize::MAX);
        assert_eq!(
            (taken.len(), taken[0]),
            (STRIPES * USERS_MAX, (test_user(1), 6))
        );
        (1..=most).for_each(|id| counts.count_reads(test_user(id), 1));
        assert_eq!(counts.take_counts(1).len(), 1);
        assert_eq!(counts.take_counts(usize::MAX).len(), WAITING_MAX);
    }

    #[test]
    fn nothing_is_counted_where_it_is_off() {
        let counts = MostRead::when_counting(false);
        counts.count_reads(test_user(1), 1);
        assert!(counts.is_off() && counts.take_counts(9).is_empty());
    }
}
