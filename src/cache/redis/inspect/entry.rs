//! A user's entry with its times: what a reader of the service looks at, and what only an operator wants to know.
//!
//! **Invariants.** An entry that the service would take for corrupt is foreign here too, by the same code.

use crate::{
    cache::redis::entry::{self, StoredEntry},
    domain::{AssetId, Balance, Seq},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    Nothing,
    /// A value of another layout, and why it is foreign.
    Foreign(String),
    Entry(ShownEntry),
}

/// A floor with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    pub asset: AssetId,
    /// The lowest seq that may be shown.
    pub seq: Seq,
    /// When it is forgotten, in ms of Redis' clock.
    pub until: i64,
}

/// An entry. Times are ms of Redis' clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShownEntry {
    pub epoch: String,
    /// The balances are all that the user has.
    pub whole: bool,
    /// When the snapshot ends; none where only floors are kept.
    pub until: Option<i64>,
    pub balances: Vec<Balance>,
    /// The floors that have not ended, by asset.
    pub floors: Vec<Floor>,
    /// Assets to be read from the ledger, and until when; no asset: all of them.
    pub rereads: Vec<(Option<AssetId>, i64)>,
    /// When the current lease ends.
    pub lease_until: Option<i64>,
}

impl KeyState {
    pub(super) fn read_fields(fields: &[(Vec<u8>, Vec<u8>)], now: i64) -> Self {
        let pairs = fields
            .iter()
            .map(|(field, value)| Ok((field.as_slice(), value.as_slice())));
        let decoded = match StoredEntry::decode_fields(pairs, now) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Self::Nothing,
            Err(entry::Corrupt) => {
                let header = fields.iter().find(|(field, _)| field == b"v");
                let version =
                    header.and_then(|(_, value)| value.split(|byte| *byte == b' ').next());
                let other = version.filter(|version| *version != entry::VERSION.as_bytes());
                return Self::Foreign(match other {
                    Some(version) => {
                        let version = String::from_utf8_lossy(version);
                        format!("it has layout {version}, not {}", entry::VERSION)
                    }
                    None => "a field of it cannot be read".to_owned(),
                });
            }
        };
        let mut shown = ShownEntry {
            epoch: String::from_utf8_lossy(decoded.epoch).into_owned(),
            whole: decoded.whole,
            until: (decoded.until > 0).then_some(decoded.until),
            balances: decoded.snapshot.balances().to_vec(),
            ..ShownEntry::default()
        };
        for (field, value) in fields {
            let texts = (std::str::from_utf8(field), std::str::from_utf8(value));
            if let (Ok(field), Ok(value)) = texts {
                shown.note_times(field, value, now);
            }
        }
        shown.floors.sort_by_key(|floor| floor.asset);
        shown.rereads.sort();
        Self::Entry(shown)
    }
}

impl ShownEntry {
    /// Whether a reader would be shown this entry at `now`, in this life of Redis.
    pub fn is_servable(&self, epoch: Option<&str>, now: i64) -> bool {
        let reaches = |floor: &Floor| {
            let mut held = self.balances.iter();
            held.any(|balance| balance.asset == floor.asset && balance.seq >= floor.seq)
        };
        self.whole
            && epoch.is_none_or(|epoch| epoch == self.epoch)
            && self.until.is_some_and(|until| until > now)
            && self.rereads.is_empty()
            && self.floors.iter().all(reaches)
    }

    /// Takes the times out of one field; the rest was decoded.
    fn note_times(&mut self, field: &str, value: &str, now: i64) {
        let last = value.rsplit(' ').next().and_then(|end| end.parse().ok());
        let Some(until) = last else { return };
        match field.split_once(':') {
            None if field == "lease" => self.lease_until = (until > now).then_some(until),
            Some(("f", asset)) if until > now => {
                let seq = value.split(' ').next().unwrap_or_default();
                if let (Ok(asset), Ok(seq)) = (
                    entry::asset_id(asset.as_bytes()),
                    entry::seq_of(seq.as_bytes()),
                ) {
                    self.floors.push(Floor { asset, seq, until });
                }
            }
            Some(("d", asset)) if until > now => {
                self.rereads
                    .push((entry::asset_id(asset.as_bytes()).ok(), until));
            }
            None | Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_pairs(fields: &[(&str, &str)]) -> KeyState {
        let owned: Vec<_> = fields
            .iter()
            .map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        KeyState::read_fields(&owned, 50)
    }

    #[test]
    fn an_entry_is_shown_with_its_times_and_what_has_ended_is_left_out() {
        let held = read_pairs(&[
            ("v", "2 e 90 1"),
            ("lease", "abc 70"),
            ("b:1", "17 910000000000 0 - 99"),
            ("f:2", "4 4 40"),
            ("f:1", "18 0 80"),
            ("d:*", "60"),
            ("d:3", "61"),
        ]);
        let KeyState::Entry(shown) = held else {
            panic!("{held:?}")
        };
        assert_eq!((shown.until, shown.lease_until), (Some(90), Some(70)));
        let floors: Vec<_> = shown
            .floors
            .iter()
            .map(|f| (f.asset.get(), f.seq.get(), f.until))
            .collect();
        assert_eq!(floors, [(1, 18, 80)]);
        assert_eq!(shown.rereads, [(None, 60), (AssetId::new(3).ok(), 61)]);
        assert_eq!(shown.balances.len(), 1);
    }

    #[test]
    fn what_the_service_would_not_read_is_foreign_with_the_reason() {
        assert_eq!(read_pairs(&[]), KeyState::Nothing);
        let KeyState::Foreign(why) = read_pairs(&[("v", "7")]) else {
            panic!("not foreign")
        };
        assert_eq!(why, "it has layout 7, not 2");
        assert!(matches!(
            read_pairs(&[("v", "2 e 90 1"), ("b:1", "x")]),
            KeyState::Foreign(_)
        ));
    }
}
