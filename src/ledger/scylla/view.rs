//! A load from the view, at a cost that follows the number of assets and not the length of the history.
//!
//! One statement reads the first [`PAGE`] rows of the partition; a user with less history is answered by it. For a longer history the
//! view only says which assets there are: the newest row of a known asset is a point read of the ledger, and *jumps*
//! (`asset_id >= ? AND asset_id <= ? LIMIT 1`) find assets in the gaps. Known assets are the catalogue's and those of the user's last
//! long load. All statements go out at once. Where deleted rows make the page fail, it is left out.
//!
//! **Invariants.** Known assets and gaps cover every `asset_id`: assets outside the catalogue are found (P6), impossible ids are refused.
//!
//! **Cancellation.** Nothing is kept of a dropped load.
//!
//! **Limits.** [`STRETCHES_MAX`] jumps at once; the assets of [`REMEMBERED_MAX`] users are remembered, twice over.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures::future::try_join_all;
use parking_lot::Mutex;
use scylla::statement::prepared::PreparedStatement;

use super::{
    ledger,
    statements::{BalanceColumnsRow, LiveSession, PAGE, read_balances, unreadable_row},
};
use crate::{
    domain::{AssetId, Balance, Catalogue, Snapshot, UnixMillis, UserId},
    ledger::{Cost, LedgerError},
};

/// Stretches that are walked at once.
const STRETCHES_MAX: usize = 32;

/// The most catalogue assets that every load reads by name: the limit of one statement.
const NAMED_MAX: usize = 100;

/// Users in one generation of [`RememberedAssets`].
const REMEMBERED_MAX: usize = 32_768;

/// Which assets a user with a long history had.
type Assets = Arc<[AssetId]>;

/// Users with a long history and the assets they had: two generations, the older one forgotten when the younger is
/// full. Guesses only; whatever stands here, a load is right.
#[derive(Debug, Default)]
pub(super) struct RememberedAssets(Mutex<AssetGenerations>);

#[derive(Debug, Default)]
struct AssetGenerations {
    young: HashMap<UserId, Assets>,
    old: HashMap<UserId, Assets>,
}

impl RememberedAssets {
    fn assets_of(&self, user: UserId) -> Option<Assets> {
        let mut both = self.0.lock();
        if let Some(found) = both.young.get(&user) {
            return Some(Arc::clone(found));
        }
        let found = both.old.remove(&user)?;
        both.keep_assets(user, Arc::clone(&found));
        Some(found)
    }

    fn put_assets(&self, user: UserId, assets: Assets) {
        self.0.lock().keep_assets(user, assets);
    }
}

impl AssetGenerations {
    fn keep_assets(&mut self, user: UserId, assets: Assets) {
        if self.young.len() >= REMEMBERED_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user, assets);
    }
}

pub(super) async fn load_snapshot(
    (live, cost): (&LiveSession, &Cost),
    (page, jump): (&PreparedStatement, &PreparedStatement),
    user: UserId,
    (remembered, catalogue): (&RememberedAssets, &Catalogue),
    said_at: UnixMillis,
) -> Result<Snapshot, LedgerError> {
    let walk = ViewWalk {
        live,
        cost,
        jump,
        user,
        said_at,
    };
    if let Some(assets) = remembered.assets_of(user) {
        let snapshot = walk
            .walk_all(i32::MIN, &known_assets(catalogue, &assets))
            .await?;
        remember_assets(remembered, user, Some(&assets), &snapshot);
        return Ok(snapshot);
    }
    let Some(rows) = live.query_readable(cost, page, (user.get(),)).await? else {
        if let Some(left_out) = live.limited_log.permit_line() {
            tracing::warn!(
                user.id = user.get(),
                lines.left_out = left_out,
                "the first rows of a user in the view cannot be read, as where many were deleted: read asset by asset"
            );
        }
        let snapshot = walk
            .walk_all(i32::MIN, &known_assets(catalogue, &[]))
            .await?;
        remember_assets(remembered, user, None, &snapshot);
        return Ok(snapshot);
    };
    let first = Snapshot::new(read_balances(&rows, said_at)?);
    if rows.rows_num() < PAGE {
        return Ok(first);
    }
    // Sorted by asset: of the last one seen and of all before it the newest row is here.
    let last = first.asset_ids().last().map_or(i32::MIN, AssetId::get);
    let snapshot = match last.checked_add(1) {
        Some(next) => {
            let mut known = known_assets(catalogue, &[]);
            known.retain(|id| id.get() >= next);
            first.merge_with(&walk.walk_all(next, &known).await?)
        }
        None => first,
    };
    remember_assets(remembered, user, None, &snapshot);
    Ok(snapshot)
}

/// The assets to ask for by name, ascending. A catalogue that is far larger than any user is left out.
fn known_assets(catalogue: &Catalogue, had: &[AssetId]) -> Vec<AssetId> {
    let mut known: BTreeSet<_> = had.iter().copied().collect();
    if catalogue.asset_count() <= NAMED_MAX {
        known.extend(catalogue.asset_ids());
    }
    known.into_iter().collect()
}

fn remember_assets(
    remembered: &RememberedAssets,
    user: UserId,
    known: Option<&[AssetId]>,
    found: &Snapshot,
) {
    if known.is_none_or(|known| !found.asset_ids().eq(known.iter().copied())) {
        remembered.put_assets(user, found.asset_ids().collect());
    }
}

/// Ids from `first` to `last`, both in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IdRange {
    first: i32,
    last: i32,
}

/// The stretches from `first` on between the known ids, at most [`STRETCHES_MAX`]: where there are more, neighbours are walked as one, over
/// what is known between them. `known` ascends and begins at `first` or later. From `i32::MIN` on, impossible ids are seen too.
fn gaps_between(first: i32, known: &[AssetId]) -> Vec<IdRange> {
    let mut gaps = Vec::new();
    let mut first = Some(first);
    for id in known {
        if let (Some(start), Some(last)) = (first, id.get().checked_sub(1))
            && start <= last
        {
            gaps.push(IdRange { first: start, last });
        }
        first = id.get().checked_add(1);
    }
    gaps.extend(first.map(|first| IdRange {
        first,
        last: i32::MAX,
    }));
    let each = gaps.len().div_ceil(STRETCHES_MAX).max(1);
    let joined = gaps.chunks(each).filter_map(|some| {
        Some(IdRange {
            first: some.first()?.first,
            last: some.last()?.last,
        })
    });
    joined.collect()
}

struct ViewWalk<'a> {
    live: &'a LiveSession,
    cost: &'a Cost,
    jump: &'a PreparedStatement,
    user: UserId,
    said_at: UnixMillis,
}

impl ViewWalk<'_> {
    /// The newest balance of every asset: of the known ones from the ledger, of all others from the view.
    async fn walk_all(&self, first: i32, known: &[AssetId]) -> Result<Snapshot, LedgerError> {
        let walks = gaps_between(first, known)
            .into_iter()
            .map(|stretch| self.walk_stretch(stretch));
        let walks = try_join_all(walks);
        let named = ledger::load_latest((self.live, self.cost), self.user, known);
        let (named, found) = futures::try_join!(named, walks)?;
        Ok(named.merge_with(&Snapshot::new(found.into_iter().flatten().collect())))
    }

    /// The newest balance of every asset in the stretch.
    async fn walk_stretch(
        &self,
        IdRange { first, last }: IdRange,
    ) -> Result<Vec<Balance>, LedgerError> {
        let mut found = Vec::new();
        let mut from = Some(first);
        while let Some(start) = from {
            let key = (self.user.get(), start, last);
            let rows = self.live.query_counted(self.cost, self.jump, key).await?;
            let Some(row) = rows
                .maybe_first_row::<BalanceColumnsRow>()
                .map_err(unreadable_row)?
            else {
                break;
            };
            let balance = row.to_balance(self.said_at)?;
            found.push(balance);
            let at = balance.asset.get();
            from = at.checked_add(1).filter(|next| *next <= last);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn test_ids(ids: impl IntoIterator<Item = i32>) -> Vec<AssetId> {
        ids.into_iter()
            .map(|id| AssetId::new(id).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn known_ids_and_gaps_cover_every_id(known in btree_set(1..i32::MAX, 0..200)) {
            let known = test_ids(known);
            let cut = gaps_between(1, &known);
            prop_assert!(cut.len() <= STRETCHES_MAX);
            for pair in cut.windows(2) {
                prop_assert!(pair[0].first <= pair[0].last && pair[0].last < pair[1].first);
            }
            let mut next = Some(1);
            for stretch in &cut {
                while let Some(id) = next.filter(|id| *id < stretch.first) {
                    prop_assert!(known.iter().any(|known| known.get() == id), "{id} is asked of nobody");
                    next = id.checked_add(1);
                }
                next = stretch.last.checked_add(1);
            }
            prop_assert_eq!(next, None);
        }
    }

    #[test]
    fn a_catalogue_without_gaps_leaves_one_jump() {
        let rest = IdRange {
            first: 4,
            last: i32::MAX,
        };
        assert_eq!(gaps_between(1, &test_ids([1, 2, 3])), [rest]);
        assert_eq!(
            gaps_between(1, &test_ids([2, i32::MAX])),
            [
                IdRange { first: 1, last: 1 },
                IdRange {
                    first: 3,
                    last: i32::MAX - 1
                }
            ]
        );
    }

    #[test]
    fn users_are_forgotten_by_generations_and_never_without_bound() {
        let remembered = RememberedAssets::default();
        let assets: Assets = test_ids([1]).into();
        let user = |id| UserId::new(id).unwrap();
        for id in 1..=100_000 {
            remembered.put_assets(user(id), Arc::clone(&assets));
        }
        let both = remembered.0.lock();
        assert!(both.young.len() <= REMEMBERED_MAX && both.old.len() <= REMEMBERED_MAX);
        drop(both);
        assert!(remembered.assets_of(user(100_000)).is_some());
        assert!(remembered.assets_of(user(1)).is_none());
    }
}
