//! Telling a Redis that lost its data what this instance still knows.
//!
//! **Invariants.** All of it is told, however often Redis fails meanwhile. What is known of one user is told together.
//!
//! **Cancellation.** Dropped in the middle, a part of the users was told; it may be told again.

use std::time::Duration;

use super::Applier;
use crate::{
    clock,
    domain::{Floors, Notification, NotifiedChange, Snapshot, UserId},
    telemetry::RateLimitedLog,
};

/// Users that are told in one go: what failed is repeated for no more of them.
const TOGETHER: usize = 256;
/// Pause before another try.
const RETRY_EVERY: Duration = Duration::from_millis(100);

impl Applier {
    /// Tells a Redis that lost its data what this instance still knows: floors, and balances that may be ahead of the ledger.
    /// Returns when all of it was told.
    pub async fn tell_again(&self) {
        let Some(redis) = &self.redis else {
            return;
        };
        let known = self.marks.recent_changes();
        tracing::info!(
            users = known.len(),
            "telling redis again what changed lately"
        );
        let log = RateLimitedLog::default();
        for some in known.chunks(TOGETHER) {
            let notifications: Vec<_> = some.iter().flat_map(notifications_of).collect();
            while let Err(fault) = redis
                .apply_notifications(&notifications, clock::wall_now())
                .await
            {
                if let Some(left_out) = log.permit_line() {
                    tracing::warn!(
                        reason = fault.label_value(),
                        lines.left_out = left_out,
                        "redis was not told again yet: trying on"
                    );
                }
                tokio::time::sleep(RETRY_EVERY).await;
            }
            fail::fail_point!("told-some");
        }
        tracing::info!(users = known.len(), "redis was told again");
    }
}

fn notifications_of(
    (user, floors, told): &(UserId, Floors, Snapshot),
) -> impl Iterator<Item = Notification> {
    floors.iter().map(|(asset, seq)| {
        let balance = told.get(asset).filter(|balance| balance.seq >= seq);
        let said = match balance {
            Some(balance) => NotifiedChange::Values {
                asset,
                seq: balance.seq,
                avail: balance.avail,
                frozen: balance.frozen,
            },
            None => NotifiedChange::Seq { asset, seq },
        };
        Notification {
            user: *user,
            said,
            created_at: balance.and_then(|balance| balance.updated_at),
        }
    })
}
