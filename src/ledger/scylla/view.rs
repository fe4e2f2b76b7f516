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
    statements::{Live, PAGE, Row, balances, unreadable},
};
use crate::{
    domain::{AssetId, Balance, Catalogue, Snapshot, UnixMillis, UserId},
    ledger::{Cost, Error},
};

/// Stretches that are walked at once.
const STRETCHES_MAX: usize = 32;

/// Assets of a catalogue that are asked for by name whoever the user is: what one statement takes.
const NAMED_MAX: usize = 100;

/// Users in one generation of [`Remembered`].
const REMEMBERED_MAX: usize = 32_768;

/// Which assets a user with a long history had.
type Assets = Arc<[AssetId]>;

/// Users with a long history and the assets they had: two generations, the older one forgotten when the younger is
/// full. Guesses only; whatever stands here, a load is right.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<UserId, Assets>,
    old: HashMap<UserId, Assets>,
}

impl Remembered {
    fn get(&self, user: UserId) -> Option<Assets> {
        let mut both = self.0.lock();
        if let Some(found) = both.young.get(&user) {
            return Some(Arc::clone(found));
        }
        let found = both.old.remove(&user)?;
        both.keep(user, Arc::clone(&found));
        Some(found)
    }

    fn put(&self, user: UserId, assets: Assets) {
        self.0.lock().keep(user, assets);
    }
}

impl Generations {
    fn keep(&mut self, user: UserId, assets: Assets) {
        if self.young.len() >= REMEMBERED_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user, assets);
    }
}

/// All balances of the user.
pub(super) async fn load(
    (live, cost): (&Live, &Cost),
    (page, jump): (&PreparedStatement, &PreparedStatement),
    user: UserId,
    (remembered, catalogue): (&Remembered, &Catalogue),
    said_at: UnixMillis,
) -> Result<Snapshot, Error> {
    let walk = Walk {
        live,
        cost,
        jump,
        user,
        said_at,
    };
    if let Some(assets) = remembered.get(user) {
        let snapshot = walk.all(i32::MIN, &known(catalogue, &assets)).await?;
        remember(remembered, user, Some(&assets), &snapshot);
        return Ok(snapshot);
    }
    let Some(rows) = live.readable(cost, page, (user.get(),)).await? else {
        if let Some(left_out) = live.sparing.line() {
            tracing::warn!(
                user.id = user.get(),
                lines.left_out = left_out,
                "the first rows of a user in the view cannot be read, as where many were deleted: read asset by asset"
            );
        }
        let snapshot = walk.all(i32::MIN, &known(catalogue, &[])).await?;
        remember(remembered, user, None, &snapshot);
        return Ok(snapshot);
    };
    let first = Snapshot::new(balances(&rows, said_at)?);
    if rows.rows_num() < PAGE {
        return Ok(first);
    }
    // Sorted by asset: of the last one seen and of all before it the newest row is here.
    let last = first.assets().last().map_or(i32::MIN, AssetId::get);
    let snapshot = match last.checked_add(1) {
        Some(next) => {
            let mut known = known(catalogue, &[]);
            known.retain(|id| id.get() >= next);
            first.merge(&walk.all(next, &known).await?)
        }
        None => first,
    };
    remember(remembered, user, None, &snapshot);
    Ok(snapshot)
}

/// The assets to ask for by name, ascending. A catalogue that is far larger than any user is left out.
fn known(catalogue: &Catalogue, had: &[AssetId]) -> Vec<AssetId> {
    let mut known: BTreeSet<_> = had.iter().copied().collect();
    if catalogue.len() <= NAMED_MAX {
        known.extend(catalogue.ids());
    }
    known.into_iter().collect()
}

fn remember(remembered: &Remembered, user: UserId, known: Option<&[AssetId]>, found: &Snapshot) {
    if known.is_none_or(|known| !found.assets().eq(known.iter().copied())) {
        remembered.put(user, found.assets().collect());
    }
}

/// Ids from `first` to `last`, both in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    first: i32,
    last: i32,
}

/// The stretches from `first` on between the known ids, at most [`STRETCHES_MAX`]: where there are more, neighbours are walked as one, over
/// what is known between them. `known` ascends and begins at `first` or later. From `i32::MIN` on, impossible ids are seen too.
fn gaps(first: i32, known: &[AssetId]) -> Vec<Stretch> {
    let mut gaps = Vec::new();
    let mut first = Some(first);
    for id in known {
        if let (Some(start), Some(last)) = (first, id.get().checked_sub(1))
            && start <= last
        {
            gaps.push(Stretch { first: start, last });
        }
        first = id.get().checked_add(1);
    }
    gaps.extend(first.map(|first| Stretch {
        first,
        last: i32::MAX,
    }));
    let each = gaps.len().div_ceil(STRETCHES_MAX).max(1);
    let joined = gaps.chunks(each).filter_map(|some| {
        Some(Stretch {
            first: some.first()?.first,
            last: some.last()?.last,
        })
    });
    joined.collect()
}

struct Walk<'a> {
    live: &'a Live,
    cost: &'a Cost,
    jump: &'a PreparedStatement,
    user: UserId,
    said_at: UnixMillis,
}

impl Walk<'_> {
    /// The newest balance of every asset: of the known ones from the ledger, of all others from the view.
    async fn all(&self, first: i32, known: &[AssetId]) -> Result<Snapshot, Error> {
        let walks = gaps(first, known)
            .into_iter()
            .map(|stretch| self.stretch(stretch));
        let walks = try_join_all(walks);
        let named = ledger::latest((self.live, self.cost), self.user, known);
        let (named, found) = futures::try_join!(named, walks)?;
        Ok(named.merge(&Snapshot::new(found.into_iter().flatten().collect())))
    }

    /// The newest balance of every asset in the stretch.
    async fn stretch(&self, Stretch { first, last }: Stretch) -> Result<Vec<Balance>, Error> {
        let mut found = Vec::new();
        let mut from = Some(first);
        while let Some(start) = from {
            let key = (self.user.get(), start, last);
            let rows = self.live.counted(self.cost, self.jump, key).await?;
            let Some(row) = rows.maybe_first_row::<Row>().map_err(unreadable)? else {
                break;
            };
            let balance = row.balance(self.said_at)?;
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

    fn ids(ids: impl IntoIterator<Item = i32>) -> Vec<AssetId> {
        ids.into_iter()
            .map(|id| AssetId::new(id).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn known_ids_and_gaps_cover_every_id(known in btree_set(1..i32::MAX, 0..200)) {
            let known = ids(known);
            let cut = gaps(1, &known);
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
        let rest = Stretch {
            first: 4,
            last: i32::MAX,
        };
        assert_eq!(gaps(1, &ids([1, 2, 3])), [rest]);
        assert_eq!(
            gaps(1, &ids([2, i32::MAX])),
            [
                Stretch { first: 1, last: 1 },
                Stretch {
                    first: 3,
                    last: i32::MAX - 1
                }
            ]
        );
    }

    #[test]
    fn users_are_forgotten_by_generations_and_never_without_bound() {
        let remembered = Remembered::default();
        let assets: Assets = ids([1]).into();
        let user = |id| UserId::new(id).unwrap();
        for id in 1..=100_000 {
            remembered.put(user(id), Arc::clone(&assets));
        }
        let both = remembered.0.lock();
        assert!(both.young.len() <= REMEMBERED_MAX && both.old.len() <= REMEMBERED_MAX);
        drop(both);
        assert!(remembered.get(user(100_000)).is_some());
        assert!(remembered.get(user(1)).is_none());
    }
}
