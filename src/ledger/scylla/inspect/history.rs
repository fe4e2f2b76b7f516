//! All rows of the ledger and all records of trades and transactions by stretches of the token ring, for `verify --conservation`.

use scylla::{
    DeserializeRow,
    response::{PagingState, PagingStateResponse},
    statement::prepared::PreparedStatement,
};

use super::{
    super::{
        schema_state::RelationState,
        statements::{rows_of, statement_error, unreadable_row},
        table_names::{LEDGER, SETTLED_TRADES, TABLE, TRANSACTIONS, USER_TRADES},
    },
    CqlInspector, TokenRange,
};
use crate::ledger::{
    LedgerError,
    records::{HistoryRow, RowKey, SettledRecord, TRADE},
};

/// `role` of the buyer: with that side a trade is done.
const BUYER: i8 = 0;

const ROW_COLUMNS: &str =
    "user_id, asset_id, seq, avail, frozen, delta_avail, delta_frozen, event_type, ref_id";
const RECORD_COLUMNS: &str = "trade_id, content, balances, buyer_user_id, symbol_id, settled_at";

const TRANSACTION_COLUMNS: &str = "transaction_id, content, balances";

/// A page, and where the next one begins.
pub type PagedRows<T> = (Vec<T>, Option<PagingState>);

/// Reads of whole rows and records.
#[derive(Debug)]
pub struct HistoryScan<'a> {
    look: &'a CqlInspector,
    rows: PreparedStatement,
    row: PreparedStatement,
    below: PreparedStatement,
    held: PreparedStatement,
    /// Where the tables of trades stand.
    trades: Option<TradeReads>,
    /// Where `ledger_transactions` stands.
    transactions: Option<PreparedStatement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordTable {
    /// `settled_trades`
    Trades,
    /// `ledger_transactions`
    Transactions,
}

#[derive(Debug)]
struct TradeReads {
    all: PreparedStatement,
    one: PreparedStatement,
    side: PreparedStatement,
}

#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct HistoryColumns {
    user_id: i64,
    asset_id: i32,
    seq: i64,
    avail: Option<i64>,
    frozen: Option<i64>,
    delta_avail: Option<i64>,
    delta_frozen: Option<i64>,
    event_type: Option<String>,
    ref_id: Option<i64>,
}

impl From<HistoryColumns> for HistoryRow {
    fn from(row: HistoryColumns) -> Self {
        Self {
            key: (row.user_id, row.asset_id, row.seq),
            avail: row.avail.unwrap_or_default(),
            frozen: row.frozen.unwrap_or_default(),
            delta_avail: row.delta_avail,
            delta_frozen: row.delta_frozen,
            is_trade: row.event_type.as_deref() == Some(TRADE),
            ref_id: row.ref_id,
        }
    }
}

#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct RecordColumns {
    trade_id: i64,
    content: Option<String>,
    balances: Option<String>,
    buyer_user_id: Option<i64>,
    symbol_id: Option<i32>,
    settled_at: Option<i64>,
}

/// A row of `ledger_transactions`: id, content, balances.
type TransactionColumns = (i64, Option<String>, Option<String>);

impl CqlInspector {
    /// Reads of whole rows and records, so many to a page.
    /// Errors: a ledger that is missing, or a database that does not answer.
    pub async fn open_histories(&self, page: i32) -> Result<HistoryScan<'_>, LedgerError> {
        let paged = async |text: String| -> Result<PreparedStatement, LedgerError> {
            let mut statement = self.prepare_statement(&text).await?;
            statement.set_page_size(page);
            Ok(statement)
        };
        let stretch = |keys: &str| format!("WHERE token({keys}) > ? AND token({keys}) <= ?");
        let of_pair = stretch("user_id, asset_id");
        let rows = format!("SELECT {ROW_COLUMNS} FROM {{ks}}.{LEDGER} {of_pair}");
        let row = format!(
            "SELECT {ROW_COLUMNS} FROM {{ks}}.{LEDGER} WHERE user_id = ? AND asset_id = ? AND seq = ?"
        );
        let below = format!(
            "SELECT {ROW_COLUMNS} FROM {{ks}}.{LEDGER} WHERE user_id = ? AND asset_id = ? AND seq < ? LIMIT 1"
        );
        let of_user = stretch("user_id");
        let held = format!("SELECT asset_id, avail, frozen FROM {{ks}}.{TABLE} {of_user}");
        let trades = if self.found.trades_problem().is_none() {
            let of_trade = stretch("trade_id");
            let all = format!("SELECT {RECORD_COLUMNS} FROM {{ks}}.{SETTLED_TRADES} {of_trade}");
            let one =
                format!("SELECT {RECORD_COLUMNS} FROM {{ks}}.{SETTLED_TRADES} WHERE trade_id = ?");
            let side = format!(
                "SELECT trade_id FROM {{ks}}.{USER_TRADES} WHERE user_id = ? AND symbol_id = ? \
                 AND settled_at = ? AND trade_id = ? AND role = ?"
            );
            Some(TradeReads {
                all: paged(all).await?,
                one: self.prepare_statement(&one).await?,
                side: self.prepare_statement(&side).await?,
            })
        } else {
            None
        };
        let transactions = if self.found.transactions == RelationState::Table {
            let of_transaction = stretch("transaction_id");
            let all =
                format!("SELECT {TRANSACTION_COLUMNS} FROM {{ks}}.{TRANSACTIONS} {of_transaction}");
            Some(paged(all).await?)
        } else {
            None
        };
        Ok(HistoryScan {
            look: self,
            rows: paged(rows).await?,
            row: self.prepare_statement(&row).await?,
            below: self.prepare_statement(&below).await?,
            held: paged(held).await?,
            trades,
            transactions,
        })
    }
}

impl HistoryScan<'_> {
    /// Rows of the ledger in a stretch: those of one pair together, the newest first.
    pub async fn read_rows(
        &self,
        stretch: TokenRange,
        at: Option<PagingState>,
    ) -> Result<PagedRows<HistoryRow>, LedgerError> {
        let page = self
            .query_page::<HistoryColumns>(&self.rows, stretch, at)
            .await?;
        Ok((page.0.into_iter().map(HistoryRow::from).collect(), page.1))
    }

    /// Asset, avail and frozen of `user_balances` in a stretch; what is missing is 0.
    pub async fn read_held(
        &self,
        stretch: TokenRange,
        at: Option<PagingState>,
    ) -> Result<PagedRows<(i32, i64, i64)>, LedgerError> {
        type BalanceColumns = (i32, Option<i64>, Option<i64>);
        let page = self
            .query_page::<BalanceColumns>(&self.held, stretch, at)
            .await?;
        let plain = |(asset, avail, frozen): BalanceColumns| {
            (asset, avail.unwrap_or_default(), frozen.unwrap_or_default())
        };
        Ok((page.0.into_iter().map(plain).collect(), page.1))
    }

    /// Records in a stretch; none where there is no table of them.
    pub async fn read_records(
        &self,
        table: RecordTable,
        stretch: TokenRange,
        at: Option<PagingState>,
    ) -> Result<PagedRows<SettledRecord>, LedgerError> {
        match table {
            RecordTable::Trades => self.trades(stretch, at).await,
            RecordTable::Transactions => self.transactions(stretch, at).await,
        }
    }

    async fn trades(
        &self,
        stretch: TokenRange,
        at: Option<PagingState>,
    ) -> Result<PagedRows<SettledRecord>, LedgerError> {
        let Some(trades) = &self.trades else {
            return Ok((Vec::new(), None));
        };
        let (found, next) = self
            .query_page::<RecordColumns>(&trades.all, stretch, at)
            .await?;
        let mut records = Vec::with_capacity(found.len());
        for row in found {
            records.push(self.record_of(trades, row).await?);
        }
        Ok((records, next))
    }

    async fn transactions(
        &self,
        stretch: TokenRange,
        at: Option<PagingState>,
    ) -> Result<PagedRows<SettledRecord>, LedgerError> {
        let Some(all) = &self.transactions else {
            return Ok((Vec::new(), None));
        };
        let (found, next) = self
            .query_page::<TransactionColumns>(all, stretch, at)
            .await?;
        let record = |(id, content, balances): TransactionColumns| SettledRecord {
            is_trade: false,
            id,
            content: content.unwrap_or_default(),
            balances: balances.unwrap_or_default(),
            // Written together with its rows: one that is missing is looked for again after the grace time.
            is_done: true,
        };
        Ok((found.into_iter().map(record).collect(), next))
    }

    pub async fn read_record(&self, id: i64) -> Result<Option<SettledRecord>, LedgerError> {
        let Some(trades) = &self.trades else {
            return Ok(None);
        };
        let session = &self.look.session;
        let result = session.execute_unpaged(&trades.one, (id,)).await;
        let rows = rows_of(result.map_err(|error| statement_error(&error))?)?;
        match rows
            .maybe_first_row::<RecordColumns>()
            .map_err(unreadable_row)?
        {
            Some(row) => self.record_of(trades, row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn record_of(
        &self,
        trades: &TradeReads,
        row: RecordColumns,
    ) -> Result<SettledRecord, LedgerError> {
        let side = (
            row.buyer_user_id.unwrap_or_default(),
            row.symbol_id.unwrap_or_default(),
            row.settled_at.unwrap_or_default(),
            row.trade_id,
            BUYER,
        );
        let session = &self.look.session;
        let result = session.execute_unpaged(&trades.side, side).await;
        let sides = rows_of(result.map_err(|error| statement_error(&error))?)?;
        Ok(SettledRecord {
            is_trade: true,
            id: row.trade_id,
            content: row.content.unwrap_or_default(),
            balances: row.balances.unwrap_or_default(),
            is_done: sides.rows_num() > 0,
        })
    }

    pub async fn read_row(&self, key: RowKey) -> Result<Option<HistoryRow>, LedgerError> {
        self.query_row(&self.row, key).await
    }

    /// The row before this one in its history.
    pub async fn row_below(&self, key: RowKey) -> Result<Option<HistoryRow>, LedgerError> {
        self.query_row(&self.below, key).await
    }

    async fn query_row(
        &self,
        statement: &PreparedStatement,
        key: RowKey,
    ) -> Result<Option<HistoryRow>, LedgerError> {
        let session = &self.look.session;
        let result = session.execute_unpaged(statement, key).await;
        let rows = rows_of(result.map_err(|error| statement_error(&error))?)?;
        let row = rows
            .maybe_first_row::<HistoryColumns>()
            .map_err(unreadable_row)?;
        Ok(row.map(HistoryRow::from))
    }

    async fn query_page<T>(
        &self,
        statement: &PreparedStatement,
        stretch: TokenRange,
        at: Option<PagingState>,
    ) -> Result<PagedRows<T>, LedgerError>
    where
        T: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
    {
        let at = at.unwrap_or_else(PagingState::start);
        let ends = (stretch.from, stretch.to);
        let session = &self.look.session;
        let asked = session.execute_single_page(statement, ends, at).await;
        let (result, next) = asked.map_err(|error| statement_error(&error))?;
        let rows = rows_of(result)?;
        let found: Result<Vec<T>, LedgerError> = rows
            .rows::<T>()
            .map_err(unreadable_row)?
            .map(|row| row.map_err(unreadable_row))
            .collect();
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((found?, next))
    }
}
