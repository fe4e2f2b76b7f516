//! Balances that stand and may not be in effect everywhere: an instance can be killed between its commit and Redis, and a caller can leave.
//!
//! **Invariants.** The row of a balance is written in the SQL transaction of its ledger row. It is removed after Redis took that
//! seq or a higher one, never before, by whichever instance announced it.
//!
//! **Limits.** One row for each (user, asset). Rows are removed together, [`REMOVE_EVERY`]; what is not removed is announced once more
//! within `ledger.recovery_ms`, which changes nothing.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Postgres, columns::KeyColumns, pool::Values, post_rows::owed_of};
use crate::{
    domain::{AssetId, Notification, Seq, UserId},
    ledger::{
        LedgerError, Recovered,
        judge::{StandingKey, UserAsset},
    },
};

/// Pause between two removals.
const REMOVE_EVERY: Duration = Duration::from_millis(50);
/// Users that one look takes.
const RECOVER_USERS_MAX: i64 = 1_000;

/// A row that a session has locked is about to get a higher seq.
const REMOVE: &str = "DELETE FROM redis_outbox AS owed USING \
     (SELECT held.user_id, held.asset_id FROM unnest($1::bigint[], $2::int[], $3::bigint[]) \
     AS done(user_id, asset_id, seq) JOIN redis_outbox AS held USING (user_id, asset_id) \
     WHERE held.seq <= done.seq FOR UPDATE OF held SKIP LOCKED) AS gone \
     WHERE owed.user_id = gone.user_id AND owed.asset_id = gone.asset_id";
/// Everything that is owed of a user of whom something is owed for this long: a part of a transaction is never announced alone.
const UNANNOUNCED: &str = "SELECT owed.user_id, owed.asset_id, held.version, held.avail, held.frozen, held.updated_at \
     FROM (SELECT user_id FROM redis_outbox WHERE written_at <= now() - $1::bigint * interval '1 millisecond' \
     GROUP BY user_id ORDER BY min(written_at) LIMIT $2) AS late JOIN redis_outbox AS owed USING (user_id) \
     CROSS JOIN LATERAL (SELECT version, avail, frozen, updated_at FROM user_balances \
     WHERE user_id = owed.user_id AND asset_id = owed.asset_id LIMIT 1) AS held";

/// Balances of one user, and when they were read.
type OwedOfUser = HashMap<AssetId, (Notification, Instant)>;

/// The part of the outbox that an instance knows.
#[derive(Debug, Default)]
pub(super) struct RedisOutbox {
    lost_races: AtomicU64,
    /// Seqs that Redis took, whose rows are not removed yet.
    announced: Mutex<HashMap<UserAsset, Seq>>,
    /// Balances of others that stand and were not announced when this instance wrote for the same users.
    owed: Mutex<HashMap<UserId, OwedOfUser>>,
}

impl RedisOutbox {
    pub(super) fn count_lost_race(&self) {
        self.lost_races.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost_races(&self) -> u64 {
        self.lost_races.load(Ordering::Relaxed)
    }

    /// Remembers what has to be announced with the balances that were written beside it.
    pub(super) fn add_owed(&self, balances: Vec<Notification>) {
        if balances.is_empty() {
            return;
        }
        let now = Instant::now();
        let announced = self.announced.lock();
        let mut owed = self.owed.lock();
        for balance in balances {
            let Some((user, asset, seq)) = key_of(&balance) else {
                continue;
            };
            let is_known = announced
                .get(&(user, asset))
                .is_some_and(|known| *known >= seq);
            let of_user = owed.entry(user).or_default();
            let held = of_user.get(&asset).and_then(|(held, _)| key_of(held));
            if !is_known && held.is_none_or(|(_, _, held)| held < seq) {
                of_user.insert(asset, (balance, now));
            }
            if of_user.is_empty() {
                owed.remove(&user);
            }
        }
    }

    /// Balances of the same users that are owed, but for those that are among these.
    pub(super) fn owed_with(&self, balances: &[Notification]) -> Vec<Notification> {
        let owed = self.owed.lock();
        if owed.is_empty() {
            return Vec::new();
        }
        let newest = newest_seqs(balances);
        let mut users: Vec<UserId> = newest.keys().map(|(user, _)| *user).collect();
        users.sort_unstable();
        users.dedup();
        let others = users.iter().filter_map(|user| owed.get(user));
        let others = others.flat_map(|of_user| of_user.values());
        let is_other = |balance: &Notification| {
            key_of(balance)
                .is_some_and(|(user, asset, seq)| newest.get(&(user, asset)) < Some(&seq))
        };
        let others = others.map(|(balance, _)| *balance);
        others.filter(is_other).collect()
    }

    /// Redis took these balances.
    pub(super) fn note_announced(&self, balances: &[Notification]) {
        let newest = newest_seqs(balances);
        let mut announced = self.announced.lock();
        let mut owed = self.owed.lock();
        for ((user, asset), seq) in newest {
            let highest = announced.entry((user, asset)).or_insert(seq);
            *highest = seq.max(*highest);
            if let Some(of_user) = owed.get_mut(&user) {
                let held = of_user.get(&asset).and_then(|(held, _)| key_of(held));
                if held.is_some_and(|(_, _, held)| held <= seq) {
                    of_user.remove(&asset);
                }
                if of_user.is_empty() {
                    owed.remove(&user);
                }
            }
        }
    }

    /// Another instance may have announced what is owed since then.
    fn forget_owed(&self, age: Duration) {
        self.owed.lock().retain(|_, of_user| {
            of_user.retain(|_, (_, since)| since.elapsed() < age);
            !of_user.is_empty()
        });
    }
}

impl Postgres {
    /// Removes rows that Redis took, for ever. A row that cannot be removed is removed later, or announced again.
    pub(super) async fn run_removals(&self) {
        let mut ticks = interval(REMOVE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.remove_announced().await {
                tracing::debug!(reason = %error, "the outbox keeps what redis was told");
            }
        }
    }

    async fn remove_announced(&self) -> Result<(), LedgerError> {
        let announced = std::mem::take(&mut *self.redis_outbox.announced.lock());
        if announced.is_empty() {
            return Ok(());
        }
        let key =
            |((user, asset), seq): (&UserAsset, &Seq)| -> StandingKey { (*user, *asset, *seq) };
        let keys: KeyColumns = announced.iter().map(key).collect();
        // Again on another connection does no harm.
        let values: Values<'_> = &[&keys.pairs.users, &keys.pairs.assets, &keys.seqs];
        if let Err(error) = self.primary.read_rows(REMOVE, values).await {
            let mut again = self.redis_outbox.announced.lock();
            for (pair, seq) in announced {
                let highest = again.entry(pair).or_insert(seq);
                *highest = seq.max(*highest);
            }
            return Err(error);
        }
        Ok(())
    }

    /// Balances that were written at least this long ago by any instance, and that Redis may not know.
    pub(super) async fn find_unannounced(&self, age: Duration) -> Result<Recovered, LedgerError> {
        if self.mapped.is_some() {
            return Ok(Recovered::default());
        }
        self.remove_announced().await?;
        self.redis_outbox.forget_owed(age);
        let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let rows = self
            .primary
            .read_rows(UNANNOUNCED, &[&millis, &RECOVER_USERS_MAX])
            .await?;
        let balances: Vec<Notification> = rows.iter().map(owed_of).collect::<Result<_, _>>()?;
        let mut users: Vec<UserId> = balances.iter().map(|balance| balance.user).collect();
        users.sort_unstable();
        users.dedup();
        Ok(Recovered {
            balances,
            transactions: u64::try_from(users.len()).unwrap_or(u64::MAX),
        })
    }
}

const fn key_of(notification: &Notification) -> Option<StandingKey> {
    match notification.raised_floor() {
        Some((asset, seq)) => Some((notification.user, asset, seq)),
        None => None,
    }
}

/// The highest seq of each (user, asset).
fn newest_seqs(balances: &[Notification]) -> HashMap<UserAsset, Seq> {
    let mut newest = HashMap::with_capacity(balances.len());
    for (user, asset, seq) in balances.iter().filter_map(key_of) {
        let highest = newest.entry((user, asset)).or_insert(seq);
        *highest = seq.max(*highest);
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(user: i64, asset: i32, seq: i64) -> Notification {
        let json = serde_json::json!({"user_id": user, "asset_id": asset, "seq": seq, "avail": seq, "frozen": 0});
        Notification::parse_notification(&json.to_string()).unwrap()
    }

    #[test]
    fn what_is_owed_of_the_same_users_is_announced_with_what_was_written_and_once() {
        let outbox = RedisOutbox::default();
        outbox.add_owed(vec![balance(7, 1, 4), balance(7, 2, 9), balance(8, 1, 3)]);
        let written = [balance(7, 1, 5)];
        assert_eq!(outbox.owed_with(&written), [balance(7, 2, 9)]);
        assert!(outbox.owed_with(&[balance(9, 1, 1)]).is_empty());
        outbox.note_announced(&[balance(7, 1, 5), balance(7, 2, 9)]);
        assert!(outbox.owed_with(&written).is_empty());
        assert_eq!(outbox.announced.lock().len(), 2);
        // Its row is not removed yet.
        outbox.add_owed(vec![balance(7, 2, 9)]);
        assert!(outbox.owed_with(&written).is_empty());
        outbox.add_owed(vec![balance(7, 2, 10)]);
        assert_eq!(outbox.owed_with(&written), [balance(7, 2, 10)]);
        outbox.forget_owed(Duration::ZERO);
        assert!(
            outbox
                .owed_with(&[balance(8, 1, 4), balance(7, 1, 6)])
                .is_empty()
        );
    }
}
