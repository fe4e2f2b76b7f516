//! The snapshot that is held of a user: one piece of memory, of which hits share parts.
//!
//! The body is the snapshot: amounts, seqs and times stand in it, and are read back from it where code needs them (to merge, to
//! compare with floors). Behind the body stands what it does not say:
//!
//! ```text
//! body | entity tag | notes: oldest said_at, heard_at, (asset, decimals, said_at) of each balance | length of the notes
//! ```
//!
//! **Invariants.** Reading back gives exactly what was put in. A hit reads nothing back and allocates nothing.
//!
//! **Limits.** A body of 4 GiB.

use std::borrow::Cow;

use bytes::Bytes;

use super::{HEAD, TAG_BYTES, TAIL, body_text, entity_tag, shared_bytes};
use crate::domain::{Amount, AssetId, Balance, Catalogue, Seq, Snapshot, UnixMillis};

/// A snapshot and everything that is prepared for showing it. Clones share it, or only look at it (`RenderedSnapshot<&[u8]>`); of two equal
/// ones all that is said is equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RenderedSnapshot<B = Bytes>(B);

/// The facts that the body does not say.
struct ResponseFacts<'a> {
    said_at: UnixMillis,
    heard_at: UnixMillis,
    rest: &'a [u8],
}

/// Times count from 2020, so that today's take six bytes.
const EPOCH: UnixMillis = UnixMillis(1_577_836_800_000);
/// Beside the decimals: this balance was said later than the oldest.
const SAID_LATER: u8 = 0x80;
/// The length of the notes does not fit into one byte: four stand before it.
const LONG: u8 = 0xff;

impl RenderedSnapshot {
    /// The snapshot in the words of the catalogue. `heard_at` is when the source said so, where no balance says when it
    /// was said: of a user, or an asset, with nothing.
    pub fn new(catalogue: &Catalogue, snapshot: &Snapshot, heard_at: UnixMillis) -> Self {
        // One table for text and notes: the amounts are read back by what the notes say of the decimals.
        let catalogue = catalogue.current_table();
        let text = body_text(&catalogue, snapshot);
        let (tag, len) = (entity_tag(text.as_bytes()), text.len());
        let said_at = snapshot.oldest_said_at().unwrap_or(heard_at);
        let mut piece = text.into_bytes();
        piece.extend_from_slice(&tag);
        push_varint(&mut piece, millis_difference(said_at, EPOCH));
        push_varint(&mut piece, millis_difference(heard_at, said_at));
        for balance in snapshot.balances() {
            let decimals = catalogue
                .get_asset(balance.asset)
                .map_or(0, |(_, decimals)| decimals);
            push_varint(&mut piece, u64::from(balance.asset.get().unsigned_abs()));
            if balance.said_at == said_at {
                piece.push(decimals);
            } else {
                piece.push(decimals | SAID_LATER);
                push_varint(&mut piece, millis_difference(balance.said_at, said_at));
            }
        }
        let notes = piece.len().saturating_sub(len).saturating_sub(TAG_BYTES);
        match u8::try_from(notes) {
            Ok(notes) if notes < LONG => piece.push(notes),
            Ok(_) | Err(_) => {
                let notes = u32::try_from(notes).unwrap_or(u32::MAX);
                piece.extend_from_slice(&notes.to_le_bytes());
                piece.push(LONG);
            }
        }
        Self(shared_bytes::share_bytes(&piece))
    }

    /// Converts to owned bytes that are not shared.
    pub fn into_cow<'a>(self) -> RenderedSnapshot<Cow<'a, [u8]>> {
        RenderedSnapshot(Cow::Owned(self.0.into()))
    }

    /// The allocator's bytes for it.
    pub const fn bytes_taken(&self) -> usize {
        shared_bytes::bytes_taken(self.0.len())
    }
}

impl<'a> RenderedSnapshot<&'a [u8]> {
    pub const fn from_piece(piece: &'a [u8]) -> Self {
        Self(piece)
    }

    /// Converts to borrowed bytes.
    pub const fn into_cow(self) -> RenderedSnapshot<Cow<'a, [u8]>> {
        RenderedSnapshot(Cow::Borrowed(self.0))
    }

    /// One of its own.
    pub fn to_shared(self) -> RenderedSnapshot {
        RenderedSnapshot(shared_bytes::share_bytes(self.0))
    }
}

impl<B: AsRef<[u8]>> RenderedSnapshot<B> {
    /// All of it as it lies in memory.
    pub fn whole_piece(&self) -> &[u8] {
        self.0.as_ref()
    }

    pub fn borrowed_view(&self) -> RenderedSnapshot<&[u8]> {
        RenderedSnapshot(self.whole_piece())
    }

    /// The whole body of a single read: envelope and balances.
    pub fn body_bytes(&self) -> &[u8] {
        self.byte_range(0, self.body_len())
    }

    /// Its length.
    pub fn body_len(&self) -> usize {
        self.notes_at().0.saturating_sub(TAG_BYTES)
    }

    /// The strong entity tag of the body, quoted.
    pub fn entity_tag(&self) -> &[u8] {
        let begin = self.body_len();
        self.byte_range(begin, begin.saturating_add(TAG_BYTES))
    }

    /// The array of balances alone, as it stands in the body.
    pub fn balances_array(&self) -> &[u8] {
        self.byte_range(HEAD.len(), self.body_len().saturating_sub(TAIL.len()))
    }

    /// The oldest moment at which one of these balances was said, or that this user has nothing.
    pub fn said_at(&self) -> UnixMillis {
        self.read_notes().said_at
    }

    /// When the source said so, where no balance says when it was said.
    pub fn heard_at(&self) -> UnixMillis {
        self.read_notes().heard_at
    }

    /// The user has nothing.
    pub fn is_empty(&self) -> bool {
        self.read_notes().rest.is_empty()
    }

    /// In how many assets the user has something.
    pub fn asset_count(&self) -> usize {
        let mut notes = self.read_notes();
        std::iter::from_fn(|| notes.next_note()).count()
    }

    /// The balances, read back.
    pub fn read_snapshot(&self) -> Snapshot {
        // Written above and read back by a property: what cannot be read is not there.
        Snapshot::new(self.read_back().unwrap_or_default())
    }

    /// Renders only the balance in this asset.
    pub fn only_asset(&self, catalogue: &Catalogue, asset: AssetId) -> RenderedSnapshot {
        RenderedSnapshot::new(
            catalogue,
            &self.read_snapshot().only_asset(asset),
            self.heard_at(),
        )
    }

    fn byte_range(&self, begin: usize, end: usize) -> &[u8] {
        self.whole_piece().get(begin..end).unwrap_or_default()
    }

    /// Where the notes begin and end.
    fn notes_at(&self) -> (usize, usize) {
        let piece = self.whole_piece();
        let all = piece.len();
        let end = all.saturating_sub(1);
        match piece.get(end) {
            Some(&LONG) => {
                let end = end.saturating_sub(size_of::<u32>());
                let len = piece.get(end..).and_then(<[u8]>::first_chunk);
                let len = len.map_or(0, |len| u32::from_le_bytes(*len));
                let len = usize::try_from(len).unwrap_or(all);
                (end.saturating_sub(len), end)
            }
            Some(&len) => (end.saturating_sub(usize::from(len)), end),
            None => (0, 0),
        }
    }

    fn read_notes(&self) -> ResponseFacts<'_> {
        let (begin, end) = self.notes_at();
        let mut rest = self.byte_range(begin, end);
        let said_at = later_millis(EPOCH, pull_varint(&mut rest).unwrap_or(0));
        let heard_at = later_millis(said_at, pull_varint(&mut rest).unwrap_or(0));
        ResponseFacts {
            said_at,
            heard_at,
            rest,
        }
    }

    fn read_back(&self) -> Option<Vec<Balance>> {
        let mut notes = self.read_notes();
        let mut text = std::str::from_utf8(self.body_bytes()).ok()?;
        text = text.strip_prefix(HEAD)?;
        let mut balances = Vec::new();
        while !notes.rest.is_empty() {
            let (asset, decimals, said_at) = notes.next_note()?;
            let amount = |text| Amount::from_decimal(text, decimals);
            // Behind a bracket or a comma; the asset is known by its id.
            text = text.get(1..)?;
            let _ = value_between(&mut text, r#"{"asset":""#, b'"')?;
            let avail = amount(value_between(&mut text, r#"","avail":""#, b'"')?)?;
            let frozen = amount(value_between(&mut text, r#"","frozen":""#, b'"')?)?;
            let seq = value_between(&mut text, r#"","seq":"#, b',')?;
            let updated_at = value_between(&mut text, r#","updated_at":"#, b'}')?;
            // The asset's unit may follow the time.
            let updated_at = updated_at.split(',').next()?;
            balances.push(Balance {
                asset,
                seq: Seq::new(seq.parse().ok()?).ok()?,
                avail,
                frozen,
                updated_at: match updated_at {
                    "null" => None,
                    at => Some(UnixMillis(at.parse().ok()?)),
                },
                said_at,
            });
            text = text.strip_prefix('}')?;
        }
        Some(balances)
    }
}

impl ResponseFacts<'_> {
    /// The next balance's: asset, decimals, and when it was said.
    fn next_note(&mut self) -> Option<(AssetId, u8, UnixMillis)> {
        let asset = i32::try_from(pull_varint(&mut self.rest)?).ok()?;
        let (decimals, rest) = self.rest.split_first()?;
        self.rest = rest;
        let said_at = if decimals & SAID_LATER == 0 {
            self.said_at
        } else {
            later_millis(self.said_at, pull_varint(&mut self.rest)?)
        };
        Some((AssetId::new(asset).ok()?, decimals & !SAID_LATER, said_at))
    }
}

impl<B: AsRef<[u8]>> std::fmt::Debug for RenderedSnapshot<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No amounts: this may end in a log.
        let tag = String::from_utf8_lossy(self.entity_tag());
        f.debug_tuple("RenderedSnapshot").field(&tag).finish()
    }
}

/// The text between `key`, with which the text begins, and `end`, which is where the text goes on.
fn value_between<'a>(text: &mut &'a str, key: &str, end: u8) -> Option<&'a str> {
    let rest = text.strip_prefix(key)?;
    let (value, rest) = rest.split_at_checked(rest.bytes().position(|byte| byte == end)?)?;
    *text = rest;
    Some(value)
}

/// By how much it is later; what is earlier wraps, and comes back by [`later_millis`].
const fn millis_difference(moment: UnixMillis, base: UnixMillis) -> u64 {
    moment.0.wrapping_sub(base.0).cast_unsigned()
}

const fn later_millis(base: UnixMillis, difference: u64) -> UnixMillis {
    UnixMillis(base.0.wrapping_add(difference.cast_signed()))
}

/// Seven bits a byte, the lowest first; all but the last byte have their highest bit set.
fn push_varint(piece: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    while rest > 0x7f {
        piece.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest = rest.wrapping_shr(7);
    }
    piece.push(u8::try_from(rest).unwrap_or(0));
}

fn pull_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).wrapping_shl(shift);
        if *byte <= 0x7f {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests;
