//! Slices of trades and of the ledger: each is one statement that seeks to a key and reads so many rows from there, on the primary.
//!
//! **Limits.** The slice's `rows_max`.

use tokio_postgres::Row;

use super::{
    Postgres,
    pool::Values,
    statements::{fill_schema, read_column, unreadable_row},
};
use crate::{
    domain::{
        Amount, LedgerSlice, Order, Seq, StatementRow, TradeId, TradePlace, TradeSideRole,
        TradeSlice, UnixMillis, UserTrade,
    },
    ledger::{Cost, LedgerError},
};

/// Both bounds are in the slice.
const TRADES: &str = "SELECT settled_at, trade_id, role, price, quantity, cost, order_id FROM {s}.user_trades \
     WHERE user_id = $1 AND symbol_id = $2 \
     AND (settled_at, trade_id) >= ($3, $4) AND (settled_at, trade_id) <= ($5, $6) ORDER BY ";
const NEWEST_TRADES: &str = "settled_at DESC, trade_id DESC, role LIMIT $7";
const OLDEST_TRADES: &str = "settled_at, trade_id, role DESC LIMIT $7";
const ROWS: &str = "SELECT seq, avail, frozen, delta_avail, delta_frozen, event_type, ref_id, created_at \
     FROM {s}.balance_ledger WHERE user_id = $1 AND asset_id = $2 AND seq >= $3 AND seq <= $4 ORDER BY ";
const NEWEST_ROWS: &str = "seq DESC LIMIT $5";
const OLDEST_ROWS: &str = "seq LIMIT $5";

/// The texts for either order.
#[derive(Debug)]
pub(super) struct PageTexts {
    trades: [String; 2],
    rows: [String; 2],
}

impl PageTexts {
    pub(super) fn for_schema(schema: &str) -> Self {
        let both = |select: &str, orders: [&str; 2]| {
            orders.map(|order| fill_schema(&format!("{select}{order}"), schema))
        };
        Self {
            trades: both(TRADES, [NEWEST_TRADES, OLDEST_TRADES]),
            rows: both(ROWS, [NEWEST_ROWS, OLDEST_ROWS]),
        }
    }
}

const fn in_order([newest, oldest]: &[String; 2], order: Order) -> &String {
    match order {
        Order::NewestFirst => newest,
        Order::OldestFirst => oldest,
    }
}

impl Postgres {
    /// The sides of trades in the slice.
    pub(super) async fn read_trades(
        &self,
        slice: &TradeSlice,
        cost: &Cost,
    ) -> Result<Vec<UserTrade>, LedgerError> {
        self.refuse_everything()?;
        let (lowest, highest) = (slice.lowest, slice.highest);
        let limit = row_limit(slice.rows_max);
        let values: Values<'_> = &[
            &slice.user.get(),
            &slice.symbol_id,
            &lowest.0,
            &lowest.1,
            &highest.0,
            &highest.1,
            &limit,
        ];
        let text = in_order(&self.pages.trades, slice.order);
        let rows = self
            .read_counting(&self.primary, text, values, cost)
            .await?;
        rows.iter().map(read_side).collect()
    }

    /// The rows of the ledger in the slice.
    pub(super) async fn select_statement(
        &self,
        slice: &LedgerSlice,
        cost: &Cost,
    ) -> Result<Vec<StatementRow>, LedgerError> {
        self.refuse_everything()?;
        let limit = row_limit(slice.rows_max);
        let values: Values<'_> = &[
            &slice.user.get(),
            &slice.asset.get(),
            &slice.lowest,
            &slice.highest,
            &limit,
        ];
        let text = in_order(&self.pages.rows, slice.order);
        let rows = self
            .read_counting(&self.primary, text, values, cost)
            .await?;
        rows.iter().map(read_line).collect()
    }
}

fn row_limit(rows_max: usize) -> i64 {
    i64::try_from(rows_max).unwrap_or(i64::MAX)
}

fn read_amount(row: &Row, at: usize) -> Result<Option<Amount>, LedgerError> {
    Ok(read_column::<Option<i64>>(row, at)?.map(Amount::from_raw))
}

/// A row of `user_trades`. Another program may have left columns out.
fn read_side(row: &Row) -> Result<UserTrade, LedgerError> {
    let number: i16 = read_column(row, 2)?;
    let role = u8::try_from(number)
        .ok()
        .and_then(TradeSideRole::from_number);
    Ok(UserTrade {
        place: TradePlace {
            settled_at: UnixMillis(read_column(row, 0)?),
            trade_id: TradeId::new(read_column(row, 1)?).map_err(unreadable_row)?,
            role: role.ok_or_else(|| unreadable_row(format_args!("role {number}")))?,
        },
        price: read_amount(row, 3)?,
        quantity: read_amount(row, 4)?,
        cost: read_amount(row, 5)?,
        order_id: read_column(row, 6)?,
    })
}

/// A row of `balance_ledger` as a statement shows it; a missing balance is 0, as in a balance read.
fn read_line(row: &Row) -> Result<StatementRow, LedgerError> {
    Ok(StatementRow {
        seq: Seq::new(read_column(row, 0)?).map_err(unreadable_row)?,
        avail: read_amount(row, 1)?.unwrap_or(Amount::from_raw(0)),
        frozen: read_amount(row, 2)?.unwrap_or(Amount::from_raw(0)),
        delta_avail: read_amount(row, 3)?,
        delta_frozen: read_amount(row, 4)?,
        event_type: read_column(row, 5)?,
        ref_id: read_column(row, 6)?,
        created_at: read_column::<Option<i64>>(row, 7)?.map(UnixMillis),
    })
}
