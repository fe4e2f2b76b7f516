//! Judges a group of requests by what stands: the items of a record, and the answer to each request. Pure.
//!
//! **Invariants.** Requests are judged in their order, each by what stands after those before it. A refused one, or one in
//! conflict, leaves nothing behind that a later one could see.

use std::collections::HashMap;

use super::record::{Claim, Item, Row};
use crate::{
    domain::{
        Amount, AssetId, Conflict, Entry, Head, Outcome, PostedBalance, Reference, Seq,
        SettleState, StoredTransaction, Transaction, UnixMillis, UserId,
    },
    ledger::Written,
};

/// One request.
#[derive(Debug)]
pub(super) enum Request {
    /// A transaction or a trade.
    Transaction(Transaction),
    /// Entries with the caller's seqs, all or none.
    Entries(Vec<Entry>),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// To a transaction or a trade.
    Outcome(Outcome),
    /// To entries that stand.
    Entries(Written),
    /// To entries: the seq of the one at this index has other amounts.
    Taken(usize),
}

impl Answer {
    /// Whether it says something of balances that may have changed since they were read.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Outcome(Outcome::Refused(_)))
    }
}

/// One (user, asset).
pub(super) type Pair = (UserId, AssetId);
/// One row of the ledger.
pub(super) type RowKey = (UserId, AssetId, Seq);

/// A ledger row that stands, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) avail: Amount,
    pub(super) frozen: Amount,
    pub(super) created_at: Option<UnixMillis>,
}

impl Standing {
    fn is(&self, entry: &Entry) -> bool {
        (self.avail, self.frozen) == (entry.avail, entry.frozen)
    }
}

impl From<&Entry> for Standing {
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
pub(super) struct Facts {
    /// The records under the ids of the group.
    pub(super) stored: HashMap<Reference, StoredTransaction>,
    /// The newest rows.
    pub(super) heads: HashMap<Pair, Head>,
    /// The rows under seqs that callers chose.
    pub(super) rows: HashMap<RowKey, Standing>,
}

/// The judgement of a group.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) items: Vec<Item>,
    /// One for each request, in their order.
    pub(super) answers: Vec<Answer>,
}

/// Judges requests in their order.
pub(super) fn judge<'r>(
    requests: impl IntoIterator<Item = &'r Request>,
    mut facts: Facts,
    now: UnixMillis,
) -> Judged {
    let mut judged = Judged::default();
    for request in requests {
        let (answer, item) = match request {
            Request::Transaction(transaction) => {
                let (outcome, item) = facts.judge(transaction, now);
                (Answer::Outcome(outcome), item)
            }
            Request::Entries(entries) => facts.compare(entries),
        };
        if let Some(item) = &item {
            facts.advance(item);
        }
        judged.items.extend(item);
        judged.answers.push(answer);
    }
    judged
}

impl Facts {
    fn judge(&self, transaction: &Transaction, now: UnixMillis) -> (Outcome, Option<Item>) {
        if let Some(stored) = self.stored.get(&transaction.reference) {
            return repeated(stored, transaction);
        }
        let rows = if let Some(balances) = &transaction.balances {
            match self.given(balances, transaction) {
                Ok(rows) => rows,
                Err(conflict) => return (Outcome::Conflict(conflict), None),
            }
        } else {
            let head = |pair: Pair| self.heads.get(&pair).copied();
            let changes = transaction.changes.iter();
            let heads: Vec<_> = changes
                .map(|change| head((change.user, change.asset)))
                .collect();
            match transaction.rows(&heads, now) {
                Ok(rows) => rows.into_iter().map(fresh).collect(),
                Err(refusal) => return (Outcome::Refused(refusal), None),
            }
        };
        let created_at = transaction.created_at.unwrap_or(now);
        let claim = claim_of(transaction, created_at);
        let item = Item { claim: None, rows };
        let receipt = item.receipt(&claim);
        let item = Item {
            claim: Some(claim),
            ..item
        };
        (Outcome::Written(receipt), Some(item))
    }

    /// The rows with the seqs that the caller chose.
    fn given(
        &self,
        balances: &[PostedBalance],
        transaction: &Transaction,
    ) -> Result<Vec<Row>, Conflict> {
        let row = |balance: &PostedBalance| {
            let entry = balance.row_of(transaction);
            let seq = balance.seq;
            self.row(entry).ok_or(Conflict::SeqTaken {
                user: balance.user_id,
                asset: balance.asset_id,
                seq,
            })
        };
        balances.iter().map(row).collect()
    }

    /// The row of an entry; none where its seq has other amounts. The first `created_at` stays.
    fn row(&self, entry: Entry) -> Option<Row> {
        let Some(standing) = self.rows.get(&(entry.user, entry.asset, entry.seq)) else {
            return Some(fresh(entry));
        };
        let created_at = standing.created_at;
        standing.is(&entry).then_some(Row {
            entry: Entry {
                created_at,
                ..entry
            },
            stood: true,
        })
    }

    fn compare(&self, entries: &[Entry]) -> (Answer, Option<Item>) {
        let mut seen: HashMap<RowKey, Standing> = HashMap::with_capacity(entries.len());
        let mut rows = Vec::with_capacity(entries.len());
        let mut repeated = 0_u64;
        for (index, entry) in entries.iter().enumerate() {
            let key = (entry.user, entry.asset, entry.seq);
            if let Some(earlier) = seen.get(&key) {
                if !earlier.is(entry) {
                    return (Answer::Taken(index), None);
                }
                repeated = repeated.saturating_add(1);
                continue;
            }
            let Some(row) = self.row(entry.clone()) else {
                return (Answer::Taken(index), None);
            };
            seen.insert(key, Standing::from(entry));
            repeated = repeated.saturating_add(u64::from(row.stood));
            rows.push(row);
        }
        let all = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let answer = Answer::Entries(Written {
            written: all.saturating_sub(repeated),
            repeated,
        });
        // A repetition is appended too: `user_balances` may lack what an earlier request left half-way.
        let item = (!rows.is_empty()).then_some(Item { claim: None, rows });
        (answer, item)
    }

    /// Adds an item to everything that stands.
    fn advance(&mut self, item: &Item) {
        for Row { entry, .. } in &item.rows {
            let key = (entry.user, entry.asset, entry.seq);
            self.rows.entry(key).or_insert_with(|| entry.into());
            let head = Head {
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
                ..item.pending(claim)
            };
            self.stored.insert(claim.reference, stored);
        }
    }
}

/// The answer where the id stands. One that broke off before the journal knew of it is completed with the rows of its claim.
fn repeated(stored: &StoredTransaction, transaction: &Transaction) -> (Outcome, Option<Item>) {
    let given = transaction.balances.as_ref();
    let same_balances = given.is_none_or(|given| *given == stored.receipt.balances);
    if stored.content != transaction.content || !same_balances {
        return (Outcome::Conflict(Conflict::OtherContent), None);
    }
    let outcome = Outcome::Repeated(stored.receipt.clone());
    if stored.state == SettleState::Done {
        return (outcome, None);
    }
    let balances = stored.receipt.balances.iter();
    let rows = balances
        .map(|balance| fresh(balance.row_of(transaction)))
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

const fn fresh(entry: Entry) -> Row {
    Row {
        entry,
        stood: false,
    }
}

/// The (user, asset) pairs whose newest rows a request is judged by.
pub(super) fn pairs(request: &Request) -> Vec<Pair> {
    match request {
        Request::Transaction(transaction) => transaction
            .changes
            .iter()
            .map(|change| (change.user, change.asset))
            .collect(),
        Request::Entries(entries) => entries
            .iter()
            .map(|entry| (entry.user, entry.asset))
            .collect(),
    }
}

/// The rows whose seqs the caller chose.
pub(super) fn given_rows(request: &Request) -> Vec<RowKey> {
    match request {
        Request::Transaction(transaction) => {
            let balances = transaction.balances.as_deref().unwrap_or_default();
            let key = |one: &PostedBalance| (one.user_id, one.asset_id, one.seq);
            balances.iter().map(key).collect()
        }
        Request::Entries(entries) => entries
            .iter()
            .map(|entry| (entry.user, entry.asset, entry.seq))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
