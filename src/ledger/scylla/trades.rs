//! Trades whose seqs an external writer assigned.
//!
//! The order of a trade's statements: its id is claimed with its content and balances by a lightweight transaction, then
//! the ledger rows are written, then `user_balances`, then the seller's row of `user_trades`, then the buyer's.
//!
//! **Invariants.** Every statement is idempotent: a trade that broke off after any of them is completed by the same trade sent
//! again. No row of `user_trades` stands before all rows of the ledger. The buyer's row is the last: with it the trade
//! is done. Of two contents under one id the claim takes one.
//!
//! **Limits.** [`AT_ONCE`] trades at a time; those of one request that name one id or one seq come one after the other. As for
//! entries, two writers of one seq at the same moment are not seen.

use std::collections::HashSet;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use scylla::{
    DeserializeRow,
    statement::prepared::PreparedStatement,
    value::{CqlValue, Row as AnyRow},
};

use super::{
    names::Names,
    statements::{Live, prepare_failed, rows_of, unreadable},
    write,
};
use crate::{
    domain::{
        AssetId, Conflict, Entry, Outcome, PostedBalance, Receipt, Seq, SettleState,
        StoredTransaction, Trade, TradeId, Transaction, UnixMillis, UserId, balances_from_text,
        balances_to_text,
    },
    ledger::{Error, WriteError},
};

const AT_ONCE: usize = 16;
/// `role` of the buyer.
const BUYER: i8 = 0;
/// `role` of the seller.
const SELLER: i8 = 1;

const CLAIM: &str = "INSERT INTO {ks}.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, \
     buyer_user_id, seller_user_id, buyer_order_id, seller_order_id, content, balances) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
const CLAIMED: &str = "SELECT symbol_id, buyer_user_id, settled_at, content, balances \
     FROM {ks}.settled_trades WHERE trade_id = ?";
const INSERT_SIDE: &str = "INSERT INTO {ks}.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, \
     quantity, cost, order_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
const SIDE: &str = "SELECT trade_id FROM {ks}.user_trades \
     WHERE user_id = ? AND symbol_id = ? AND settled_at = ? AND trade_id = ? AND role = ?";

/// The statements of trades.
#[derive(Debug)]
pub(super) struct TradeStatements {
    claim: PreparedStatement,
    claimed: PreparedStatement,
    insert_side: PreparedStatement,
    side: PreparedStatement,
}

impl TradeStatements {
    async fn prepare(live: &Live, names: &Names) -> Result<Self, Error> {
        let prepare = async |text: &str| {
            let prepared = live.session.prepare(names.fill(text)).await;
            let mut statement = prepared.map_err(|error| prepare_failed(&error))?;
            statement.set_is_idempotent(true);
            Ok::<_, Error>(statement)
        };
        Ok(Self {
            claim: {
                // A second copy of it, sent to another node, would find the first one's claim.
                let mut claim = prepare(CLAIM).await?;
                claim.set_is_idempotent(false);
                claim
            },
            claimed: prepare(CLAIMED).await?,
            insert_side: prepare(INSERT_SIDE).await?,
            side: prepare(SIDE).await?,
        })
    }
}

/// A row of `settled_trades`. Another program may have left columns out.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct Claimed {
    symbol_id: Option<i32>,
    buyer_user_id: Option<i64>,
    settled_at: Option<i64>,
    content: Option<String>,
    balances: Option<String>,
}

struct Trades<'l> {
    live: &'l Live,
    statements: &'l TradeStatements,
}

async fn trades<'l>(live: &'l Live, names: &Names) -> Result<Trades<'l>, Error> {
    let prepare = || TradeStatements::prepare(live, names);
    let statements = live.trades.get_or_try_init(prepare).await?;
    Ok(Trades { live, statements })
}

/// Writes trades with their balances; one outcome for each, in their order.
pub(super) async fn settle(
    live: &Live,
    names: &Names,
    transactions: &[Transaction],
) -> Result<Vec<Outcome>, Error> {
    let trades = &trades(live, names).await?;
    let mut outcomes: Vec<Option<Outcome>> = vec![None; transactions.len()];
    let mut rest: Vec<Indexed<'_>> = transactions.iter().enumerate().collect();
    while !rest.is_empty() {
        let (round, later) = independent(rest);
        let settling: Vec<_> = round
            .into_iter()
            .map(|(index, transaction)| async move {
                Ok::<_, Error>((index, trades.settle(transaction).await?))
            })
            .collect();
        let settled = stream::iter(settling).buffer_unordered(AT_ONCE);
        let settled: Vec<(usize, Outcome)> = settled.try_collect().await?;
        for (index, outcome) in settled {
            if let Some(place) = outcomes.get_mut(index) {
                *place = Some(outcome);
            }
        }
        rest = later;
    }
    Ok(outcomes.into_iter().flatten().collect())
}

/// A trade with its place in the request.
type Indexed<'t> = (usize, &'t Transaction);

/// Those that share neither id nor seq with an earlier one, and the others.
fn independent(all: Vec<Indexed<'_>>) -> (Vec<Indexed<'_>>, Vec<Indexed<'_>>) {
    let mut ids = HashSet::new();
    let mut seqs: HashSet<(UserId, AssetId, Seq)> = HashSet::new();
    all.into_iter().partition(|(_, transaction)| {
        let balances = transaction.balances.as_deref().unwrap_or_default();
        let key = |balance: &PostedBalance| (balance.user_id, balance.asset_id, balance.seq);
        let taken = balances.iter().any(|balance| seqs.contains(&key(balance)));
        let free = ids.insert(transaction.reference) && !taken;
        seqs.extend(balances.iter().map(key));
        free
    })
}

/// The record under a trade's id.
pub(super) async fn find(
    live: &Live,
    names: &Names,
    id: TradeId,
) -> Result<Option<StoredTransaction>, Error> {
    trades(live, names).await?.find(id).await
}

impl Trades<'_> {
    async fn settle(&self, transaction: &Transaction) -> Result<Outcome, Error> {
        let (Some(trade), Some(balances)) = (&transaction.trade, &transaction.balances) else {
            return Err(Error::unavailable("seqs are assigned by another writer"));
        };
        let receipt = Receipt {
            balances: balances.clone(),
            created_at: trade.settled_at,
        };
        let rows: Vec<Entry> = balances.iter().map(|one| one.row_of(transaction)).collect();
        let mut stands = self.find(trade.id).await?;
        if stands.is_none() {
            if let Some(index) = write::conflict(self.live, &rows).await? {
                return Ok(taken(&rows, index));
            }
            if self.claim(trade, transaction, balances).await? {
                fail::fail_point!("trade-claimed");
                return self.complete(trade, &rows, Outcome::Written(receipt)).await;
            }
            stands = self.find(trade.id).await?;
        }
        let stands = stands.ok_or(Error::Timeout)?;
        if stands.content != transaction.content || stands.receipt.balances != *balances {
            return Ok(Outcome::Conflict(Conflict::OtherContent));
        }
        let repeated = Outcome::Repeated(receipt);
        match stands.state {
            SettleState::Done => Ok(repeated),
            SettleState::Pending => self.complete(trade, &rows, repeated).await,
        }
    }

    /// Writes what follows the claim.
    async fn complete(
        &self,
        trade: &Trade,
        rows: &[Entry],
        outcome: Outcome,
    ) -> Result<Outcome, Error> {
        match write::write(self.live, rows).await {
            Ok(_) => {}
            Err(WriteError::Conflict { index }) => return Ok(taken(rows, index)),
            Err(WriteError::Source(error)) => return Err(error),
        }
        fail::fail_point!("trade-balances-written");
        self.insert_side(trade, SELLER).await?;
        fail::fail_point!("trade-seller-written");
        self.insert_side(trade, BUYER).await?;
        Ok(outcome)
    }

    /// Whether the id was free.
    async fn claim(
        &self,
        trade: &Trade,
        transaction: &Transaction,
        balances: &[PostedBalance],
    ) -> Result<bool, Error> {
        let values = (
            trade.id.get(),
            trade.symbol_id,
            trade.price,
            trade.quantity,
            trade.cost,
            trade.settled_at.0,
            trade.buyer.get(),
            trade.seller.get(),
            trade.buyer_order,
            trade.seller_order,
            transaction.content.as_str(),
            balances_to_text(balances),
        );
        let result = rows_of(self.live.run(&self.statements.claim, values).await?)?;
        // The databases differ in the columns that follow the first.
        let row = result.first_row::<AnyRow>().map_err(unreadable)?;
        let applied = row.columns.first().cloned().flatten();
        Ok(applied == Some(CqlValue::Boolean(true)))
    }

    async fn find(&self, id: TradeId) -> Result<Option<StoredTransaction>, Error> {
        let rows = self
            .live
            .rows(&self.statements.claimed, (id.get(),))
            .await?;
        let claimed = rows.maybe_first_row::<Claimed>().map_err(unreadable)?;
        let Some(claimed) = claimed else {
            return Ok(None);
        };
        let settled_at = claimed.settled_at.unwrap_or_default();
        let last = (
            claimed.buyer_user_id.unwrap_or_default(),
            claimed.symbol_id.unwrap_or_default(),
            settled_at,
            id.get(),
            BUYER,
        );
        let done = self
            .live
            .rows(&self.statements.side, last)
            .await?
            .rows_num()
            > 0;
        let balances = balances_from_text(claimed.balances.as_deref().unwrap_or("[]"));
        Ok(Some(StoredTransaction {
            state: if done {
                SettleState::Done
            } else {
                SettleState::Pending
            },
            content: claimed.content.unwrap_or_default(),
            receipt: Receipt {
                balances: balances.map_err(unreadable)?,
                created_at: UnixMillis(settled_at),
            },
        }))
    }

    async fn insert_side(&self, trade: &Trade, role: i8) -> Result<(), Error> {
        let (user, order) = if role == BUYER {
            (trade.buyer, trade.buyer_order)
        } else {
            (trade.seller, trade.seller_order)
        };
        let values = (
            user.get(),
            trade.symbol_id,
            trade.settled_at.0,
            trade.id.get(),
            role,
            trade.price,
            trade.quantity,
            trade.cost,
            order,
        );
        let inserted = self.live.run(&self.statements.insert_side, values).await;
        inserted.map(drop)
    }
}

fn taken(rows: &[Entry], index: usize) -> Outcome {
    Outcome::Conflict(
        rows.get(index)
            .map_or(Conflict::OtherContent, |row| Conflict::SeqTaken {
                user: row.user,
                asset: row.asset,
                seq: row.seq,
            }),
    )
}
