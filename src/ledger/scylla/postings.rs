//! Writes all that a record of the journal says, and reads what a group is judged by.
//!
//! The order: `user_balances`; ledger rows and `ledger_transactions`; `settled_trades` and the sellers' rows of `user_trades`;
//! the buyers' rows, with which a trade is done.
//!
//! **Invariants.** Every statement is idempotent, so a record may be written by several and again. No row of `user_trades`
//! stands before all rows of the ledger. The rows of one user in `user_balances` are one statement, and become visible
//! together: a reader that saw one row of the ledger finds all of that user's rows there (P10).
//!
//! **Limits.** [`AT_ONCE`] statements at a time, [`ROWS_PER_BATCH`] rows in one of them.

mod facts;

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use scylla::statement::{
    batch::{Batch, BatchType},
    prepared::PreparedStatement,
};

use super::{
    journal::QuorumReach,
    judge::UserAsset,
    names::Names,
    prepared::{Journal, Postings},
    record::{Claim, Item, JournalRecord},
    statements::LiveSession,
    write::ledger_values,
};
use crate::{
    domain::{AssetId, Entry, Reference, Trade, UnixMillis, UserId, balances_to_text},
    fail_points,
    ledger::LedgerError,
};

const AT_ONCE: usize = 64;
const ROWS_PER_BATCH: usize = 64;
/// `role` of the buyer.
const BUYER: i8 = 0;
/// `role` of the seller.
const SELLER: i8 = 1;

const INSERT_TRANSACTION: &str = "INSERT INTO {ks}.ledger_transactions (transaction_id, content, balances, created_at) \
     VALUES (?, ?, ?, ?)";
const TRANSACTION: &str =
    "SELECT content, balances, created_at FROM {ks}.ledger_transactions WHERE transaction_id = ?";
const INSERT_TRADE: &str = "INSERT INTO {ks}.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, \
     buyer_user_id, seller_user_id, buyer_order_id, seller_order_id, content, balances) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const TRADE: &str = "SELECT symbol_id, price, quantity, cost, settled_at, buyer_user_id, seller_user_id, buyer_order_id, \
     seller_order_id, content, balances FROM {ks}.settled_trades WHERE trade_id = ?";
const INSERT_SIDE: &str = "INSERT INTO {ks}.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, \
     quantity, cost, order_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
const SIDE: &str = "SELECT trade_id FROM {ks}.user_trades \
     WHERE user_id = ? AND symbol_id = ? AND settled_at = ? AND trade_id = ? AND role = ?";

type Statement<'a> = BoxFuture<'a, Result<(), LedgerError>>;

impl Postings {
    /// Prepared by the first request: an older keyspace has no tables for them.
    pub(super) async fn prepare_all(
        live: &LiveSession,
        names: &Names,
        reach: QuorumReach,
    ) -> Result<Self, LedgerError> {
        let prepare = async |text| reach.prepare_statement(live, names, text).await;
        let reaching = |statement: &PreparedStatement| {
            let mut statement = statement.clone();
            statement.set_consistency(reach.consistency);
            statement
        };
        Ok(Self {
            journal: Journal::prepare_journal(live, names, reach).await?,
            insert_ledger: reaching(&live.insert_ledger),
            insert_table: reaching(&live.insert_table),
            insert_transaction: prepare(INSERT_TRANSACTION).await?,
            insert_trade: prepare(INSERT_TRADE).await?,
            insert_side: prepare(INSERT_SIDE).await?,
            transaction: prepare(TRANSACTION).await?,
            trade: prepare(TRADE).await?,
            side: prepare(SIDE).await?,
            head: reaching(&live.ledger_one),
            row: reaching(&live.ledger_row),
        })
    }

    pub(super) async fn write_record(
        &self,
        live: &LiveSession,
        record: &JournalRecord,
    ) -> Result<(), LedgerError> {
        run_all(self.table_statements(live, record)).await?;
        fail_points::reach("record-balances-written");
        let mut statements = self.ledger_statements(live, record);
        statements.extend(self.id_statements(live, record));
        run_all(statements).await?;
        fail_points::reach("record-rows-written");
        let trades = || {
            claimed_items(record)
                .filter_map(|(item, claim)| Some((item, claim, claim.trade.as_ref()?)))
        };
        let stands =
            trades().map(|(item, claim, trade)| self.insert_trade(live, item, claim, trade));
        let sellers = trades().map(|(_, _, trade)| self.insert_side(live, trade, SELLER));
        run_all(stands.chain(sellers).collect()).await?;
        fail_points::reach("record-sellers-written");
        run_all(
            trades()
                .map(|(_, _, trade)| self.insert_side(live, trade, BUYER))
                .collect(),
        )
        .await
    }

    /// The rows of the ledger, those of one (user, asset) together.
    fn ledger_statements<'a>(
        &'a self,
        live: &'a LiveSession,
        record: &'a JournalRecord,
    ) -> Vec<Statement<'a>> {
        let mut of_pair: BTreeMap<UserAsset, Vec<&Entry>> = BTreeMap::new();
        for row in record.rows().filter(|row| !row.stood) {
            let entry = &row.entry;
            of_pair
                .entry((entry.user, entry.asset))
                .or_default()
                .push(entry);
        }
        let batches = of_pair.into_values().flat_map(|entries| {
            let chunks = entries.chunks(ROWS_PER_BATCH);
            chunks.map(<[_]>::to_vec).collect::<Vec<_>>()
        });
        batches
            .map(|entries| -> Statement<'a> {
                Box::pin(async move {
                    let values: Vec<_> = entries.into_iter().map(ledger_values).collect();
                    live.run_batch(&self.insert_ledger, values).await
                })
            })
            .collect()
    }

    /// The newest row of each asset in `user_balances`, those of one user together.
    fn table_statements<'a>(
        &'a self,
        live: &'a LiveSession,
        record: &'a JournalRecord,
    ) -> Vec<Statement<'a>> {
        let mut of_user: BTreeMap<UserId, BTreeMap<AssetId, &Entry>> = BTreeMap::new();
        for row in record.rows() {
            let entry = &row.entry;
            let newest = of_user.entry(entry.user).or_default();
            let newest = newest.entry(entry.asset).or_insert(entry);
            if newest.seq < entry.seq {
                *newest = entry;
            }
        }
        let users = of_user.into_values().map(|entries| -> Statement<'a> {
            Box::pin(async move {
                let values = |entry: &Entry| {
                    (
                        entry.user.get(),
                        entry.asset.get(),
                        entry.avail.raw(),
                        entry.frozen.raw(),
                        entry.seq.get(),
                        entry.created_at.map(|UnixMillis(at)| at),
                        entry.seq.get(),
                    )
                };
                let values: Vec<_> = entries.into_values().map(values).collect();
                live.run_batch(&self.insert_table, values).await
            })
        });
        users.collect()
    }

    fn id_statements<'a>(
        &'a self,
        live: &'a LiveSession,
        record: &'a JournalRecord,
    ) -> Vec<Statement<'a>> {
        let of_transaction = |(item, claim): (&'a Item, &'a Claim)| -> Option<Statement<'a>> {
            let Reference::Transaction(id) = claim.reference else {
                return None;
            };
            Some(Box::pin(async move {
                let balances = balances_to_text(&item.receipt_of(claim).balances);
                let values = (
                    id.get(),
                    claim.content.as_str(),
                    balances,
                    claim.created_at.0,
                );
                live.run_statement(&self.insert_transaction, values)
                    .await
                    .map(drop)
            }))
        };
        claimed_items(record).filter_map(of_transaction).collect()
    }

    fn insert_trade<'a>(
        &'a self,
        live: &'a LiveSession,
        item: &'a Item,
        claim: &'a Claim,
        trade: &'a Trade,
    ) -> Statement<'a> {
        Box::pin(async move {
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
                claim.content.as_str(),
                balances_to_text(&item.receipt_of(claim).balances),
            );
            live.run_statement(&self.insert_trade, values)
                .await
                .map(drop)
        })
    }

    fn insert_side<'a>(
        &'a self,
        live: &'a LiveSession,
        trade: &'a Trade,
        role: i8,
    ) -> Statement<'a> {
        let (user, order) = if role == BUYER {
            (trade.buyer, trade.buyer_order)
        } else {
            (trade.seller, trade.seller_order)
        };
        Box::pin(async move {
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
            live.run_statement(&self.insert_side, values)
                .await
                .map(drop)
        })
    }
}

fn claimed_items(record: &JournalRecord) -> impl Iterator<Item = (&Item, &Claim)> {
    let items = record.items.iter();
    items.filter_map(|item| Some((item, item.claim.as_ref()?)))
}

async fn run_all(statements: Vec<Statement<'_>>) -> Result<(), LedgerError> {
    stream::iter(statements)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

impl LiveSession {
    /// Runs a statement for each of these values, all of one partition: they become visible together.
    async fn run_batch<V>(
        &self,
        statement: &PreparedStatement,
        mut values: Vec<V>,
    ) -> Result<(), LedgerError>
    where
        V: scylla::serialize::row::SerializeRow,
    {
        if values.len() == 1
            && let Some(only) = values.pop()
        {
            return self.run_statement(statement, only).await.map(drop);
        }
        let statements = vec![statement.clone().into(); values.len()];
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_is_idempotent(true);
        if let Some(consistency) = statement.get_consistency() {
            batch.set_consistency(consistency);
        }
        self.count_one();
        let sent = self.session.batch(&batch, values).await;
        sent.map(drop)
            .map_err(|error| super::statements::statement_error(&error))
    }
}
