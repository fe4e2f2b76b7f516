//! The tables in the file, and the transactions over them. Everything here blocks.

#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{collections::HashMap, sync::Arc};

use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    StorageBackend, TableError, WriteTransaction,
};

use super::{
    outbox::{self, OUTBOX, Outbox},
    requests::{WriteAnswer, WriteRequest},
    row_times::RowTimes,
    rows::{
        BALANCES, BalanceRow, CurrentColumns, LEDGER, LedgerKey, META, append_row, forward_balance,
        key_of, snapshot_of_rows,
    },
    totals::{TotalChanges, make_totals},
    transactions,
};
use crate::{
    clock,
    domain::{
        Amount, AssetId, Entry, Notification, NotifiedChange, Receipt, Reference, Seq, Snapshot,
        StoredTransaction, UnixMillis, UserId,
    },
    fail_points,
    ledger::{LedgerError, RowAbove, WriteError, WrittenCounts},
};

/// The layout of this file; another is refused.
pub(super) const LAYOUT: &str = "1";

/// Pages that are held in memory. The service has its own cache of what is asked often.
#[cfg(not(test))]
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Few, so that tests read the file.
#[cfg(test)]
const CACHE_BYTES: usize = 32 * 1024;

/// An open file.
#[derive(Debug)]
pub(super) struct Tables {
    database: Database,
    times: Arc<RowTimes>,
    /// Rows that reads have looked at.
    #[cfg(test)]
    pub(super) rows_read: AtomicU64,
}

/// The contents of `meta`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) layout: Option<String>,
    pub(super) id: Option<String>,
    /// Whether sample data were written when the ledger was made.
    pub(super) sample: bool,
}

/// Opens a redb file through `backend`, and makes one where it is empty.
pub(super) fn open_database(backend: impl StorageBackend) -> Result<Database, redb::Error> {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)?;
    Ok(database)
}

impl Tables {
    pub(super) fn new(database: Database, times: Arc<RowTimes>) -> Self {
        Self {
            database,
            times,
            #[cfg(test)]
            rows_read: AtomicU64::default(),
        }
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    /// Reads everything and compares it with the checksums. Whether all of it is as it should be.
    pub(super) fn check_integrity(&mut self) -> Result<bool, redb::Error> {
        Ok(self.database.check_integrity()?)
    }

    /// Tells which ledger this is; none where the file holds no ledger.
    pub(super) fn read_meta(&self) -> Result<Option<Meta>, redb::Error> {
        let meta = match self.database.begin_read()?.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = |key| -> Result<Option<String>, redb::Error> {
            Ok(meta.get(key)?.map(|found| found.value().to_owned()))
        };
        Ok(Some(Meta {
            layout: text("layout")?,
            id: text("id")?,
            sample: text("sample")?.is_some(),
        }))
    }

    /// Makes the tables that are not there yet, with layout and id; `sample` goes into an empty ledger.
    pub(super) fn prepare_tables(
        &self,
        fresh_id: u128,
        sample: &[Entry],
    ) -> Result<(), redb::Error> {
        let transaction = begin_write(&self.database)?;
        let mut changed = false;
        {
            let mut meta = transaction.open_table(META)?;
            for (key, fresh) in [("layout", LAYOUT), ("id", &format!("{fresh_id:032x}"))] {
                if meta.get(key)?.is_none() {
                    meta.insert(key, fresh)?;
                    changed = true;
                }
            }
            let empty = transaction.open_table(LEDGER)?.is_empty()?;
            transaction.open_table(BALANCES)?;
            changed |= transactions::make_tables(&transaction)?;
            transaction.open_table(OUTBOX)?;
            if empty && !sample.is_empty() {
                // Rows of one writer: they cannot conflict.
                let _ = put_entries(&transaction, sample, &mut TotalChanges::default())?;
                meta.insert("sample", "1")?;
                changed = true;
            }
            changed |= make_totals(&transaction)?;
        }
        if changed {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(())
    }

    /// The current state of all assets of a user.
    pub(super) fn load_balances(
        &self,
        user: UserId,
        said_at: UnixMillis,
    ) -> Result<Snapshot, LedgerError> {
        let read = || -> Result<Vec<CurrentColumns>, redb::Error> {
            let table = self.database.begin_read()?.open_table(BALANCES)?;
            let mut rows = Vec::new();
            for row in table.range((user.get(), i32::MIN)..=(user.get(), i32::MAX))? {
                #[cfg(test)]
                self.rows_read.fetch_add(1, Relaxed);
                let (key, row) = row?;
                let ((_, asset), (avail, frozen, seq, at)) = (key.value(), row.value());
                rows.push((asset, seq, avail, frozen, at));
            }
            Ok(rows)
        };
        snapshot_of_rows(read().map_err(LedgerError::unavailable)?, said_at)
    }

    /// The newest ledger row of each of these assets.
    pub(super) fn load_latest(
        &self,
        user: UserId,
        assets: &[AssetId],
        said_at: UnixMillis,
    ) -> Result<Snapshot, LedgerError> {
        let read = || -> Result<Vec<CurrentColumns>, redb::Error> {
            let table = self.database.begin_read()?.open_table(LEDGER)?;
            let mut rows = Vec::new();
            for asset in assets {
                let key = |seq| (user.get(), asset.get(), seq);
                let newest = table.range(key(i64::MIN)..=key(i64::MAX))?.next_back();
                if let Some((key, row)) = newest.transpose()? {
                    #[cfg(test)]
                    self.rows_read.fetch_add(1, Relaxed);
                    let ((_, asset, seq), row) = (key.value(), row.value());
                    rows.push((asset, seq, row.0, row.1, row.6));
                }
            }
            Ok(rows)
        };
        snapshot_of_rows(read().map_err(LedgerError::unavailable)?, said_at)
    }

    /// The lowest ledger row of this asset above `seq`.
    pub(super) fn find_above(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> Result<Option<RowAbove>, LedgerError> {
        let first = seq.map_or(0, Seq::get).saturating_add(1);
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(LEDGER)?;
            let key = |seq| (user.get(), asset.get(), seq);
            let row = table.range(key(first)..=key(i64::MAX))?.next();
            Ok(row
                .transpose()?
                .map(|(key, row)| (key.value().2, row.value().6)))
        };
        let Some((number, created_at)) = read().map_err(LedgerError::unavailable)? else {
            return Ok(None);
        };
        let number =
            Seq::new(number).map_err(|error| LedgerError::Corrupt(error.to_string().into()))?;
        // Above the highest seq there is none, and the range is that one.
        Ok((Some(number) != seq).then_some(RowAbove {
            seq: number,
            created_at: created_at.map(UnixMillis),
            written_at: Some(self.times.time_of((user.get(), asset.get(), number.get()))),
        }))
    }

    /// The record under the id of a transaction or a trade.
    pub(super) fn find_transaction(
        &self,
        reference: Reference,
    ) -> Result<Option<StoredTransaction>, LedgerError> {
        let read = || -> Result<_, redb::Error> {
            transactions::find_record(&self.database.begin_read()?, reference)
        };
        let found = read().map_err(LedgerError::unavailable)?;
        found
            .map(transactions::StoredRecord::parse_record)
            .transpose()
    }

    /// Writes these requests in one redb transaction, each whole or not at all; the answers in their order. Each receipt of
    /// a transaction is given to `before_commit` before any reader can see its rows. Without requests the outbox is tidied up.
    pub(super) fn write_requests(
        &self,
        requests: &[&WriteRequest],
        outbox: &Outbox,
        before_commit: &mut dyn FnMut(&Receipt),
    ) -> Result<Vec<WriteAnswer>, redb::Error> {
        let mut write = || -> Result<Vec<WriteAnswer>, redb::Error> {
            let transaction = begin_write(&self.database)?;
            let mut changed = requests.is_empty() && outbox.has_announced();
            let mut totals = TotalChanges::default();
            let mut answers = Vec::with_capacity(requests.len());
            let mut rows: Vec<LedgerKey> = Vec::new();
            for request in requests {
                answers.push(match request {
                    WriteRequest::Entries(entries) => {
                        let done = put_entries(&transaction, entries, &mut totals)?;
                        changed |= matches!(&done, Ok(done) if done.changed);
                        // Noted before the write, so that no reader finds a row without its time.
                        self.times.note_written(entries, clock::wall_now());
                        WriteAnswer::Entries(done.map(|done| {
                            rows.extend(done.rows);
                            done.written
                        }))
                    }
                    WriteRequest::Transactions(all) => {
                        let written = transactions::settle_all(
                            &transaction,
                            all,
                            clock::wall_now(),
                            &mut totals,
                        )?;
                        changed |= !written.rows.is_empty();
                        self.times.note_written(&written.rows, clock::wall_now());
                        written.new_receipts().for_each(&mut *before_commit);
                        rows.extend(written.rows.iter().map(key_of));
                        WriteAnswer::Transactions(written.outcomes)
                    }
                });
            }
            if changed {
                totals.write_changes(&transaction)?;
                outbox.update_entries(&transaction, &rows)?;
                fail_points::reach("ledger-before-commit");
                transaction.commit()?;
                fail_points::reach("ledger-committed");
            } else {
                transaction.abort()?;
            }
            Ok(answers)
        };
        let answers = write()?;
        // After, too: the rows are there since then.
        for request in requests {
            if let WriteRequest::Entries(entries) = request {
                self.times.note_written(entries, clock::wall_now());
            }
        }
        Ok(answers)
    }
}

impl Tables {
    /// The current balances that Redis may not know, of users after `after_user`: about `most`, each user's together.
    pub(super) fn list_unannounced(
        &self,
        after_user: Option<i64>,
        most: usize,
    ) -> Result<Vec<Notification>, LedgerError> {
        let read = || outbox::read_pending(&self.database.begin_read()?, after_user, most);
        let corrupt = |what| LedgerError::Corrupt(format!("{what}").into());
        let found = read().map_err(LedgerError::unavailable)?;
        found
            .into_iter()
            .map(|((user, asset), (avail, frozen, seq, at))| {
                Ok(Notification {
                    user: UserId::new(user).map_err(corrupt)?,
                    said: NotifiedChange::Values {
                        asset: AssetId::new(asset).map_err(corrupt)?,
                        seq: Seq::new(seq).map_err(corrupt)?,
                        avail: Amount::from_raw(avail),
                        frozen: Amount::from_raw(frozen),
                    },
                    created_at: at.map(UnixMillis),
                })
            })
            .collect()
    }
}

/// A commit is on the disk before it takes effect (two phases): a page of it that is damaged later is an error at the next
/// start, where with one phase redb would go back to the commit before, and lose one that was acknowledged.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// The result of a request.
#[derive(Debug, Default)]
struct Done {
    written: WrittenCounts,
    /// The rows that are new.
    rows: Vec<LedgerKey>,
    /// Whether there is anything to commit.
    changed: bool,
}

/// One request: all of it is compared with what stands, then written. Amounts are compared, nothing else. A row that
/// stands is never touched, whatever else the repeat says; the current state is completed from it.
fn put_entries(
    transaction: &WriteTransaction,
    entries: &[Entry],
    totals: &mut TotalChanges,
) -> Result<Result<Done, WriteError>, redb::Error> {
    let mut ledger = transaction.open_table(LEDGER)?;
    let mut balances = transaction.open_table(BALANCES)?;
    let mut fresh: HashMap<LedgerKey, &Entry> = HashMap::new();
    let mut stored: Vec<(LedgerKey, BalanceRow)> = Vec::new();
    let mut done = Done::default();
    for (index, entry) in entries.iter().enumerate() {
        let key = key_of(entry);
        let stands = match fresh.get(&key) {
            Some(entry) => Some((entry.avail.raw(), entry.frozen.raw())),
            None => ledger.get(key)?.map(|row| {
                let row = row.value();
                stored.push((key, (row.0, row.1, key.2, row.6)));
                (row.0, row.1)
            }),
        };
        match stands {
            None => {
                fresh.insert(key, entry);
                done.written.written = done.written.written.saturating_add(1);
            }
            Some(amounts) if amounts == (entry.avail.raw(), entry.frozen.raw()) => {
                done.written.repeated = done.written.repeated.saturating_add(1);
            }
            Some(_) => return Ok(Err(WriteError::Conflict { index })),
        }
    }
    for (key, entry) in fresh {
        totals.count_entry(&ledger, entry)?;
        append_row(&mut ledger, key, entry)?;
        let at = entry.created_at.map(|at| at.0);
        forward_balance(
            &mut balances,
            key,
            (entry.avail.raw(), entry.frozen.raw(), key.2, at),
        )?;
        done.rows.push(key);
        done.changed = true;
    }
    for (key, row) in stored {
        done.changed |= forward_balance(&mut balances, key, row)?;
    }
    Ok(Ok(done))
}
