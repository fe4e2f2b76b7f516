//! Records that stand and are not in effect everywhere yet, as far as this instance knows.
//!
//! **Invariants.** A record is removed from the journal when each of its balances was announced. No balance is announced before those
//! of its user that stand earlier (P10). What this instance does not know stays in the journal, and is finished by
//! [`super::recovery`] here or elsewhere.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    journal::JournalTail,
    judge::{JudgedAnswer, LedgerRequest, StandingKey},
    record::JournalRecord,
    recovery::RecordAges,
};
use crate::{
    domain::{AssetId, Notification, NotifiedChange, Seq, UserId},
    ledger::LedgerError,
};

/// Requests that wait, and removals.
const QUEUED_MAX: usize = 4_096;

/// A request with the channel for its answer.
#[derive(Debug)]
pub(super) struct WaitingAppend {
    pub(super) request: LedgerRequest,
    pub(super) reply: oneshot::Sender<Result<JudgedAnswer, LedgerError>>,
}

/// The queue of requests, and the records that are not announced yet.
#[derive(Debug)]
pub(super) struct Appends {
    waiting: mpsc::Sender<WaitingAppend>,
    removals: mpsc::Sender<i64>,
    pub(super) queues: tokio::sync::Mutex<Queues>,
    unannounced: Mutex<Unannounced>,
    /// How long records stand, as far as recovery saw them.
    pub(super) ages: Mutex<RecordAges>,
    removed: AtomicI64,
    lost_races: AtomicU64,
    /// A record was appended once, here or elsewhere.
    journal_used: AtomicBool,
}

/// The receiving ends of the channels, for the writer's loops.
#[derive(Debug)]
pub(super) struct Queues {
    pub(super) waiting: mpsc::Receiver<WaitingAppend>,
    pub(super) removals: mpsc::Receiver<i64>,
}

/// The balances of one user, each with the position of its record.
type UnannouncedRows = HashMap<(AssetId, Seq), (i64, Notification)>;

#[derive(Debug, Default)]
struct Unannounced {
    of_user: HashMap<UserId, UnannouncedRows>,
    /// Balances of each record that were not announced yet.
    rows_left: HashMap<i64, usize>,
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
            ages: Mutex::default(),
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
    pub(super) fn note_tail(&self, tail: JournalTail) {
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
    pub(super) fn removed_up_to(&self, tail: JournalTail) -> i64 {
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
        let mut rows = 0_usize;
        for balance in record.notifications() {
            let Some((user, asset, seq)) = key_of(&balance) else {
                continue;
            };
            let of_user = unannounced.of_user.entry(user).or_default();
            let before = of_user.insert((asset, seq), (position, balance));
            if before.map(|(of, _)| of) != Some(position) {
                rows = rows.saturating_add(1);
            }
        }
        let left = unannounced.rows_left.entry(position).or_default();
        *left = left.saturating_add(rows);
    }

    /// Balances of the same users that have to be announced with these: the newest of each asset that stands in the same record or
    /// before it. Without them a reader could see half of another transaction, whose own announcement comes later or never.
    pub(super) fn announced_with(&self, balances: &[Notification]) -> Vec<Notification> {
        let unannounced = self.unannounced.lock();
        let mut newest: HashMap<UserId, i64> = HashMap::new();
        for (user, asset, seq) in balances.iter().filter_map(key_of) {
            let of_user = unannounced.of_user.get(&user);
            if let Some((position, _)) = of_user.and_then(|rows| rows.get(&(asset, seq))) {
                let newest = newest.entry(user).or_default();
                *newest = (*newest).max(*position);
            }
        }
        let mut rows: HashMap<(UserId, AssetId), (Seq, Notification)> = HashMap::new();
        for (user, newest) in &newest {
            let of_user = unannounced.of_user.get(user).into_iter().flatten();
            for ((asset, seq), (position, balance)) in of_user {
                if position <= newest {
                    let row = rows.entry((*user, *asset)).or_insert((*seq, *balance));
                    if row.0 < *seq {
                        *row = (*seq, *balance);
                    }
                }
            }
        }
        let own: HashSet<StandingKey> = balances.iter().filter_map(key_of).collect();
        let others = rows.into_values().map(|(_, balance)| balance);
        others
            .filter(|balance| key_of(balance).is_none_or(|key| !own.contains(&key)))
            .collect()
    }

    /// Records up to this position were finished, by this instance or by others.
    pub(super) fn forget_up_to(&self, position: i64) {
        let mut unannounced = self.unannounced.lock();
        unannounced.rows_left.retain(|of, _| *of > position);
        unannounced.of_user.retain(|_, rows| {
            rows.retain(|_, (of, _)| *of > position);
            !rows.is_empty()
        });
    }

    /// Notes that these balances took effect on every instance.
    pub(super) fn note_announced(&self, balances: &[Notification]) {
        let mut unannounced = self.unannounced.lock();
        for (user, asset, seq) in balances.iter().filter_map(key_of) {
            let Some(position) = unannounced.remove_row(user, (asset, seq)) else {
                continue;
            };
            let Some(left) = unannounced.rows_left.get_mut(&position) else {
                continue;
            };
            *left = left.saturating_sub(1);
            if *left == 0 {
                unannounced.rows_left.remove(&position);
                // Where there is no room, the record is left to recovery.
                let _ = self.removals.try_send(position);
            }
        }
    }
}

impl Unannounced {
    /// Removes a balance; the record that it belongs to.
    fn remove_row(&mut self, user: UserId, row: (AssetId, Seq)) -> Option<i64> {
        let rows = self.of_user.get_mut(&user)?;
        let (position, _) = rows.remove(&row)?;
        if rows.is_empty() {
            self.of_user.remove(&user);
        }
        Some(position)
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

    fn record_of(rows: &[(i64, i32, i64)]) -> JournalRecord {
        let row = |(user, asset, seq): &(i64, i32, i64)| {
            let json = serde_json::json!({"user_id": user, "asset_id": asset, "seq": seq, "avail": 1, "frozen": 0});
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

    fn balances_of(record: &JournalRecord) -> Vec<Notification> {
        record.notifications().collect()
    }

    #[test]
    fn a_record_is_removed_when_each_of_its_balances_was_announced() {
        let appends = Appends::default();
        let (first, second) = (record_of(&[(1, 1, 1), (2, 1, 1)]), record_of(&[(1, 1, 2)]));
        appends.take_record(7, &first);
        appends.take_record(8, &second);
        let mut queues = appends.queues.try_lock().unwrap();
        appends.note_announced(&balances_of(&first)[..1]);
        assert!(queues.removals.try_recv().is_err());
        appends.note_announced(&balances_of(&second));
        assert_eq!(queues.removals.try_recv().unwrap(), 8);
        appends.note_announced(&balances_of(&first));
        assert_eq!(queues.removals.try_recv().unwrap(), 7);
        appends.take_record(9, &second);
        appends.forget_up_to(9);
        appends.note_announced(&balances_of(&second));
        assert!(queues.removals.try_recv().is_err());
        assert!(appends.announced_with(&balances_of(&first)).is_empty());
    }

    #[test]
    fn balances_are_announced_with_all_of_the_same_users_that_stand_before_them() {
        let appends = Appends::default();
        let records = [
            record_of(&[(1, 1, 1), (1, 2, 1), (2, 1, 1)]),
            record_of(&[(2, 1, 2), (3, 1, 1)]),
            record_of(&[(1, 1, 2), (3, 1, 2), (1, 1, 3), (3, 2, 1)]),
            record_of(&[(1, 1, 4), (1, 2, 2)]),
        ];
        for (position, record) in (5..).zip(&records) {
            appends.take_record(position, record);
        }
        let third = balances_of(&records[2]);
        let with = |balances: &[Notification]| {
            let mut found = appends.announced_with(balances);
            found.sort_by_key(key_of);
            found
        };
        let of = |record: usize, row: usize| balances_of(&records[record])[row];
        // Of user 1 both assets by the first and the third record; nothing of user 2, and nothing that stands later.
        assert_eq!(with(&third[..1]), [of(2, 2), of(0, 1)]);
        assert_eq!(with(&third), [of(0, 1)]);
        assert_eq!(with(&third[1..2]), [of(2, 3)]);
        appends.note_announced(&balances_of(&records[0]));
        assert_eq!(with(&third), []);
        assert_eq!(with(&balances_of(&records[0])), []);
    }

    #[test]
    fn positions_of_an_emptied_journal_are_not_taken_for_removed() {
        let appends = Appends::default();
        appends.set_removed(50);
        let tail = |position| JournalTail {
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
