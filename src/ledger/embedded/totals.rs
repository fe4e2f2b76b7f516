//! Totals of the embedded ledger: maintained with every write, and summed from one snapshot to check them.
//!
//! **Invariants.** `balance_totals` holds, for each asset, the sum over all users of their newest ledger rows; it is written in the
//! redb transaction that writes the rows. Transactions and trades change it by their deltas, entries by the difference of the
//! newest rows. A scan sums `user_balances`. So both are equal in every snapshot, unless a row is not what was written.
//!
//! **Limits.** A file that another version wrote without maintaining it has another number of ledger rows than is noted: the totals
//! are made again from the ledger at the next start. A snapshot keeps pages from being used again while it is read.
//!
//! Everything here blocks.

use std::collections::BTreeMap;

use redb::{
    ReadTransaction, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, Table,
    TableDefinition, TableError, WriteTransaction,
};

use super::{
    Tables,
    rows::{BALANCES, BalanceKey, LEDGER, LedgerKey, LedgerRow},
};
use crate::{
    clock,
    domain::{Amount, AssetId, AssetSum, BalanceHead, Entry, PostedChange, UnixMillis},
    ledger::LedgerError,
};

/// A key of `user_balances`, and avail and frozen there.
type KeyAndAmounts = (BalanceKey, (i64, i64));

/// Avail, frozen, users. Under [`ROWS`]: the rows of the ledger that are counted in, 0, 0.
type TotalRow = (i128, i128, u64);

const BALANCE_TOTALS: TableDefinition<i32, TotalRow> = TableDefinition::new("balance_totals");

/// No asset has this id.
const ROWS: i32 = 0;

/// The changes of totals that one redb transaction makes, by asset.
#[derive(Debug, Default)]
pub(super) struct TotalChanges(BTreeMap<i32, TotalRow>);

impl TotalChanges {
    fn add_change(&mut self, asset: i32, avail: i128, frozen: i128, users: u64) {
        let sum = self.0.entry(asset).or_default();
        // 128 bits hold more rows than a file does.
        *sum = (
            sum.0.saturating_add(avail),
            sum.1.saturating_add(frozen),
            sum.2.saturating_add(users),
        );
    }

    /// Counts an entry that is about to be added to the ledger: the difference to the newest row, if it becomes the newest.
    pub(super) fn count_entry(
        &mut self,
        ledger: &Table<'_, LedgerKey, LedgerRow>,
        entry: &Entry,
    ) -> Result<(), redb::Error> {
        let (user, asset, seq) = (entry.user.get(), entry.asset.get(), entry.seq.get());
        let newest = ledger
            .range((user, asset, i64::MIN)..=(user, asset, i64::MAX))?
            .next_back();
        let (avail, frozen) = (raw_amount(entry.avail), raw_amount(entry.frozen));
        let Some((key, row)) = newest.transpose()? else {
            self.add_change(asset, avail, frozen, 1);
            return Ok(());
        };
        if key.value().2 < seq {
            let row = row.value();
            let difference = |now: i128, before: i64| now.saturating_sub(i128::from(before));
            self.add_change(
                asset,
                difference(avail, row.0),
                difference(frozen, row.1),
                0,
            );
        }
        Ok(())
    }

    /// Counts a transaction by its deltas; `heads` are the newest rows before it, `rows` what it writes.
    pub(super) fn count_transaction(
        &mut self,
        changes: &[PostedChange],
        heads: &[Option<BalanceHead>],
        rows: &[Entry],
    ) {
        for (change, head) in changes.iter().zip(heads) {
            let writes = |row: &Entry| (row.user, row.asset) == (change.user, change.asset);
            let is_first = head.is_none() && rows.iter().any(writes);
            self.add_change(
                change.asset.get(),
                change.delta_avail,
                change.delta_frozen,
                u64::from(is_first),
            );
        }
    }

    pub(super) fn write_changes(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let rows = transaction.open_table(LEDGER)?.len()?;
        let mut totals = transaction.open_table(BALANCE_TOTALS)?;
        for (asset, change) in &self.0 {
            let held = totals
                .get(asset)?
                .map(|row| row.value())
                .unwrap_or_default();
            let sum = (
                held.0.saturating_add(change.0),
                held.1.saturating_add(change.1),
                held.2.saturating_add(change.2),
            );
            totals.insert(asset, sum)?;
        }
        totals.insert(ROWS, (i128::from(rows), 0, 0))?;
        Ok(())
    }
}

fn raw_amount(amount: Amount) -> i128 {
    i128::from(amount.raw())
}

/// Makes the totals from the ledger where there are none, or where rows were written without them. Whether it did.
pub(super) fn make_totals(transaction: &WriteTransaction) -> Result<bool, redb::Error> {
    let rows = transaction.open_table(LEDGER)?.len()?;
    let counted = {
        let totals = transaction.open_table(BALANCE_TOTALS)?;
        totals.get(ROWS)?.map(|row| row.value().0)
    };
    if counted == Some(i128::from(rows)) {
        return Ok(false);
    }
    if let Some(counted) = counted {
        tracing::warn!(
            ledger.rows = rows,
            totals.rows = %counted,
            "the ledger was written without its totals: they are made again"
        );
    }
    transaction.delete_table(BALANCE_TOTALS)?;
    let mut changes = TotalChanges::default();
    {
        let ledger = transaction.open_table(LEDGER)?;
        let mut from = Some((i64::MIN, i32::MIN, i64::MIN));
        while let Some(start) = from {
            let Some((key, _)) = ledger.range(start..)?.next().transpose()? else {
                break;
            };
            let (user, asset, _) = key.value();
            let pair = (user, asset, i64::MIN)..=(user, asset, i64::MAX);
            if let Some((_, row)) = ledger.range(pair)?.next_back().transpose()? {
                let row = row.value();
                changes.add_change(asset, i128::from(row.0), i128::from(row.1), 1);
            }
            from = after_pair((user, asset));
        }
    }
    changes.write_changes(transaction)?;
    Ok(true)
}

/// The first key behind those of a pair.
fn after_pair((user, asset): BalanceKey) -> Option<LedgerKey> {
    match asset.checked_add(1) {
        Some(next) => Some((user, next, i64::MIN)),
        None => Some((user.checked_add(1)?, i32::MIN, i64::MIN)),
    }
}

/// One snapshot of a ledger, which is summed step by step.
pub(super) struct TotalsSnapshot {
    transaction: ReadTransaction,
    from: Option<BalanceKey>,
    /// The moment of the snapshot lies between these.
    pub(super) taken: (UnixMillis, UnixMillis),
    /// Rows of `user_balances`.
    pub(super) rows: u64,
    /// As they stand in the file.
    pub(super) maintained: Option<BTreeMap<AssetId, AssetSum>>,
    pub(super) sums: BTreeMap<AssetId, AssetSum>,
}

impl Tables {
    /// Takes a snapshot to be summed.
    pub(super) fn snapshot_totals(&self) -> Result<TotalsSnapshot, LedgerError> {
        let read = || -> Result<_, redb::Error> {
            let before = clock::wall_now();
            let transaction = self.database().begin_read()?;
            let taken = (before, clock::wall_now());
            let rows = transaction.open_table(BALANCES)?.len()?;
            let maintained = read_maintained(&transaction)?;
            Ok((transaction, taken, rows, maintained))
        };
        let (transaction, taken, rows, maintained) = read().map_err(LedgerError::unavailable)?;
        Ok(TotalsSnapshot {
            transaction,
            from: Some((i64::MIN, i32::MIN)),
            taken,
            rows,
            maintained: maintained.map(|all| all.into_iter().collect()),
            sums: BTreeMap::new(),
        })
    }
}

fn read_maintained(
    transaction: &ReadTransaction,
) -> Result<Option<Vec<(AssetId, AssetSum)>>, redb::Error> {
    let table = match transaction.open_table(BALANCE_TOTALS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let mut found = Vec::new();
    for row in table.iter()? {
        let (asset, row) = row?;
        let (avail, frozen, users) = row.value();
        if let Ok(asset) = AssetId::new(asset.value()) {
            let total = AssetSum {
                avail,
                frozen,
                users,
            };
            found.push((asset, total));
        }
    }
    Ok(Some(found))
}

impl TotalsSnapshot {
    /// Adds the next `most` rows, and says how many there were. At the end there are fewer.
    pub(super) fn add_rows(&mut self, most: u32) -> Result<u32, LedgerError> {
        let rows = self.next_rows(most).map_err(LedgerError::unavailable)?;
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        for ((_, asset), (avail, frozen)) in rows {
            let asset = AssetId::new(asset)
                .map_err(|error| LedgerError::Corrupt(error.to_string().into()))?;
            let sum = self.sums.entry(asset).or_default();
            *sum = sum
                .with_user(Amount::from_raw(avail), Amount::from_raw(frozen))
                .ok_or_else(|| LedgerError::Corrupt("a total does not fit into 128 bits".into()))?;
        }
        Ok(count)
    }

    fn next_rows(&mut self, most: u32) -> Result<Vec<KeyAndAmounts>, redb::Error> {
        let Some(from) = self.from else {
            return Ok(Vec::new());
        };
        let table = self.transaction.open_table(BALANCES)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut rows = Vec::new();
        for row in table.range(from..)?.take(most) {
            let (key, row) = row?;
            let (key, row) = (key.value(), row.value());
            rows.push((key, (row.0, row.1)));
        }
        self.from = rows
            .last()
            .filter(|_| rows.len() == most)
            .and_then(|((user, asset), _)| after_pair((*user, *asset)))
            .map(|(user, asset, _)| (user, asset));
        Ok(rows)
    }

    /// Whether all rows are summed.
    pub(super) const fn is_done(&self) -> bool {
        self.from.is_none()
    }
}
