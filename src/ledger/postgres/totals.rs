//! Sums `user_balances` over all users, by ranges of its key, on the primary.
//!
//! The ledger's row of the same seq is read beside each row. Where its amounts are others, they are counted: a row of the ledger is
//! never changed, so the row of `user_balances` was.
//!
//! **Invariants.** An empty `user_balances` beside a ledger that is not empty is an error, not a total of nothing.
//!
//! **Cancellation.** Nothing is kept of a scan that is dropped.
//!
//! **Limits.** Not of one moment: no transaction is held open, because that would keep the server from removing old rows. A transfer
//! that happens between two ranges may be counted twice or not at all. [`PAGE_MAX`] rows a range; a range that fails is read [`TRIES`] times.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::{
    Postgres,
    pool::Values,
    statements::{fill_schema, read_balance_at, read_column, unreadable_row},
};
use crate::{
    clock,
    domain::{Amount, AssetId, AssetSum, Totals, UnixMillis, UserId},
    ledger::{
        LedgerError,
        totals::{ScannedTotals, TotalsScan, permille_of},
    },
};

const PAGE_MAX: u32 = 1_000;
const TRIES: u32 = 3;

/// One step of the ledger's key for each row.
const PAGE: &str = "SELECT part.user_id, part.asset_id, part.version, part.avail, part.frozen, part.updated_at, \
     stood.seq, stood.avail, stood.frozen \
     FROM (SELECT user_id, asset_id, version, avail, frozen, updated_at FROM {s}.user_balances \
      WHERE (user_id, asset_id) > ($1, $2) ORDER BY user_id, asset_id LIMIT $3) AS part \
     LEFT JOIN LATERAL (SELECT seq, avail, frozen FROM {s}.balance_ledger \
      WHERE user_id = part.user_id AND asset_id = part.asset_id AND seq = part.version LIMIT 1) AS stood ON true \
     ORDER BY part.user_id, part.asset_id";

/// The server's estimate, for the progress only.
const ROWS: &str =
    "SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = '{s}.user_balances'::regclass";

const IS_EMPTY: &str = "SELECT EXISTS (SELECT 1 FROM {s}.balance_ledger)";

impl Postgres {
    /// Sums all rows of `user_balances`.
    pub(super) async fn sum_balances(
        &self,
        scan: &TotalsScan,
    ) -> Result<ScannedTotals, LedgerError> {
        self.refuse_loads()?;
        let schema = self.connector.schema();
        let (page, began) = (fill_schema(PAGE, schema), clock::wall_now());
        let estimate = self.read_number(ROWS).await?;
        let limit = i64::from(scan.step_rows(PAGE_MAX));
        let (mut sums, mut untrusted_rows) = (BTreeMap::new(), 0_u64);
        let mut last = (i64::MIN, i32::MIN);
        loop {
            let rows = self.read_range(&page, last, limit).await?;
            let Some(end) = rows.last() else {
                break;
            };
            last = (read_column(end, 0)?, read_column(end, 1)?);
            for row in &rows {
                if !add_row(&mut sums, row)? {
                    untrusted_rows = untrusted_rows.saturating_add(1);
                }
            }
            scan.pace_rows(u64::try_from(rows.len()).unwrap_or(u64::MAX))
                .await;
            scan.set_progress(permille_of(
                scan.rows_read(),
                estimate.max(scan.rows_read()),
            ));
        }
        if scan.rows_read() == 0 && self.read_flag(IS_EMPTY).await? {
            return Err(LedgerError::unavailable(
                "user_balances is empty and balance_ledger is not: totals need a writer that fills it",
            ));
        }
        scan.set_progress(1_000);
        Ok(ScannedTotals {
            totals: Totals {
                assets: sums,
                began,
                ended: clock::wall_now(),
            },
            maintained: None,
            untrusted_rows,
        })
    }

    async fn read_range(
        &self,
        text: &str,
        (user, asset): (i64, i32),
        limit: i64,
    ) -> Result<Vec<Row>, LedgerError> {
        let values: Values<'_> = &[&user, &asset, &limit];
        let mut tries = 1;
        loop {
            match self.primary.read_rows(text, values).await {
                Ok(rows) => return Ok(rows),
                Err(_) if tries < TRIES => tries = tries.saturating_add(1),
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_number(&self, text: &str) -> Result<u64, LedgerError> {
        let text = fill_schema(text, self.connector.schema());
        let rows = self.primary.read_rows(&text, &[]).await?;
        let number: Option<i64> = rows.first().map(|row| read_column(row, 0)).transpose()?;
        Ok(number.and_then(|it| u64::try_from(it).ok()).unwrap_or(0))
    }

    async fn read_flag(&self, text: &str) -> Result<bool, LedgerError> {
        let text = fill_schema(text, self.connector.schema());
        let rows = self.primary.read_rows(&text, &[]).await?;
        rows.first().map_or(Ok(false), |row| read_column(row, 0))
    }
}

/// Adds a row; false for one that no user, no asset or no seq of ours can have, and for one that the ledger contradicts.
fn add_row(sums: &mut BTreeMap<AssetId, AssetSum>, row: &Row) -> Result<bool, LedgerError> {
    let Ok(balance) = read_balance_at(row, 1, UnixMillis(0)) else {
        return Ok(false);
    };
    if UserId::new(read_column(row, 0)?).is_err() {
        return Ok(false);
    }
    let shown = (balance.avail, balance.frozen);
    let counted = match read_column::<Option<i64>>(row, 6)? {
        Some(_) => (read_amount(row, 7)?, read_amount(row, 8)?),
        None => shown,
    };
    let sum = sums.entry(balance.asset).or_default();
    let added = sum.with_user(counted.0, counted.1);
    *sum = added.ok_or_else(|| unreadable_row("a total does not fit into 128 bits"))?;
    Ok(counted == shown)
}

/// A missing amount is 0.
fn read_amount(row: &Row, at: usize) -> Result<Amount, LedgerError> {
    let raw: Option<i64> = read_column(row, at)?;
    Ok(Amount::from_raw(raw.unwrap_or_default()))
}
