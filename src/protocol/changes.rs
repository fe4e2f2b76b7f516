//! This instance's knowledge of changes: which users changed lately, the lowest seqs that may still be shown, and how fresh
//! that knowledge is.
//!
//! **Invariants.** Everything notified or shown here in the last `floor_ttl` is remembered, whatever Redis forgets. A change is
//! written here before memory is changed. Memory asks for it under its own lock on the user: either the fill sees the change,
//! or the change sees the fill. Where changes were given up or never known, the view is not trusted
//! ([`ChangeLog::distrusts_view`]). Memory serves only while freshness is proven ([`super::Freshness`]).
//!
//! **Limits.** `settlement.change_log_max_bytes`: a quarter for what was shown, the rest for what was notified, each in two
//! generations of which the older one is given up first. What was notified counts for `floor_ttl`, what was shown for one to two.

mod generations;
mod invalidations;
mod memory_use;
#[cfg(test)]
mod tests;
mod user_changes;

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::memory_use::{Use, Uses};
use generations::{Generations, GivenUp};
use user_changes::{AnnouncedChanges, KnownUser};

#[cfg(test)]
use crate::domain::Balance;
use crate::{
    domain::{AssetId, BalanceChange, Floors, Seq, Snapshot, UserId},
    protocol::rules::{RedisFacts, StoreFacts, may_memory_store},
};

const SHARDS: usize = 64;
/// The part of the bytes that answers have; changes have the rest, for only they make reads dearer when they are given up.
const SHOWN_PART: usize = 4;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserMark {
    /// The lowest seqs that may still be shown.
    pub floors: Floors,
    /// The newest balances that notifications said. Not all that the user has, so they are only merged into a load.
    pub told: Snapshot,
    /// A notification came in the last `floor_ttl`: the view may not have it yet.
    pub changed: bool,
    /// Counts notifications without a seq: a load from before the last one is worth nothing.
    pub reread: u64,
    pub reread_assets: Vec<AssetId>,
    /// The ledger was not read since the last of those.
    pub ledger_required: bool,
}

/// The knowledge of all users when a load began, beside the floors of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Knowledge {
    /// [`ChangeLog::generation`].
    pub generation: u64,
    /// [`UserMark::reread`] of its user.
    pub reread: u64,
    /// How often changes had been given up for want of room.
    pub given_up: u64,
}

#[derive(Debug)]
struct ChangeShard {
    changes: Generations<Box<AnnouncedChanges>>,
    shown: Generations<Floors>,
}

/// The knowledge of all users.
#[derive(Debug)]
pub struct ChangeLog {
    shards: Vec<Mutex<ChangeShard>>,
    ttl: Duration,
    base: Instant,
    blind_until: AtomicU64,
    doubtful_until: AtomicU64,
    /// Until then a change that was given up would still count.
    given_up_until: AtomicU64,
    generation: AtomicU64,
    rereads: AtomicU64,
    /// Times that changes were given up; users whose changes were, and users whose answers were.
    given_up: AtomicU64,
    changes_given_up: AtomicU64,
    shown_given_up: AtomicU64,
}

impl ChangeShard {
    fn known_user(&self, user: UserId) -> KnownUser<'_> {
        KnownUser {
            shown: self.shown.value_of(user),
            change: self.changes.value_of(user).map(AsRef::as_ref),
        }
    }
}

impl ChangeLog {
    /// Knows nothing yet. `ttl` is `settlement.floor_ttl_ms`; all of it takes at most `bytes_max`.
    pub fn new(ttl: Duration, bytes_max: u64) -> Self {
        let now = Instant::now();
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let each = bytes_max.checked_div(SHARDS).unwrap_or(0);
        let shown = each.checked_div(SHOWN_PART).unwrap_or(0);
        let shard = || {
            Mutex::new(ChangeShard {
                changes: Generations::new(each.saturating_sub(shown), now),
                shown: Generations::new(shown, now),
            })
        };
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            ttl,
            base: now,
            blind_until: AtomicU64::new(0),
            doubtful_until: AtomicU64::new(0),
            given_up_until: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            rereads: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            changes_given_up: AtomicU64::new(0),
            shown_given_up: AtomicU64::new(0),
        }
    }

    pub fn changes_of(&self, user: UserId) -> UserMark {
        self.look_at_user(user, |known| known.valid_changes(self.ttl, Instant::now()))
    }

    /// The lowest seqs that may still be shown of the user.
    pub fn floors_of(&self, user: UserId) -> Floors {
        self.look_at_user(user, |known| known.all_floors(self.ttl, Instant::now()))
    }

    /// Counts notifications without a seq of the user: see [`UserMark::reread`].
    pub fn reread_count(&self, user: UserId) -> u64 {
        // Most deployments never have one.
        if self.rereads.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        self.with_shard(user, |shard| shard.known_user(user).reread_number())
    }

    /// The knowledge of a load of the user that begins now.
    pub fn knowledge_of(&self, user: UserId) -> Knowledge {
        // Before the look at the user: giving up comes with a higher count.
        let given_up = self.given_up.load(Ordering::SeqCst);
        Knowledge {
            generation: self.generation(),
            reread: self.reread_count(user),
            given_up,
        }
    }

    /// Whether memory may keep a snapshot whose load began with this knowledge.
    pub fn may_keep(&self, user: UserId, began: Knowledge, snapshot: &Snapshot) -> bool {
        let facts = self.look_at_user(user, |known| {
            Some(StoreFacts {
                same_generation: self.generation() == began.generation,
                same_reread: known.reread_number() == began.reread
                    && self.gave_up_nothing_since(began),
                floors_met: known.met_by(snapshot, self.ttl, Instant::now()),
            })
        });
        facts.is_some_and(|facts| may_memory_store(&facts).is_ok())
    }

    /// Validates a snapshot from Redis for a load that began with this knowledge, and merges newer notified balances. Raises
    /// the floors to what it returns.
    pub fn take_redis<'a>(
        &self,
        user: UserId,
        (proven, began): (bool, Knowledge),
        snapshot: &'a Snapshot,
        now: Instant,
    ) -> Option<Cow<'a, Snapshot>> {
        let facts = RedisFacts {
            proven_at_start: proven,
            changes_missed: self.doubts_redis(),
            same_reread: self.gave_up_nothing_since(began),
            // Those of the user are filled in where the user is looked at.
            ledger_required: true,
            floors_met: false,
        };
        self.with_shard(user, |shard| {
            let known = shard.known_user(user);
            let newest = known.brought_up(facts, began.reread, snapshot, self.ttl, now)?;
            self.raise_shown(shard, user, &newest, now);
            Some(newest)
        })
    }

    /// Returns the highest seq that a notification of the last `floor_ttl` named, and when; for the audit's log line.
    pub fn last_announced(&self, user: UserId, asset: AssetId) -> Option<(Seq, Instant)> {
        let told = self.look_at_user(user, |known| {
            let mut floors = known.change?.notified.iter();
            floors.find(|floor| floor.0 == asset).copied()
        });
        told.map(|(_, seq, told)| (seq, told))
    }

    /// Records the changes that notifications announced for a user; a reader sees all of them or none. Returns for each whether
    /// it was new.
    pub fn advance_user(&self, user: UserId, changes: &[BalanceChange]) -> Vec<bool> {
        let unknown = |change: &BalanceChange| matches!(change, BalanceChange::Unknown { .. });
        let rereads = if changes.iter().any(unknown) {
            self.next_reread()
        } else {
            0
        };
        self.with_shard(user, |shard| {
            let news = self.change_user(shard, user, |of_user, now| {
                of_user.take_changes(changes, rereads, self.ttl, now)
            });
            let shown = shard.shown.value_of(user);
            let is_shown = |change: &BalanceChange| match *change {
                BalanceChange::Moved { asset, seq, .. } => shown
                    .and_then(|shown| shown.floor_of(asset))
                    .is_some_and(|shown| shown >= seq),
                BalanceChange::Unknown { .. } => false,
            };
            let news = news.into_iter().zip(changes);
            news.map(|(is_news, change)| is_news && !is_shown(change))
                .collect()
        })
    }

    /// A notification said that this asset (or any) of the user changed, not to what.
    pub fn require_reread(&self, user: UserId, asset: Option<AssetId>) {
        self.advance_user(user, &[BalanceChange::Unknown { asset }]);
    }

    #[cfg(test)]
    pub(crate) fn change_asset(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Seq,
        balance: Option<Balance>,
    ) -> bool {
        let change = BalanceChange::Moved {
            asset,
            seq,
            balance,
        };
        self.advance_user(user, &[change]) == [true]
    }

    /// The user was read from the ledger by a load that began when this many notifications without a seq were known.
    pub fn note_read(&self, user: UserId, rereads: u64) {
        if rereads > 0 {
            self.with_shard(user, |shard| {
                let given_up =
                    shard
                        .changes
                        .change_known(user, self.ttl, Instant::now(), |change| {
                            if let Some(reread) = &mut change.reread {
                                reread.read = reread.read.max(rereads);
                            }
                        });
                self.changes_were_given_up(given_up);
            });
        }
    }

    /// The snapshot was shown, or is about to be, by a read that began with this knowledge: nothing older may be.
    pub fn note_shown(&self, user: UserId, began: Knowledge, snapshot: &Snapshot) {
        if !snapshot.balances().is_empty() {
            let now = Instant::now();
            self.with_shard(user, |shard| {
                if shard.known_user(user).may_be_raised(began.reread) {
                    self.raise_shown(shard, user, snapshot, now);
                }
            });
        }
    }

    /// Whether what a read shows that began with this knowledge still binds later ones.
    pub fn may_raise(&self, user: UserId, began: Knowledge) -> bool {
        self.look_at_user(user, |known| known.may_be_raised(began.reread))
    }

    /// Forgets the user's floors, and discards loads that are under way: what they show is raised to floors no more.
    pub fn forget_user(&self, user: UserId) {
        // In one step: a load either raises what is removed then, or finds that it was forgotten.
        self.with_shard(user, |shard| {
            shard.changes.remove_user(user);
            shard.shown.remove_user(user);
            let count = self.next_reread();
            self.change_user(shard, user, |of_user, _| of_user.note_forgotten(count));
        });
    }

    /// Returns the users with changes of the last `floor_ttl`, their floors, and the balances that notifications carried.
    pub fn recent_changes(&self) -> Vec<(UserId, Floors, Snapshot)> {
        let (mut changes, now) = (Vec::new(), Instant::now());
        for shard in &self.shards {
            let shard = shard.lock();
            let users = shard.changes.iter().map(|(user, _)| user);
            let marks =
                users.map(|user| (user, shard.known_user(user).valid_changes(self.ttl, now)));
            let marks = marks.filter(|(_, mark)| mark.changed);
            changes.extend(marks.map(|(user, mark)| (user, mark.floors, mark.told)));
        }
        changes
    }

    /// How much is remembered, and how much was given up.
    pub fn use_of_memory(&self) -> Uses {
        let mut uses = Uses::default();
        for shard in &self.shards {
            let shard = shard.lock();
            uses.changes.add_size(shard.changes.current_size());
            uses.shown.add_size(shard.shown.current_size());
        }
        uses.changes.given_up = self.changes_given_up.load(Ordering::Relaxed);
        uses.shown.given_up = self.shown_given_up.load(Ordering::Relaxed);
        uses
    }

    /// Changes the user's entry, which is made if there is none.
    fn change_user<R>(
        &self,
        shard: &mut ChangeShard,
        user: UserId,
        change: impl FnOnce(&mut AnnouncedChanges, Instant) -> R,
    ) -> R {
        let now = Instant::now();
        let (result, given_up) = shard.changes.change_value(user, self.ttl, now, |of_user| {
            of_user.changed = Some(now);
            change(of_user, now)
        });
        self.changes_were_given_up(given_up);
        result
    }

    fn raise_shown(
        &self,
        shard: &mut ChangeShard,
        user: UserId,
        snapshot: &Snapshot,
        now: Instant,
    ) {
        let raise = |floors: &mut Floors| floors.raise_to(snapshot);
        let ((), given_up) = shard.shown.change_value(user, self.ttl, now, raise);
        // Redis and quorum reads remember what was shown too, so giving it up makes no read slower.
        if let Some(GivenUp { users, .. }) = given_up {
            let users = u64::try_from(users).unwrap_or(u64::MAX);
            self.shown_given_up.fetch_add(users, Ordering::Relaxed);
        }
    }

    /// The number of another notification without a seq.
    fn next_reread(&self) -> u64 {
        let before = self.rereads.fetch_add(1, Ordering::SeqCst);
        before.saturating_add(1)
    }

    fn gave_up_nothing_since(&self, began: Knowledge) -> bool {
        self.given_up.load(Ordering::SeqCst) == began.given_up
    }

    fn look_at_user<R: Default>(&self, user: UserId, then: impl FnOnce(&KnownUser<'_>) -> R) -> R {
        self.with_shard(user, |shard| then(&shard.known_user(user)))
    }

    fn with_shard<R: Default>(&self, user: UserId, then: impl FnOnce(&mut ChangeShard) -> R) -> R {
        let Some(shard) = self.shards.get(user.part_of(SHARDS)) else {
            return R::default();
        };
        then(&mut shard.lock())
    }
}
