//! Announces to Redis what the source committed and did not announce: after a kill between commit and Redis, or a request that failed.
//!
//! **Invariants.** An entry leaves the source's outbox after Redis took its seq. Balances of one user are announced together.
//! The first announcement of a process covers everything that an earlier one left.
//!
//! **Cancellation.** Dropped in the middle, some users are announced; all of them may be announced again.
//!
//! **Limits.** The source gives its outbox in steps. While Redis cannot be asked, the first step is tried once in [`LOOK_EVERY`].

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Applier;
use crate::{domain::Notification, ledger, telemetry::Via};

/// Pause between two looks for unannounced balances.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The time that one step may take.
const STEP_MAX: Duration = Duration::from_secs(5);

/// Whether the source may hold balances that Redis was not told.
#[derive(Debug)]
pub struct OutboxState {
    unannounced: AtomicBool,
    settled: AtomicBool,
}

impl Default for OutboxState {
    fn default() -> Self {
        Self {
            unannounced: AtomicBool::new(true),
            settled: AtomicBool::new(false),
        }
    }
}

impl OutboxState {
    /// Rows may stand that Redis was not told.
    pub fn note_unannounced(&self) {
        self.unannounced.store(true, Ordering::SeqCst);
    }

    /// Whether everything that an earlier process left is announced.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::SeqCst)
    }
}

impl Applier {
    /// Announces what is unannounced, until `stop` is cancelled.
    pub async fn run_outbox(&self, stop: CancellationToken) {
        if self.redis.is_none() {
            return;
        }
        let looks = async {
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let asked = self
                    .redis
                    .as_ref()
                    .is_some_and(|redis| redis.link.open_session().is_some());
                if asked && self.outbox.unannounced.swap(false, Ordering::SeqCst) {
                    self.empty_outbox().await;
                }
            }
        };
        let _ = stop.run_until_cancelled(looks).await;
    }

    async fn empty_outbox(&self) {
        match self.announce_outbox().await {
            Ok(0) => self.outbox.settled.store(true, Ordering::SeqCst),
            Ok(balances) => {
                self.outbox.settled.store(true, Ordering::SeqCst);
                tracing::info!(balances, "redis was told what it had not been told");
            }
            Err(error) => {
                tracing::debug!(reason = %error, "redis was not told yet: trying on");
                self.outbox.note_unannounced();
            }
        }
    }

    /// How many balances were announced.
    async fn announce_outbox(&self) -> Result<usize, super::EntriesError> {
        let (mut after, mut count) = (None, 0_usize);
        loop {
            let balances: Vec<Notification> = self.source.list_unannounced(after).await?;
            let Some(last) = balances.last() else {
                break;
            };
            after = Some(last.user);
            let now = Instant::now();
            let deadline = now.checked_add(STEP_MAX).unwrap_or(now);
            self.apply_notifications(&balances, Via::Ledger, deadline)
                .await?;
            self.source.note_announced(&balances);
            count = count.saturating_add(balances.len());
        }
        if count > 0 {
            let removed: Result<(), ledger::LedgerError> = self.source.forget_announced().await;
            // The entries that stay are announced once more at the next start.
            if let Err(error) = removed {
                tracing::debug!(reason = %error, "the outbox keeps what redis was told");
            }
        }
        Ok(count)
    }
}
