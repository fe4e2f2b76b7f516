//! Rows that a group is judged by, read back.

use tokio_postgres::Row as SqlRow;

use super::statements::{read_column, unreadable_row};
use crate::{
    domain::{
        Amount, AssetId, BalanceHead, MalformedId, Notification, NotifiedChange, Receipt, Seq,
        SettleState, StoredTransaction, UnixMillis, UserId, balances_from_text,
    },
    ledger::{
        LedgerError,
        judge::{StandingKey, StandingRow, UserAsset},
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

/// A newest row of the ledger.
pub(super) fn head_of(row: &SqlRow) -> Result<(UserAsset, BalanceHead), LedgerError> {
    let (user, asset, seq) = key(row)?;
    let head = BalanceHead {
        seq,
        avail: amount(row, 3)?,
        frozen: amount(row, 4)?,
    };
    Ok(((user, asset), head))
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

/// The id of a record, and the record.
pub(super) fn stored_of(row: &SqlRow) -> Result<(i64, StoredTransaction), LedgerError> {
    let id: i64 = read_column(row, 0)?;
    let content: Option<String> = read_column(row, 1)?;
    let balances: Option<String> = read_column(row, 2)?;
    let created_at: Option<i64> = read_column(row, 3)?;
    let balances = balances_from_text(balances.as_deref().unwrap_or("[]"));
    let stored = StoredTransaction {
        state: SettleState::Done,
        content: content.unwrap_or_default(),
        receipt: Receipt {
            balances: balances.map_err(unreadable_row)?,
            created_at: UnixMillis(created_at.unwrap_or_default()),
        },
    };
    Ok((id, stored))
}
