//! The snapshot that is held of a user, and the form in which the map holds it.
//!
//! **Invariants.** Unpacking gives exactly what was packed, to the nanosecond: [`PackedEntry`] saves bytes, not precision.

use std::time::Duration;

use tokio::time::Instant;

use crate::render::RenderedSnapshot;

/// The snapshot that is held of a user.
#[derive(Debug, Clone)]
pub struct CacheEntry {
    pub held: RenderedSnapshot,
    /// When its time to live ends.
    pub until: Instant,
    /// When it was loaded, before the tier behind was asked.
    pub loaded: Instant,
    /// It came from the ledger itself: as of `loaded` nothing was newer.
    pub from_ledger: bool,
    /// See [`crate::protocol::ChangeLog::generation`].
    pub generation: u64,
    /// Invalidated: the snapshot is below a notification, and may only be merged with newer balances.
    pub invalidated: bool,
}

/// A packed entry: times count from the map's beginning, flags are the lowest bits of the generation.
#[derive(Clone)]
pub(super) struct PackedEntry {
    held: RenderedSnapshot,
    until: i64,
    loaded: i64,
    generation_and_flags: u64,
}

const FROM_LEDGER: u64 = 1;
const INVALIDATED: u64 = 2;
const FLAG_BITS: u32 = 2;

impl PackedEntry {
    /// Packs; `base` is the map's beginning.
    pub(super) fn pack_entry(kept: CacheEntry, base: Instant) -> Self {
        let flag = |set, flag| if set { flag } else { 0 };
        Self {
            held: kept.held,
            until: nanos_since(base, kept.until),
            loaded: nanos_since(base, kept.loaded),
            generation_and_flags: kept.generation.wrapping_shl(FLAG_BITS)
                | flag(kept.from_ledger, FROM_LEDGER)
                | flag(kept.invalidated, INVALIDATED),
        }
    }

    pub(super) fn unpack_entry(self, base: Instant) -> CacheEntry {
        CacheEntry {
            until: instant_at(base, self.until),
            loaded: instant_at(base, self.loaded),
            from_ledger: self.generation_and_flags & FROM_LEDGER != 0,
            generation: self.generation_and_flags.wrapping_shr(FLAG_BITS),
            invalidated: self.generation_and_flags & INVALIDATED != 0,
            held: self.held,
        }
    }

    /// The allocator's bytes for the snapshot and its body.
    pub(super) const fn bytes_taken(&self) -> usize {
        self.held.bytes_taken()
    }
}

/// Nanoseconds from the base, negative before it: 292 years either way.
pub(super) fn nanos_since(base: Instant, moment: Instant) -> i64 {
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    match moment.checked_duration_since(base) {
        Some(after) => nanos(after),
        None => nanos(base.saturating_duration_since(moment)).saturating_neg(),
    }
}

fn instant_at(base: Instant, nanos: i64) -> Instant {
    let away = Duration::from_nanos(nanos.unsigned_abs());
    let moment = if nanos < 0 {
        base.checked_sub(away)
    } else {
        base.checked_add(away)
    };
    moment.unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Catalogue, Snapshot, UnixMillis};

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let base = Instant::now();
        let second = Duration::from_secs(1);
        let moments = [
            base,
            base.checked_sub(second).unwrap(),
            base.checked_add(second * 3_600 + Duration::from_nanos(1))
                .unwrap(),
        ];
        for (flags, moment) in (0..8).zip(moments.into_iter().cycle()) {
            let kept = CacheEntry {
                held: RenderedSnapshot::new(
                    &Catalogue::default(),
                    &Snapshot::default(),
                    UnixMillis(5),
                ),
                until: moment,
                loaded: base.checked_sub(second).unwrap(),
                from_ledger: flags & 1 != 0,
                generation: 7,
                invalidated: flags & 2 != 0,
            };
            let back = PackedEntry::pack_entry(kept.clone(), base).unpack_entry(base);
            assert_eq!((back.until, back.loaded), (kept.until, kept.loaded));
            assert_eq!(
                (back.from_ledger, back.invalidated, back.generation),
                (kept.from_ledger, kept.invalidated, 7)
            );
            assert_eq!(back.held.heard_at(), UnixMillis(5));
        }
    }

    #[test]
    fn a_slot_is_no_larger_than_it_was_measured_with() {
        assert_eq!(size_of::<PackedEntry>(), 56);
    }
}
