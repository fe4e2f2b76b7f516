//! The transactions that became visible lately, so that a read of many users can tell whether it met one half-way.
//!
//! **Invariants.** A transaction is remembered before any reader can see its rows. While its window is open, memory may not
//! have it yet. A batch read that begins after the window is closed meets all of it.
//!
//! **Limits.** The newest [`REMEMBERED_MAX`] transactions of several (user, asset). A batch read that began before the
//! oldest of them cannot tell, and has to be read again.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use super::{Commit, CommitHook};
use crate::domain::{AssetId, PostedBalance, Receipt, Seq, UserId};

/// Transactions that are remembered.
pub const REMEMBERED_MAX: usize = 16_384;

/// Transactions that became visible lately.
#[derive(Default)]
pub struct Isolation {
    recent: Mutex<RecentTransactions>,
    hook: OnceLock<CommitHook>,
}

#[derive(Debug, Default)]
struct RecentTransactions {
    /// The number of the first of `transactions`; they are numbered without gaps.
    first: u64,
    transactions: VecDeque<Arc<[PostedBalance]>>,
    /// The number at which the open window began; there is one at most.
    window: Option<u64>,
}

/// The start of a batch read: it may see only a part of a transaction with this number or a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Isolation {
    /// Sets what happens to each transaction before its window is closed. The first call counts.
    pub fn on_commit(&self, hook: CommitHook) {
        let _ = self.hook.set(hook);
    }

    pub(super) fn open_window(&self) -> CommitWindow<'_> {
        let mut recent = self.recent.lock();
        recent.window = Some(recent.next_number());
        CommitWindow {
            isolation: self,
            receipts: Vec::new(),
        }
    }

    /// The moment from which a batch read has to look at transactions.
    pub fn current_moment(&self) -> Moment {
        let recent = self.recent.lock();
        Moment(recent.window.unwrap_or_else(|| recent.next_number()))
    }

    /// The transactions that became visible, or are about to, since a batch read began.
    pub fn visible_since(&self, began: Moment) -> Result<Vec<Arc<[PostedBalance]>>, Forgotten> {
        let recent = self.recent.lock();
        let skip = began.0.checked_sub(recent.first).ok_or(Forgotten)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        Ok(recent.transactions.iter().skip(skip).cloned().collect())
    }
}

/// A batch read began before what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the batch read began before what is remembered")]
pub struct Forgotten;

/// The users whose answers lack a transaction that another answer, or another asset of theirs, shows. `shown` is the seq that
/// was answered of a (user, asset): none for a user that is not compared.
pub fn lagging_users(
    transactions: &[Arc<[PostedBalance]>],
    shown: impl Fn(UserId, AssetId) -> Option<Option<Seq>>,
) -> Vec<UserId> {
    let mut lagging = Vec::new();
    for balances in transactions {
        let (mut some, from) = (false, lagging.len());
        for balance in balances.iter() {
            match shown(balance.user_id, balance.asset_id) {
                None => {}
                Some(seq) if seq >= Some(balance.seq) => some = true,
                Some(_) => lagging.push(balance.user_id),
            }
        }
        if !some {
            lagging.truncate(from);
        }
    }
    lagging.sort_unstable();
    lagging.dedup();
    lagging
}

impl std::fmt::Debug for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Isolation")
            .field("recent", &self.recent)
            .finish_non_exhaustive()
    }
}

impl RecentTransactions {
    fn next_number(&self) -> u64 {
        let count = u64::try_from(self.transactions.len()).unwrap_or(u64::MAX);
        self.first.saturating_add(count)
    }
}

/// The time from before one commit until memory has its transactions.
#[derive(Debug)]
pub(super) struct CommitWindow<'i> {
    isolation: &'i Isolation,
    receipts: Vec<Receipt>,
}

impl CommitWindow<'_> {
    /// This transaction is about to become visible.
    pub(super) fn add_receipt(&mut self, receipt: &Receipt) {
        self.receipts.push(receipt.clone());
        if receipt.balances.len() < 2 {
            return;
        }
        let mut recent = self.isolation.recent.lock();
        recent
            .transactions
            .push_back(receipt.balances.as_slice().into());
        if recent.transactions.len() > REMEMBERED_MAX {
            recent.transactions.pop_front();
            recent.first = recent.first.saturating_add(1);
        }
    }

    /// The commit is over, and memory hears of it. Of one that failed nothing is remembered: no reader has seen it.
    pub(super) fn close_window(self, stands: bool) {
        let commit = if stands {
            Commit::Stands
        } else {
            Commit::Unknown
        };
        if let Some(hook) = self.isolation.hook.get() {
            for receipt in &self.receipts {
                hook(receipt, commit);
            }
        }
        let mut recent = self.isolation.recent.lock();
        if let (Some(from), false) = (recent.window, stands) {
            let keep = from.saturating_sub(recent.first);
            recent
                .transactions
                .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        }
        recent.window = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Amount, UnixMillis};

    fn receipt_of(pairs: &[(i64, i64)]) -> Receipt {
        let balance = |(user, seq): &(i64, i64)| PostedBalance {
            user_id: UserId::new(*user).unwrap(),
            asset_id: AssetId::new(1).unwrap(),
            seq: Seq::new(*seq).unwrap(),
            avail: Amount::default(),
            frozen: Amount::default(),
        };
        Receipt {
            balances: pairs.iter().map(balance).collect(),
            created_at: UnixMillis(0),
        }
    }

    fn torn_users(isolation: &Isolation, began: Moment, answers: &[(i64, i64)]) -> Vec<i64> {
        let seq = |user: UserId, _| {
            let found = answers.iter().find(|(of, _)| *of == user.get());
            found.map(|(_, seq)| Seq::new(*seq).ok())
        };
        let users = lagging_users(&isolation.visible_since(began).unwrap(), seq);
        users.into_iter().map(UserId::get).collect()
    }

    #[test]
    fn a_batch_that_shows_one_side_of_a_transaction_lacks_the_other() {
        let isolation = Isolation::default();
        let before = isolation.current_moment();
        let mut window = isolation.open_window();
        window.add_receipt(&receipt_of(&[(1, 5), (2, 7)]));
        assert_eq!(isolation.current_moment(), before, "its window is open");
        assert_eq!(torn_users(&isolation, before, &[(1, 5), (2, 6)]), [2]);
        window.close_window(true);
        let after = isolation.current_moment();
        for (answers, lack) in [
            (vec![(1, 4), (2, 6)], vec![]),
            (vec![(1, 5), (2, 7)], vec![]),
            (vec![(1, 9), (2, 6)], vec![2]),
            (vec![(1, 0), (2, 7)], vec![1]),
            (vec![(1, 5), (3, 1)], vec![]),
        ] {
            assert_eq!(
                torn_users(&isolation, before, &answers),
                lack,
                "{answers:?}"
            );
            assert_eq!(
                torn_users(&isolation, after, &answers),
                [0; 0],
                "{answers:?}"
            );
        }
    }

    #[test]
    fn what_was_not_committed_is_forgotten_and_a_read_that_is_too_old_is_told() {
        let isolation = Isolation::default();
        let began = isolation.current_moment();
        let mut window = isolation.open_window();
        window.add_receipt(&receipt_of(&[(1, 5), (2, 7)]));
        window.close_window(false);
        assert_eq!(torn_users(&isolation, began, &[(1, 5), (2, 6)]), [0; 0]);
        let mut window = isolation.open_window();
        for _ in 0..=REMEMBERED_MAX {
            window.add_receipt(&receipt_of(&[(1, 5), (2, 7)]));
        }
        window.close_window(true);
        assert_eq!(isolation.visible_since(began), Err(Forgotten));
    }

    #[test]
    fn the_hook_hears_of_every_commit_before_its_window_is_closed() {
        let heard = std::sync::Arc::new(Mutex::new(Vec::new()));
        let isolation = Isolation::default();
        let recorder = std::sync::Arc::clone(&heard);
        isolation.on_commit(Box::new(move |receipt, commit| {
            recorder.lock().push((receipt.clone(), commit));
        }));
        for stands in [false, true] {
            let mut window = isolation.open_window();
            window.add_receipt(&receipt_of(&[(1, 5)]));
            window.close_window(stands);
        }
        let expected =
            [Commit::Unknown, Commit::Stands].map(|commit| (receipt_of(&[(1, 5)]), commit));
        assert_eq!(*heard.lock(), expected);
    }
}
