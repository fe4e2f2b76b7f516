//! Slices of trades and of the ledger: each is one statement that seeks to a key and reads so many rows from there.
//!
//! **Invariants.** A page is read with the level of the writer ([`QuorumReach`]), whatever `scylla.consistency` says: a row that
//! was acknowledged by a quorum is in it, whichever node is asked. No filtering, no offset.
//!
//! **Limits.** The slice's `rows_max`.

use scylla::{DeserializeRow, statement::prepared::PreparedStatement};

use super::{
    journal::QuorumReach,
    names::Names,
    prepared::PageStatements,
    statements::{LiveSession, unreadable_row},
};
use crate::{
    domain::{
        Amount, LedgerSlice, Order, Seq, StatementRow, TradeId, TradePlace, TradeSideRole,
        TradeSlice, UnixMillis, UserTrade,
    },
    ledger::{Cost, LedgerError},
};

/// Both bounds are in the slice. The tables are sorted with the newest row first.
const TRADES: &str = "SELECT settled_at, trade_id, role, price, quantity, cost, order_id FROM {ks}.user_trades \
     WHERE user_id = ? AND symbol_id = ? \
     AND (settled_at, trade_id) >= (?, ?) AND (settled_at, trade_id) <= (?, ?)";
const OLDEST_TRADES: &str = " ORDER BY settled_at ASC, trade_id ASC, role DESC";
const STATEMENT: &str = "SELECT seq, avail, frozen, delta_avail, delta_frozen, event_type, ref_id, created_at \
     FROM {ks}.balance_ledger WHERE user_id = ? AND asset_id = ? AND seq >= ? AND seq <= ?";
const OLDEST_STATEMENT: &str = " ORDER BY seq ASC";
const LIMIT: &str = " LIMIT ?";

impl PageStatements {
    async fn prepare_pages(
        live: &LiveSession,
        (names, reach): (&Names, QuorumReach),
        select: &str,
        oldest: &str,
    ) -> Result<Self, LedgerError> {
        let prepare = async |order: &str| {
            let text = format!("{select}{order}{LIMIT}");
            reach.prepare_statement(live, names, &text).await
        };
        Ok(Self {
            newest_first: prepare("").await?,
            oldest_first: prepare(oldest).await?,
        })
    }

    const fn in_order(&self, order: Order) -> &PreparedStatement {
        match order {
            Order::NewestFirst => &self.newest_first,
            Order::OldestFirst => &self.oldest_first,
        }
    }
}

/// A row of `user_trades`. Another program may have left columns out.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct TradeColumns {
    settled_at: i64,
    trade_id: i64,
    role: i8,
    price: Option<i64>,
    quantity: Option<i64>,
    cost: Option<i64>,
    order_id: Option<i64>,
}

impl TradeColumns {
    fn trade_side(self) -> Result<UserTrade, LedgerError> {
        let role = u8::try_from(self.role)
            .ok()
            .and_then(TradeSideRole::from_number);
        Ok(UserTrade {
            place: TradePlace {
                settled_at: UnixMillis(self.settled_at),
                trade_id: TradeId::new(self.trade_id).map_err(unreadable_row)?,
                role: role.ok_or_else(|| unreadable_row(format!("role {}", self.role)))?,
            },
            price: self.price.map(Amount::from_raw),
            quantity: self.quantity.map(Amount::from_raw),
            cost: self.cost.map(Amount::from_raw),
            order_id: self.order_id,
        })
    }
}

/// A row of `balance_ledger`. Another program may have left columns out.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct StatementColumns {
    seq: i64,
    avail: Option<i64>,
    frozen: Option<i64>,
    delta_avail: Option<i64>,
    delta_frozen: Option<i64>,
    event_type: Option<String>,
    ref_id: Option<i64>,
    created_at: Option<i64>,
}

impl StatementColumns {
    /// The row as a statement shows it; a missing balance is 0, as in a balance read.
    fn statement_row(self) -> Result<StatementRow, LedgerError> {
        Ok(StatementRow {
            seq: Seq::new(self.seq).map_err(unreadable_row)?,
            avail: Amount::from_raw(self.avail.unwrap_or_default()),
            frozen: Amount::from_raw(self.frozen.unwrap_or_default()),
            delta_avail: self.delta_avail.map(Amount::from_raw),
            delta_frozen: self.delta_frozen.map(Amount::from_raw),
            event_type: self.event_type,
            ref_id: self.ref_id,
            created_at: self.created_at.map(UnixMillis),
        })
    }
}

/// The limit as CQL has it.
fn cql_limit(rows_max: usize) -> i32 {
    i32::try_from(rows_max).unwrap_or(i32::MAX)
}

/// The sides of trades in the slice.
pub(super) async fn user_trades(
    (live, cost): (&LiveSession, &Cost),
    of: (&Names, QuorumReach),
    slice: &TradeSlice,
) -> Result<Vec<UserTrade>, LedgerError> {
    let prepare = || PageStatements::prepare_pages(live, of, TRADES, OLDEST_TRADES);
    let statements = live.trade_pages.get_or_try_init(prepare).await?;
    let values = (
        slice.user.get(),
        slice.symbol_id,
        slice.lowest.0,
        slice.lowest.1,
        slice.highest.0,
        slice.highest.1,
        cql_limit(slice.rows_max),
    );
    let statement = statements.in_order(slice.order);
    let rows = live.query_counted(cost, statement, values).await?;
    rows.rows::<TradeColumns>()
        .map_err(unreadable_row)?
        .map(|row| row.map_err(unreadable_row)?.trade_side())
        .collect()
}

pub(super) async fn read_statement(
    (live, cost): (&LiveSession, &Cost),
    of: (&Names, QuorumReach),
    slice: &LedgerSlice,
) -> Result<Vec<StatementRow>, LedgerError> {
    let prepare = || PageStatements::prepare_pages(live, of, STATEMENT, OLDEST_STATEMENT);
    let statements = live.statement_pages.get_or_try_init(prepare).await?;
    let values = (
        slice.user.get(),
        slice.asset.get(),
        slice.lowest,
        slice.highest,
        cql_limit(slice.rows_max),
    );
    let statement = statements.in_order(slice.order);
    let rows = live.query_counted(cost, statement, values).await?;
    rows.rows::<StatementColumns>()
        .map_err(unreadable_row)?
        .map(|row| row.map_err(unreadable_row)?.statement_row())
        .collect()
}
