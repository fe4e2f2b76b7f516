//! Reads of the ledger itself, where each (user, asset) is a partition: nothing lags, and only assets that are named
//! are seen.
//!
//! **Limits.** `ScyllaDB` takes at most 100 values in an IN ([`IN_MAX`]); longer lists are asked for in pieces,
//! [`AT_ONCE`] at a time.

use futures::{StreamExt, TryStreamExt, stream};

use super::statements::{Live, balances};
use crate::{
    clock,
    domain::{AssetId, Balance, Snapshot, UnixMillis, UserId},
    source::Error,
};

const IN_MAX: usize = 100;
const AT_ONCE: usize = 8;

/// The newest row of each of these assets.
pub(super) async fn latest(
    live: &Live,
    user: UserId,
    assets: &[AssetId],
) -> Result<Snapshot, Error> {
    let said_at = clock::wall();
    match assets {
        [] => Ok(Snapshot::default()),
        // With the whole partition key the driver knows who has the row, and asks that node.
        [one] => {
            let rows = live.rows(&live.ledger_one, (user.get(), one.get())).await?;
            balances(&rows, said_at).map(Snapshot::new)
        }
        few if few.len() <= IN_MAX => chunk(live, user, few, said_at).await.map(Snapshot::new),
        many => {
            let chunks: Vec<_> = many
                .chunks(IN_MAX)
                .map(|few| chunk(live, user, few, said_at))
                .collect();
            let found = stream::iter(chunks).buffer_unordered(AT_ONCE);
            found.try_concat().await.map(Snapshot::new)
        }
    }
}

async fn chunk(
    live: &Live,
    user: UserId,
    assets: &[AssetId],
    said_at: UnixMillis,
) -> Result<Vec<Balance>, Error> {
    let ids: Vec<i32> = assets.iter().map(|asset| asset.get()).collect();
    let rows = live.rows(&live.ledger_many, (user.get(), ids)).await?;
    balances(&rows, said_at)
}
