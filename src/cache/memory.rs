//! The memory tier: rendered snapshots in this process. The interface to moka is localized here.
//!
//! moka is the map (weights, expiry). Single flight, floors and the change lock are ours, because moka's own loads can put an old value
//! over a newer one and its own lock costs a second look-up (`docs/adr/0001`, `0012`).
//!
//! **Invariants.** Keyed by the whole user id. Only whole snapshots are held, and they only move forward: every change is decided under the
//! user's striped lock, where [`Memory::keep_merged`] asks its guard. Entries of an older generation count as absent. A thread's hot copy is
//! shown only while it equals the map's entry (`docs/adr/0013`).
//!
//! **Limits.** `memory.max_bytes`, of which at most a sixteenth for hot copies; an entry weighs what the allocator gives for it, moka's
//! part included. Up to 384 writes may be unweighed (moka's queue). An entry ends when `kept_for` passed without a read.

mod entry;
mod hot_copies;
mod striped_seqlock;

use std::{num::NonZero, sync::Arc, time::Duration};

use moka::sync::Cache;
use tokio::time::Instant;

pub use entry::CacheEntry;
use entry::PackedEntry;
use hot_copies::{EntryVersion, HotCopies};
use striped_seqlock::Stripes;

use crate::{
    domain::{
        AssetId, BalanceChange, BalanceOrigin, Catalogue, Seq, Snapshot, UserId, takes_place,
    },
    render::RenderedSnapshot,
    telemetry::{Evicted, Meters},
};

pub struct Memory {
    cache: Cache<UserId, PackedEntry>,
    stripes: Stripes,
    hot_copies: HotCopies,
    /// Nothing is held: it would be over before it is worth its place.
    off: bool,
    /// Above that the map is nearly full, and hears of each use.
    roomy_bytes: u64,
    catalogue: Arc<Catalogue>,
    /// Slots count time from here.
    base: Instant,
}

/// The size of an entry in moka, in the allocator's sizes: the key 32, its node 80 with a [`PackedEntry`] of 56, what it knows of it 64,
/// where it stands in its queues 48 and 32, the bucket 16 and its place in the table, which is between a third and two
/// thirds full, 11 to 23, and what it counts of its use about 4. Measured: `benches/results/memory.md`.
const ENTRY_BYTES: usize = 296;

/// Entries whose time is zero are not kept at all.
const WORTHLESS: Duration = Duration::from_millis(2);

fn weigh_entry(slot: &PackedEntry) -> u32 {
    u32::try_from(slot.bytes_taken().saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
}

impl Memory {
    /// Makes an empty memory of at most `max_bytes`. An entry ends when it was not read for `kept_for`, which covers its time
    /// to live and the time it may be shown as stale. Nothing is ever held where that is [`WORTHLESS`].
    pub fn new(
        max_bytes: u64,
        kept_for: Duration,
        catalogue: Arc<Catalogue>,
        meters: Arc<Meters>,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let hot_copies = HotCopies::new(max_bytes, threads);
        let max_bytes = max_bytes.saturating_sub(hot_copies.bytes_taken());
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, slot| weigh_entry(slot))
            .time_to_idle(kept_for)
            .eviction_listener(move |_, _, cause| match cause {
                moka::notification::RemovalCause::Expired => {
                    meters.count_eviction(Evicted::Expired);
                }
                moka::notification::RemovalCause::Size => meters.count_eviction(Evicted::Size),
                moka::notification::RemovalCause::Explicit
                | moka::notification::RemovalCause::Replaced => {}
            })
            .build();
        Self {
            cache,
            stripes: Stripes::default(),
            hot_copies,
            off: kept_for <= WORTHLESS,
            roomy_bytes: max_bytes.saturating_sub(max_bytes.wrapping_shr(3)),
            catalogue,
            base: Instant::now(),
        }
    }

    /// Nothing is ever held.
    pub const fn is_off(&self) -> bool {
        self.off
    }

    /// The user's entry in this generation, whether or not its time is over. This thread has it at hand from then on,
    /// unless it is invalidated, or the map nearly full.
    pub fn get_entry(&self, user: UserId, generation: u64) -> Option<CacheEntry> {
        let version = self.stripes.stable_version(user);
        let kept = self
            .last_known(user)
            .filter(|kept| kept.generation == generation)?;
        let copies = !kept.invalidated && self.cache.weighted_size() < self.roomy_bytes;
        if let Some(version) = version
            && copies
            && self.stripes.stable_version(user) == Some(version)
        {
            let until = entry::nanos_since(self.base, kept.until);
            let state = EntryVersion {
                version,
                generation,
            };
            self.hot_copies.put_copy(user, state, &kept.held, until);
        }
        Some(kept)
    }

    /// Shows what this thread has at hand of what is held of the user in this generation, not invalidated, with the time left: never
    /// none. One time in 256 it has nothing, so that the map hears of what is used.
    pub fn show_hot_copy<T>(
        &self,
        user: UserId,
        generation: u64,
        now: Instant,
        show: impl FnOnce(RenderedSnapshot<&[u8]>, Duration) -> T,
    ) -> Option<T> {
        let version = self.stripes.stable_version(user)?;
        let now = entry::nanos_since(self.base, now);
        let state = EntryVersion {
            version,
            generation,
        };
        self.hot_copies.show_copy(user, state, |held, until| {
            let left = u64::try_from(until.saturating_sub(now)).ok()?;
            (left > 0).then(|| show(held, Duration::from_nanos(left)))
        })
    }

    /// The reads of this user that a read stands for which [`Memory::show_hot_copy`] did not answer: asked before [`Memory::get_entry`].
    pub fn reads_behind(&self, user: UserId, generation: u64) -> u32 {
        self.stripes.stable_version(user).map_or(1, |version| {
            let state = EntryVersion {
                version,
                generation,
            };
            self.hot_copies.reads_behind(user, state)
        })
    }

    /// The snapshot that was held last, of whatever generation: for stale answers only.
    pub fn last_known(&self, user: UserId) -> Option<CacheEntry> {
        if self.off {
            return None;
        }
        self.cache
            .get(&user)
            .map(|slot| slot.unpack_entry(self.base))
    }

    /// Keeps it, which shows this snapshot, merged with what is held already, if the guard still allows it: the guard runs
    /// under the user's lock, and gets the snapshot that is about to be kept. Returns the snapshot that is held then.
    pub fn keep_merged(
        &self,
        user: UserId,
        new: &CacheEntry,
        snapshot: &Snapshot,
        guard: impl FnOnce(&Snapshot) -> bool,
    ) -> Option<RenderedSnapshot> {
        let mut kept = None;
        self.change_entry(user, |there| {
            let there = there.filter(|there| there.generation == new.generation);
            // The next load mostly replaces the same snapshot.
            let other = there.filter(|there| there.held != new.held);
            // At equal seq the word of the later load counts.
            let merged = other.map(|other| {
                let held = other.held.read_snapshot();
                if other.loaded > new.loaded {
                    held.merge_with(snapshot)
                } else {
                    snapshot.merge_with(&held)
                }
            });
            let new = match merged {
                Some(merged) if merged != *snapshot => {
                    guard(&merged).then(|| self.with_snapshot(new, &merged))
                }
                Some(_) | None => guard(snapshot).then(|| new.clone()),
            }?;
            kept = Some(new.held.clone());
            Some(new)
        });
        kept
    }

    /// One user's changes take effect in one step: what is held moves forward in place, and is invalidated where a change says less
    /// than that. What is not held stays so: some balances are no snapshot. A fill that is being decided is waited for.
    pub fn advance_user(&self, user: UserId, changes: &[BalanceChange]) {
        self.change_entry(user, |there| {
            let there = there?;
            let held = there.held.read_snapshot();
            let carried = changes.iter().filter_map(|change| match change {
                BalanceChange::Moved { balance, .. } => *balance,
                BalanceChange::Unknown { .. } => None,
            });
            let carried: Vec<_> = carried
                .filter(|balance| is_below(&held, balance.asset, balance.seq))
                .collect();
            let moves = !carried.is_empty();
            let newest = if moves {
                held.merge_with(&Snapshot::new(carried))
            } else {
                held
            };
            let doubts = changes.iter().any(|change| match change {
                BalanceChange::Moved { asset, seq, .. } => is_below(&newest, *asset, *seq),
                BalanceChange::Unknown { .. } => true,
            });
            let there = CacheEntry {
                invalidated: there.invalidated || doubts,
                ..there
            };
            if moves {
                Some(self.with_snapshot(&there, &newest))
            } else {
                doubts.then_some(there)
            }
        });
    }

    /// Balances that were shown and not kept: what is held moves forward in place, for nothing older may be shown. The guard runs
    /// under the user's lock.
    pub fn raise_shown(&self, user: UserId, shown: &Snapshot, guard: impl FnOnce() -> bool) {
        self.change_entry(user, |there| {
            let there = there.filter(|_| guard())?;
            let held = there.held.read_snapshot();
            let merged = shown.merge_with(&held);
            (merged != held).then(|| self.with_snapshot(&there, &merged))
        });
    }

    /// Changes one user's entry under its lock; none leaves it as it is.
    fn change_entry(
        &self,
        user: UserId,
        to: impl FnOnce(Option<CacheEntry>) -> Option<CacheEntry>,
    ) {
        if self.off {
            return;
        }
        let _changing = self.stripes.lock_stripe(user);
        if let Some(kept) = to(self.last_known(user)) {
            self.cache
                .insert(user, PackedEntry::pack_entry(kept, self.base));
        }
    }

    fn with_snapshot(&self, there: &CacheEntry, snapshot: &Snapshot) -> CacheEntry {
        CacheEntry {
            held: RenderedSnapshot::new(&self.catalogue, snapshot, there.held.heard_at()),
            ..there.clone()
        }
    }

    /// Drops what is held. A fill that is being decided is waited for, and dropped.
    pub fn forget_user(&self, user: UserId) {
        let _changing = self.stripes.lock_stripe(user);
        self.cache.invalidate(&user);
    }

    /// Drops everything. What is held already counts for nothing if the generation rose before.
    pub fn clear_all(&self) {
        self.cache.invalidate_all();
    }

    /// Entries and bytes held, brought up to date.
    pub fn measure_size(&self) -> (u64, u64) {
        self.cache.run_pending_tasks();
        (self.cache.entry_count(), self.cache.weighted_size())
    }
}

fn is_below(held: &Snapshot, asset: AssetId, seq: Seq) -> bool {
    takes_place(
        held.get(asset).map(|balance| balance.seq),
        seq,
        BalanceOrigin::Notification,
    )
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("entries", &self.cache.entry_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
