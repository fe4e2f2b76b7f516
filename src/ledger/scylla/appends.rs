//! Records that stand and are not in effect everywhere yet, as far as this instance knows.
//!
//! **Invariants.** A record is removed from the journal when each of its balances was announced. What this instance does not
//! know stays in the journal, and is finished by [`super::recovery`] here or elsewhere.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    journal::Tail,
    judge::{JudgedAnswer, LedgerRequest, StandingKey},
    record::JournalRecord,
};
use crate::{
    domain::{Notification, NotifiedChange},
    ledger::LedgerError,
};

/// Requests that wait, and removals.
const QUEUED_MAX: usize = 4_096;

/// A request, and the end of it that waits for the answer.
#[derive(Debug)]
pub(super) struct WaitingAppend {
    pub(super) request: LedgerRequest,
    pub(super) reply: oneshot::Sender<Result<JudgedAnswer, LedgerError>>,
}

/// Records under way.
#[derive(Debug)]
pub(super) struct Appends {
    waiting: mpsc::Sender<WaitingAppend>,
    removals: mpsc::Sender<i64>,
    pub(super) queues: tokio::sync::Mutex<Queues>,
    unannounced: Mutex<Unannounced>,
    /// When records of others were first seen.
    pub(super) seen: Mutex<BTreeMap<i64, Instant>>,
    removed: AtomicI64,
    lost_races: AtomicU64,
    /// A record was appended once, here or elsewhere.
    journal_used: AtomicBool,
}

/// The other ends, for the loops.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) waiting: mpsc::Receiver<WaitingAppend>,
    pub(super) removals: mpsc::Receiver<i64>,
}

#[derive(Debug, Default)]
struct Unannounced {
    /// The record that each balance belongs to.
    of_row: HashMap<StandingKey, i64>,
    records: HashMap<i64, Left>,
}

#[derive(Debug, Default)]
struct Left {
    /// Balances that were not announced yet.
    rows: usize,
    balances: Vec<Notification>,
    /// Records of others that were written before this one.
    after: Vec<i64>,
}

impl Default for Appends {
    fn default() -> Self {
        let (waiting, waiting_end) = mpsc::channel(QUEUED_MAX);
        let (removals, removals_end) = mpsc::channel(QUEUED_MAX);
        Self {
            waiting,
            removals,
            queues: tokio::sync::Mutex::new(Queues {
                waiting: waiting_end,
                removals: removals_end,
            }),
            unannounced: Mutex::default(),
            seen: Mutex::default(),
            removed: AtomicI64::new(0),
            lost_races: AtomicU64::new(0),
            journal_used: AtomicBool::new(false),
        }
    }
}

impl Appends {
    /// A request joins the next group; it waits for its place among those that wait.
    pub(super) async fn push_waiting(&self, waiting: WaitingAppend) -> Result<(), LedgerError> {
        let pushed = self.waiting.send(waiting).await;
        pushed.map_err(|_| LedgerError::unavailable("the writer has stopped"))
    }

    pub(super) fn lost_race(&self) {
        self.lost_races.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost_races(&self) -> u64 {
        self.lost_races.load(Ordering::Relaxed)
    }

    /// The tail of the journal was read.
    pub(super) fn note_tail(&self, tail: Tail) {
        if tail.position > 0 {
            self.journal_used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether transactions were ever written through the journal, as far as it was looked at.
    pub(super) fn is_journal_used(&self) -> bool {
        self.journal_used.load(Ordering::Relaxed)
    }

    /// All positions up to this one are known to be removed.
    pub(super) fn set_removed(&self, position: i64) {
        self.removed.store(position, Ordering::Relaxed);
    }

    /// The highest position up to which all are removed, behind this tail.
    pub(super) fn removed_up_to(&self, tail: Tail) -> i64 {
        let known = self.removed.load(Ordering::Relaxed);
        let newest = known.max(tail.removed);
        if newest > tail.position {
            tail.removed
        } else {
            newest
        }
    }

    /// A record stands at this position, and is to be announced.
    pub(super) fn take_record(&self, position: i64, record: &JournalRecord) {
        self.journal_used.store(true, Ordering::Relaxed);
        let mut unannounced = self.unannounced.lock();
        let balances: Vec<Notification> = record.notifications().collect();
        let mut rows = 0_usize;
        for key in balances.iter().filter_map(key_of) {
            if unannounced.of_row.insert(key, position) != Some(position) {
                rows = rows.saturating_add(1);
            }
        }
        let left = unannounced.records.entry(position).or_default();
        left.rows = left.rows.saturating_add(rows);
        left.balances = balances;
    }

    /// This record was judged by those of others, which were written for it.
    pub(super) fn judge_after(&self, position: i64, others: &[i64]) {
        if !others.is_empty() {
            let mut unannounced = self.unannounced.lock();
            let left = unannounced.records.entry(position).or_default();
            left.after.extend(others);
        }
    }

    /// Balances of others that have to be announced with these: without them a reader could see half of theirs.
    pub(super) fn announced_with(&self, balances: &[Notification]) -> Vec<Notification> {
        let unannounced = self.unannounced.lock();
        let keys = balances.iter().filter_map(key_of);
        let positions = keys.filter_map(|key| unannounced.of_row.get(&key));
        let mut others: Vec<i64> = positions
            .filter_map(|position| unannounced.records.get(position))
            .flat_map(|left| left.after.iter().copied())
            .collect();
        others.sort_unstable();
        others.dedup();
        let left = others
            .iter()
            .filter_map(|position| unannounced.records.get(position));
        left.flat_map(|left| left.balances.iter().copied())
            .collect()
    }

    /// Records up to this position were finished, by this instance or by others.
    pub(super) fn forget_up_to(&self, position: i64) {
        let mut unannounced = self.unannounced.lock();
        unannounced.of_row.retain(|_, of| *of > position);
        unannounced.records.retain(|of, _| *of > position);
    }

    /// These balances are in effect everywhere.
    pub(super) fn note_announced(&self, balances: &[Notification]) {
        let mut unannounced = self.unannounced.lock();
        for key in balances.iter().filter_map(key_of) {
            let Some(position) = unannounced.of_row.remove(&key) else {
                continue;
            };
            let Some(left) = unannounced.records.get_mut(&position) else {
                continue;
            };
            left.rows = left.rows.saturating_sub(1);
            if left.rows == 0 {
                unannounced.records.remove(&position);
                // Where there is no room, the record is left to recovery.
                let _ = self.removals.try_send(position);
            }
        }
    }
}

const fn key_of(notification: &Notification) -> Option<StandingKey> {
    match notification.said {
        NotifiedChange::Values { asset, seq, .. } => Some((notification.user, asset, seq)),
        NotifiedChange::Seq { .. } | NotifiedChange::Asset { .. } | NotifiedChange::User => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::Entry,
        ledger::scylla::record::{Item, RowToWrite},
    };

    fn record_of(rows: &[(i64, i64)]) -> JournalRecord {
        let row = |(user, seq): &(i64, i64)| {
            let json = serde_json::json!({"user_id": user, "asset_id": 1, "seq": seq, "avail": 1, "frozen": 0});
            RowToWrite {
                entry: Entry::parse_entry(&json.to_string()).unwrap(),
                stood: false,
            }
        };
        let rows = rows.iter().map(row).collect();
        JournalRecord {
            token: 1,
            items: vec![Item { claim: None, rows }],
        }
    }

    #[test]
    fn a_record_is_removed_when_each_of_its_balances_was_announced() {
        let appends = Appends::default();
        let (first, second) = (record_of(&[(1, 1), (2, 1)]), record_of(&[(1, 2)]));
        appends.take_record(7, &first);
        appends.take_record(8, &second);
        appends.judge_after(8, &[7]);
        let of = |record: &JournalRecord| record.notifications().collect::<Vec<_>>();
        assert_eq!(appends.announced_with(&of(&second)), of(&first));
        let mut queues = appends.queues.try_lock().unwrap();
        appends.note_announced(&of(&first)[..1]);
        assert!(queues.removals.try_recv().is_err());
        appends.note_announced(&of(&second));
        assert_eq!(queues.removals.try_recv().unwrap(), 8);
        appends.note_announced(&of(&first));
        assert_eq!(queues.removals.try_recv().unwrap(), 7);
        appends.take_record(9, &second);
        appends.forget_up_to(9);
        appends.note_announced(&of(&second));
        assert!(queues.removals.try_recv().is_err());
        assert!(appends.announced_with(&of(&first)).is_empty());
    }

    #[test]
    fn positions_of_an_emptied_journal_are_not_taken_for_removed() {
        let appends = Appends::default();
        appends.set_removed(50);
        let tail = |position| Tail {
            position,
            removed: 0,
        };
        assert!(!appends.is_journal_used());
        appends.note_tail(tail(0));
        assert!(!appends.is_journal_used());
        appends.note_tail(tail(1));
        assert!(appends.is_journal_used());
        assert_eq!(appends.removed_up_to(tail(60)), 50);
        assert_eq!(appends.removed_up_to(tail(2)), 0);
    }
}
