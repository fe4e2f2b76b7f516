//! Reads of the ledger itself, where each (user, asset) is a partition: nothing lags, and only assets that are named
//! are seen.
//!
//! **Limits.** `ScyllaDB` takes at most 100 values in an IN ([`IN_MAX`]); longer lists are asked for in pieces,
//! [`AT_ONCE`] at a time.

use futures::{StreamExt, TryStreamExt, stream};
use scylla::DeserializeRow;

use super::statements::{LiveSession, read_balances, unreadable_row};
use crate::{
    clock,
    domain::{AssetId, Balance, Seq, Snapshot, UnixMillis, UserId},
    ledger::{Cost, LedgerError, RowAbove},
};

type CountedLive<'a> = (&'a LiveSession, &'a Cost);

const IN_MAX: usize = 100;
const AT_ONCE: usize = 8;

/// The newest row of each of these assets.
pub(super) async fn load_latest(
    (live, cost): CountedLive<'_>,
    user: UserId,
    assets: &[AssetId],
) -> Result<Snapshot, LedgerError> {
    let said_at = clock::wall_now();
    match assets {
        [] => Ok(Snapshot::default()),
        // With the whole partition key the driver knows which node has the row, and asks it.
        [one] => {
            let key = (user.get(), one.get());
            let rows = live.query_counted(cost, &live.ledger_one, key).await?;
            read_balances(&rows, said_at).map(Snapshot::new)
        }
        few if few.len() <= IN_MAX => load_chunk((live, cost), user, few, said_at)
            .await
            .map(Snapshot::new),
        many => {
            let chunks: Vec<_> = many
                .chunks(IN_MAX)
                .map(|few| load_chunk((live, cost), user, few, said_at))
                .collect();
            let found = stream::iter(chunks).buffer_unordered(AT_ONCE);
            found.try_concat().await.map(Snapshot::new)
        }
    }
}

async fn load_chunk(
    (live, cost): CountedLive<'_>,
    user: UserId,
    assets: &[AssetId],
    said_at: UnixMillis,
) -> Result<Vec<Balance>, LedgerError> {
    let ids: Vec<i32> = assets.iter().map(|asset| asset.get()).collect();
    let rows = live
        .query_counted(cost, &live.ledger_many, (user.get(), ids))
        .await?;
    read_balances(&rows, said_at)
}

/// When a row was written, as its writer and the database say.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct RowWriteTimes {
    seq: i64,
    created_at: Option<i64>,
    avail_written: Option<i64>,
    created_at_written: Option<i64>,
}

/// The lowest row above `seq`. A row that was written again stands since the last time, as far as this says.
pub(super) async fn find_above(
    live: &LiveSession,
    user: UserId,
    asset: AssetId,
    seq: Option<Seq>,
) -> Result<Option<RowAbove>, LedgerError> {
    let key = (user.get(), asset.get(), seq.map_or(0, Seq::get));
    let rows = live.query_rows(&live.ledger_above, key).await?;
    let Some(row) = rows
        .maybe_first_row::<RowWriteTimes>()
        .map_err(unreadable_row)?
    else {
        return Ok(None);
    };
    let seq = Seq::new(row.seq).map_err(unreadable_row)?;
    let written = row.avail_written.max(row.created_at_written);
    Ok(Some(RowAbove {
        seq,
        created_at: row.created_at.map(UnixMillis),
        written_at: written.and_then(|micros| {
            let up = micros.saturating_add(999);
            up.checked_div_euclid(1_000).map(UnixMillis)
        }),
    }))
}
