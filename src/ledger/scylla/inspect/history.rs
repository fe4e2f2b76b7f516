//! All rows of the ledger and all records of trades and transactions by stretches of the token ring, for `verify --conservation`.

use scylla::{
    DeserializeRow,
    response::{PagingState, PagingStateResponse},
    statement::prepared::PreparedStatement,
};

use super::{
    super::{
        schema_state::Standing,
        statements::{failed, rows_of, unreadable},
        table_names::{LEDGER, SETTLED_TRADES, TABLE, TRANSACTIONS, USER_TRADES},
    },
    Look, Stretch,
};
use crate::ledger::{
    Error,
    records::{HistoryRow, Record, RowKey, TRADE},
};

/// `role` of the buyer: with that side a trade is done.
const BUYER: i8 = 0;

const ROW_COLUMNS: &str =
    "user_id, asset_id, seq, avail, frozen, delta_avail, delta_frozen, event_type, ref_id";
const RECORD_COLUMNS: &str = "trade_id, content, balances, buyer_user_id, symbol_id, settled_at";

const TRANSACTION_COLUMNS: &str = "transaction_id, content, balances";

/// A page, and where the next one begins.
pub type Page<T> = (Vec<T>, Option<PagingState>);

/// Reads of whole rows and records.
#[derive(Debug)]
pub struct Histories<'a> {
    look: &'a Look,
    rows: PreparedStatement,
    row: PreparedStatement,
    below: PreparedStatement,
    held: PreparedStatement,
    /// Where the tables of trades stand.
    trades: Option<TradeReads>,
    /// Where `ledger_transactions` stands.
    transactions: Option<PreparedStatement>,
}

/// The table that records are read from.
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
struct LedgerRow {
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

impl From<LedgerRow> for HistoryRow {
    fn from(row: LedgerRow) -> Self {
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
struct TradeRow {
    trade_id: i64,
    content: Option<String>,
    balances: Option<String>,
    buyer_user_id: Option<i64>,
    symbol_id: Option<i32>,
    settled_at: Option<i64>,
}

/// A row of `ledger_transactions`: id, content, balances.
type TransactionRow = (i64, Option<String>, Option<String>);

impl Look {
    /// Reads of whole rows and records, so many to a page.
    ///
    /// # Errors
    /// A ledger that is missing, or a database that does not answer.
    pub async fn histories(&self, page: i32) -> Result<Histories<'_>, Error> {
        let paged = async |text: String| -> Result<PreparedStatement, Error> {
            let mut statement = self.statement(&text).await?;
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
                one: self.statement(&one).await?,
                side: self.statement(&side).await?,
            })
        } else {
            None
        };
        let transactions = if self.found.transactions == Standing::Table {
            let of_transaction = stretch("transaction_id");
            let all =
                format!("SELECT {TRANSACTION_COLUMNS} FROM {{ks}}.{TRANSACTIONS} {of_transaction}");
            Some(paged(all).await?)
        } else {
            None
        };
        Ok(Histories {
            look: self,
            rows: paged(rows).await?,
            row: self.statement(&row).await?,
            below: self.statement(&below).await?,
            held: paged(held).await?,
            trades,
            transactions,
        })
    }
}

impl Histories<'_> {
    /// Rows of the ledger in a stretch: those of one pair together, the newest first.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn rows(
        &self,
        stretch: Stretch,
        at: Option<PagingState>,
    ) -> Result<Page<HistoryRow>, Error> {
        let page = self.page::<LedgerRow>(&self.rows, stretch, at).await?;
        Ok((page.0.into_iter().map(HistoryRow::from).collect(), page.1))
    }

    /// Asset, avail and frozen of `user_balances` in a stretch; what is missing is 0.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn held(
        &self,
        stretch: Stretch,
        at: Option<PagingState>,
    ) -> Result<Page<(i32, i64, i64)>, Error> {
        type Held = (i32, Option<i64>, Option<i64>);
        let page = self.page::<Held>(&self.held, stretch, at).await?;
        let plain = |(asset, avail, frozen): Held| {
            (asset, avail.unwrap_or_default(), frozen.unwrap_or_default())
        };
        Ok((page.0.into_iter().map(plain).collect(), page.1))
    }

    /// Records in a stretch; none where there is no table of them.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn records(
        &self,
        table: RecordTable,
        stretch: Stretch,
        at: Option<PagingState>,
    ) -> Result<Page<Record>, Error> {
        match table {
            RecordTable::Trades => self.trades(stretch, at).await,
            RecordTable::Transactions => self.transactions(stretch, at).await,
        }
    }

    async fn trades(
        &self,
        stretch: Stretch,
        at: Option<PagingState>,
    ) -> Result<Page<Record>, Error> {
        let Some(trades) = &self.trades else {
            return Ok((Vec::new(), None));
        };
        let (found, next) = self.page::<TradeRow>(&trades.all, stretch, at).await?;
        let mut records = Vec::with_capacity(found.len());
        for row in found {
            records.push(self.record_of(trades, row).await?);
        }
        Ok((records, next))
    }

    async fn transactions(
        &self,
        stretch: Stretch,
        at: Option<PagingState>,
    ) -> Result<Page<Record>, Error> {
        let Some(all) = &self.transactions else {
            return Ok((Vec::new(), None));
        };
        let (found, next) = self.page::<TransactionRow>(all, stretch, at).await?;
        let record = |(id, content, balances): TransactionRow| Record {
            is_trade: false,
            id,
            content: content.unwrap_or_default(),
            balances: balances.unwrap_or_default(),
            // Written together with its rows: one that is missing is looked for again after the grace time.
            is_done: true,
        };
        Ok((found.into_iter().map(record).collect(), next))
    }

    /// The record of a trade.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn record(&self, id: i64) -> Result<Option<Record>, Error> {
        let Some(trades) = &self.trades else {
            return Ok(None);
        };
        let session = &self.look.session;
        let result = session.execute_unpaged(&trades.one, (id,)).await;
        let rows = rows_of(result.map_err(|error| failed(&error))?)?;
        match rows.maybe_first_row::<TradeRow>().map_err(unreadable)? {
            Some(row) => self.record_of(trades, row).await.map(Some),
            None => Ok(None),
        }
    }

    async fn record_of(&self, trades: &TradeReads, row: TradeRow) -> Result<Record, Error> {
        let side = (
            row.buyer_user_id.unwrap_or_default(),
            row.symbol_id.unwrap_or_default(),
            row.settled_at.unwrap_or_default(),
            row.trade_id,
            BUYER,
        );
        let session = &self.look.session;
        let result = session.execute_unpaged(&trades.side, side).await;
        let sides = rows_of(result.map_err(|error| failed(&error))?)?;
        Ok(Record {
            is_trade: true,
            id: row.trade_id,
            content: row.content.unwrap_or_default(),
            balances: row.balances.unwrap_or_default(),
            is_done: sides.rows_num() > 0,
        })
    }

    /// One row of the ledger.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn row(&self, key: RowKey) -> Result<Option<HistoryRow>, Error> {
        self.one(&self.row, key).await
    }

    /// The row before this one in its history.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn row_below(&self, key: RowKey) -> Result<Option<HistoryRow>, Error> {
        self.one(&self.below, key).await
    }

    async fn one(
        &self,
        statement: &PreparedStatement,
        key: RowKey,
    ) -> Result<Option<HistoryRow>, Error> {
        let session = &self.look.session;
        let result = session.execute_unpaged(statement, key).await;
        let rows = rows_of(result.map_err(|error| failed(&error))?)?;
        let row = rows.maybe_first_row::<LedgerRow>().map_err(unreadable)?;
        Ok(row.map(HistoryRow::from))
    }

    async fn page<T>(
        &self,
        statement: &PreparedStatement,
        stretch: Stretch,
        at: Option<PagingState>,
    ) -> Result<Page<T>, Error>
    where
        T: for<'frame, 'metadata> scylla::deserialize::row::DeserializeRow<'frame, 'metadata>,
    {
        let at = at.unwrap_or_else(PagingState::start);
        let ends = (stretch.from, stretch.to);
        let session = &self.look.session;
        let asked = session.execute_single_page(statement, ends, at).await;
        let (result, next) = asked.map_err(|error| failed(&error))?;
        let rows = rows_of(result)?;
        let found: Result<Vec<T>, Error> = rows
            .rows::<T>()
            .map_err(unreadable)?
            .map(|row| row.map_err(unreadable))
            .collect();
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((found?, next))
    }
}
