//! When rows were written: the file does not say, and `created_at` is what clients say.
//!
//! **Invariants.** Never too early: a row of which nothing is remembered was written before the oldest moment from which
//! everything is. A row that was written again was written then.
//!
//! **Limits.** [`REMEMBERED_MAX`] rows in each of two generations, the older one forgotten when the younger is full;
//! nothing over a restart.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::rows::{LedgerKey, key_of};
use crate::domain::{Entry, UnixMillis};

const REMEMBERED_MAX: usize = 32_768;

/// The remembered times.
#[derive(Debug)]
pub(super) struct RowTimes(Mutex<TimeGenerations>);

#[derive(Debug)]
struct TimeGenerations {
    young: HashMap<LedgerKey, UnixMillis>,
    old: HashMap<LedgerKey, UnixMillis>,
    /// When the younger one began.
    since: UnixMillis,
    /// Whatever is in neither was written before.
    before: UnixMillis,
}

impl RowTimes {
    /// The times of a file that is opened now: all its rows were written before.
    pub(super) fn opened_at(now: UnixMillis) -> Self {
        Self(Mutex::new(TimeGenerations {
            young: HashMap::new(),
            old: HashMap::new(),
            since: now,
            before: now,
        }))
    }

    pub(super) fn note_written(&self, entries: &[Entry], now: UnixMillis) {
        let mut both = self.0.lock();
        for entry in entries {
            if both.young.len() >= REMEMBERED_MAX {
                both.old = std::mem::take(&mut both.young);
                both.before = both.since;
                both.since = now;
            }
            let key = key_of(entry);
            both.old.remove(&key);
            both.young.insert(key, now);
        }
    }

    /// When that row was written, or a moment before which it was.
    pub(super) fn time_of(&self, key: LedgerKey) -> UnixMillis {
        let both = self.0.lock();
        let remembered = both.young.get(&key).or_else(|| both.old.get(&key));
        remembered.copied().unwrap_or(both.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries_of(seqs: std::ops::Range<i64>) -> Vec<Entry> {
        let entry = |seq| {
            let json = format!(r#"{{"user_id":1,"asset_id":1,"seq":{seq},"avail":1,"frozen":0}}"#);
            Entry::parse_entry(&json).unwrap()
        };
        seqs.map(entry).collect()
    }

    #[test]
    fn what_is_forgotten_was_written_before_everything_that_is_not() {
        let half = i64::try_from(REMEMBERED_MAX / 2).unwrap();
        let times = RowTimes::opened_at(UnixMillis(0));
        assert_eq!(
            times.time_of((1, 1, 1)),
            UnixMillis(0),
            "before it was opened"
        );
        for turn in 0..6 {
            let rows = entries_of(1 + turn * half..1 + (turn + 1) * half);
            times.note_written(&rows, UnixMillis(100 + turn));
        }
        // Three generations of two turns each: the first is forgotten.
        let of_turn = |turn: i64| times.time_of((1, 1, 1 + turn * half)).0;
        assert_eq!([2, 3, 4, 5].map(of_turn), [102, 103, 104, 105]);
        assert_eq!(
            of_turn(0),
            102,
            "not told too early: it was written before that"
        );
        times.note_written(&entries_of(1..2), UnixMillis(200));
        assert_eq!(of_turn(0), 200);
    }
}
