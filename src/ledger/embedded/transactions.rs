//! The tables of transactions and trades, and how they are written. Everything here blocks.
//!
//! **Invariants.** Ids with their content, ledger rows, current state and both sides of a trade are written in one redb
//! transaction. A transaction is judged by the ledger's newest rows, those of earlier ones of the same redb transaction
//! included. What is refused or in conflict writes nothing.

use redb::{
    ReadTransaction, ReadableTable as _, Table, TableDefinition, TableError, TableHandle as _,
    WriteTransaction,
};

use super::rows::{
    BALANCES, BalanceKey, BalanceRow, LEDGER, LedgerKey, LedgerRow, append_row, forward_balance,
    key_of,
};
use super::totals::TotalChanges;
use crate::{
    domain::{
        Amount, BalanceHead, Conflict, Entry, PostedChange, Receipt, Reference, Seq, SettleOutcome,
        SettleState, StoredTransaction, Trade, Transaction, UnixMillis, balances_from_text,
        balances_to_text,
    },
    ledger::LedgerError,
};

/// Space (0 transactions, 1 trades) and id.
pub(super) type TransactionKey = (u8, i64);
/// Canonical content, balances as JSON (user, asset, seq, avail, frozen of each), `created_at`.
pub(super) type TransactionRow = (&'static str, &'static str, i64);
/// `symbol_id`, price, quantity, cost, `settled_at`, buyer, seller, the buyer's order, the seller's order.
pub(super) type TradeRow = (i32, i64, i64, i64, i64, i64, i64, Option<i64>, Option<i64>);
/// User, symbol, `settled_at`, trade, role (0 buyer, 1 seller).
pub(super) type SideKey = (i64, i32, i64, i64, u8);
/// Price, quantity, cost, the side's order.
pub(super) type SideRow = (i64, i64, i64, Option<i64>);

pub(super) const TRANSACTIONS: TableDefinition<TransactionKey, TransactionRow> =
    TableDefinition::new("ledger_transactions");
pub(super) const SETTLED_TRADES: TableDefinition<i64, TradeRow> =
    TableDefinition::new("settled_trades");
pub(super) const USER_TRADES: TableDefinition<SideKey, SideRow> =
    TableDefinition::new("user_trades");

/// Makes the tables in a file that has none yet. Whether it made any.
pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<bool, redb::Error> {
    let made = !transaction
        .list_tables()?
        .any(|table| table.name() == USER_TRADES.name());
    transaction.open_table(TRANSACTIONS)?;
    transaction.open_table(SETTLED_TRADES)?;
    transaction.open_table(USER_TRADES)?;
    Ok(made)
}

const fn record_key(reference: Reference) -> TransactionKey {
    match reference {
        Reference::Transaction(id) => (0, id.get()),
        Reference::Trade(id) => (1, id.get()),
    }
}

/// A row of `ledger_transactions`, not yet looked into.
#[derive(Debug)]
pub(super) struct StoredRecord {
    content: String,
    balances: String,
    created_at: i64,
}

impl StoredRecord {
    fn of_row((content, balances, created_at): (&str, &str, i64)) -> Self {
        Self {
            content: content.to_owned(),
            balances: balances.to_owned(),
            created_at,
        }
    }

    /// The content.
    pub(super) fn parse_record(self) -> Result<StoredTransaction, LedgerError> {
        let balances = balances_from_text(&self.balances);
        Ok(StoredTransaction {
            state: SettleState::Done,
            content: self.content,
            receipt: Receipt {
                balances: balances.map_err(|what| LedgerError::Corrupt(what.into()))?,
                created_at: UnixMillis(self.created_at),
            },
        })
    }
}

/// The record under this id.
pub(super) fn find_record(
    transaction: &ReadTransaction,
    reference: Reference,
) -> Result<Option<StoredRecord>, redb::Error> {
    let table = match transaction.open_table(TRANSACTIONS) {
        // A file that was opened for reading only, before a start made the table.
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    Ok(table
        .get(record_key(reference))?
        .map(|row| StoredRecord::of_row(row.value())))
}

/// The effect of a request of transactions.
#[derive(Debug, Default)]
pub(super) struct SettledBatch {
    pub(super) outcomes: Vec<SettleOutcome>,
    /// The rows that are new.
    pub(super) rows: Vec<Entry>,
}

impl SettledBatch {
    /// The receipts of those that are new.
    pub(super) fn new_receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            SettleOutcome::Written(receipt) => Some(receipt),
            SettleOutcome::Repeated(_) | SettleOutcome::Refused(_) | SettleOutcome::Conflict(_) => {
                None
            }
        })
    }
}

/// Writes transactions one after the other. Reads what stands, and writes only what is neither refused nor in conflict.
pub(super) fn settle_all(
    transaction: &WriteTransaction,
    requests: &[Transaction],
    now: UnixMillis,
    totals: &mut TotalChanges,
) -> Result<SettledBatch, redb::Error> {
    let mut tables = Open {
        ledger: transaction.open_table(LEDGER)?,
        balances: transaction.open_table(BALANCES)?,
        transactions: transaction.open_table(TRANSACTIONS)?,
        trades: transaction.open_table(SETTLED_TRADES)?,
        sides: transaction.open_table(USER_TRADES)?,
    };
    let mut settled = SettledBatch::default();
    for request in requests {
        let outcome = tables.settle_one(request, now, &mut settled.rows, totals)?;
        settled.outcomes.push(outcome);
    }
    Ok(settled)
}

struct Open<'t> {
    ledger: Table<'t, LedgerKey, LedgerRow>,
    balances: Table<'t, BalanceKey, BalanceRow>,
    transactions: Table<'t, TransactionKey, TransactionRow>,
    trades: Table<'t, i64, TradeRow>,
    sides: Table<'t, SideKey, SideRow>,
}

impl Open<'_> {
    fn settle_one(
        &mut self,
        request: &Transaction,
        now: UnixMillis,
        written: &mut Vec<Entry>,
        totals: &mut TotalChanges,
    ) -> Result<SettleOutcome, redb::Error> {
        let key = record_key(request.reference);
        let stored = self
            .transactions
            .get(key)?
            .map(|row| StoredRecord::of_row(row.value()));
        if let Some(stored) = stored {
            if stored.content != request.content {
                return Ok(SettleOutcome::Conflict(Conflict::OtherContent));
            }
            let stands = stored
                .parse_record()
                .map_err(|error| redb::Error::Corrupted(error.to_string()))?;
            return Ok(SettleOutcome::Repeated(stands.receipt));
        }
        let mut heads = Vec::with_capacity(request.changes.len());
        for change in &request.changes {
            heads.push(self.read_head(change)?);
        }
        let rows = match request.rows_above(&heads, now) {
            Ok(rows) => rows,
            Err(refusal) => return Ok(SettleOutcome::Refused(refusal)),
        };
        totals.count_transaction(&request.changes, &heads, &rows);
        let receipt = Receipt::of_rows(&rows, request.created_at.unwrap_or(now));
        let balances = balances_to_text(&receipt.balances);
        self.transactions.insert(
            key,
            (
                request.content.as_str(),
                balances.as_str(),
                receipt.created_at.0,
            ),
        )?;
        for row in &rows {
            let key = key_of(row);
            append_row(&mut self.ledger, key, row)?;
            let at = row.created_at.map(|at| at.0);
            let current = (row.avail.raw(), row.frozen.raw(), key.2, at);
            forward_balance(&mut self.balances, key, current)?;
        }
        if let Some(trade) = &request.trade {
            self.add_trade(trade)?;
        }
        written.extend(rows);
        Ok(SettleOutcome::Written(receipt))
    }

    fn read_head(&self, change: &PostedChange) -> Result<Option<BalanceHead>, redb::Error> {
        let key = |seq| (change.user.get(), change.asset.get(), seq);
        let newest = self
            .ledger
            .range(key(i64::MIN)..=key(i64::MAX))?
            .next_back();
        let Some((key, row)) = newest.transpose()? else {
            return Ok(None);
        };
        let ((_, _, seq), row) = (key.value(), row.value());
        let seq = Seq::new(seq).map_err(|error| redb::Error::Corrupted(error.to_string()))?;
        Ok(Some(BalanceHead {
            seq,
            avail: Amount::from_raw(row.0),
            frozen: Amount::from_raw(row.1),
        }))
    }

    fn add_trade(&mut self, trade: &Trade) -> Result<(), redb::Error> {
        let id = trade.id.get();
        let row = (
            trade.symbol_id,
            trade.price,
            trade.quantity,
            trade.cost,
            trade.settled_at.0,
            trade.buyer.get(),
            trade.seller.get(),
            trade.buyer_order,
            trade.seller_order,
        );
        self.trades.insert(id, row)?;
        let sides = [
            (trade.buyer, 0, trade.buyer_order),
            (trade.seller, 1, trade.seller_order),
        ];
        for (user, role, order) in sides {
            let key = (user.get(), trade.symbol_id, trade.settled_at.0, id, role);
            let row = (trade.price, trade.quantity, trade.cost, order);
            self.sides.insert(key, row)?;
        }
        Ok(())
    }
}
