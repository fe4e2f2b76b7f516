//! All rows of the tables as they stood at one moment: users and assets falling, of each the newest row first.
//!
//! **Invariants.** One read-only transaction (`REPEATABLE READ`): what is written meanwhile is not seen. While it is open the server keeps
//! old rows, so it is for tools only.
//!
//! **Limits.** One call reads one step. No timeout on the server's side.

use tokio_postgres::Row;

use super::super::{
    faults,
    pool::{PgConnection, Values, query_rows},
    statements::{fill_schema, read_balance_at, read_column},
};
use crate::{
    clock,
    domain::{AssetId, Balance, UserId},
    ledger::{
        LedgerError,
        records::{HistoryRow, RowKey, SettledRecord, TRADE},
    },
};

const BEGIN: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
     BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const NEWEST_BELOW: &str = "WITH RECURSIVE newest AS ( \
     (SELECT user_id, asset_id, seq, avail, frozen, created_at FROM {s}.balance_ledger \
      WHERE (user_id, asset_id) < ($1, $2::int8) ORDER BY user_id DESC, asset_id DESC, seq DESC LIMIT 1) \
     UNION ALL \
     SELECT below.user_id, below.asset_id, below.seq, below.avail, below.frozen, below.created_at FROM newest CROSS JOIN LATERAL \
      (SELECT user_id, asset_id, seq, avail, frozen, created_at FROM {s}.balance_ledger \
       WHERE (user_id, asset_id) < (newest.user_id, newest.asset_id) \
       ORDER BY user_id DESC, asset_id DESC, seq DESC LIMIT 1) AS below \
     ) SELECT user_id, asset_id, seq, avail, frozen, created_at FROM newest LIMIT $3";

const CURRENT_BELOW: &str = "SELECT user_id, asset_id, version, avail, frozen, updated_at FROM {s}.user_balances \
     WHERE (user_id, asset_id) < ($1, $2::int8) ORDER BY user_id DESC, asset_id DESC LIMIT $3";

const ROWS_BELOW: &str = "SELECT user_id, asset_id, seq, avail, frozen, delta_avail, delta_frozen, event_type, ref_id \
     FROM {s}.balance_ledger WHERE (user_id, asset_id, seq) < ($1, $2::int8, $3) \
     ORDER BY user_id DESC, asset_id DESC, seq DESC LIMIT $4";

const ROWS: &str = "SELECT row.user_id, row.asset_id, row.seq, row.avail, row.frozen, row.delta_avail, row.delta_frozen, row.event_type, \
     row.ref_id FROM unnest($1::int8[], $2::int4[], $3::int8[]) AS asked (user_id, asset_id, seq) \
     JOIN {s}.balance_ledger AS row USING (user_id, asset_id, seq)";

const TRADES: &str =
    "SELECT trade_id, content, balances FROM {s}.settled_trades WHERE trade_id = ANY ($1)";
const TRADES_ABOVE: &str = "SELECT trade_id, content, balances FROM {s}.settled_trades WHERE trade_id > $1 ORDER BY trade_id LIMIT $2";
const TRANSACTIONS_ABOVE: &str = "SELECT transaction_id, content, balances FROM {s}.ledger_transactions \
     WHERE transaction_id > $1 ORDER BY transaction_id LIMIT $2";

/// Above every pair: an asset has 32 bits.
const ABOVE_ALL: (i64, i64) = (i64::MAX, i64::MAX);

/// A pair of user and asset.
pub type PairKey = (i64, i32);

/// The newest rows of one pair in both tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PgPair {
    pub user: UserId,
    /// Of which asset.
    pub asset: AssetId,
    /// The ledger's newest row.
    pub ledger: Option<Balance>,
    /// The row of `user_balances`.
    pub table: Option<Balance>,
}

/// The tables at one moment.
pub struct PgSnapshot {
    connection: PgConnection,
    schema: String,
}

impl PgSnapshot {
    pub(super) async fn begin_snapshot(
        mut connection: PgConnection,
        schema: &str,
    ) -> Result<Self, LedgerError> {
        let begun = connection.cached_client()?.batch_execute(BEGIN).await;
        begun.map_err(|error| faults::map_error(&error))?;
        Ok(Self {
            connection,
            schema: schema.to_owned(),
        })
    }

    async fn query_rows(
        &mut self,
        text: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        let text = fill_schema(text, &self.schema);
        let rows = query_rows(self.connection.cached_client()?, &text, values).await;
        rows.map_err(|error| faults::map_error(&error))
    }

    /// The next pairs that either table has below one, at most `most`, and where to go on.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn read_pairs_below(
        &mut self,
        below: Option<PairKey>,
        most: usize,
    ) -> Result<(Vec<PgPair>, Option<PairKey>), LedgerError> {
        let (user, asset) = below.map_or(ABOVE_ALL, |(user, asset)| (user, asset.into()));
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let values: Values<'_> = &[&user, &asset, &limit];
        let ledger = read_keyed(&self.query_rows(NEWEST_BELOW, values).await?)?;
        let table = read_keyed(&self.query_rows(CURRENT_BELOW, values).await?)?;
        // A list that is full says nothing of what is below its last pair.
        let ends = [&ledger, &table].map(|list| {
            let last = list.last().filter(|_| list.len() >= most);
            last.map(|(key, _)| *key)
        });
        let end = ends.into_iter().flatten().max();
        Ok((merge_pairs(&ledger, &table, end)?, end))
    }

    /// The next rows of the ledger below a key.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn read_rows_below(
        &mut self,
        below: Option<RowKey>,
        most: usize,
    ) -> Result<Vec<HistoryRow>, LedgerError> {
        let ((user, asset), seq) = below.map_or((ABOVE_ALL, i64::MAX), |(user, asset, seq)| {
            ((user, asset.into()), seq)
        });
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self
            .query_rows(ROWS_BELOW, &[&user, &asset, &seq, &limit])
            .await?;
        rows.iter().map(read_history_row).collect()
    }

    /// The rows of the ledger that stand under these keys, in no order.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn read_rows(&mut self, keys: &[RowKey]) -> Result<Vec<HistoryRow>, LedgerError> {
        let users: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let assets: Vec<i32> = keys.iter().map(|key| key.1).collect();
        let seqs: Vec<i64> = keys.iter().map(|key| key.2).collect();
        let rows = self.query_rows(ROWS, &[&users, &assets, &seqs]).await?;
        rows.iter().map(read_history_row).collect()
    }

    /// The records of these trades.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn read_trades(&mut self, ids: &[i64]) -> Result<Vec<SettledRecord>, LedgerError> {
        let rows = self.query_rows(TRADES, &[&ids]).await?;
        rows.iter().map(|row| read_record(row, true)).collect()
    }

    /// The next records of trades, or of transactions, above an id.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn read_records_above(
        &mut self,
        is_trade: bool,
        id: i64,
        most: usize,
    ) -> Result<Vec<SettledRecord>, LedgerError> {
        let text = if is_trade {
            TRADES_ABOVE
        } else {
            TRANSACTIONS_ABOVE
        };
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.query_rows(text, &[&id, &limit]).await?;
        rows.iter().map(|row| read_record(row, is_trade)).collect()
    }
}

/// A pair and its balance, pairs falling.
type Keyed = Vec<(PairKey, Balance)>;

fn read_keyed(rows: &[Row]) -> Result<Keyed, LedgerError> {
    let said_at = clock::wall_now();
    let read = |row: &Row| {
        let key = (read_column(row, 0)?, read_column(row, 1)?);
        Ok((key, read_balance_at(row, 1, said_at)?))
    };
    rows.iter().map(read).collect()
}

/// The pairs of both lists down to `end`, falling.
fn merge_pairs(
    ledger: &Keyed,
    table: &Keyed,
    end: Option<PairKey>,
) -> Result<Vec<PgPair>, LedgerError> {
    let mut keys: Vec<PairKey> = ledger.iter().chain(table).map(|(key, _)| *key).collect();
    keys.retain(|key| end.is_none_or(|end| *key >= end));
    keys.sort_unstable_by(|one, other| other.cmp(one));
    keys.dedup();
    let found = |list: &Keyed, key| {
        let at = list.binary_search_by(|(other, _)| key_order(*other, key));
        at.ok()
            .and_then(|at| list.get(at))
            .map(|(_, balance)| *balance)
    };
    let corrupt = |what: &dyn std::fmt::Display| LedgerError::Corrupt(what.to_string().into());
    keys.into_iter()
        .map(|key| {
            Ok(PgPair {
                user: UserId::new(key.0).map_err(|error| corrupt(&error))?,
                asset: AssetId::new(key.1).map_err(|error| corrupt(&error))?,
                ledger: found(ledger, key),
                table: found(table, key),
            })
        })
        .collect()
}

/// Pairs fall.
fn key_order(one: PairKey, other: PairKey) -> std::cmp::Ordering {
    other.cmp(&one)
}

fn read_history_row(row: &Row) -> Result<HistoryRow, LedgerError> {
    let amount =
        |at| Ok::<_, LedgerError>(read_column::<Option<i64>>(row, at)?.unwrap_or_default());
    let event: Option<String> = read_column(row, 7)?;
    Ok(HistoryRow {
        key: (
            read_column(row, 0)?,
            read_column(row, 1)?,
            read_column(row, 2)?,
        ),
        avail: amount(3)?,
        frozen: amount(4)?,
        delta_avail: read_column(row, 5)?,
        delta_frozen: read_column(row, 6)?,
        is_trade: event.as_deref() == Some(TRADE),
        ref_id: read_column(row, 8)?,
    })
}

fn read_record(row: &Row, is_trade: bool) -> Result<SettledRecord, LedgerError> {
    let text =
        |at| Ok::<_, LedgerError>(read_column::<Option<String>>(row, at)?.unwrap_or_default());
    Ok(SettledRecord {
        is_trade,
        id: read_column(row, 0)?,
        content: text(1)?,
        balances: text(2)?,
        is_done: true,
    })
}
