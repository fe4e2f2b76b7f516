//! Judges a group of requests by what stands: the items to write, and the answer to each request. Pure.
//!
//! **Invariants.** Requests are judged in their order, each by what stands after those before it. A refused one, or one in
//! conflict, leaves nothing behind that a later one could see.

mod answers;

use std::collections::HashMap;

pub(super) use self::answers::{entries_answer, outcomes_of, require_seqs};
use super::item::{Claim, Item, RowToWrite};
use crate::{
    domain::{
        Amount, AssetId, BalanceHead, Conflict, Entry, PostedBalance, Reference, Seq,
        SettleOutcome, SettleState, StoredTransaction, Transaction, UnixMillis, UserId,
    },
    ledger::WrittenCounts,
};

#[derive(Debug)]
pub(super) enum LedgerRequest {
    Transaction(Transaction),
    /// Entries with the caller's seqs, all or none.
    Entries(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JudgedAnswer {
    /// The answer to a transaction or a trade.
    Outcome(SettleOutcome),
    /// The answer to entries that stand.
    Entries(WrittenCounts),
    /// The answer to entries: the row with the seq of the entry at this index has other amounts.
    Taken(usize),
}

impl JudgedAnswer {
    /// Whether it says something of balances that may have changed since they were read.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Outcome(SettleOutcome::Refused(_)))
    }

    /// Whether it says that something stands of which rows may not be written yet.
    pub(super) const fn is_repetition(&self) -> bool {
        matches!(self, Self::Outcome(SettleOutcome::Repeated(_)))
    }
}

pub(super) type UserAsset = (UserId, AssetId);
/// One row of the ledger.
pub(super) type StandingKey = (UserId, AssetId, Seq);

/// A ledger row that stands, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StandingRow {
    pub(super) avail: Amount,
    pub(super) frozen: Amount,
    pub(super) created_at: Option<UnixMillis>,
}

impl StandingRow {
    fn is_same_as(&self, entry: &Entry) -> bool {
        (self.avail, self.frozen) == (entry.avail, entry.frozen)
    }
}

impl From<&Entry> for StandingRow {
    fn from(entry: &Entry) -> Self {
        Self {
            avail: entry.avail,
            frozen: entry.frozen,
            created_at: entry.created_at,
        }
    }
}

/// Everything that stands and that a group is judged by. Judging adds the group's own items.
#[derive(Debug, Default)]
pub(super) struct LedgerFacts {
    /// The records under the ids of the group.
    pub(super) stored: HashMap<Reference, StoredTransaction>,
    /// The newest rows.
    pub(super) heads: HashMap<UserAsset, BalanceHead>,
    /// The rows under seqs that callers chose.
    pub(super) rows: HashMap<StandingKey, StandingRow>,
}

/// The judgement of a group.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) items: Vec<Item>,
    /// One for each request, in their order.
    pub(super) answers: Vec<JudgedAnswer>,
}

/// Judges requests in their order.
pub(super) fn judge_requests<'r>(
    requests: impl IntoIterator<Item = &'r LedgerRequest>,
    mut facts: LedgerFacts,
    now: UnixMillis,
) -> Judged {
    let mut judged = Judged::default();
    for request in requests {
        let (answer, item) = match request {
            LedgerRequest::Transaction(transaction) => {
                let (outcome, item) = facts.judge_transaction(transaction, now);
                (JudgedAnswer::Outcome(outcome), item)
            }
            LedgerRequest::Entries(entries) => facts.compare_entries(entries),
        };
        if let Some(item) = &item {
            facts.advance_by(item);
        }
        judged.items.extend(item);
        judged.answers.push(answer);
    }
    judged
}

impl LedgerFacts {
    fn judge_transaction(
        &self,
        transaction: &Transaction,
        now: UnixMillis,
    ) -> (SettleOutcome, Option<Item>) {
        if let Some(stored) = self.stored.get(&transaction.reference) {
            return answer_repeated(stored, transaction);
        }
        let rows = if let Some(balances) = &transaction.balances {
            match self.given_rows(balances, transaction) {
                Ok(rows) => rows,
                Err(conflict) => return (SettleOutcome::Conflict(conflict), None),
            }
        } else {
            let head = |pair: UserAsset| self.heads.get(&pair).copied();
            let changes = transaction.changes.iter();
            let heads: Vec<_> = changes
                .map(|change| head((change.user, change.asset)))
                .collect();
            match transaction.rows_above(&heads, now) {
                Ok(rows) => rows.into_iter().map(fresh_row).collect(),
                Err(refusal) => return (SettleOutcome::Refused(refusal), None),
            }
        };
        let created_at = transaction.created_at.unwrap_or(now);
        let claim = claim_of(transaction, created_at);
        let item = Item { claim: None, rows };
        let receipt = item.receipt_of(&claim);
        let item = Item {
            claim: Some(claim),
            ..item
        };
        (SettleOutcome::Written(receipt), Some(item))
    }

    /// The rows with the seqs that the caller chose.
    fn given_rows(
        &self,
        balances: &[PostedBalance],
        transaction: &Transaction,
    ) -> Result<Vec<RowToWrite>, Conflict> {
        let row = |balance: &PostedBalance| {
            let entry = balance.row_of(transaction);
            let seq = balance.seq;
            self.row_of_entry(entry).ok_or(Conflict::SeqTaken {
                user: balance.user_id,
                asset: balance.asset_id,
                seq,
            })
        };
        balances.iter().map(row).collect()
    }

    /// The row of an entry; none where its seq has other amounts. The first `created_at` stays.
    fn row_of_entry(&self, entry: Entry) -> Option<RowToWrite> {
        let Some(standing) = self.rows.get(&(entry.user, entry.asset, entry.seq)) else {
            return Some(fresh_row(entry));
        };
        let created_at = standing.created_at;
        standing.is_same_as(&entry).then_some(RowToWrite {
            entry: Entry {
                created_at,
                ..entry
            },
            stood: true,
        })
    }

    fn compare_entries(&self, entries: &[Entry]) -> (JudgedAnswer, Option<Item>) {
        let mut seen: HashMap<StandingKey, StandingRow> = HashMap::with_capacity(entries.len());
        let mut rows = Vec::with_capacity(entries.len());
        let mut repeated = 0_u64;
        for (index, entry) in entries.iter().enumerate() {
            let key = (entry.user, entry.asset, entry.seq);
            if let Some(earlier) = seen.get(&key) {
                if !earlier.is_same_as(entry) {
                    return (JudgedAnswer::Taken(index), None);
                }
                repeated = repeated.saturating_add(1);
                continue;
            }
            let Some(row) = self.row_of_entry(entry.clone()) else {
                return (JudgedAnswer::Taken(index), None);
            };
            seen.insert(key, StandingRow::from(entry));
            repeated = repeated.saturating_add(u64::from(row.stood));
            rows.push(row);
        }
        let all = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let answer = JudgedAnswer::Entries(WrittenCounts {
            written: all.saturating_sub(repeated),
            repeated,
        });
        // A repetition is appended too: `user_balances` may lack what an earlier request left half-way.
        let item = (!rows.is_empty()).then_some(Item { claim: None, rows });
        (answer, item)
    }

    /// Adds an item to everything that stands.
    fn advance_by(&mut self, item: &Item) {
        for RowToWrite { entry, .. } in &item.rows {
            let key = (entry.user, entry.asset, entry.seq);
            self.rows.entry(key).or_insert_with(|| entry.into());
            let head = BalanceHead {
                seq: entry.seq,
                avail: entry.avail,
                frozen: entry.frozen,
            };
            let stands = self.heads.entry((entry.user, entry.asset)).or_insert(head);
            if stands.seq < head.seq {
                *stands = head;
            }
        }
        if let Some(claim) = &item.claim {
            let stored = StoredTransaction {
                state: SettleState::Done,
                ..item.pending_record(claim)
            };
            self.stored.insert(claim.reference, stored);
        }
    }
}

/// The answer where the id stands. One that broke off before the journal knew of it is completed with the rows of its claim.
fn answer_repeated(
    stored: &StoredTransaction,
    transaction: &Transaction,
) -> (SettleOutcome, Option<Item>) {
    let given = transaction.balances.as_ref();
    let same_balances = given.is_none_or(|given| *given == stored.receipt.balances);
    if stored.content != transaction.content || !same_balances {
        return (SettleOutcome::Conflict(Conflict::OtherContent), None);
    }
    let outcome = SettleOutcome::Repeated(stored.receipt.clone());
    if stored.state == SettleState::Done {
        return (outcome, None);
    }
    let balances = stored.receipt.balances.iter();
    let rows = balances
        .map(|balance| fresh_row(balance.row_of(transaction)))
        .collect();
    let claim = Some(claim_of(transaction, stored.receipt.created_at));
    (outcome, Some(Item { claim, rows }))
}

fn claim_of(transaction: &Transaction, created_at: UnixMillis) -> Claim {
    Claim {
        reference: transaction.reference,
        content: transaction.content.clone(),
        created_at,
        trade: transaction.trade.as_deref().cloned(),
    }
}

const fn fresh_row(entry: Entry) -> RowToWrite {
    RowToWrite {
        entry,
        stood: false,
    }
}

/// The (user, asset) pairs whose newest rows a request is judged by.
pub(super) fn judged_pairs(request: &LedgerRequest) -> Vec<UserAsset> {
    match request {
        LedgerRequest::Transaction(transaction) => transaction
            .changes
            .iter()
            .map(|change| (change.user, change.asset))
            .collect(),
        LedgerRequest::Entries(entries) => entries
            .iter()
            .map(|entry| (entry.user, entry.asset))
            .collect(),
    }
}

/// The rows whose seqs the caller chose.
pub(super) fn given_rows(request: &LedgerRequest) -> Vec<StandingKey> {
    match request {
        LedgerRequest::Transaction(transaction) => {
            let balances = transaction.balances.as_deref().unwrap_or_default();
            let key = |one: &PostedBalance| (one.user_id, one.asset_id, one.seq);
            balances.iter().map(key).collect()
        }
        LedgerRequest::Entries(entries) => entries
            .iter()
            .map(|entry| (entry.user, entry.asset, entry.seq))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
