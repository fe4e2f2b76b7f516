//! Per-thread copies of recently served snapshots, checked before moka.
//!
//! moka finds an entry in about nine cache lines and notes each use; a place here is a row of lines at an address that follows
//! from the user, with everything that a hit shows. `docs/adr/0013` says what that saves.
//!
//! **Invariants.** A copy is shown only where the map could show it at that moment: a place is good only at the version of its
//! user's stripe at which it was copied, and every change of an entry there raises the version before and after (see
//! [`super::striped_seqlock`]). Time and generation are compared as they are for what the map holds; none is invalidated.
//!
//! **Limits.** A power of two of places for each thread that asks, as many as fit into a share of `memory.max_bytes`, which the
//! map goes without. An entry that does not fit into a place is shown by the map. One use in 256 goes to the map all the
//! same, whose choice of what to drop lives on them.

use std::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{domain::UserId, render::RenderedSnapshot};

/// A place: lines that lie together.
const PLACE: usize = 512;
/// Owner, user, version, generation and end, then the length of the piece, then the piece.
const HEAD: usize = 5 * WORD + 2;
const WORD: usize = size_of::<u64>();
const LINE: usize = 64;
/// Cache lines of a copy: enough for three assets.
const LINES: usize = 6;
/// No thread has more.
const PLACES_MAX: u64 = 16_384;
/// Uses of which one goes to the map: as many as a `u8` can count.
const TURNS: u32 = 256;
/// The part of `memory.max_bytes` that all threads have together.
const SHARE: u64 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryVersion {
    /// The version of the user's stripe.
    pub(super) version: u64,
    /// The generation of the change log.
    pub(super) generation: u64,
}

/// An entry owner's knowledge of the places of all threads.
pub(super) struct HotCopies {
    /// Tells the entries of one map from those of another.
    owner: u64,
    /// Places of a thread: a power of two, or none.
    places: u64,
    threads: u64,
}

thread_local! {
    static PLACES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static TURN: Cell<u8> = const { Cell::new(0) };
}

static OWNERS: AtomicU64 = AtomicU64::new(1);

impl HotCopies {
    /// For a map of so many bytes, asked by so many threads.
    pub(super) fn new(max_bytes: u64, threads: usize) -> Self {
        let threads = u64::try_from(threads).unwrap_or(u64::MAX).max(1);
        let place = u64::try_from(PLACE).unwrap_or(u64::MAX);
        let each = threads.saturating_mul(place).saturating_mul(SHARE);
        let fit = max_bytes.checked_div(each).unwrap_or(0).min(PLACES_MAX);
        let power = |exponent| 1_u64.wrapping_shl(exponent);
        Self {
            owner: OWNERS.fetch_add(1, Ordering::Relaxed),
            places: fit.checked_ilog2().map_or(0, power),
            threads,
        }
    }

    /// The bytes that all threads take.
    pub(super) fn bytes_taken(&self) -> u64 {
        let place = u64::try_from(PLACE).unwrap_or(u64::MAX);
        self.places
            .saturating_mul(place)
            .saturating_mul(self.threads)
    }

    /// Shows what this thread has of the user in that state: what it is, and when it ends.
    pub(super) fn show_copy<T>(
        &self,
        user: UserId,
        state: EntryVersion,
        show: impl FnOnce(RenderedSnapshot<&[u8]>, i64) -> Option<T>,
    ) -> Option<T> {
        let turn = TURN.get().wrapping_add(1);
        TURN.set(turn);
        // Told to the map.
        if turn == 0 {
            return None;
        }
        PLACES.with(|places| {
            let places = places.try_borrow().ok()?;
            let place = places.get(self.place_of(user)..)?.first_chunk::<PLACE>()?;
            // All lines are asked for at once, before it is known which of them are needed.
            let lines = place.iter().step_by(LINE).take(LINES);
            std::hint::black_box(lines.fold(0, |all, byte| all ^ byte));
            let [label @ .., until] = place_words(place);
            (label == self.place_label(user, state)).then_some(())?;
            show(
                RenderedSnapshot::from_piece(place_piece(place)?),
                until.cast_signed(),
            )
        })
    }

    /// The reads that this one stands for, which [`HotCopies::show_copy`] did not answer: [`TURNS`] where this thread has the user and it was
    /// the map's turn, else 1.
    pub(super) fn reads_behind(&self, user: UserId, state: EntryVersion) -> u32 {
        let passed_over = TURN.get() == 0
            && PLACES.with(|places| {
                let places = places.try_borrow().ok()?;
                let place = places.get(self.place_of(user)..)?.first_chunk::<PLACE>()?;
                let [label @ .., _] = place_words(place);
                (label == self.place_label(user, state)).then_some(())
            }) == Some(());
        if passed_over { TURNS } else { 1 }
    }

    /// Copies an entry that the map showed in that state.
    pub(super) fn put_copy(
        &self,
        user: UserId,
        state: EntryVersion,
        held: &RenderedSnapshot,
        until: i64,
    ) {
        let piece = held.whole_piece();
        let Ok(len) = u16::try_from(piece.len()) else {
            return;
        };
        if self.places == 0 || piece.len() > PLACE.saturating_sub(HEAD) {
            return;
        }
        PLACES.with(|places| {
            let Ok(mut places) = places.try_borrow_mut() else {
                return;
            };
            if places.is_empty() {
                let each = usize::try_from(self.places).unwrap_or(0);
                // Zeros come from the system as they are touched.
                *places = vec![0; each.saturating_mul(PLACE)];
            }
            let place = places.get_mut(self.place_of(user)..);
            let Some(place) = place.and_then(<[u8]>::first_chunk_mut::<PLACE>) else {
                return;
            };
            let [owner, id, version, generation] = self.place_label(user, state);
            let all = [owner, id, version, generation, until.cast_unsigned()];
            if place_words(place) == all {
                return;
            }
            let bytes = all.into_iter().flat_map(u64::to_le_bytes);
            let bytes = bytes.chain(len.to_le_bytes());
            place
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = from);
            let room = place.get_mut(HEAD..);
            if let Some(room) = room.and_then(|room| room.get_mut(..piece.len())) {
                room.copy_from_slice(piece);
            }
        });
    }

    /// The bytes of a place: never zeros, which stand for an empty place.
    const fn place_label(&self, user: UserId, state: EntryVersion) -> [u64; 4] {
        let EntryVersion {
            version,
            generation,
        } = state;
        let id = user.get().cast_unsigned();
        [self.owner, id, version, generation]
    }

    /// Where the user's place begins: neighbouring ids stand far apart, and hardly ever in one place.
    fn place_of(&self, user: UserId) -> usize {
        let hash = user
            .get()
            .cast_unsigned()
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = hash.checked_shr(u64::BITS.saturating_sub(self.places.trailing_zeros()));
        usize::try_from(place.unwrap_or(0)).map_or(usize::MAX, |place| place.saturating_mul(PLACE))
    }
}

fn place_words(place: &[u8; PLACE]) -> [u64; 5] {
    let (words, _) = place.as_chunks::<WORD>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    std::array::from_fn(|_| words.next().unwrap_or(0))
}

fn place_piece(place: &[u8; PLACE]) -> Option<&[u8]> {
    let (len, rest) = place.get(HEAD.saturating_sub(2)..)?.split_first_chunk()?;
    rest.get(..usize::from(u16::from_le_bytes(*len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_together_have_a_sixteenth() {
        let copies = |max_bytes, threads| {
            let copies = HotCopies::new(max_bytes, threads);
            assert!(
                copies.bytes_taken() <= max_bytes / SHARE,
                "{max_bytes} {threads}"
            );
            copies.places
        };
        assert_eq!(copies(256 << 20, 2), 16_384);
        assert_eq!(copies(256 << 20, 64), 512);
        assert_eq!(copies(1 << 40, 2), 16_384, "no more");
        assert_eq!(copies(3 << 20, 2), 128, "a power of two");
        assert_eq!(copies(1 << 10, 2), 0);
        assert_eq!(copies(1 << 20, 0), 128);
    }

    #[test]
    fn every_user_has_a_place() {
        let copies = HotCopies::new(256 << 20, 2);
        let mut at: Vec<_> = (1..=16_384)
            .map(|id| copies.place_of(UserId::new(id).unwrap()))
            .collect();
        assert!(at.iter().all(|at| at % PLACE == 0 && at / PLACE < 16_384));
        at.sort_unstable();
        at.dedup();
        assert!(at.len() > 12_000, "{} for ids in a row", at.len());
        let one = HotCopies::new(1 << 14, 1);
        assert_eq!(
            (one.places, one.place_of(UserId::MAX)),
            (2, one.place_of(UserId::MAX) & PLACE)
        );
    }
}
