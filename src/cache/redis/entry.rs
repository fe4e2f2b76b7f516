//! The hash `balance:user:<id>`: how a snapshot, its floors and its lease stand in Redis.
//!
//! | field | value |
//! |---|---|
//! | `v` | layout version; epoch (life of the Redis it was written in: another one is a miss); end of the snapshot in ms of Redis' clock (`0`: none); `1` if the balances are all that the user has, else `0` |
//! | `lease` | token and end of the lease |
//! | `b:<asset>` | balance: seq, avail, frozen, updated at (or `-`), said at |
//! | `f:<asset>` | floor: seq, the seq that was announced last (`0`: none was), end in ms |
//! | `d:<asset>`, `d:*` | to be read from the ledger, until then in ms |
//!
//! **Invariants.** Seqs have no leading zeros (the scripts compare digits). An unreadable field makes the entry corrupt: a miss. A whole entry
//! below one of its own floors is not served. Values stay within 64 bytes, or Redis leaves the compact form and each hit is slower.

use crate::domain::{Amount, AssetId, Balance, Floors, Seq, Snapshot, UnixMillis};

/// The version of this layout.
pub const VERSION: &str = "2";
/// As many digits cannot be too large for an `i64`.
const DIGITS_SAFE: usize = 18;
/// Room that is made for a user's balances.
const BALANCES_USUAL: usize = 4;

/// The content of one entry. Times are ms of Redis' clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredEntry<'a> {
    pub epoch: &'a [u8],
    /// The balances are all there are.
    pub whole: bool,
    /// When the snapshot ends.
    pub until: i64,
    /// The balances.
    pub snapshot: Snapshot,
    /// The floors that have not ended.
    pub floors: Floors,
    /// Something of this user has to be read from the ledger.
    pub reread: bool,
    /// Assets that have to be read from the ledger by name.
    pub reread_assets: Vec<AssetId>,
}

/// The ends that a snapshot may have: later than now, and not later than one that is filled now would have.
///
/// An end beyond that was written before the clock was set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryLifetime {
    /// Redis' clock in ms, at the latest.
    pub now: i64,
    /// How long a snapshot lives at most, in ms.
    pub longest: i64,
}

impl EntryLifetime {
    const fn holds_until(self, until: i64) -> bool {
        until > self.now && until.saturating_sub(self.now) <= self.longest
    }
}

/// The entry cannot be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

impl<'a> StoredEntry<'a> {
    /// Reads pairs of field and value; `None` where there are none.
    /// Errors: [`Corrupt`] for another layout or anything that cannot be read.
    pub fn decode_fields(
        pairs: impl Iterator<Item = Result<(&'a [u8], &'a [u8]), Corrupt>>,
        now: i64,
    ) -> Result<Option<Self>, Corrupt> {
        let mut entry = Self::default();
        let mut balances = Vec::with_capacity(BALANCES_USUAL);
        let (mut any, mut headed) = (false, false);
        for pair in pairs {
            let (field, value) = pair?;
            any = true;
            match field {
                [b'b', b':', asset @ ..] => balances.push(parse_balance(asset, value)?),
                [b'f', b':', asset @ ..] => {
                    let (seq, until) = parse_floor(value)?;
                    if until > now {
                        entry.floors.raise_floor(asset_id(asset)?, seq_of(seq)?);
                    }
                }
                [b'd', b':', asset @ ..] => {
                    if parse_number(value)? > now {
                        entry.reread = true;
                        if asset != b"*" {
                            entry.reread_assets.push(asset_id(asset)?);
                        }
                    }
                }
                b"v" => {
                    (entry.epoch, entry.until, entry.whole) = parse_header(value)?;
                    headed = true;
                }
                b"lease" => {}
                _ => return Err(Corrupt),
            }
        }
        if any && !headed {
            return Err(Corrupt);
        }
        entry.snapshot = Snapshot::new(balances);
        Ok(any.then_some(entry))
    }

    /// Holds a snapshot whose time is not over, and which may not be shown any more.
    pub fn is_outdated(&self, epoch: &str, life: EntryLifetime) -> bool {
        let current = self.is_current(epoch, life) && !self.snapshot.balances().is_empty();
        current && !self.may_serve(epoch, life)
    }

    /// May be shown: whole, of this epoch, not ended, not below its own floors.
    pub fn may_serve(&self, epoch: &str, life: EntryLifetime) -> bool {
        self.whole && self.is_current(epoch, life) && self.floors.met_by(&self.snapshot)
    }

    fn is_current(&self, epoch: &str, life: EntryLifetime) -> bool {
        self.epoch == epoch.as_bytes() && life.holds_until(self.until)
    }
}

/// Reads epoch, end and whether the balances are all, of a header of this layout.
fn parse_header(value: &[u8]) -> Result<(&[u8], i64, bool), Corrupt> {
    let (version, rest) = split_blank(value).ok_or(Corrupt)?;
    let (epoch, rest) = split_blank(rest).ok_or(Corrupt)?;
    let (until, whole) = split_blank(rest).ok_or(Corrupt)?;
    if version != VERSION.as_bytes() {
        return Err(Corrupt);
    }
    let whole = match whole {
        b"0" => false,
        b"1" => true,
        _ => return Err(Corrupt),
    };
    Ok((epoch, parse_number(until)?, whole))
}

/// A balance behind its seq.
pub fn rest_text(balance: &Balance) -> String {
    let Balance {
        avail,
        frozen,
        updated_at,
        said_at,
        ..
    } = balance;
    match updated_at {
        Some(at) => format!("{} {} {} {}", avail.raw(), frozen.raw(), at.0, said_at.0),
        None => format!("{} {} - {}", avail.raw(), frozen.raw(), said_at.0),
    }
}

/// Reads a seq and what [`rest_text`] wrote, with a blank between.
/// Errors: [`Corrupt`] for anything else.
pub fn parse_balance(asset: &[u8], value: &[u8]) -> Result<Balance, Corrupt> {
    let mut words = value.split(|byte| *byte == b' ');
    let mut word = || words.next().ok_or(Corrupt);
    let balance = Balance {
        asset: asset_id(asset)?,
        seq: seq_of(word()?)?,
        avail: Amount::from_raw(parse_number(word()?)?),
        frozen: Amount::from_raw(parse_number(word()?)?),
        updated_at: match word()? {
            b"-" => None,
            at => Some(UnixMillis(parse_number(at)?)),
        },
        said_at: UnixMillis(parse_number(word()?)?),
    };
    if words.next().is_some() {
        Err(Corrupt)
    } else {
        Ok(balance)
    }
}

/// An asset in a field's name.
/// Errors: [`Corrupt`] for anything but its canonical digits.
pub fn asset_id(text: &[u8]) -> Result<AssetId, Corrupt> {
    let text = std::str::from_utf8(text).map_err(|_| Corrupt)?;
    text.parse().map_err(|_| Corrupt)
}

/// Reads seq and end of a floor.
fn parse_floor(value: &[u8]) -> Result<(&[u8], i64), Corrupt> {
    let (seq, rest) = split_blank(value).ok_or(Corrupt)?;
    let (told, until) = split_blank(rest).ok_or(Corrupt)?;
    parse_number(told)?;
    Ok((seq, parse_number(until)?))
}

/// A seq as the scripts compare it.
/// Errors: [`Corrupt`] for a leading zero or a sign, and for what is no number.
pub fn seq_of(text: &[u8]) -> Result<Seq, Corrupt> {
    match text {
        [b'1'..=b'9', ..] => Seq::new(parse_number(text)?).map_err(|_| Corrupt),
        _ => Err(Corrupt),
    }
}

/// A whole number in digits, with a minus or without.
fn parse_number(text: &[u8]) -> Result<i64, Corrupt> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() {
        return Err(Corrupt);
    }
    if digits.len() <= DIGITS_SAFE {
        let mut number = 0_i64;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(Corrupt);
            }
            number = number.wrapping_mul(10).wrapping_add(i64::from(digit));
        }
        return Ok(number.wrapping_mul(sign));
    }
    let next = |number: i64, byte: &u8| match byte {
        b'0'..=b'9' => {
            let digit = i64::from(byte.wrapping_sub(b'0')).wrapping_mul(sign);
            number.checked_mul(10)?.checked_add(digit)
        }
        _ => None,
    };
    digits.iter().try_fold(0, next).ok_or(Corrupt)
}

/// The text before the first blank and behind it.
fn split_blank(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = text.splitn(2, |byte| *byte == b' ');
    parts.next().zip(parts.next())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_pairs<'a>(
        pairs: &[(&'a str, &'a str)],
        now: i64,
    ) -> Result<Option<StoredEntry<'a>>, Corrupt> {
        StoredEntry::decode_fields(
            pairs
                .iter()
                .map(|(field, value)| Ok((field.as_bytes(), value.as_bytes()))),
            now,
        )
    }

    const GOOD: [(&str, &str); 2] = [("v", "2 e 100 1"), ("b:1", "17 910000000000 -5 - 99")];

    #[test]
    fn an_entry_is_served_only_while_it_is_whole_current_and_above_its_floors() {
        fn entry_with(more: &[(&'static str, &'static str)]) -> StoredEntry<'static> {
            let mut pairs = GOOD.to_vec();
            pairs.extend_from_slice(more);
            decode_pairs(&pairs, 50).unwrap().unwrap()
        }
        let at = |now| EntryLifetime { now, longest: 60 };
        assert!(entry_with(&[]).may_serve("e", at(50)));
        assert!(!entry_with(&[]).may_serve("other", at(50)));
        assert!(!entry_with(&[]).may_serve("e", at(100)));
        assert!(entry_with(&[]).may_serve("e", at(40)));
        assert!(
            !entry_with(&[]).may_serve("e", at(39)),
            "no snapshot lives as long: the clock was set back"
        );
        assert!(!entry_with(&[("f:1", "18 0 60")]).may_serve("e", at(50)));
        assert!(
            entry_with(&[("f:1", "18 18 50")]).may_serve("e", at(50)),
            "the floor has ended"
        );
        assert!(
            !entry_with(&[("f:2", "1 1 60")]).may_serve("e", at(50)),
            "an asset with a floor is missing"
        );
    }

    #[test]
    fn whatever_cannot_be_read_is_corrupt() {
        assert_eq!(decode_pairs(&[], 0), Ok(None));
        for bad in [
            ("v", "1"),
            ("v", "2"),
            ("v", "2 e 100"),
            ("v", "2 e 100 2"),
            ("v", "2 e 100 1 1"),
            ("v", "1 e 100 1"),
            ("v", "2 e soon 1"),
            ("v", "2 e - 1"),
            ("v", "2 e +1 1"),
            ("v", "2 e 9223372036854775808 1"),
            ("v", "2 e -9223372036854775809 1"),
            ("x", "1"),
            ("b:1", "0000000000000000017 1 2 - 3"),
            ("b:1", "17 1 2 -"),
            ("b:1", "17 1 2 - 3 4"),
            ("b:1", "0 1 2 - 3"),
            ("b:1", "-17 1 2 - 3"),
            ("b:0", "17 1 2 - 3"),
            ("b:1", "17 1.5 2 - 3"),
            ("f:1", "17"),
            ("f:1", "17 60"),
            ("f:1", "17 x 60"),
            ("f:1", "17 17 60 1"),
            ("n:1", "17"),
            ("z:1", "1"),
        ] {
            let mut pairs = vec![("v", "2 e 100 1")];
            pairs.retain(|pair| pair.0 != bad.0);
            pairs.push(bad);
            assert_eq!(decode_pairs(&pairs, 0), Err(Corrupt), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_number_reads_back(any: i64) {
            prop_assert_eq!(parse_number(any.to_string().as_bytes()), Ok(any));
        }

        #[test]
        fn a_header_reads_back(epoch in "[0-9a-f]{1,32}", until: i64, whole: bool) {
            let value = format!("{VERSION} {epoch} {until} {}", i32::from(whole));
            prop_assert_eq!(parse_header(value.as_bytes()), Ok((epoch.as_bytes(), until, whole)));
        }

        #[test]
        fn a_balance_reads_back(asset in 1..i32::MAX, seq in 1..i64::MAX, avail: i64, frozen: i64, at: Option<i64>, said: i64) {
            let written = Balance {
                asset: AssetId::new(asset).unwrap(),
                seq: Seq::new(seq).unwrap(),
                avail: Amount::from_raw(avail),
                frozen: Amount::from_raw(frozen),
                updated_at: at.map(UnixMillis),
                said_at: UnixMillis(said),
            };
            let value = format!("{} {}", written.seq, rest_text(&written));
            prop_assert_eq!(parse_balance(asset.to_string().as_bytes(), value.as_bytes()), Ok(written));
        }

        #[test]
        fn no_stored_bytes_make_it_panic(pairs in proptest::collection::vec(("[vbfd]?:?[0-9*]{0,3}", ".{0,24}"), 0..6)) {
            let _ = StoredEntry::decode_fields(pairs.iter().map(|(field, value)| Ok((field.as_bytes(), value.as_bytes()))), 0);
        }
    }
}
