//! Applies a transaction to the balances that stand: the resulting ledger rows, or a refusal.
//!
//! **Invariants.** Sums are formed with 128 bits. A refused transaction yields no row. A row's seq follows the one that
//! stands; the first is 1.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::domain::{Amount, AssetId, Entry, Seq, Transaction, UnixMillis, UserId};

/// The sum of everything that one transaction changes of one (user, asset). Raw units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostedChange {
    pub user: UserId,
    pub asset: AssetId,
    /// Change of `avail`; may exceed 64 bits.
    pub delta_avail: i128,
    /// Change of `frozen`; may exceed 64 bits.
    pub delta_frozen: i128,
    /// The seq that has to stand; 0: no row yet. None: any.
    pub expect_seq: Option<i64>,
}

impl PostedChange {
    /// Neither amount changes.
    pub const fn is_zero(&self) -> bool {
        self.delta_avail == 0 && self.delta_frozen == 0
    }
}

/// Adds up changes by (user, asset).
#[derive(Debug, Default)]
pub(super) struct ChangeSums(BTreeMap<(UserId, AssetId), (i128, i128)>);

impl ChangeSums {
    /// Adds to both amounts. At most 64 addends of 64 bits each: the sum cannot leave 128 bits.
    pub(super) fn add_change(&mut self, user: UserId, asset: AssetId, avail: i128, frozen: i128) {
        let sum = self.0.entry((user, asset)).or_default();
        *sum = (sum.0.saturating_add(avail), sum.1.saturating_add(frozen));
    }

    /// The sums by user and asset; `expect_seq` is looked up for each.
    pub(super) fn into_changes(
        self,
        expect_seq: impl Fn(UserId, AssetId) -> Option<i64>,
    ) -> Vec<PostedChange> {
        let change = |((user, asset), (delta_avail, delta_frozen))| PostedChange {
            user,
            asset,
            delta_avail,
            delta_frozen,
            expect_seq: expect_seq(user, asset),
        };
        self.0.into_iter().map(change).collect()
    }
}

/// The newest ledger row of one (user, asset), as far as a transaction needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceHead {
    /// The highest seq that stands.
    pub seq: Seq,
    /// Raw units.
    pub avail: Amount,
    /// Raw units.
    pub frozen: Amount,
}

/// The balance of one (user, asset) after a transaction. Raw units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PostedBalance {
    pub user_id: UserId,
    pub asset_id: AssetId,
    pub seq: Seq,
    /// After the transaction.
    #[serde(serialize_with = "serialize_raw")]
    pub avail: Amount,
    /// After the transaction.
    #[serde(serialize_with = "serialize_raw")]
    pub frozen: Amount,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn serialize_raw<S: serde::Serializer>(amount: &Amount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(amount.raw())
}

impl From<&Entry> for PostedBalance {
    fn from(entry: &Entry) -> Self {
        Self {
            user_id: entry.user,
            asset_id: entry.asset,
            seq: entry.seq,
            avail: entry.avail,
            frozen: entry.frozen,
        }
    }
}

/// Why a transaction was refused: the first (user, asset) that refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostingRefusal {
    pub user: UserId,
    pub asset: AssetId,
    /// Why.
    pub reason: RefusalReason,
}

/// The reasons of a balance to refuse a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// The transaction lowers `avail` below 0.
    AvailBelowZero,
    /// The transaction lowers `frozen` below 0.
    FrozenBelowZero,
    /// An amount, or its change, does not fit in 64 bits.
    Overflow,
    /// Another seq stands than `expect_seq` says; 0: no row.
    OtherSeq {
        /// The seq that stands.
        stands: i64,
    },
    /// The highest seq there is stands already.
    LastSeq,
}

impl fmt::Display for PostingRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user,
            asset,
            reason,
        } = self;
        write!(f, "user {user}, asset {asset}: ")?;
        match reason {
            RefusalReason::AvailBelowZero => write!(f, "avail would be below 0"),
            RefusalReason::FrozenBelowZero => write!(f, "frozen would be below 0"),
            RefusalReason::Overflow => write!(f, "an amount would not fit in 64 bits"),
            RefusalReason::OtherSeq { stands: 0 } => {
                write!(f, "expect_seq names a seq, and no row stands")
            }
            RefusalReason::OtherSeq { stands } => {
                write!(f, "expect_seq is not the seq that stands, {stands}")
            }
            RefusalReason::LastSeq => write!(f, "the highest seq stands already"),
        }
    }
}

impl Transaction {
    /// The ledger rows that it adds, where `heads` stand: one head for each of its changes, in their order.
    /// `now` is the `created_at` of a transaction that names none.
    pub fn rows_above(
        &self,
        heads: &[Option<BalanceHead>],
        now: UnixMillis,
    ) -> Result<Vec<Entry>, PostingRefusal> {
        let mut rows = Vec::with_capacity(self.changes.len());
        let heads = heads.iter().copied().chain(std::iter::repeat(None));
        for (change, head) in self.changes.iter().zip(heads) {
            let row = self
                .row_above(change, head, now)
                .map_err(|reason| PostingRefusal {
                    user: change.user,
                    asset: change.asset,
                    reason,
                })?;
            rows.extend(row);
        }
        Ok(rows)
    }

    /// None where nothing changes and no row is wanted.
    fn row_above(
        &self,
        change: &PostedChange,
        head: Option<BalanceHead>,
        now: UnixMillis,
    ) -> Result<Option<Entry>, RefusalReason> {
        let stands = head.map_or(0, |head| head.seq.get());
        if change.expect_seq.is_some_and(|expected| expected != stands) {
            return Err(RefusalReason::OtherSeq { stands });
        }
        if change.is_zero() && self.trade.is_none() {
            return Ok(None);
        }
        let (avail, frozen) = head.map_or_else(Default::default, |head| (head.avail, head.frozen));
        let avail = self.moved_amount(avail, change.delta_avail, RefusalReason::AvailBelowZero)?;
        let frozen =
            self.moved_amount(frozen, change.delta_frozen, RefusalReason::FrozenBelowZero)?;
        let delta = |sum| i64::try_from(sum).map_err(|_| RefusalReason::Overflow);
        let next = stands.checked_add(1).ok_or(RefusalReason::LastSeq)?;
        Ok(Some(Entry {
            user: change.user,
            asset: change.asset,
            seq: Seq::new(next).map_err(|_| RefusalReason::LastSeq)?,
            avail,
            frozen,
            delta_avail: Some(Amount::from_raw(delta(change.delta_avail)?)),
            delta_frozen: Some(Amount::from_raw(delta(change.delta_frozen)?)),
            event_type: Some(self.event_type.clone()),
            ref_id: Some(self.reference.id()),
            created_at: Some(self.created_at.unwrap_or(now)),
        }))
    }

    fn moved_amount(
        &self,
        held: Amount,
        delta: i128,
        below_zero: RefusalReason,
    ) -> Result<Amount, RefusalReason> {
        let after = i128::from(held.raw()).saturating_add(delta);
        if delta < 0 && after < 0 && !self.overdraft {
            return Err(below_zero);
        }
        i64::try_from(after)
            .map(Amount::from_raw)
            .map_err(|_| RefusalReason::Overflow)
    }
}

#[cfg(test)]
mod tests;
