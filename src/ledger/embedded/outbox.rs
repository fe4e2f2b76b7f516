//! Balances that stand in the file and that Redis may not know yet: a process can be killed between its commit and Redis.
//!
//! **Invariants.** The entry of a balance is written in the redb transaction of its ledger row. It is removed after Redis took
//! that seq or a higher one, never before.
//!
//! **Limits.** One entry for each (user, asset). An entry is removed by the next write after Redis took it, so the last ones before
//! the end of a process are announced once more at the next start, which changes nothing.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, TableError, WriteTransaction};

use super::rows::{BALANCES, BalanceKey, BalanceRow, LedgerKey};

/// (user, asset) with the highest seq that Redis may not know.
pub(super) const OUTBOX: TableDefinition<BalanceKey, i64> = TableDefinition::new("redis_outbox");

pub(super) type CurrentBalance = (BalanceKey, BalanceRow);

/// The announcements that the file owes to Redis.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    kept: AtomicBool,
    /// Seqs that Redis took since the last write.
    announced: Mutex<HashMap<BalanceKey, i64>>,
}

impl Outbox {
    /// Writes entries from now on.
    pub(super) fn keep_entries(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Redis took this balance.
    pub(super) fn note_announced(&self, rows: impl Iterator<Item = LedgerKey>) {
        if !self.kept.load(Ordering::Relaxed) {
            return;
        }
        let mut announced = self.announced.lock();
        for (user, asset, seq) in rows {
            let highest = announced.entry((user, asset)).or_default();
            *highest = seq.max(*highest);
        }
    }

    /// Whether entries can be removed.
    pub(super) fn has_announced(&self) -> bool {
        !self.announced.lock().is_empty()
    }

    /// Adds entries for rows that are written, and removes those that Redis took.
    pub(super) fn update_entries(
        &self,
        transaction: &WriteTransaction,
        rows: &[LedgerKey],
    ) -> Result<(), redb::Error> {
        if !self.kept.load(Ordering::Relaxed) {
            return Ok(());
        }
        let announced = std::mem::take(&mut *self.announced.lock());
        let mut table = transaction.open_table(OUTBOX)?;
        for (key, seq) in announced {
            let waits = table.get(key)?.map(|entry| entry.value());
            if waits.is_some_and(|waits| waits <= seq) {
                table.remove(key)?;
            }
        }
        for (user, asset, seq) in rows.iter().copied() {
            let waits = table.get((user, asset))?.map(|entry| entry.value());
            if waits.is_none_or(|waits| waits < seq) {
                table.insert((user, asset), seq)?;
            }
        }
        Ok(())
    }
}

/// The current balances of the entries after a user: about `most` of them, all those of one user together.
pub(super) fn read_pending(
    transaction: &ReadTransaction,
    after_user: Option<i64>,
    most: usize,
) -> Result<Vec<CurrentBalance>, redb::Error> {
    let table = match transaction.open_table(OUTBOX) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let balances = transaction.open_table(BALANCES)?;
    let Some(first) = after_user.map_or(Some(i64::MIN), |user| user.checked_add(1)) else {
        return Ok(Vec::new());
    };
    let mut found: Vec<CurrentBalance> = Vec::new();
    for entry in table.range((first, i32::MIN)..)? {
        let key = entry?.0.value();
        let full = found.len() >= most;
        if full && found.last().is_some_and(|((user, _), _)| *user != key.0) {
            break;
        }
        if let Some(row) = balances.get(key)? {
            found.push((key, row.value()));
        }
    }
    Ok(found)
}
