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
    domain::{BalanceChange, Floors, Snapshot, UserId},
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
            let changes: Vec<_> = some.iter().flat_map(known_changes).collect();
            while let Err(fault) = redis.apply_changes(&changes).await {
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

/// The floors that the changes of this user raise.
fn told_floors(known: &(UserId, Floors, Snapshot)) -> Floors {
    let mut told = Floors::NONE;
    for (_, change) in known_changes(known) {
        if let BalanceChange::Moved { asset, seq, .. } = change {
            told.raise_floor(asset, seq);
        }
    }
    told
}

/// All that is known of this user. A balance keeps the time at which it was said.
fn known_changes(
    (user, floors, told): &(UserId, Floors, Snapshot),
) -> impl Iterator<Item = (UserId, BalanceChange)> {
    floors.iter().map(|(asset, floor)| {
        let balance = told.get(asset).filter(|balance| balance.seq >= floor);
        let change = BalanceChange::Moved {
            asset,
            seq: balance.map_or(floor, |balance| balance.seq),
            balance: balance.copied(),
        };
        (*user, change)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AssetId, Balance, Seq, UnixMillis};

    #[test]
    fn a_balance_is_told_again_with_the_time_at_which_it_was_said() {
        let user = UserId::new(1).unwrap();
        let said = |asset, seq, at| Balance {
            said_at: UnixMillis(at),
            ..Balance::sample_of(asset, seq, 1)
        };
        let balances = [said(1, 5, 70), said(2, 6, 80), said(3, 4, 90)];
        let mut floors = Floors::NONE;
        for asset in 1..=4 {
            floors.raise_floor(AssetId::new(asset).unwrap(), Seq::new(5).unwrap());
        }
        let known = (user, floors, Snapshot::new(balances.to_vec()));
        let moved = |asset, seq, balance| {
            let (asset, seq) = (AssetId::new(asset).unwrap(), Seq::new(seq).unwrap());
            let change = BalanceChange::Moved {
                asset,
                seq,
                balance,
            };
            (user, change)
        };
        let told: Vec<_> = known_changes(&known).collect();
        let expected = [
            moved(1, 5, Some(balances[0])),
            moved(2, 6, Some(balances[1])),
            moved(3, 5, None),
            moved(4, 5, None),
        ];
        assert_eq!(told, expected, "nothing below its floor");
    }
}
