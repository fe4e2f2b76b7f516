//! A load from the view, at a cost that follows the number of assets and not the length of the history.
//!
//! The view's partition is the user, sorted by asset and then newest first. The first [`PAGE`] rows are asked for; a
//! user with less history is answered by that one statement. Of a longer one the rest is found by *jumps*:
//! `asset_id >= ? LIMIT 1` is the newest row of the first asset from there on. One jump after the other would find
//! every asset in assets + 1 round trips. Instead the ids are cut into stretches, each ending with an asset that the
//! user probably has, and all stretches are walked at once: with good guesses each takes one jump.
//!
//! The guesses are the assets that this user had at the last long load (an append-only history loses none; then the
//! page is left out as well, and the load is assets + 1 statements in one wave), else the catalogue's.
//!
//! **Invariants.** The stretches cover every `asset_id` there is, so a bad guess costs a jump and never an asset (P6):
//! assets outside the catalogue are found, and impossible ids are seen and refused.
//!
//! **Cancellation.** Nothing is kept of a load that was dropped.
//!
//! **Limits.** [`STRETCHES_MAX`] statements at once; the assets of [`REMEMBERED_MAX`] users are remembered, twice over.

use std::{collections::HashMap, sync::Arc};

use futures::future::try_join_all;
use parking_lot::Mutex;
use scylla::statement::prepared::PreparedStatement;

use super::statements::{Live, PAGE, Row, balances, unreadable};
use crate::{
    domain::{AssetId, Balance, Catalogue, Snapshot, UnixMillis, UserId},
    source::Error,
};

/// Stretches that are walked at once.
const STRETCHES_MAX: usize = 32;

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
    live: &Live,
    (page, jump): (&PreparedStatement, &PreparedStatement),
    user: UserId,
    (remembered, catalogue): (&Remembered, &Catalogue),
    said_at: UnixMillis,
) -> Result<Snapshot, Error> {
    let walk = Walk {
        live,
        jump,
        user,
        said_at,
    };
    if let Some(assets) = remembered.get(user) {
        let found = walk.all(i32::MIN, &assets).await?;
        let snapshot = Snapshot::new(found);
        remember(remembered, user, Some(&assets), &snapshot);
        return Ok(snapshot);
    }
    let rows = live.rows(page, (user.get(),)).await?;
    let mut found = balances(&rows, said_at)?;
    if found.len() < PAGE {
        return Ok(Snapshot::new(found));
    }
    // Sorted by asset: of the last one seen and of all before it the newest row is here.
    if let Some(next) = found
        .last()
        .and_then(|last| last.asset.get().checked_add(1))
    {
        let guesses: Vec<_> = catalogue.ids().filter(|id| id.get() >= next).collect();
        found.extend(walk.all(next, &guesses).await?);
    }
    let snapshot = Snapshot::new(found);
    remember(remembered, user, None, &snapshot);
    Ok(snapshot)
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

/// Cuts all ids from `first` on into stretches that end with a guess, at most [`STRETCHES_MAX`], the last one open.
/// `guesses` ascend.
fn stretches(first: i32, guesses: &[AssetId]) -> Vec<Stretch> {
    let each = guesses
        .len()
        .div_ceil(STRETCHES_MAX.saturating_sub(1))
        .max(1);
    let mut first = Some(first);
    let mut cut = Vec::with_capacity(STRETCHES_MAX);
    for end in guesses.chunks(each).filter_map(|chunk| chunk.last()) {
        if let Some(start) = first {
            cut.push(Stretch {
                first: start,
                last: end.get(),
            });
            first = end.get().checked_add(1);
        }
    }
    cut.extend(first.map(|first| Stretch {
        first,
        last: i32::MAX,
    }));
    cut
}

struct Walk<'a> {
    live: &'a Live,
    jump: &'a PreparedStatement,
    user: UserId,
    said_at: UnixMillis,
}

impl Walk<'_> {
    async fn all(&self, first: i32, guesses: &[AssetId]) -> Result<Vec<Balance>, Error> {
        let walks = stretches(first, guesses)
            .into_iter()
            .map(|stretch| self.stretch(stretch));
        Ok(try_join_all(walks).await?.into_iter().flatten().collect())
    }

    /// The newest balance of every asset in the stretch.
    async fn stretch(&self, Stretch { first, last }: Stretch) -> Result<Vec<Balance>, Error> {
        let mut found = Vec::new();
        let mut from = Some(first);
        while let Some(start) = from {
            let rows = self.live.rows(self.jump, (self.user.get(), start)).await?;
            let Some(row) = rows.maybe_first_row::<Row>().map_err(unreadable)? else {
                break;
            };
            let balance = row.balance(self.said_at)?;
            let at = balance.asset.get();
            if at > last {
                break; // Another stretch's.
            }
            found.push(balance);
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
        fn stretches_cover_every_id_once(first in i32::MIN..100, guesses in btree_set(100..i32::MAX, 0..200)) {
            let cut = stretches(first, &ids(guesses));
            prop_assert!(cut.len() <= STRETCHES_MAX);
            prop_assert_eq!(cut[0].first, first);
            prop_assert_eq!(cut.last().unwrap().last, i32::MAX);
            for pair in cut.windows(2) {
                prop_assert!(pair[0].first <= pair[0].last);
                prop_assert_eq!(pair[0].last.checked_add(1), Some(pair[1].first));
            }
        }
    }

    #[test]
    fn the_highest_asset_there_is_ends_the_last_stretch() {
        let cut = stretches(5, &ids([7, i32::MAX]));
        assert_eq!(
            cut,
            [
                Stretch { first: 5, last: 7 },
                Stretch {
                    first: 8,
                    last: i32::MAX
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
