//! Requests that write: posted in groups, each group in one SQL transaction, again where another one was faster.
//!
//! **Invariants.** A group whose commit was not answered is judged again: its ids, and its seqs, tell whether it stands. What
//! that transaction still holds is waited for, so an unfinished commit is never judged as absent.
//!
//! **Cancellation.** The group under way may stand; the same request completes it.
//!
//! **Limits.** [`GROUP_REQUESTS_MAX`] requests and about [`GROUP_ROWS_MAX`] rows in a group; [`ATTEMPTS_MAX`] attempts.

use std::time::Duration;

use rand::Rng as _;
use tokio::time::sleep;

use super::{
    Postgres,
    post_failure::{PostFailure, PostFailureKind},
    post_rows::stored_of,
    post_statements::{READ_TRADE, READ_TRANSACTION},
    posting::{Posted, Poster},
};
use crate::{
    domain::{Entry, Reference, SettleOutcome, StoredTransaction, Transaction},
    ledger::{
        LedgerError, WriteError, WrittenCounts,
        judge::{
            JudgedAnswer, LedgerRequest, entries_answer, judged_pairs, outcomes_of, require_seqs,
        },
    },
};

/// Transactions of one group.
const GROUP_REQUESTS_MAX: usize = 256;
/// Rows of one group, but for its last request.
const GROUP_ROWS_MAX: usize = 1_024;
/// Attempts at one group.
const ATTEMPTS_MAX: u32 = 12;
/// The longest pause before another attempt.
const PAUSE_MAX: Duration = Duration::from_millis(64);

impl Postgres {
    /// Writes entries with the caller's seqs: all of them or none.
    pub(super) async fn post_entries(
        &self,
        entries: &[Entry],
    ) -> Result<WrittenCounts, WriteError> {
        if entries.is_empty() {
            return Ok(WrittenCounts::default());
        }
        let group = [LedgerRequest::Entries(entries.to_vec())];
        entries_answer(&self.post_group(&group).await?)
    }

    /// Writes transactions and trades, each whole or not at all, in this order.
    pub(super) async fn post_transactions(
        &self,
        transactions: &[Transaction],
    ) -> Result<Vec<SettleOutcome>, LedgerError> {
        require_seqs(self.assigns_seqs, transactions)?;
        let mut answers = Vec::with_capacity(transactions.len());
        for group in groups(transactions) {
            answers.extend(self.post_group(&group).await?);
        }
        outcomes_of(answers)
    }

    /// The record under an id.
    pub(super) async fn find_record(
        &self,
        reference: Reference,
    ) -> Result<Option<StoredTransaction>, LedgerError> {
        self.refuse_everything()?;
        let text = match reference {
            Reference::Transaction(_) => READ_TRANSACTION,
            Reference::Trade(_) => READ_TRADE,
        };
        let rows = self.primary.read_rows(text, &[&reference.id()]).await?;
        rows.first().map(stored_of).transpose()
    }

    async fn post_group(
        &self,
        requests: &[LedgerRequest],
    ) -> Result<Vec<JudgedAnswer>, LedgerError> {
        self.refuse_everything()?;
        if self.mapped.is_some() {
            return Err(LedgerError::unavailable("the ledger is written elsewhere"));
        }
        let poster = Poster {
            pool: &self.primary,
            requests,
        };
        let mut attempt: u32 = 0;
        loop {
            let failure = match self.try_post(&poster).await {
                Ok(Posted { answers, owed }) => {
                    self.redis_outbox.add_owed(owed);
                    return Ok(answers);
                }
                Err(failure) => failure,
            };
            attempt = attempt.saturating_add(1);
            if failure.kind == PostFailureKind::Final || attempt >= ATTEMPTS_MAX {
                return Err(failure.error);
            }
            if failure.kind == PostFailureKind::Race {
                self.redis_outbox.count_lost_race();
            }
            pause_before(attempt).await;
        }
    }

    async fn try_post(&self, poster: &Poster<'_>) -> Result<Posted, PostFailure> {
        let connection = self.primary.take_for_posting().await;
        poster.post(connection.map_err(PostFailure::of)?).await
    }
}

/// A random part of a time that doubles with each attempt.
async fn pause_before(attempt: u32) {
    let doubled = Duration::from_millis(1_u64.checked_shl(attempt).unwrap_or(u64::MAX));
    let part = rand::rng().random_range(0.0..1.0);
    sleep(doubled.min(PAUSE_MAX).mul_f64(part)).await;
}

/// Transactions in their order, cut into groups.
fn groups(transactions: &[Transaction]) -> Vec<Vec<LedgerRequest>> {
    let mut groups: Vec<Vec<LedgerRequest>> = Vec::new();
    let mut rows: usize = 0;
    for transaction in transactions {
        let request = LedgerRequest::Transaction(transaction.clone());
        let more = judged_pairs(&request).len();
        match groups.last_mut() {
            Some(group) if group.len() < GROUP_REQUESTS_MAX && rows < GROUP_ROWS_MAX => {
                rows = rows.saturating_add(more);
                group.push(request);
            }
            _ => {
                rows = more;
                groups.push(vec![request]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_cut_into_groups_in_their_order() {
        let transaction = |id: i64, entries: i64| {
            let entry =
                |user: i64| serde_json::json!({"user_id": user, "asset_id": 1, "delta_avail": 1});
            let entries: Vec<_> = (1..=entries).map(entry).collect();
            let json = serde_json::json!({"transaction_id": id, "entries": entries});
            Transaction::parse_transaction(&json.to_string()).unwrap()
        };
        let sizes = |transactions: &[Transaction]| -> Vec<usize> {
            groups(transactions).iter().map(Vec::len).collect()
        };
        let small: Vec<_> = (1..=600).map(|id| transaction(id, 1)).collect();
        assert_eq!(sizes(&small), [256, 256, 88]);
        let wide: Vec<_> = (1..=40).map(|id| transaction(id, 64)).collect();
        assert_eq!(sizes(&wide), [16, 16, 8]);
        assert!(groups(&[]).is_empty());
    }
}
