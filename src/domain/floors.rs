//! The lowest seqs that may still be shown.

use crate::domain::{AssetId, Seq, Snapshot};

/// A floor per asset: the lowest seq of one user's balance that may be served. Sorted by asset, no asset twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Floors(Vec<(AssetId, Seq)>);

impl Floors {
    /// No floor at all.
    pub const NONE: Self = Self(Vec::new());

    /// The higher floor counts, whichever came first. True if it rose.
    pub fn raise_floor(&mut self, asset: AssetId, seq: Seq) -> bool {
        match self.0.binary_search_by_key(&asset, |floor| floor.0) {
            Err(at) => {
                self.0.insert(at, (asset, seq));
                true
            }
            Ok(at) => self.0.get_mut(at).is_some_and(|floor| {
                let rises = seq > floor.1;
                if rises {
                    floor.1 = seq;
                }
                rises
            }),
        }
    }

    /// All of the other's floors too.
    pub fn raise_all(&mut self, other: &Self) {
        for (asset, seq) in other.iter() {
            self.raise_floor(asset, seq);
        }
    }

    pub fn raise_to(&mut self, shown: &Snapshot) {
        // A user's assets are few and seldom become more: no room is kept for others, for there is a set of floors per user.
        let missing = shown.balances().len().saturating_sub(self.0.len());
        self.0.reserve_exact(missing);
        for balance in shown.balances() {
            self.raise_floor(balance.asset, balance.seq);
        }
    }

    /// No floor.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (AssetId, Seq)> + '_ {
        self.0.iter().copied()
    }

    pub fn floor_of(&self, asset: AssetId) -> Option<Seq> {
        self.0
            .binary_search_by_key(&asset, |floor| floor.0)
            .ok()
            .and_then(|at| self.0.get(at))
            .map(|floor| floor.1)
    }

    /// The assets in which the snapshot is below its floor, or absent though it has one.
    pub fn unmet_by<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = AssetId> + 'a {
        self.iter()
            .filter(|(asset, seq)| {
                snapshot
                    .get(*asset)
                    .is_none_or(|balance| balance.seq < *seq)
            })
            .map(|(asset, _)| asset)
    }

    /// The snapshot undercuts no floor.
    pub fn met_by(&self, snapshot: &Snapshot) -> bool {
        // Both are by asset: each is gone through once.
        let mut balances = snapshot.balances().iter();
        self.0.iter().all(|(asset, seq)| {
            let held = balances.find(|balance| balance.asset >= *asset);
            held.is_some_and(|held| held.asset == *asset && held.seq >= *seq)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::balance::strategies::any_snapshot;

    proptest! {
        #[test]
        fn what_was_shown_is_met_by_itself_and_by_whatever_it_is_merged_with(a in any_snapshot(), b in any_snapshot()) {
            let mut floors = Floors::NONE;
            floors.raise_to(&a);
            prop_assert!(floors.met_by(&a));
            prop_assert!(floors.met_by(&a.merge_with(&b)));
        }

        #[test]
        fn floors_are_met_where_none_is_unmet(
            pairs in proptest::collection::vec((1..5_i32, 1..5_i64), 0..5),
            a in any_snapshot(),
        ) {
            let mut floors = Floors::NONE;
            for (asset, seq) in pairs {
                floors.raise_floor(AssetId::new(asset).unwrap(), Seq::new(seq).unwrap());
            }
            prop_assert_eq!(floors.met_by(&a), floors.unmet_by(&a).next().is_none());
        }

        #[test]
        fn a_floor_never_sinks(pairs in proptest::collection::vec((1..4_i32, 1..9_i64), 0..12)) {
            let mut floors = Floors::NONE;
            for (asset, seq) in pairs {
                let (asset, seq) = (AssetId::new(asset).unwrap(), Seq::new(seq).unwrap());
                let before = floors.floor_of(asset);
                let rose = floors.raise_floor(asset, seq);
                prop_assert_eq!(floors.floor_of(asset), before.max(Some(seq)));
                prop_assert_eq!(rose, before < Some(seq));
            }
        }
    }
}
