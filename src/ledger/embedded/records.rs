//! All rows and all records of one state of the file, for `verify --conservation`. Everything here blocks.
//!
//! **Limits.** One call reads one step.

use std::ops::Bound;

use redb::TableError;
use serde::{Deserialize, Serialize};

use super::{
    queries::Queries,
    rows::{LEDGER, LedgerKey, LedgerRow},
    transactions::{TRANSACTIONS, TransactionKey},
};
use crate::ledger::records::{HistoryRow, RowKey, SettledRecord, TRADE};

/// A ledger row, and whether the record of the trade that it names has it; none where it names no trade that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedRow {
    pub row: HistoryRow,
    /// Whether it is one of its trade's rows.
    pub is_recorded: Option<bool>,
}

/// A record, and the rows that stand under its keys, in its order.
pub type FoundRecord = (SettledRecord, Vec<Option<HistoryRow>>);

fn history_row(key: LedgerKey, row: LedgerRowValue<'_>) -> HistoryRow {
    HistoryRow {
        key,
        avail: row.0,
        frozen: row.1,
        delta_avail: row.2,
        delta_frozen: row.3,
        is_trade: row.4 == Some(TRADE),
        ref_id: row.5,
    }
}

type LedgerRowValue<'a> = <LedgerRow as redb::Value>::SelfType<'a>;

impl Queries {
    /// The next `most` rows of the ledger below a key: users and assets falling, of each the newest first.
    pub(super) fn rows_below(
        &self,
        below: Option<RowKey>,
        most: usize,
    ) -> Result<Vec<JudgedRow>, redb::Error> {
        let table = self.transaction.open_table(LEDGER)?;
        let end = below.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        let rows = table.range::<RowKey>((Bound::Unbounded, end))?;
        for row in rows.rev().take(most) {
            let (key, row) = row?;
            let row = history_row(key.value(), row.value());
            found.push(JudgedRow {
                row,
                is_recorded: self.is_recorded(&row)?,
            });
        }
        Ok(found)
    }

    fn is_recorded(&self, row: &HistoryRow) -> Result<Option<bool>, redb::Error> {
        let (true, Some(id)) = (row.is_trade, row.ref_id) else {
            return Ok(None);
        };
        let table = match self.transaction.open_table(TRANSACTIONS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table?,
        };
        let Some(record) = table
            .get((1, id))?
            .map(|found| record_of_row((1, id), found.value()))
        else {
            return Ok(None);
        };
        Ok(record.row_keys().map(|keys| keys.contains(&row.key)))
    }

    /// The next `most` records above a key, each with the rows that stand under its keys.
    pub(super) fn records_above(
        &self,
        above: Option<TransactionKey>,
        most: usize,
    ) -> Result<Vec<FoundRecord>, redb::Error> {
        let table = match self.transaction.open_table(TRANSACTIONS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let ledger = self.transaction.open_table(LEDGER)?;
        // Ids begin with 1.
        let (space, id) = above.unwrap_or((0, 0));
        let Some(next) = id.checked_add(1) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for row in table.range((space, next)..)?.take(most) {
            let (key, row) = row?;
            let record = record_of_row(key.value(), row.value());
            let mut rows = Vec::new();
            for key in record.row_keys().unwrap_or_default() {
                let stands = ledger.get(key)?;
                rows.push(stands.map(|row| history_row(key, row.value())));
            }
            found.push((record, rows));
        }
        Ok(found)
    }
}

fn record_of_row(
    (space, id): TransactionKey,
    (content, balances, _): (&str, &str, i64),
) -> SettledRecord {
    SettledRecord {
        is_trade: space == 1,
        id,
        content: content.to_owned(),
        balances: balances.to_owned(),
        is_done: true,
    }
}
