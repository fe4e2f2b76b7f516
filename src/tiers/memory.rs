//! The memory tier: snapshots in this process, rendered. The interface to moka is localized here.
//!
//! moka is the map: weights, expiry. The single flight and the floors are ours (`read::flight`, [`crate::floor`]), because
//! moka's own loads can put an old value over a newer one; so is the lock under which a change is decided, because moka's own
//! (`and_compute_with`) looks for a lock of the key in a second map each time (`docs/adr/0012`).
//!
//! **Invariants.** Keyed by the whole user id. Only whole snapshots are held. A change is decided under the user's lock, which
//! some others share, and nothing is put into the map without it: what is held only ever moves forward, and [`Memory::keep`] asks
//! its guard there. What is from an older generation is not there.
//!
//! **Limits.** `memory.max_bytes`, kept within a tenth by what the process takes of the system: each entry weighs what it
//! takes of the allocator, moka's part included. What is written and not yet weighed is at most moka's queue of 384
//! entries; who finds it full does the work. An entry ends `kept_for` after nobody asked for it any more: moka's expiry by
//! last use takes no room of its own, its timers take 48 bytes of each entry.

mod kept;

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use kept::Kept;
use kept::Slot;

use crate::{
    domain::{AssetId, Balance, Catalogue, Seq, Snapshot, UserId},
    render::Held,
    telemetry::{Evicted, Meters},
};

/// The memory tier.
pub struct Memory {
    cache: Cache<UserId, Slot>,
    locks: Vec<Mutex<()>>,
    catalogue: Arc<Catalogue>,
    /// Slots count time from here.
    base: Instant,
}

/// What moka takes for an entry, in the allocator's sizes: the key 32, its node 80 with a [`Slot`] of 56, what it knows of it 64,
/// where it stands in its queues 48 and 32, the bucket 16 and its place in the table, which is between a third and two
/// thirds full, 11 to 23, and what it counts of its use about 4. Measured: `benches/results/memory.md`.
const ENTRY_BYTES: usize = 296;

/// Changes at once, of users that share no lock. A change takes about a microsecond.
const LOCKS: usize = 256;

fn weigh(slot: &Slot) -> u32 {
    u32::try_from(slot.taken().saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
}

impl Memory {
    /// Empty, for at most `max_bytes`. Entries stay until nobody has asked for them for `kept_for`: at least as long as any
    /// may be shown, and longer where what is no longer good may still be shown as stale.
    #[must_use]
    pub fn new(
        max_bytes: u64,
        kept_for: Duration,
        catalogue: Arc<Catalogue>,
        meters: Arc<Meters>,
    ) -> Self {
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, slot| weigh(slot))
            .time_to_idle(kept_for)
            .eviction_listener(move |_, _, cause| match cause {
                moka::notification::RemovalCause::Expired => meters.evicted(Evicted::Expired),
                moka::notification::RemovalCause::Size => meters.evicted(Evicted::Size),
                moka::notification::RemovalCause::Explicit
                | moka::notification::RemovalCause::Replaced => {}
            })
            .build();
        Self {
            cache,
            locks: std::iter::repeat_with(Mutex::default).take(LOCKS).collect(),
            catalogue,
            base: Instant::now(),
        }
    }

    /// What is held of the user in this generation, whether or not its time is over.
    #[must_use]
    pub fn get(&self, user: UserId, generation: u64) -> Option<Kept> {
        self.last_known(user)
            .filter(|kept| kept.generation == generation)
    }

    /// What was held last, of whatever generation: for stale answers only.
    #[must_use]
    pub fn last_known(&self, user: UserId) -> Option<Kept> {
        self.cache.get(&user).map(|slot| slot.unpack(self.base))
    }

    /// Keeps it, which shows this snapshot, merged with what is held already, if the guard still allows it: the guard runs while
    /// nobody else can change this user's entry, and is given what is about to be kept. Returns what is held then.
    pub fn keep(
        &self,
        user: UserId,
        new: &Kept,
        snapshot: &Snapshot,
        guard: impl FnOnce(&Snapshot) -> bool,
    ) -> Option<Held> {
        let mut kept = None;
        self.change(user, |there| {
            let there = there.filter(|there| there.generation == new.generation);
            // What is loaded again is mostly what was held.
            let other = there.filter(|there| there.held != new.held);
            let merged = other.map(|other| other.held.snapshot().merge(snapshot));
            let new = match merged {
                Some(merged) if merged != *snapshot => {
                    guard(&merged).then(|| self.with(new, &merged))
                }
                Some(_) | None => guard(snapshot).then(|| new.clone()),
            }?;
            kept = Some(new.held.clone());
            Some(new)
        });
        kept
    }

    /// A newer balance: what is held moves forward in place. What is not held stays so: one balance is no snapshot.
    pub fn forward(&self, user: UserId, balance: &Balance) {
        self.change(user, |there| {
            let there = there?;
            let held = there.held.snapshot();
            is_below(&held, balance.asset, balance.seq)
                .then(|| self.with(&there, &held.merge(&Snapshot::new(vec![*balance]))))
        });
    }

    /// Newer balances that were shown and not kept: what is held moves forward in place, for nothing older may be shown.
    pub fn raise(&self, user: UserId, shown: &Snapshot) {
        self.change(user, |there| {
            let there = there?;
            let held = there.held.snapshot();
            let merged = held.merge(shown);
            (merged != held).then(|| self.with(&there, &merged))
        });
    }

    /// What is held is not shown any more if it is below that seq.
    pub fn doubt_below(&self, user: UserId, asset: AssetId, seq: Seq) {
        self.doubt(user, |kept| is_below(&kept.held.snapshot(), asset, seq));
    }

    /// What is held is not shown any more. A fill that is being decided is waited for, and doubted.
    pub fn doubt_all(&self, user: UserId) {
        self.doubt(user, |_| true);
    }

    fn doubt(&self, user: UserId, when: impl FnOnce(&Kept) -> bool) {
        self.change(user, |there| {
            there
                .filter(|there| !there.doubted && when(there))
                .map(|there| Kept {
                    doubted: true,
                    ..there
                })
        });
    }

    /// Decides about one user's entry while nobody else can change it: none leaves it as it is.
    fn change(&self, user: UserId, to: impl FnOnce(Option<Kept>) -> Option<Kept>) {
        self.alone(user, || {
            if let Some(kept) = to(self.last_known(user)) {
                self.cache.insert(user, Slot::pack(kept, self.base));
            }
        });
    }

    fn alone(&self, user: UserId, then: impl FnOnce()) {
        let locks = u64::try_from(self.locks.len()).unwrap_or(1);
        let at = user.get().unsigned_abs().checked_rem(locks).unwrap_or(0);
        let lock = usize::try_from(at).ok().and_then(|at| self.locks.get(at));
        let _locked = lock.map(Mutex::lock);
        then();
    }

    fn with(&self, there: &Kept, snapshot: &Snapshot) -> Kept {
        Kept {
            held: Held::new(&self.catalogue, snapshot, there.held.heard_at()),
            ..there.clone()
        }
    }

    /// Drops what is held. A fill that is being decided is waited for, and dropped.
    pub fn forget(&self, user: UserId) {
        self.alone(user, || self.cache.invalidate(&user));
    }

    /// Drops everything. What is held already counts for nothing if the generation rose before.
    pub fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// Entries and bytes held, brought up to date.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        self.cache.run_pending_tasks();
        (self.cache.entry_count(), self.cache.weighted_size())
    }
}

fn is_below(held: &Snapshot, asset: AssetId, seq: Seq) -> bool {
    held.get(asset).is_none_or(|balance| balance.seq < seq)
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("entries", &self.cache.entry_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Amount, UnixMillis};

    fn balance(asset: i32, seq: i64) -> Balance {
        Balance {
            asset: AssetId::new(asset).unwrap(),
            seq: Seq::new(seq).unwrap(),
            avail: Amount::from_raw(seq),
            frozen: Amount::from_raw(0),
            updated_at: None,
            said_at: UnixMillis(0),
        }
    }

    fn memory() -> Memory {
        let kept_for = Duration::from_secs(10);
        Memory::new(1 << 20, kept_for, Arc::default(), Meters::new())
    }

    fn kept(generation: u64, balances: Vec<Balance>) -> Kept {
        let snapshot = Snapshot::new(balances);
        let held = Held::new(&Catalogue::default(), &snapshot, UnixMillis(0));
        let until = Instant::now().checked_add(Duration::from_secs(10)).unwrap();
        Kept {
            held,
            until,
            loaded: Instant::now(),
            from_ledger: false,
            generation,
            doubted: false,
        }
    }

    fn seqs(memory: &Memory, generation: u64) -> Option<Vec<i64>> {
        let kept = memory.get(user(), generation)?;
        Some(
            kept.held
                .snapshot()
                .balances()
                .iter()
                .map(|balance| balance.seq.get())
                .collect(),
        )
    }

    fn user() -> UserId {
        UserId::new(7).unwrap()
    }

    fn keep(memory: &Memory, kept: &Kept, guard: impl FnOnce(&Snapshot) -> bool) -> Option<Held> {
        memory.keep(user(), kept, &kept.held.snapshot(), guard)
    }

    #[test]
    fn what_is_held_only_moves_forward() {
        let memory = memory();
        keep(
            &memory,
            &kept(1, vec![balance(1, 5), balance(2, 5)]),
            |_| true,
        );
        keep(
            &memory,
            &kept(1, vec![balance(1, 3), balance(2, 8)]),
            |_| true,
        );
        assert_eq!(seqs(&memory, 1), Some(vec![5, 8]));
        memory.forward(user(), &balance(1, 4));
        memory.forward(user(), &balance(1, 9));
        memory.forward(user(), &balance(3, 1));
        assert_eq!(seqs(&memory, 1), Some(vec![9, 8, 1]));
        let body = memory.get(user(), 1).unwrap().held.body();
        assert!(
            std::str::from_utf8(&body).unwrap().contains(r#""seq":9"#),
            "the body moves with it"
        );
    }

    #[test]
    fn what_was_shown_and_not_kept_raises_what_is_held_and_makes_no_snapshot() {
        let memory = memory();
        memory.raise(user(), &Snapshot::new(vec![balance(1, 9)]));
        assert_eq!(seqs(&memory, 1), None);
        keep(
            &memory,
            &kept(1, vec![balance(1, 5), balance(2, 5)]),
            |_| true,
        );
        memory.raise(user(), &Snapshot::new(vec![balance(1, 9), balance(2, 3)]));
        assert_eq!(seqs(&memory, 1), Some(vec![9, 5]));
    }

    #[test]
    fn a_notification_does_not_make_a_snapshot_of_one_asset() {
        let memory = memory();
        memory.forward(user(), &balance(1, 4));
        assert_eq!(seqs(&memory, 1), None);
    }

    #[test]
    fn what_is_below_a_floor_is_doubted_until_it_is_loaded_again() {
        let (asset, other) = (AssetId::new(1).unwrap(), AssetId::new(2).unwrap());
        let seq = |number| Seq::new(number).unwrap();
        let doubted = |memory: &Memory| memory.get(user(), 1).map(|kept| kept.doubted);
        let memory = memory();
        keep(&memory, &kept(1, vec![balance(1, 5)]), |_| true);
        memory.doubt_below(user(), asset, seq(5));
        assert_eq!(doubted(&memory), Some(false));
        memory.doubt_below(user(), other, seq(1));
        assert_eq!(
            doubted(&memory),
            Some(true),
            "an asset with a floor is missing"
        );
        keep(&memory, &kept(1, vec![balance(2, 1)]), |_| true);
        assert_eq!(
            (doubted(&memory), seqs(&memory, 1)),
            (Some(false), Some(vec![5, 1]))
        );
        memory.doubt_all(user());
        assert_eq!(doubted(&memory), Some(true));
    }

    #[test]
    fn an_older_generation_is_not_there_and_the_guard_is_asked() {
        let memory = memory();
        keep(&memory, &kept(1, vec![balance(1, 5)]), |_| true);
        assert_eq!(seqs(&memory, 2), None);
        keep(&memory, &kept(2, vec![balance(1, 3)]), |_| true);
        assert_eq!(
            seqs(&memory, 2),
            Some(vec![3]),
            "nothing of the older generation is merged in"
        );
        assert!(keep(&memory, &kept(2, vec![balance(1, 9)]), |_| false).is_none());
        assert_eq!(seqs(&memory, 2), Some(vec![3]));
        memory.forget(user());
        assert_eq!(seqs(&memory, 2), None);
    }
}
