//! What is known of changes, by user.

mod memo;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use memo::Memo;

#[cfg(test)]
use crate::domain::Balance;
use crate::domain::{AssetId, BalanceChange, Floors, Seq, Snapshot, UserId};

/// Users per generation.
pub const MARKS_MAX: usize = 1_000_000;
const SHARDS: usize = 16;

/// What is known of one user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// The lowest seqs that may still be shown.
    pub floors: Floors,
    /// The newest balances that notifications said. Not all that the user has: worth something beside a load only.
    pub told: Snapshot,
    /// A notification came in the last `floor_ttl`: the view may not have it yet.
    pub changed: bool,
    /// Counts notifications without a seq: a load from before the last one is worth nothing.
    pub reread: u64,
    /// The assets that those named.
    pub reread_assets: Vec<AssetId>,
}

#[derive(Debug)]
struct Shard {
    young: HashMap<UserId, Memo>,
    old: HashMap<UserId, Memo>,
    turned: Instant,
}

/// What is known of all users.
#[derive(Debug)]
pub struct Marks {
    shards: Vec<Mutex<Shard>>,
    ttl: Duration,
    per_shard_max: usize,
    base: Instant,
    blind_until: AtomicU64,
    doubtful_until: AtomicU64,
    generation: AtomicU64,
    rereads: AtomicU64,
}

impl Marks {
    /// Knows nothing yet. `ttl` is `settlement.floor_ttl_ms`; `users_max` users are remembered.
    #[must_use]
    pub fn new(ttl: Duration, users_max: usize) -> Self {
        let now = Instant::now();
        let shard = || {
            Mutex::new(Shard {
                young: HashMap::new(),
                old: HashMap::new(),
                turned: now,
            })
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            ttl,
            per_shard_max: users_max.checked_div(SHARDS).unwrap_or(0).max(1),
            base: now,
            blind_until: AtomicU64::new(0),
            doubtful_until: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            rereads: AtomicU64::new(0),
        }
    }

    /// What is known of the user.
    #[must_use]
    pub fn of(&self, user: UserId) -> Mark {
        self.look(user, |memo| memo.mark(self.ttl, Instant::now()))
            .unwrap_or_default()
    }

    /// The lowest seqs that may still be shown of the user.
    #[must_use]
    pub fn floors(&self, user: UserId) -> Floors {
        self.look(user, |memo| memo.floors(self.ttl, Instant::now()))
            .unwrap_or_default()
    }

    /// Counts notifications without a seq of the user: see [`Mark::reread`].
    #[must_use]
    pub fn rereads(&self, user: UserId) -> u64 {
        // Most deployments never have one.
        if self.rereads.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        self.look(user, Memo::reread).unwrap_or_default()
    }

    /// The snapshot is below no floor of the user, and no notification without a seq came since there were `rereads`.
    #[must_use]
    pub fn allows(&self, user: UserId, rereads: u64, snapshot: &Snapshot) -> bool {
        self.look(user, |memo| {
            memo.reread() == rereads && memo.met_by(snapshot, self.ttl, Instant::now())
        })
        .unwrap_or(rereads == 0)
    }

    /// Takes at `now` what somebody else held: what may be shown of it, with the newer balances that notifications said. None where
    /// a notification without a seq waits for the ledger to be read, or came since there were `rereads`, and where it is below a
    /// floor. Nothing below what it gives may be shown from now on.
    #[must_use]
    pub fn take<'a>(
        &self,
        user: UserId,
        rereads: u64,
        snapshot: &'a Snapshot,
        now: Instant,
    ) -> Option<Cow<'a, Snapshot>> {
        // Who is read all the time is looked for once.
        let young = self.with(user, |shard| {
            shard.turn(self.ttl, now);
            let memo = shard.young.get_mut(&user)?;
            let newest = memo.brought_up(rereads, snapshot, self.ttl, now);
            if let Some(newest) = &newest {
                memo.shown.raise_to(newest);
            }
            Some(newest)
        });
        young.unwrap_or_else(|| {
            let look = |memo: &Memo| memo.brought_up(rereads, snapshot, self.ttl, now);
            let unknown = || (rereads == 0).then_some(Cow::Borrowed(snapshot));
            let newest = self.look(user, look).unwrap_or_else(unknown)?;
            self.shown(user, &newest);
            Some(newest)
        })
    }

    /// The highest seq that a notification of the last `floor_ttl` named, and when: for the story of an answer.
    #[must_use]
    pub fn told(&self, user: UserId, asset: AssetId) -> Option<(Seq, Instant)> {
        let told = self.look(user, |memo| {
            let mut floors = memo.news.as_ref()?.notified.iter();
            floors.find(|floor| floor.0 == asset).copied()
        });
        told.flatten().map(|(_, seq, told)| (seq, told))
    }

    /// Notifications said that the user's balances changed so. A reader sees all of these changes in the mark, or none. Returns
    /// for each whether it is news.
    pub fn advance(&self, user: UserId, changes: &[BalanceChange]) -> Vec<bool> {
        let unknown = |change: &BalanceChange| matches!(change, BalanceChange::Unknown { .. });
        let rereads = if changes.iter().any(unknown) {
            let before = self.rereads.fetch_add(1, Ordering::Relaxed);
            before.saturating_add(1)
        } else {
            0
        };
        let mut news = Vec::with_capacity(changes.len());
        self.mark(user, true, |memo| {
            let now = Instant::now();
            news.extend(changes.iter().map(|change| match *change {
                BalanceChange::Moved {
                    asset,
                    seq,
                    balance,
                } => {
                    if let Some(balance) = balance {
                        let news = memo.news();
                        news.told = news.told.merge(&Snapshot::new(vec![balance]));
                    }
                    memo.notify(asset, seq, self.ttl, now)
                }
                BalanceChange::Unknown { asset } => {
                    memo.reread_later(asset, rereads);
                    true
                }
            }));
            true
        });
        news
    }

    /// A notification said that this asset (or any) of the user changed, not to what.
    pub fn reread(&self, user: UserId, asset: Option<AssetId>) {
        self.advance(user, &[BalanceChange::Unknown { asset }]);
    }

    #[cfg(test)]
    fn changed(&self, user: UserId, asset: AssetId, seq: Seq, balance: Option<Balance>) -> bool {
        let change = BalanceChange::Moved {
            asset,
            seq,
            balance,
        };
        self.advance(user, &[change]) == [true]
    }

    /// The user was read from the ledger by a load that began when this many notifications without a seq were known.
    pub fn read(&self, user: UserId, rereads: u64) {
        if rereads > 0 {
            self.mark(user, false, |memo| {
                let news = memo.news();
                news.read = news.read.max(rereads);
                true
            });
        }
    }

    /// The snapshot was shown, or is about to be: nothing older may be.
    pub fn shown(&self, user: UserId, snapshot: &Snapshot) {
        if !snapshot.balances().is_empty() {
            self.mark(user, false, |memo| {
                memo.shown.raise_to(snapshot);
                true
            });
        }
    }

    /// The user's floors are forgotten. What is under way is from before.
    pub fn forget(&self, user: UserId) {
        self.with(user, |shard| {
            shard.old.remove(&user);
            shard.young.remove(&user);
        });
        self.reread(user, None);
    }

    /// Redis lost its data: whatever is held or under way from before now counts for nothing, and the view is not trusted for
    /// `floor_ttl`.
    pub fn lost(&self) {
        self.blind_for(self.ttl);
        self.start_over();
    }

    /// Changes were missed that an entry in Redis may not show either (its key may have been deleted, and filled again by
    /// somebody who missed them too).
    #[must_use]
    pub fn doubtful(&self) -> bool {
        let until = self.doubtful_until.load(Ordering::SeqCst);
        until > 0 && self.since_base(Instant::now()) < until
    }

    /// Changes may have been missed: whatever is held or under way from before now counts for nothing, and the view is not
    /// trusted for `floor_ttl`; nor is what Redis holds.
    pub fn missed(&self) {
        let until = Instant::now()
            .checked_add(self.ttl)
            .unwrap_or_else(Instant::now);
        self.doubtful_until
            .fetch_max(self.since_base(until), Ordering::SeqCst);
        self.lost();
    }

    /// Whatever is held or under way from before now counts for nothing.
    pub fn start_over(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Everybody with changes of the last `floor_ttl` at least: who, the floors, and the balances that were told.
    #[must_use]
    pub fn changes(&self) -> Vec<(UserId, Floors, Snapshot)> {
        let (mut changes, now) = (Vec::new(), Instant::now());
        for shard in &self.shards {
            let shard = shard.lock();
            let memos = shard.young.iter().chain(&shard.old);
            let marks = memos.map(|(user, memo)| (*user, memo.mark(self.ttl, now)));
            let marks = marks.filter(|(_, mark)| mark.changed);
            changes.extend(marks.map(|(user, mark)| (user, mark.floors, mark.told)));
        }
        changes
    }

    /// The view is not trusted for this long.
    pub fn blind_for(&self, time: Duration) {
        let until = self.since_base(
            Instant::now()
                .checked_add(time)
                .unwrap_or_else(Instant::now),
        );
        self.blind_until.fetch_max(until, Ordering::SeqCst);
    }

    /// Changes may be unknown here, so that nobody can be read from the view.
    #[must_use]
    pub fn blind(&self) -> bool {
        self.since_base(Instant::now()) < self.blind_until.load(Ordering::SeqCst)
    }

    /// Rises when everything held or under way counts for nothing.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn mark(&self, user: UserId, changed: bool, change: impl FnOnce(&mut Memo) -> bool) -> bool {
        let (overflow, news) = self.with(user, |shard| {
            shard.turn(self.ttl, Instant::now());
            let full = shard.young.len() >= self.per_shard_max && !shard.young.contains_key(&user);
            if full && !changed {
                // What was shown is also kept by Redis and by quorum reads; giving up a change for it would be worse.
                return (false, false);
            }
            if full {
                shard.old = std::mem::take(&mut shard.young);
            }
            let Shard { young, old, .. } = shard;
            let memo = young
                .entry(user)
                .or_insert_with(|| old.remove(&user).unwrap_or_default());
            if changed {
                memo.news().changed = Some(Instant::now());
            }
            (full, change(memo))
        });
        if overflow {
            self.blind_for(self.ttl);
        }
        news
    }

    /// Of who is remembered.
    fn look<R>(&self, user: UserId, then: impl FnOnce(&Memo) -> R) -> Option<R> {
        self.with(user, |shard| {
            let memo = shard.young.get(&user).or_else(|| shard.old.get(&user));
            memo.map(then)
        })
    }

    fn with<R: Default>(&self, user: UserId, then: impl FnOnce(&mut Shard) -> R) -> R {
        let at = user
            .get()
            .unsigned_abs()
            .checked_rem(SHARDS.try_into().unwrap_or(1))
            .unwrap_or(0);
        let Some(shard) = usize::try_from(at).ok().and_then(|at| self.shards.get(at)) else {
            return R::default();
        };
        then(&mut shard.lock())
    }

    fn since_base(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Shard {
    /// Forgets who was not marked for so long. Asked before each mark, and each hit that counts as one:
    /// without them there is nothing to make room for.
    fn turn(&mut self, ttl: Duration, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age < ttl {
            return;
        }
        // Nothing younger than `ttl` is in `old` by now. As many users as before are expected, and room is made once.
        let room = HashMap::with_capacity(self.young.len());
        let young = std::mem::replace(&mut self.young, room);
        self.old = if age >= ttl.saturating_mul(2) {
            HashMap::new()
        } else {
            young
        };
        self.turned = now;
    }
}
