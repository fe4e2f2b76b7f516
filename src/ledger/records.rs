//! Rows of the ledger and records of transactions as the tools read them: plain numbers that no check has seen yet.

use serde::{Deserialize, Serialize};

use crate::domain::{Catalogue, PostedBalance, Trade, Transaction, balances_from_text};

/// `event_type` of a trade's rows.
pub const TRADE: &str = "trade";

/// User, asset and seq of a row.
pub type RowKey = (i64, i32, i64);

/// A row of `balance_ledger`. Raw units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    pub key: RowKey,
    /// After the event; 0 where the writer left it out.
    pub avail: i64,
    /// After the event; 0 where the writer left it out.
    pub frozen: i64,
    /// The change of `avail`, where the writer says it.
    pub delta_avail: Option<i64>,
    /// The change of `frozen`, where the writer says it.
    pub delta_frozen: Option<i64>,
    /// Its `event_type` is that of a trade.
    pub is_trade: bool,
    /// The id that it refers to.
    pub ref_id: Option<i64>,
}

/// A trade or transaction as its record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledRecord {
    pub is_trade: bool,
    pub id: i64,
    /// Canonical JSON of what was sent; empty where another program made the record.
    pub content: String,
    /// Its balances as text; empty where another program made the record.
    pub balances: String,
    /// All of it is said to stand.
    pub is_done: bool,
}

/// A row that a record says to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedRow {
    /// Its key and amounts.
    pub balance: PostedBalance,
    /// The changes of `avail` and `frozen`; none where the content cannot be read with this catalogue.
    pub deltas: Option<(i128, i128)>,
}

impl RecordedRow {
    pub const fn row_key(&self) -> RowKey {
        let balance = &self.balance;
        (
            balance.user_id.get(),
            balance.asset_id.get(),
            balance.seq.get(),
        )
    }
}

impl SettledRecord {
    /// The keys of its rows; none where they cannot be read.
    pub fn row_keys(&self) -> Option<Vec<RowKey>> {
        let balances = balances_from_text(&self.balances).ok()?;
        let row = |balance| RecordedRow {
            balance,
            deltas: None,
        };
        Some(balances.into_iter().map(|one| row(one).row_key()).collect())
    }

    /// The rows that it says to stand; none where they cannot be read.
    pub fn recorded_rows(&self, catalogue: &Catalogue) -> Option<Vec<RecordedRow>> {
        let balances = balances_from_text(&self.balances).ok()?;
        let parsed = if self.is_trade {
            Trade::parse_trade(&self.content, catalogue)
        } else {
            Transaction::parse_transaction(&self.content)
        };
        let changes = parsed.map(|transaction| transaction.changes);
        let row = |balance: PostedBalance| {
            let changes = changes.as_ref().ok();
            let change = changes.and_then(|changes| {
                let mut changes = changes.iter();
                changes.find(|one| (one.user, one.asset) == (balance.user_id, balance.asset_id))
            });
            RecordedRow {
                balance,
                deltas: change.map(|change| (change.delta_avail, change.delta_frozen)),
            }
        };
        Some(balances.into_iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_its_rows_with_their_changes() {
        let record = SettledRecord {
            is_trade: false,
            id: 9,
            content: r#"{"entries":[{"user_id":1,"asset_id":1,"delta_avail":5,"delta_frozen":-2}],"event_type":"a","overdraft":false,"transaction_id":9}"#.to_owned(),
            balances: "[[1,1,7,50,3],[2,1,1,1,1]]".to_owned(),
            is_done: true,
        };
        let rows = record.recorded_rows(&Catalogue::default()).unwrap();
        assert_eq!(record.row_keys().unwrap(), [(1, 1, 7), (2, 1, 1)]);
        assert_eq!(
            rows.iter().map(RecordedRow::row_key).collect::<Vec<_>>(),
            record.row_keys().unwrap()
        );
        assert_eq!(
            rows.iter().map(|row| row.deltas).collect::<Vec<_>>(),
            [Some((5, -2)), None]
        );
        assert_eq!(
            SettledRecord {
                balances: String::new(),
                ..record
            }
            .row_keys(),
            None
        );
    }
}
