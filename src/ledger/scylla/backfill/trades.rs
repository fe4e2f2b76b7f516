//! `user_trades` from `settled_trades`: two sides of each trade.
//!
//! A trade that this service claimed is done when its buyer's row stands, so that row must not come before the trade's ledger rows.
//! A trade that another program wrote has no claim, and its sides are written at once.
//!
//! **Invariants.** Rows carry the time at which their trade was written as the timestamp, so a live row, or a deletion, that came
//! later stays. The sides of a claimed trade are written only if all of its ledger rows stand; the seller's first.

use scylla::{DeserializeRow, statement::prepared::PreparedStatement, value::MaybeUnset};

use super::{
    super::statements::unreadable_row,
    Backfill, BackfillKey, BackfillRow, ComparedRow, Planned, SourcePage, UnusableRow, Wrote,
    balances,
    paging::{PagePosition, Pages},
};
use crate::{
    domain::{UserId, balances_from_text},
    ledger::LedgerError,
};

const COLUMNS: &str = "trade_id, symbol_id, price, quantity, cost, settled_at, buyer_user_id, seller_user_id, \
     buyer_order_id, seller_order_id, WRITETIME(settled_at)";
const SIDE: &str = "SELECT user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost, order_id \
     FROM {ks}.user_trades WHERE";
const SIDE_KEY: &str =
    "user_id = ? AND symbol_id = ? AND settled_at = ? AND trade_id = ? AND role = ?";
const INSERT: &str = "INSERT INTO {ks}.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, \
     quantity, cost, order_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
const BALANCES: &str = "SELECT balances FROM {ks}.settled_trades WHERE trade_id = ?";
const LEDGER_ROW: &str = "SELECT avail, frozen, created_at FROM {ks}.balance_ledger \
     WHERE user_id = ? AND asset_id = ? AND seq = ?";
/// `role` of the buyer.
const BUYER: i8 = 0;
/// `role` of the seller.
const SELLER: i8 = 1;

/// A trade as it stands; another program may have left columns out.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct StoredTradeRow {
    id: i64,
    symbol: Option<i32>,
    price: Option<i64>,
    quantity: Option<i64>,
    cost: Option<i64>,
    settled_at: Option<i64>,
    buyer: Option<i64>,
    seller: Option<i64>,
    buyer_order: Option<i64>,
    seller_order: Option<i64>,
    written_at: Option<i64>,
    claimed_at: Option<i64>,
}

impl StoredTradeRow {
    fn side_row(&self, symbol: i32, settled_at: i64, user: i64, role: i8) -> BackfillRow {
        let order = if role == BUYER {
            self.buyer_order
        } else {
            self.seller_order
        };
        BackfillRow {
            key: BackfillKey::Trade {
                user,
                symbol,
                settled_at,
                trade: self.id,
                role,
            },
            content: [self.price, self.quantity, self.cost, order],
        }
    }

    fn plan_sides(&self) -> Result<Planned, UnusableRow> {
        let unusable = |why: &str| UnusableRow(format!("settled_trades, trade {}: {why}", self.id));
        let (Some(symbol), Some(settled_at)) = (self.symbol, self.settled_at) else {
            return Err(unusable("it has no symbol_id or no settled_at"));
        };
        let user = |user: Option<i64>| user.filter(|user| UserId::new(*user).is_ok());
        let (Some(buyer), Some(seller)) = (user(self.buyer), user(self.seller)) else {
            return Err(unusable("its buyer or seller is not a user"));
        };
        if self.price.is_none() || self.quantity.is_none() || self.cost.is_none() {
            return Err(unusable("it has no price, quantity or cost"));
        }
        Ok(Planned {
            rows: vec![
                self.side_row(symbol, settled_at, seller, SELLER),
                self.side_row(symbol, settled_at, buyer, BUYER),
            ],
            timestamp: self.written_at.unwrap_or_default(),
            claimed: self.claimed_at.map(|_| self.id),
        })
    }
}

/// A side as it stands.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct StoredSide {
    user: i64,
    symbol: i32,
    settled_at: i64,
    trade: i64,
    role: i8,
    price: Option<i64>,
    quantity: Option<i64>,
    cost: Option<i64>,
    order: Option<i64>,
}

impl StoredSide {
    fn target_row(&self) -> BackfillRow {
        BackfillRow {
            key: BackfillKey::Trade {
                user: self.user,
                symbol: self.symbol,
                settled_at: self.settled_at,
                trade: self.trade,
                role: self.role,
            },
            content: [self.price, self.quantity, self.cost, self.order],
        }
    }
}

/// The amounts of a ledger row.
type SideAmounts = (Option<i64>, Option<i64>, Option<i64>);

/// The statements of this backfill.
#[derive(Debug)]
pub(super) struct TradeStatements {
    scan: PreparedStatement,
    target: PreparedStatement,
    trade: PreparedStatement,
    side: PreparedStatement,
    insert: PreparedStatement,
    /// None where the table has no claims.
    claims: Option<Claims>,
}

/// The statements that tell whether a claimed trade may be completed.
#[derive(Debug)]
struct Claims {
    balances: PreparedStatement,
    ledger_row: PreparedStatement,
    insert_balance: PreparedStatement,
}

impl TradeStatements {
    pub(super) async fn prepare_all(of: &Pages, has_claims: bool) -> Result<Self, LedgerError> {
        // An older table has no column of claims; the same time twice keeps the row's shape, and is not looked at.
        let claimed = if has_claims {
            "WRITETIME(content)"
        } else {
            "WRITETIME(settled_at)"
        };
        let select = format!("SELECT {COLUMNS}, {claimed} FROM {{ks}}.settled_trades WHERE");
        let of_tokens = |keys: &str| format!("token({keys}) > ? AND token({keys}) <= ?");
        let scan = format!("{select} {}", of_tokens("trade_id"));
        let target = format!("{SIDE} {}", of_tokens("user_id, symbol_id"));
        Ok(Self {
            scan: of.prepare_scan(&scan).await?,
            target: of.prepare_scan(&target).await?,
            trade: of
                .prepare_statement(&format!("{select} trade_id = ?"))
                .await?,
            side: of.prepare_statement(&format!("{SIDE} {SIDE_KEY}")).await?,
            insert: of.prepare_statement(INSERT).await?,
            claims: if has_claims {
                Some(Claims {
                    balances: of.prepare_statement(BALANCES).await?,
                    ledger_row: of.prepare_statement(LEDGER_ROW).await?,
                    insert_balance: of.prepare_statement(balances::INSERT).await?,
                })
            } else {
                None
            },
        })
    }

    fn plan_trade(&self, mut stored: StoredTradeRow) -> Result<Planned, UnusableRow> {
        if self.claims.is_none() {
            stored.claimed_at = None;
        }
        stored.plan_sides()
    }

    pub(super) async fn read_source_page(
        &self,
        of: &Backfill,
        at: PagePosition,
    ) -> Result<SourcePage, LedgerError> {
        let (rows, next) = of.pages.read_page(&self.scan, at).await?;
        let mut page = SourcePage::new(next);
        for row in rows.rows::<StoredTradeRow>().map_err(unreadable_row)? {
            page.add_plan(self.plan_trade(row.map_err(unreadable_row)?));
        }
        Ok(page)
    }

    pub(super) async fn read_target_page(
        &self,
        of: &Backfill,
        at: PagePosition,
    ) -> Result<(Vec<BackfillRow>, super::NextPage), LedgerError> {
        let (rows, next) = of.pages.read_page(&self.target, at).await?;
        let rows = rows.rows::<StoredSide>().map_err(unreadable_row)?;
        let rows: Result<Vec<BackfillRow>, _> =
            rows.map(|row| row.map(|row| row.target_row())).collect();
        Ok((rows.map_err(unreadable_row)?, next))
    }

    /// Reads one row in both tables.
    pub(super) async fn compare_row(
        &self,
        of: &Backfill,
        key: BackfillKey,
    ) -> Result<ComparedRow, LedgerError> {
        let BackfillKey::Trade { trade, .. } = key else {
            return Ok(ComparedRow::NOWHERE);
        };
        let plan = self.find_plan(of, trade).await?;
        Ok(ComparedRow {
            claimed: plan.as_ref().is_some_and(|plan| plan.claimed.is_some()),
            expected: plan.and_then(|plan| plan.rows.into_iter().find(|row| row.key == key)),
            standing: self.find_side(of, key).await?,
        })
    }

    async fn find_plan(&self, of: &Backfill, trade: i64) -> Result<Option<Planned>, LedgerError> {
        let rows = of.pages.query_rows(&self.trade, (trade,)).await?;
        let stored = rows
            .maybe_first_row::<StoredTradeRow>()
            .map_err(unreadable_row)?;
        Ok(stored.and_then(|stored| self.plan_trade(stored).ok()))
    }

    async fn find_side(
        &self,
        of: &Backfill,
        key: BackfillKey,
    ) -> Result<Option<BackfillRow>, LedgerError> {
        let BackfillKey::Trade {
            user,
            symbol,
            settled_at,
            trade,
            role,
        } = key
        else {
            return Ok(None);
        };
        let values = (user, symbol, settled_at, trade, role);
        let rows = of.pages.query_rows(&self.side, values).await?;
        let side = rows
            .maybe_first_row::<StoredSide>()
            .map_err(unreadable_row)?;
        Ok(side.map(|side| side.target_row()))
    }

    pub(super) async fn write_planned(
        &self,
        of: &Backfill,
        planned: &Planned,
    ) -> Result<Wrote, LedgerError> {
        if let (Some(claims), Some(id)) = (&self.claims, planned.claimed) {
            if self.is_done(of, planned).await? {
                return Ok(Wrote::Present);
            }
            if !claims.complete_balances(of, id).await? {
                return Ok(Wrote::Pending);
            }
        }
        for row in &planned.rows {
            self.insert_row(of, row, planned.timestamp).await?;
        }
        Ok(Wrote::Rows)
    }

    /// Whether not all ledger rows of a claimed trade stand.
    pub(super) async fn is_pending(&self, of: &Backfill, trade: i64) -> Result<bool, LedgerError> {
        match &self.claims {
            Some(claims) => Ok(!claims.ledger_rows_stand(of, trade).await?.0),
            None => Ok(false),
        }
    }

    /// Whether both sides stand as they should.
    async fn is_done(&self, of: &Backfill, planned: &Planned) -> Result<bool, LedgerError> {
        for row in &planned.rows {
            if self.find_side(of, row.key).await? != Some(*row) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn insert_row(
        &self,
        of: &Backfill,
        row: &BackfillRow,
        timestamp: i64,
    ) -> Result<(), LedgerError> {
        let BackfillKey::Trade {
            user,
            symbol,
            settled_at,
            trade,
            role,
        } = row.key
        else {
            return Ok(());
        };
        let [price, quantity, cost, order] = row.content;
        let order = order.map_or(MaybeUnset::Unset, MaybeUnset::Set);
        let values = (
            user, symbol, settled_at, trade, role, price, quantity, cost, order, timestamp,
        );
        of.pages.run_statement(&self.insert, values).await
    }
}

impl Claims {
    /// Whether all ledger rows of a claimed trade stand with its amounts, and they as rows of `user_balances`.
    async fn ledger_rows_stand(
        &self,
        of: &Backfill,
        trade: i64,
    ) -> Result<(bool, Vec<BackfillRow>), LedgerError> {
        let rows = of.pages.query_rows(&self.balances, (trade,)).await?;
        let text = rows
            .maybe_first_row::<(Option<String>,)>()
            .map_err(unreadable_row)?;
        let balances = text.and_then(|(text,)| balances_from_text(&text?).ok());
        let Some(balances) = balances.filter(|balances| !balances.is_empty()) else {
            return Ok((false, Vec::new()));
        };
        let mut standing = Vec::new();
        for balance in &balances {
            let (user, asset) = (balance.user_id.get(), balance.asset_id.get());
            let (seq, avail, frozen) =
                (balance.seq.get(), balance.avail.raw(), balance.frozen.raw());
            let rows = of
                .pages
                .query_rows(&self.ledger_row, (user, asset, seq))
                .await?;
            let stored = rows
                .maybe_first_row::<SideAmounts>()
                .map_err(unreadable_row)?;
            let Some((stored_avail, stored_frozen, created_at)) = stored else {
                return Ok((false, Vec::new()));
            };
            let amounts = (
                stored_avail.unwrap_or_default(),
                stored_frozen.unwrap_or_default(),
            );
            if amounts != (avail, frozen) {
                return Ok((false, Vec::new()));
            }
            standing.push(BackfillRow {
                key: BackfillKey::Balance { user, asset },
                content: [Some(seq), Some(avail), Some(frozen), created_at],
            });
        }
        Ok((true, standing))
    }

    /// Writes the rows of `user_balances` of a claimed trade; false where its ledger rows do not all stand.
    async fn complete_balances(&self, of: &Backfill, trade: i64) -> Result<bool, LedgerError> {
        let (stand, rows) = self.ledger_rows_stand(of, trade).await?;
        for row in rows {
            balances::insert_row(of, &self.insert_balance, &row).await?;
        }
        Ok(stand)
    }
}
