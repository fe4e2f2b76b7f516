//! The memory tier: snapshots in this process, rendered. The interface to moka is localized here.
//!
//! moka is the map: weights, expiry, one writer at a time per key. The single flight and the floors are ours
//! (`read::flight`, [`crate::floor`]), because moka's own loads can put an old value over a newer one.
//!
//! **Invariants.** Keyed by the whole user id. Only whole snapshots are held. A change is decided under the user's own lock:
//! what is held only ever moves forward, and [`Memory::keep`] asks its guard there. What is from an older generation is
//! not there.
//!
//! **Limits.** `memory.max_bytes` as weighed; each entry ends by itself.

use std::{
    sync::Arc,
    time::{Duration, Instant as StdInstant},
};

use moka::{Expiry, ops::compute::Op as Compute, sync::Cache};
use tokio::time::Instant;

use crate::{
    domain::{AssetId, Balance, Catalogue, Seq, Snapshot, UserId},
    render::Held,
    telemetry::{Evicted, Meters},
};

/// What is held of a user.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The snapshot and its body.
    pub held: Arc<Held>,
    /// How long it may be shown.
    pub until: Instant,
    /// When it was loaded, before the tier behind was asked.
    pub loaded: Instant,
    /// It came from the ledger itself: as of `loaded` nothing was newer.
    pub from_ledger: bool,
    /// See [`crate::floor::Marks::generation`].
    pub generation: u64,
    /// Below what was notified: it may not be shown as good, only be merged with.
    pub doubted: bool,
}

/// The memory tier.
pub struct Memory {
    cache: Cache<UserId, Kept>,
    catalogue: Arc<Catalogue>,
}

struct ByEntry {
    /// How much longer than `until` an entry is kept for `stale`.
    stale_for: Duration,
}

impl Expiry<UserId, Kept> for ByEntry {
    fn expire_after_create(&self, _: &UserId, kept: &Kept, _: StdInstant) -> Option<Duration> {
        Some(self.left(kept))
    }

    fn expire_after_update(
        &self,
        _: &UserId,
        kept: &Kept,
        _: StdInstant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.left(kept))
    }
}

impl ByEntry {
    fn left(&self, kept: &Kept) -> Duration {
        kept.until
            .saturating_duration_since(Instant::now())
            .saturating_add(self.stale_for)
    }
}

/// What an entry takes beside its balances and its body: moka's node and ours, measured with a counting allocator.
const ENTRY_BYTES: usize = 384;

fn weigh(kept: &Kept) -> u32 {
    let balances = std::mem::size_of_val(kept.held.snapshot.balances());
    let bytes = balances
        .saturating_add(kept.held.rendered.body.len())
        .saturating_add(ENTRY_BYTES);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Memory {
    /// Empty, for at most `max_bytes`. Entries stay `stale_for` longer than they may be shown as good.
    #[must_use]
    pub fn new(
        max_bytes: u64,
        stale_for: Duration,
        catalogue: Arc<Catalogue>,
        meters: Arc<Meters>,
    ) -> Self {
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, kept| weigh(kept))
            .expire_after(ByEntry { stale_for })
            .eviction_listener(move |_, _, cause| match cause {
                moka::notification::RemovalCause::Expired => meters.evicted(Evicted::Expired),
                moka::notification::RemovalCause::Size => meters.evicted(Evicted::Size),
                moka::notification::RemovalCause::Explicit
                | moka::notification::RemovalCause::Replaced => {}
            })
            .build();
        Self { cache, catalogue }
    }

    /// What is held of the user in this generation, whether or not its time is over.
    #[must_use]
    pub fn get(&self, user: UserId, generation: u64) -> Option<Kept> {
        self.cache
            .get(&user)
            .filter(|kept| kept.generation == generation)
    }

    /// What was held last, of whatever generation: for stale answers only.
    #[must_use]
    pub fn last_known(&self, user: UserId) -> Option<Kept> {
        self.cache.get(&user)
    }

    /// Keeps it, merged with what is held already, if the guard still allows it: the guard runs while nobody else can change
    /// this user's entry, and is given what is about to be kept. Returns what is held then.
    pub fn keep(
        &self,
        user: UserId,
        new: &Kept,
        guard: impl FnOnce(&Snapshot) -> bool,
    ) -> Option<Arc<Held>> {
        let mut kept = None;
        self.cache.entry(user).and_compute_with(|there| {
            let there = there
                .map(moka::Entry::into_value)
                .filter(|there| there.generation == new.generation);
            let merged = there
                .as_ref()
                .map(|there| there.held.snapshot.merge(&new.held.snapshot));
            let held = match merged {
                Some(merged) if merged != new.held.snapshot => {
                    Arc::new(Held::new(&self.catalogue, merged, new.held.heard_at))
                }
                Some(_) | None => Arc::clone(&new.held),
            };
            if guard(&held.snapshot) {
                kept = Some(Arc::clone(&held));
                Compute::Put(Kept {
                    held,
                    ..new.clone()
                })
            } else {
                Compute::Nop
            }
        });
        kept
    }

    /// A newer balance: what is held moves forward in place. What is not held stays so: one balance is no snapshot.
    pub fn forward(&self, user: UserId, balance: &Balance) {
        self.cache
            .entry(user)
            .and_compute_with(|there| match there.map(moka::Entry::into_value) {
                Some(there) if is_below(&there, balance.asset, balance.seq) => {
                    let snapshot = there.held.snapshot.merge(&Snapshot::new(vec![*balance]));
                    let heard_at = there.held.heard_at;
                    Compute::Put(Kept {
                        held: Arc::new(Held::new(&self.catalogue, snapshot, heard_at)),
                        ..there
                    })
                }
                Some(_) | None => Compute::Nop,
            });
    }

    /// Newer balances that were shown and not kept: what is held moves forward in place, for nothing older may be shown.
    pub fn raise(&self, user: UserId, shown: &Snapshot) {
        self.cache.entry(user).and_compute_with(|there| {
            let Some(there) = there.map(moka::Entry::into_value) else {
                return Compute::Nop;
            };
            let merged = there.held.snapshot.merge(shown);
            if merged == there.held.snapshot {
                return Compute::Nop;
            }
            let held = Held::new(&self.catalogue, merged, there.held.heard_at);
            Compute::Put(Kept {
                held: Arc::new(held),
                ..there
            })
        });
    }

    /// What is held is not shown any more if it is below that seq.
    pub fn doubt_below(&self, user: UserId, asset: AssetId, seq: Seq) {
        self.doubt(user, |kept| is_below(kept, asset, seq));
    }

    /// What is held is not shown any more. A fill that is being decided is waited for, and doubted.
    pub fn doubt_all(&self, user: UserId) {
        self.doubt(user, |_| true);
    }

    fn doubt(&self, user: UserId, when: impl FnOnce(&Kept) -> bool) {
        self.cache
            .entry(user)
            .and_compute_with(|there| match there.map(moka::Entry::into_value) {
                Some(there) if !there.doubted && when(&there) => Compute::Put(Kept {
                    doubted: true,
                    ..there
                }),
                Some(_) | None => Compute::Nop,
            });
    }

    /// Drops what is held. A fill that is being decided is waited for, and dropped.
    pub fn forget(&self, user: UserId) {
        self.cache
            .entry(user)
            .and_compute_with(|there| match there {
                Some(_) => Compute::Remove,
                None => Compute::Nop,
            });
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

fn is_below(kept: &Kept, asset: AssetId, seq: Seq) -> bool {
    kept.held
        .snapshot
        .get(asset)
        .is_none_or(|balance| balance.seq < seq)
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
        Memory::new(1 << 20, Duration::ZERO, Arc::default(), Meters::new())
    }

    fn kept(generation: u64, balances: Vec<Balance>) -> Kept {
        let held = Arc::new(Held::new(
            &Catalogue::default(),
            Snapshot::new(balances),
            UnixMillis(0),
        ));
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
                .snapshot
                .balances()
                .iter()
                .map(|balance| balance.seq.get())
                .collect(),
        )
    }

    fn user() -> UserId {
        UserId::new(7).unwrap()
    }

    #[test]
    fn what_is_held_only_moves_forward() {
        let memory = memory();
        memory.keep(user(), &kept(1, vec![balance(1, 5), balance(2, 5)]), |_| {
            true
        });
        memory.keep(user(), &kept(1, vec![balance(1, 3), balance(2, 8)]), |_| {
            true
        });
        assert_eq!(seqs(&memory, 1), Some(vec![5, 8]));
        memory.forward(user(), &balance(1, 4));
        memory.forward(user(), &balance(1, 9));
        memory.forward(user(), &balance(3, 1));
        assert_eq!(seqs(&memory, 1), Some(vec![9, 8, 1]));
        let body = memory.get(user(), 1).unwrap().held.rendered.body.clone();
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
        memory.keep(user(), &kept(1, vec![balance(1, 5), balance(2, 5)]), |_| {
            true
        });
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
        memory.keep(user(), &kept(1, vec![balance(1, 5)]), |_| true);
        memory.doubt_below(user(), asset, seq(5));
        assert_eq!(doubted(&memory), Some(false));
        memory.doubt_below(user(), other, seq(1));
        assert_eq!(
            doubted(&memory),
            Some(true),
            "an asset with a floor is missing"
        );
        memory.keep(user(), &kept(1, vec![balance(2, 1)]), |_| true);
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
        memory.keep(user(), &kept(1, vec![balance(1, 5)]), |_| true);
        assert_eq!(seqs(&memory, 2), None);
        memory.keep(user(), &kept(2, vec![balance(1, 3)]), |_| true);
        assert_eq!(
            seqs(&memory, 2),
            Some(vec![3]),
            "nothing of the older generation is merged in"
        );
        assert!(
            memory
                .keep(user(), &kept(2, vec![balance(1, 9)]), |_| false)
                .is_none()
        );
        assert_eq!(seqs(&memory, 2), Some(vec![3]));
        memory.forget(user());
        assert_eq!(seqs(&memory, 2), None);
    }
}
