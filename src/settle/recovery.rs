//! Finishes transactions of requests that ended in an error: the caller may never send them again.
//!
//! **Invariants.** Only what stands, or has its id claimed with the same content, is finished. A transaction of which nothing stands is
//! not begun again: its caller may have given it up.
//!
//! **Limits.** [`UNFINISHED_MAX`] transactions are remembered, in this process only. After its end the caller has to send them again.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{SettleError, Settler};
use crate::domain::Transaction;

/// Transactions that are remembered.
const UNFINISHED_MAX: usize = 10_000;
/// How many times within `ledger.recovery_ms` they are looked at.
const LOOKS: u32 = 4;

/// A transaction whose request failed.
#[derive(Debug)]
pub(super) struct Unfinished {
    since: Instant,
    transaction: Transaction,
}

impl Settler {
    pub(super) fn remember_failed(&self, transactions: &[Transaction]) {
        let since = Instant::now();
        let mut unfinished = self.unfinished.lock();
        let room = UNFINISHED_MAX.saturating_sub(unfinished.len());
        let more = transactions
            .iter()
            .take(room)
            .map(|transaction| Unfinished {
                since,
                transaction: transaction.clone(),
            });
        unfinished.extend(more);
    }

    /// Finishes what is unfinished, until `stop` is cancelled.
    pub async fn run_recovery(self: Arc<Self>, stop: CancellationToken) {
        let pause = self.recovery.checked_div(LOOKS).unwrap_or_default();
        let looks = async {
            let mut ticks = tokio::time::interval(pause.max(std::time::Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.recover_failed(pause).await;
                if let Err(error) = self.recover_source(pause).await {
                    tracing::debug!(%error, "what was left unfinished is looked at again later");
                }
            }
        };
        let _ = stop.run_until_cancelled(looks).await;
    }

    /// Finishes transactions that failed at least this long ago, so that a caller may repeat them first.
    async fn recover_failed(&self, age: std::time::Duration) {
        let due: Vec<Unfinished> = {
            let mut unfinished = self.unfinished.lock();
            unfinished
                .extract_if(.., |one| one.since.elapsed() >= age)
                .collect()
        };
        for one in due {
            let deadline = Instant::now();
            let deadline = deadline.checked_add(self.recovery).unwrap_or(deadline);
            match self.finish_transaction(&one.transaction, deadline).await {
                Ok(true) => self.meters.ledger_recovered(),
                Ok(false) => {}
                Err(_) => self.unfinished.lock().push(one),
            }
        }
    }

    /// Finishes what the source knows to stand and to be unfinished, by whichever instance it was begun.
    async fn recover_source(&self, age: std::time::Duration) -> Result<(), SettleError> {
        loop {
            let found = self.source.recover_unfinished(age).await?;
            if found.balances.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            let deadline = now.checked_add(self.recovery).unwrap_or(now);
            let mut balances = found.balances;
            balances.extend(self.source.announced_with(&balances));
            self.applier.announce_balances(&balances, deadline).await?;
            self.source.note_announced(&balances);
            for _ in 0..found.transactions {
                self.meters.ledger_recovered();
            }
        }
    }

    /// Whether there was something to finish.
    async fn finish_transaction(
        &self,
        transaction: &Transaction,
        deadline: Instant,
    ) -> Result<bool, SettleError> {
        let stands = self
            .find_transaction(transaction.reference, deadline)
            .await?;
        if stands.is_none_or(|stands| stands.content != transaction.content) {
            return Ok(false);
        }
        self.settle_all(std::slice::from_ref(transaction), deadline)
            .await?;
        Ok(true)
    }
}
