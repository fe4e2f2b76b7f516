//! One balance with its seq, and all balances of one user.

use crate::domain::{Amount, AssetId, Seq, UnixMillis};

/// One user's balance in one asset, as of `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    pub asset: AssetId,
    pub seq: Seq,
    /// The amount that may be spent.
    pub avail: Amount,
    /// The amount held back by orders.
    pub frozen: Amount,
    /// The `created_at` of that seq; none if it is unknown.
    pub updated_at: Option<UnixMillis>,
    /// When the source, or a notification's values, said so, by the wall clock of the instance that heard it.
    pub said_at: UnixMillis,
}

/// Where a balance comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalanceOrigin {
    /// A notification carried it.
    Notification,
    /// The ledger said it, or a table that is derived from the ledger.
    Ledger,
}

/// The merge rule: whether a balance at `seq` takes the place of one at `held` in the same asset. The higher seq does; at equal
/// seq the ledger's word does, and a notification's does not. The scripts have the same rule (`takes_place` in `entry.lua`).
pub fn takes_place(held: Option<Seq>, seq: Seq, origin: BalanceOrigin) -> bool {
    match origin {
        BalanceOrigin::Notification => held < Some(seq),
        BalanceOrigin::Ledger => held <= Some(seq),
    }
}

/// All balances that are known of one user, one per asset, by asset id.
///
/// Invariant: sorted by asset, no asset twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot(Vec<Balance>);

impl Snapshot {
    /// The highest seq of what is given for each asset; at equal seq what stands first.
    pub fn new(balances: Vec<Balance>) -> Self {
        let mut balances = balances;
        balances.sort_by_key(|balance| balance.asset);
        balances.dedup_by(|next, kept| {
            let same = next.asset == kept.asset;
            if same && takes_place(Some(kept.seq), next.seq, BalanceOrigin::Notification) {
                *kept = *next;
            }
            same
        });
        Self(balances)
    }

    /// Both, the higher seq of each asset; at equal seq this one's balance, so the ledger's word is merged *with* what is held.
    /// Idempotent and associative, and commutative in the seqs.
    #[must_use]
    pub fn merge_with(&self, other: &Self) -> Self {
        if other.0.is_empty() {
            return self.clone();
        }
        Self::new(self.0.iter().chain(&other.0).copied().collect())
    }

    /// Adds the other's balances in assets that this snapshot lacks.
    #[must_use]
    pub fn complete_with(&self, other: &Self) -> Self {
        let missing = other
            .0
            .iter()
            .filter(|balance| self.get(balance.asset).is_none());
        Self::new(self.0.iter().chain(missing).copied().collect())
    }

    /// Nothing of the other is missing or newer: merged with it, this one stays as it is.
    pub fn covers_all(&self, other: &Self) -> bool {
        let covered = |theirs: &Balance| {
            let ours = self.get(theirs.asset).map(|ours| ours.seq);
            !takes_place(ours, theirs.seq, BalanceOrigin::Notification)
        };
        other.0.iter().all(covered)
    }

    /// The balances, by asset id.
    pub fn balances(&self) -> &[Balance] {
        &self.0
    }

    /// The balance in one asset; none where the user never had any.
    pub fn get(&self, asset: AssetId) -> Option<&Balance> {
        self.0
            .binary_search_by_key(&asset, |balance| balance.asset)
            .ok()
            .and_then(|at| self.0.get(at))
    }

    #[must_use]
    pub fn only_asset(&self, asset: AssetId) -> Self {
        Self(self.get(asset).copied().into_iter().collect())
    }

    /// The assets, ascending.
    pub fn asset_ids(&self) -> impl Iterator<Item = AssetId> + '_ {
        self.0.iter().map(|balance| balance.asset)
    }

    /// The oldest moment at which one of these balances was said; none for a user with nothing.
    pub fn oldest_said_at(&self) -> Option<UnixMillis> {
        self.0.iter().map(|balance| balance.said_at).min()
    }
}

#[cfg(test)]
impl Balance {
    /// A balance with nothing frozen, said at 0.
    pub(crate) fn sample_of(asset: i32, seq: i64, avail: i64) -> Self {
        Self {
            asset: AssetId::new(asset).unwrap(),
            seq: Seq::new(seq).unwrap(),
            avail: Amount::from_raw(avail),
            frozen: Amount::from_raw(0),
            updated_at: None,
            said_at: UnixMillis(0),
        }
    }
}

#[cfg(test)]
pub mod strategies {
    //! Balances and snapshots for the property tests.

    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    pub fn any_balance() -> impl Strategy<Value = Balance> {
        (
            1..5_i32,
            1..5_i64,
            -3..3_i64,
            0..2_i64,
            option::of(0..2_i64),
            0..2_i64,
        )
            .prop_map(|(asset, seq, avail, frozen, updated_at, said_at)| Balance {
                asset: AssetId::new(asset).unwrap(),
                seq: Seq::new(seq).unwrap(),
                avail: Amount::from_raw(avail),
                frozen: Amount::from_raw(frozen),
                updated_at: updated_at.map(UnixMillis),
                said_at: UnixMillis(said_at),
            })
    }

    pub fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        vec(any_balance(), 0..8).prop_map(Snapshot::new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{strategies::any_snapshot, *};

    /// Held seq, new seq, whose word the new one is, and whether it takes the place. `tests/it/redis_scripts_merge.rs` asks the
    /// scripts the same.
    const CASES: &str = include_str!("../../tests/fixtures/merge_cases.txt");

    #[test]
    fn the_merge_rule_is_the_one_of_the_table() {
        let cases = CASES.lines().filter(|line| !line.starts_with('#'));
        for case in cases {
            let words: Vec<_> = case.split_whitespace().collect();
            let [held, new, word, takes] = words[..] else {
                panic!("{case}");
            };
            let seq = |text: &str| text.parse().ok().and_then(|seq: i64| Seq::new(seq).ok());
            let word = match word {
                "told" => BalanceOrigin::Notification,
                "ledger" => BalanceOrigin::Ledger,
                other => panic!("{other}"),
            };
            let new = seq(new).unwrap();
            assert_eq!(takes_place(seq(held), new, word), takes == "yes", "{case}");
        }
    }

    fn snapshot_seqs(snapshot: &Snapshot) -> Vec<(AssetId, Seq)> {
        let balances = snapshot.balances().iter();
        balances
            .map(|balance| (balance.asset, balance.seq))
            .collect()
    }

    proptest! {
        #[test]
        fn merge_is_idempotent(a in any_snapshot()) {
            prop_assert_eq!(a.merge_with(&a), a);
        }

        #[test]
        fn merge_is_commutative_in_the_seqs_and_this_ones_word_counts_at_equal_seq(a in any_snapshot(), b in any_snapshot()) {
            let merged = a.merge_with(&b);
            prop_assert_eq!(snapshot_seqs(&merged), snapshot_seqs(&b.merge_with(&a)));
            for ours in a.balances() {
                let higher = b.get(ours.asset).filter(|theirs| theirs.seq > ours.seq);
                prop_assert_eq!(merged.get(ours.asset), Some(higher.unwrap_or(ours)));
            }
        }

        #[test]
        fn merge_is_associative(a in any_snapshot(), b in any_snapshot(), c in any_snapshot()) {
            prop_assert_eq!(a.merge_with(&b).merge_with(&c), a.merge_with(&b.merge_with(&c)));
        }

        #[test]
        fn one_covers_what_merging_adds_nothing_of(a in any_snapshot(), b in any_snapshot()) {
            prop_assert_eq!(a.covers_all(&b), a.merge_with(&b) == a);
            prop_assert!(a.merge_with(&b).covers_all(&a));
        }

        #[test]
        fn merge_never_loses_an_asset_and_never_goes_back(a in any_snapshot(), b in any_snapshot()) {
            let merged = a.merge_with(&b);
            for balance in a.balances().iter().chain(b.balances()) {
                prop_assert!(merged.get(balance.asset).is_some_and(|kept| kept.seq >= balance.seq));
            }
            prop_assert!(merged.balances().is_sorted_by(|x, y| x.asset < y.asset));
        }
    }
}
