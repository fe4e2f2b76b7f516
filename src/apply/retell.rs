//! Telling a Redis that lost its data what this instance still knows.
//!
//! **Invariants.** All of it is told, however often Redis fails meanwhile. What is known of one user is told together. A user whose floors
//! are forgotten while this goes on, or whose removal is read behind it, is dropped once more: what was told is from before. What came
//! after it stays.
//!
//! **Cancellation.** Dropped in the middle, a part of the users was told; it may be told again.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

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

/// The users that a Redis was told of again.
#[derive(Debug, Default)]
pub(super) struct RetoldUsers {
    users: Mutex<RetoldSets>,
    /// One of them was forgotten since.
    forgotten: Notify,
}

#[derive(Debug, Default)]
struct RetoldSets {
    /// The floors that were told since Redis lost its data, of users who were not forgotten since.
    told: HashMap<UserId, Floors>,
    /// To be dropped once more.
    to_drop: Vec<(UserId, Floors)>,
}

impl Applier {
    /// The user's floors were forgotten: if Redis was told of them again, it may have them from there.
    pub fn note_forgotten(&self, user: UserId) {
        let mut users = self.retold.users.lock();
        if let Some(floors) = users.told.remove(&user) {
            users.to_drop.push((user, floors));
            self.retold.forgotten.notify_one();
        }
    }

    /// Waits until a user that was told again was forgotten since.
    pub async fn wait_for_forgotten(&self) {
        self.retold.forgotten.notified().await;
    }

    /// Drops the users that were forgotten since they were told again; the feed brings it to every instance, to this one too.
    /// Returns when Redis has done so.
    pub async fn drop_forgotten(&self) {
        let Some(redis) = &self.redis else {
            return;
        };
        let users = std::mem::take(&mut self.retold.users.lock().to_drop);
        if users.is_empty() {
            return;
        }
        tracing::info!(
            users = users.len(),
            "dropping users that were forgotten while redis was told again"
        );
        while redis.forget_told(&users).await.is_err() {
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// The known changes, noted as told: a user that is forgotten from here on is dropped once more.
    fn begin_to_tell(&self) -> Vec<(UserId, Floors, Snapshot)> {
        let mut users = self.retold.users.lock();
        let known = self.marks.recent_changes();
        let told = known
            .iter()
            .map(|of_user| (of_user.0, told_floors(of_user)));
        users.told = told.collect();
        known
    }

    /// Tells a Redis that lost its data what this instance still knows: floors, and balances that may be ahead of the ledger.
    /// Returns when all of it was told.
    pub async fn tell_again(&self) {
        let Some(redis) = &self.redis else {
            return;
        };
        let known = self.begin_to_tell();
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
        }
        tracing::info!(users = known.len(), "redis was told again");
    }
}

/// The floors that the notifications of this user raise.
fn told_floors(known: &(UserId, Floors, Snapshot)) -> Floors {
    let mut told = Floors::NONE;
    for (asset, seq) in notifications_of(known).filter_map(|one| one.raised_floor()) {
        told.raise_floor(asset, seq);
    }
    told
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
