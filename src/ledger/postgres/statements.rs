//! The texts of the statements, for the schema of the settings, and the rows that they return.
//!
//! **Invariants.** Each statement names its columns and is served by a unique index (`schema/postgres/README.md`).

use tokio_postgres::{Row, types::FromSql};

use crate::{
    domain::{Amount, AssetId, Balance, Seq, UnixMillis},
    ledger::LedgerError,
};

/// The newest row of every asset of a user: from the highest asset down, one step of the index for each.
const NEWEST: &str = "WITH RECURSIVE newest AS ( \
     (SELECT asset_id, seq, avail, frozen, created_at FROM {s}.balance_ledger WHERE user_id = $1 \
      ORDER BY asset_id DESC, seq DESC LIMIT 1) \
     UNION ALL \
     SELECT below.asset_id, below.seq, below.avail, below.frozen, below.created_at FROM newest CROSS JOIN LATERAL \
      (SELECT asset_id, seq, avail, frozen, created_at FROM {s}.balance_ledger \
       WHERE user_id = $1 AND asset_id < newest.asset_id ORDER BY asset_id DESC, seq DESC LIMIT 1) AS below \
     ) SELECT asset_id, seq, avail, frozen, created_at FROM newest";

/// The newest row of each asset that is named.
const LATEST: &str = "SELECT top.asset_id, top.seq, top.avail, top.frozen, top.created_at FROM unnest($2::int4[]) AS asked (id) \
     CROSS JOIN LATERAL (SELECT asset_id, seq, avail, frozen, created_at FROM {s}.balance_ledger \
     WHERE user_id = $1 AND asset_id = asked.id ORDER BY asset_id DESC, seq DESC LIMIT 1) AS top";

/// The current state of a user.
const CURRENT: &str =
    "SELECT asset_id, version, avail, frozen, updated_at FROM {s}.user_balances WHERE user_id = $1";

/// The lowest row above a seq; the time of its commit where the server keeps it.
const ABOVE: &str = "SELECT seq, created_at, {written_at} FROM {s}.balance_ledger \
     WHERE user_id = $1 AND asset_id = $2 AND seq > $3 ORDER BY seq LIMIT 1";

/// The time of a row's commit in milliseconds, rounded up.
const COMMIT_TIME: &str =
    "ceil(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000)::int8 AS written_at";

/// One row that need not be there, by the key.
const PROBE: &str = "SELECT seq FROM {s}.balance_ledger \
     WHERE user_id = 9223372036854775807 AND asset_id = 2147483647 ORDER BY seq DESC LIMIT 1";

/// The texts for one schema.
#[derive(Debug)]
pub(super) struct StatementTexts {
    pub(super) newest: String,
    pub(super) latest: String,
    pub(super) current: String,
    pub(super) above: String,
    /// Of a server with `track_commit_timestamp`.
    pub(super) above_with_commit: String,
    pub(super) probe: String,
}

impl StatementTexts {
    pub(super) fn for_schema(schema: &str) -> Self {
        let fill = |text: &str| fill_schema(text, schema);
        Self {
            newest: fill(NEWEST),
            latest: fill(LATEST),
            current: fill(CURRENT),
            above: fill(&ABOVE.replace("{written_at}", "NULL::int8")),
            above_with_commit: fill(&ABOVE.replace("{written_at}", COMMIT_TIME)),
            probe: fill(PROBE),
        }
    }
}

/// The text with the schema's name in its places.
pub(super) fn fill_schema(text: &str, schema: &str) -> String {
    text.replace("{s}.", &format!("\"{schema}\"."))
}

/// A name as SQL takes it.
pub(super) fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A column of a row.
pub(super) fn read_column<'r, T: FromSql<'r>>(row: &'r Row, at: usize) -> Result<T, LedgerError> {
    row.try_get(at).map_err(unreadable_row)
}

/// A row that is not of the types that the schema says, or holds what cannot be.
pub(super) fn unreadable_row(error: impl std::fmt::Display) -> LedgerError {
    LedgerError::Corrupt(error.to_string().into())
}

/// The balance in a row of asset, seq, avail, frozen and time; a missing amount is 0 (some writers leave it out).
pub(super) fn read_balance(row: &Row, said_at: UnixMillis) -> Result<Balance, LedgerError> {
    read_balance_at(row, 0, said_at)
}

/// The same in the columns from `first` on.
pub(super) fn read_balance_at(
    row: &Row,
    first: usize,
    said_at: UnixMillis,
) -> Result<Balance, LedgerError> {
    let place = |step: usize| first.saturating_add(step);
    let asset: i32 = read_column(row, place(0))?;
    let seq: Option<i64> = read_column(row, place(1))?;
    let amount = |step| {
        Ok::<_, LedgerError>(read_column::<Option<i64>>(row, place(step))?.unwrap_or_default())
    };
    let (Ok(asset_id), Ok(version)) = (AssetId::new(asset), Seq::new(seq.unwrap_or_default()))
    else {
        return Err(unreadable_row(format_args!("asset_id {asset} seq {seq:?}")));
    };
    Ok(Balance {
        asset: asset_id,
        seq: version,
        avail: Amount::from_raw(amount(2)?),
        frozen: Amount::from_raw(amount(3)?),
        updated_at: read_column::<Option<i64>>(row, place(4))?.map(UnixMillis),
        said_at,
    })
}
