//! The hash `balance:user:<id>`: how a snapshot, its floors and its lease stand in Redis.
//!
//! | field | value |
//! |---|---|
//! | `v` | layout version |
//! | `epoch` | the life of the Redis that it was written in; another one is a miss |
//! | `whole` | `1`: the balances are all that the user has |
//! | `until` | when the snapshot ends, in ms of Redis' clock |
//! | `lease` | token and end of the right to fill |
//! | `b:<asset>` | balance: seq in 19 digits, avail, frozen, updated at (or `-`), said at |
//! | `f:<asset>` | floor: seq in 19 digits, end in ms |
//! | `d:<asset>`, `d:*` | to be read from the ledger, until then in ms |
//! | `n:<asset>` | the last seq that was announced |
//!
//! **Invariants.** Seqs have 19 digits, because the scripts compare them as text. A field that cannot be read makes the
//! entry corrupt: a miss, never a balance. A whole entry below one of its own floors is not served.

use crate::domain::{Amount, AssetId, Balance, Floors, Seq, Snapshot, UnixMillis};

/// The version of this layout.
pub const VERSION: &str = "1";

/// What one entry says. Times are ms of Redis' clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its epoch.
    pub epoch: String,
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

/// The entry cannot be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

impl Entry {
    /// Reads field and value pairs; `None` where there are none.
    ///
    /// # Errors
    /// [`Corrupt`] for another layout or anything that cannot be read.
    pub fn decode<'a>(
        pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        now: i64,
    ) -> Result<Option<Self>, Corrupt> {
        let mut entry = Self::default();
        let mut balances = Vec::new();
        let (mut any, mut version) = (false, false);
        for (field, value) in pairs {
            any = true;
            let (field, value) = (text(field)?, text(value)?);
            match field.split_once(':') {
                None => match field {
                    "v" => version = value == VERSION,
                    "epoch" => value.clone_into(&mut entry.epoch),
                    "whole" => entry.whole = value == "1",
                    "until" => entry.until = number(value)?,
                    "lease" => {}
                    _ => return Err(Corrupt),
                },
                Some(("b", asset)) => balances.push(balance(asset, value)?),
                Some(("f", asset)) => {
                    let (seq, until) = value.split_once(' ').ok_or(Corrupt)?;
                    if number(until)? > now {
                        entry.floors.raise(asset_id(asset)?, seq_of(seq)?);
                    }
                }
                Some(("d", asset)) => {
                    if number(value)? > now {
                        entry.reread = true;
                        if asset != "*" {
                            entry.reread_assets.push(asset_id(asset)?);
                        }
                    }
                }
                Some(("n", _)) => {}
                Some(_) => return Err(Corrupt),
            }
        }
        if any && !version {
            return Err(Corrupt);
        }
        entry.snapshot = Snapshot::new(balances);
        Ok(any.then_some(entry))
    }

    /// Holds a snapshot whose time is not over, and which may not be shown any more.
    #[must_use]
    pub fn is_outdated(&self, epoch: &str, now: i64) -> bool {
        let current =
            self.epoch == epoch && self.until > now && !self.snapshot.balances().is_empty();
        current && !self.servable(epoch, now)
    }

    /// May be shown: whole, of this epoch, not ended, not below its own floors.
    #[must_use]
    pub fn servable(&self, epoch: &str, now: i64) -> bool {
        self.whole && self.epoch == epoch && self.until > now && self.floors.met_by(&self.snapshot)
    }
}

/// A seq as the scripts compare it.
#[must_use]
pub fn seq_text(seq: Seq) -> String {
    format!("{:019}", seq.get())
}

/// A balance behind its seq.
#[must_use]
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

/// Reads what [`seq_text`] and [`rest_text`] wrote, with a blank between.
///
/// # Errors
/// [`Corrupt`] for anything else.
pub fn balance(asset: &str, value: &str) -> Result<Balance, Corrupt> {
    let mut words = value.split(' ');
    let mut word = || words.next().ok_or(Corrupt);
    let balance = Balance {
        asset: asset_id(asset)?,
        seq: seq_of(word()?)?,
        avail: Amount::from_raw(number(word()?)?),
        frozen: Amount::from_raw(number(word()?)?),
        updated_at: match word()? {
            "-" => None,
            at => Some(UnixMillis(number(at)?)),
        },
        said_at: UnixMillis(number(word()?)?),
    };
    if words.next().is_some() {
        Err(Corrupt)
    } else {
        Ok(balance)
    }
}

/// An asset in a field's name.
///
/// # Errors
/// [`Corrupt`] for anything but its canonical digits.
pub fn asset_id(text: &str) -> Result<AssetId, Corrupt> {
    text.parse().map_err(|_| Corrupt)
}

/// A seq in 19 digits.
///
/// # Errors
/// [`Corrupt`] for any other length, and for 0.
pub fn seq_of(text: &str) -> Result<Seq, Corrupt> {
    if text.len() != 19 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Corrupt);
    }
    number(text).and_then(|number| Seq::new(number).map_err(|_| Corrupt))
}

fn number(text: &str) -> Result<i64, Corrupt> {
    text.parse().map_err(|_| Corrupt)
}

fn text(bytes: &[u8]) -> Result<&str, Corrupt> {
    std::str::from_utf8(bytes).map_err(|_| Corrupt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pairs: &[(&str, &str)], now: i64) -> Result<Option<Entry>, Corrupt> {
        Entry::decode(
            pairs
                .iter()
                .map(|(field, value)| (field.as_bytes(), value.as_bytes())),
            now,
        )
    }

    const GOOD: [(&str, &str); 6] = [
        ("v", "1"),
        ("epoch", "e"),
        ("whole", "1"),
        ("until", "100"),
        ("b:1", "0000000000000000017 910000000000 -5 - 99"),
        ("n:1", "0000000000000000017"),
    ];

    #[test]
    fn an_entry_is_served_only_while_it_is_whole_current_and_above_its_floors() {
        let with = |more: &[(&str, &str)]| {
            let mut pairs = GOOD.to_vec();
            pairs.extend_from_slice(more);
            decode(&pairs, 50).unwrap().unwrap()
        };
        assert!(with(&[]).servable("e", 50));
        assert!(!with(&[]).servable("other", 50));
        assert!(!with(&[]).servable("e", 100));
        assert!(!with(&[("f:1", "0000000000000000018 60")]).servable("e", 50));
        assert!(
            with(&[("f:1", "0000000000000000018 50")]).servable("e", 50),
            "the floor has ended"
        );
        assert!(
            !with(&[("f:2", "0000000000000000001 60")]).servable("e", 50),
            "an asset with a floor is missing"
        );
    }

    #[test]
    fn whatever_cannot_be_read_is_corrupt() {
        assert_eq!(decode(&[], 0), Ok(None));
        for bad in [
            ("v", "2"),
            ("x", "1"),
            ("b:1", "17 1 2 - 3"),
            ("b:1", "0000000000000000017 1 2 -"),
            ("b:1", "0000000000000000017 1 2 - 3 4"),
            ("b:1", "0000000000000000000 1 2 - 3"),
            ("b:0", "0000000000000000017 1 2 - 3"),
            ("b:1", "0000000000000000017 1.5 2 - 3"),
            ("f:1", "0000000000000000017"),
            ("until", "soon"),
            ("z:1", "1"),
        ] {
            let mut pairs = vec![("v", "1")];
            pairs.retain(|pair| pair.0 != bad.0);
            pairs.push(bad);
            assert_eq!(decode(&pairs, 0), Err(Corrupt), "{bad:?}");
        }
    }

    proptest! {
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
            let value = format!("{} {}", seq_text(written.seq), rest_text(&written));
            prop_assert_eq!(balance(&asset.to_string(), &value), Ok(written));
        }

        #[test]
        fn no_stored_bytes_make_it_panic(pairs in proptest::collection::vec(("[vbfdn]?:?[0-9*]{0,3}", ".{0,24}"), 0..6)) {
            let _ = Entry::decode(pairs.iter().map(|(field, value)| (field.as_bytes(), value.as_bytes())), 0);
        }
    }
}
