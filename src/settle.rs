//! Transactions and trades: written by the source, then in effect everywhere, then acknowledged.
//!
//! **Invariants.** An acknowledged transaction stands whole and has taken effect as a notification does. A repetition takes effect again,
//! for the first time may have failed behind the ledger. All balances of a request take effect in one call.
//!
//! **Cancellation.** Dropped in the middle, transactions may stand and not be in effect everywhere: the same request completes it, and
//! `recovery` does where a request ended in an error.
//!
//! **Limits.** The caller bounds the number of transactions; each call ends at its deadline.

mod recovery;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use self::recovery::Unfinished;

use crate::{
    apply::{self, Applier},
    cache_status::Tier,
    domain::{AssetId, Notification, Reference, SettleOutcome, StoredTransaction, Transaction},
    fail_points,
    ledger::{self, Source},
    telemetry::{Meters, Op, SettledLabel},
};

/// Why transactions were not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SettleError {
    /// The source failed; some of them may stand.
    #[error(transparent)]
    Source(#[from] ledger::LedgerError),
    /// The transactions stand, and did not take effect everywhere.
    #[error(transparent)]
    Apply(#[from] apply::ApplyError),
}

#[derive(Debug)]
pub struct Settler {
    source: Arc<dyn Source>,
    applier: Arc<Applier>,
    meters: Arc<Meters>,
    unfinished: Mutex<Vec<Unfinished>>,
    /// `ledger.recovery_ms`
    recovery: Duration,
}

impl Settler {
    /// Makes a settler over this source. From then on its commits take effect on this instance before they are acknowledged.
    pub fn new(
        source: Arc<dyn Source>,
        applier: Arc<Applier>,
        meters: Arc<Meters>,
        recovery: Duration,
    ) -> Self {
        // The source must not keep alive what keeps it alive.
        let takes = Arc::downgrade(&applier);
        source.on_commit(Box::new(move |receipt, commit| {
            if let Some(applier) = takes.upgrade() {
                applier.take_committed(receipt, commit);
            }
        }));
        Self {
            source,
            applier,
            meters,
            unfinished: Mutex::default(),
            recovery,
        }
    }

    /// Writes transactions in this order, and makes what stands take effect.
    /// Errors: [`SettleError`]; all of them may be sent again.
    pub async fn settle_transactions(
        &self,
        transactions: &[Transaction],
        deadline: Instant,
    ) -> Result<Vec<SettleOutcome>, SettleError> {
        let begun = Instant::now();
        let result = self.settle_all(transactions, deadline).await;
        if result.is_ok() {
            self.meters.ledger_took(begun.elapsed());
        } else {
            let count = u64::try_from(transactions.len()).unwrap_or(u64::MAX);
            self.meters.count_settled(SettledLabel::Failed, count);
            self.applier.outbox.note_unannounced();
            if !self.source.can_recover() {
                self.remember_failed(transactions);
            }
        }
        result
    }

    async fn settle_all(
        &self,
        transactions: &[Transaction],
        deadline: Instant,
    ) -> Result<Vec<SettleOutcome>, SettleError> {
        let begun = Instant::now();
        let written = timeout_at(deadline, self.source.settle_transactions(transactions)).await;
        let outcomes = written
            .unwrap_or(Err(ledger::LedgerError::Timeout))
            .inspect_err(|error| self.applier.count_write_failure(error))?;
        self.meters
            .record_tier(Tier::Source, Op::Apply, begun.elapsed());
        fail_points::reach("ledger-written");
        for (transaction, outcome) in transactions.iter().zip(&outcomes) {
            self.count_outcome(transaction, outcome);
        }
        let mut news: Vec<Notification> = outcomes.iter().flat_map(outcome_notifications).collect();
        news.extend(self.source.announced_with(&news));
        if !news.is_empty() {
            self.applier.announce_balances(&news, deadline).await?;
            self.source.note_announced(&news);
        }
        Ok(outcomes)
    }

    fn count_outcome(&self, transaction: &Transaction, outcome: &SettleOutcome) {
        let result = match outcome {
            SettleOutcome::Written(_) => SettledLabel::Written,
            SettleOutcome::Repeated(_) => SettledLabel::Repeated,
            SettleOutcome::Refused(_) => SettledLabel::Refused,
            SettleOutcome::Conflict(_) => SettledLabel::Conflict,
        };
        self.meters.count_settled(result, 1);
        if result == SettledLabel::Written {
            for (asset, units) in moved_amounts(transaction) {
                self.meters.ledger_moved(asset, units);
            }
        }
    }

    /// The record under an id.
    pub async fn find_transaction(
        &self,
        reference: Reference,
        deadline: Instant,
    ) -> Result<Option<StoredTransaction>, ledger::LedgerError> {
        let found = timeout_at(deadline, self.source.find_transaction(reference)).await;
        found.unwrap_or(Err(ledger::LedgerError::Timeout))
    }
}

fn outcome_notifications(outcome: &SettleOutcome) -> Vec<Notification> {
    match outcome {
        SettleOutcome::Written(receipt) | SettleOutcome::Repeated(receipt) => {
            receipt.notifications().collect()
        }
        SettleOutcome::Refused(_) | SettleOutcome::Conflict(_) => Vec::new(),
    }
}

/// Raw units of each asset that a transaction credits or debits, whichever is more.
fn moved_amounts(transaction: &Transaction) -> BTreeMap<AssetId, u128> {
    let mut both: BTreeMap<AssetId, (u128, u128)> = BTreeMap::new();
    for change in &transaction.changes {
        let (credited, debited) = both.entry(change.asset).or_default();
        for delta in [change.delta_avail, change.delta_frozen] {
            let side = if delta < 0 {
                &mut *debited
            } else {
                &mut *credited
            };
            *side = side.saturating_add(delta.unsigned_abs());
        }
    }
    both.into_iter()
        .map(|(asset, (credited, debited))| (asset, credited.max(debited)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_is_the_larger_of_credits_and_debits_of_each_asset() {
        let json = r#"{"transaction_id":1,"entries":[
            {"user_id":1,"asset_id":1,"delta_avail":-5},{"user_id":2,"asset_id":1,"delta_avail":4},{"user_id":3,"asset_id":1,"delta_frozen":1},
            {"user_id":1,"asset_id":2,"delta_avail":-3},{"user_id":4,"asset_id":3,"delta_avail":-7,"delta_frozen":7}]}"#;
        let moved = moved_amounts(&Transaction::parse_transaction(json).unwrap());
        let plain: Vec<_> = moved
            .into_iter()
            .map(|(asset, units)| (asset.get(), units))
            .collect();
        assert_eq!(plain, [(1, 5), (2, 3), (3, 7)]);
    }
}
