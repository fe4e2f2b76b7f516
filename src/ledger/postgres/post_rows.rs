//! Rows that a group is judged by, read back.

use tokio_postgres::Row as SqlRow;

use super::statements::{read_column, unreadable_row};
use crate::{
    domain::{
        Amount, AssetId, BalanceHead, MalformedId, Notification, NotifiedChange, Receipt,
        Reference, Seq, SettleState, StoredTransaction, TradeId, TransactionId, UnixMillis, UserId,
        balances_from_text,
    },
    ledger::{
        LedgerError,
        judge::{LedgerFacts, StandingKey, StandingRow},
    },
};

fn amount(row: &SqlRow, at: usize) -> Result<Amount, LedgerError> {
    let stored: Option<i64> = read_column(row, at)?;
    Ok(Amount::from_raw(stored.unwrap_or_default()))
}

/// User, asset and seq in the first three columns.
fn key(row: &SqlRow) -> Result<StandingKey, LedgerError> {
    let user: i64 = read_column(row, 0)?;
    let asset: i32 = read_column(row, 1)?;
    let seq: i64 = read_column(row, 2)?;
    let checked = || -> Result<StandingKey, MalformedId> {
        Ok((UserId::new(user)?, AssetId::new(asset)?, Seq::new(seq)?))
    };
    checked().map_err(unreadable_row)
}

/// Adds a row that was read, by the number of its kind: newest rows of the ledger, what is owed, transactions, trades.
pub(super) fn add_fact(
    row: &SqlRow,
    facts: &mut LedgerFacts,
    owed: &mut Vec<Notification>,
) -> Result<(), LedgerError> {
    let id = || read_column::<i64>(row, 0);
    match read_column::<i32>(row, 8)? {
        0 => {
            let (user, asset, seq) = key(row)?;
            let (avail, frozen) = (amount(row, 3)?, amount(row, 4)?);
            let head = BalanceHead { seq, avail, frozen };
            facts.heads.insert((user, asset), head);
        }
        1 => owed.push(owed_of(row)?),
        2 => {
            let id = TransactionId::new(id()?).map_err(unreadable_row)?;
            let reference = Reference::Transaction(id);
            facts.stored.insert(reference, stored_of(row)?);
        }
        _ => {
            let id = TradeId::new(id()?).map_err(unreadable_row)?;
            facts.stored.insert(Reference::Trade(id), stored_of(row)?);
        }
    }
    Ok(())
}

/// A row of the ledger under a seq that a caller chose.
pub(super) fn standing_of(row: &SqlRow) -> Result<(StandingKey, StandingRow), LedgerError> {
    let created_at: Option<i64> = read_column(row, 5)?;
    let standing = StandingRow {
        avail: amount(row, 3)?,
        frozen: amount(row, 4)?,
        created_at: created_at.map(UnixMillis),
    };
    Ok((key(row)?, standing))
}

/// A current balance that Redis may not know.
pub(super) fn owed_of(row: &SqlRow) -> Result<Notification, LedgerError> {
    let (user, asset, seq) = key(row)?;
    let created_at: Option<i64> = read_column(row, 5)?;
    Ok(Notification {
        user,
        said: NotifiedChange::Values {
            asset,
            seq,
            avail: amount(row, 3)?,
            frozen: amount(row, 4)?,
        },
        created_at: created_at.map(UnixMillis),
    })
}

/// A record.
pub(super) fn stored_of(row: &SqlRow) -> Result<StoredTransaction, LedgerError> {
    let created_at: Option<i64> = read_column(row, 5)?;
    let content: Option<String> = read_column(row, 6)?;
    let balances: Option<&str> = read_column(row, 7)?;
    let balances = balances_from_text(balances.unwrap_or("[]"));
    Ok(StoredTransaction {
        state: SettleState::Done,
        content: content.unwrap_or_default(),
        receipt: Receipt {
            balances: balances.map_err(unreadable_row)?,
            created_at: UnixMillis(created_at.unwrap_or_default()),
        },
    })
}
