//! A look at a ledger's file from outside, for the tools. Everything here blocks.
//!
//! **Invariants.** The file is opened for reading only: nothing is made, repaired or written. A file that an instance has open is
//! not opened.
//!
//! **Limits.** What is read in one call is one user, or one step of [`Look::pairs`].

use std::{fmt, io::ErrorKind, path::Path};

use redb::{
    DatabaseError, ReadOnlyDatabase, ReadableDatabase as _, ReadableTableMetadata as _,
    StorageError,
};

use super::tables::{BALANCES, LEDGER, META, Row, snapshot};
use crate::{
    clock,
    domain::{AssetId, Balance, Snapshot, UserId},
    source::Error,
};

/// Why the file cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// There is none yet.
    #[error("there is no such file yet: the first start makes it")]
    Missing,
    /// A process has it open.
    #[error("it is in use by a running instance")]
    InUse,
    /// It was not closed in good order.
    #[error("it was not closed in good order: the next start of the service repairs it")]
    Unclean,
    /// It cannot be opened, or is no ledger.
    #[error("{0}")]
    Unreadable(String),
}

/// An open file.
pub struct Look {
    database: ReadOnlyDatabase,
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

/// The newest rows of one (user, asset) in both tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Whose.
    pub user: UserId,
    /// Of which asset.
    pub asset: AssetId,
    /// The ledger's newest row.
    pub ledger: Option<Balance>,
    /// The row of `user_balances`.
    pub table: Option<Balance>,
}

/// A place in either table: user and asset.
pub type Key = (i64, i32);

impl Look {
    /// Opens the file.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        let database = ReadOnlyDatabase::open(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Trouble::InUse,
            DatabaseError::RepairAborted => Trouble::Unclean,
            DatabaseError::Storage(StorageError::Io(error))
                if error.kind() == ErrorKind::NotFound =>
            {
                Trouble::Missing
            }
            DatabaseError::Storage(StorageError::Io(error))
                if error.kind() != ErrorKind::InvalidData =>
            {
                Trouble::Unreadable(format!("it cannot be read: {error}"))
            }
            error => Trouble::Unreadable(format!("it is not a ledger or is damaged: {error}")),
        })?;
        Ok(Self { database })
    }

    /// The ledger's own id.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn identity(&self) -> Result<String, Error> {
        let read = || -> Result<Option<String>, redb::Error> {
            let meta = self.database.begin_read()?.open_table(META)?;
            Ok(meta.get("id")?.map(|id| id.value().to_owned()))
        };
        let id = read().map_err(Error::unavailable)?;
        id.map(|id| format!("embedded:{id}"))
            .ok_or_else(|| Error::unavailable("the ledger has no id"))
    }

    /// All balances of a user by `user_balances`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn table(&self, user: UserId) -> Result<Snapshot, Error> {
        let read = || -> Result<Vec<Row>, redb::Error> {
            let table = self.database.begin_read()?.open_table(BALANCES)?;
            let mut rows = Vec::new();
            for row in table.range((user.get(), i32::MIN)..=(user.get(), i32::MAX))? {
                let (key, row) = row?;
                let ((_, asset), (avail, frozen, seq, at)) = (key.value(), row.value());
                rows.push((asset, seq, avail, frozen, at));
            }
            Ok(rows)
        };
        snapshot(read().map_err(Error::unavailable)?, clock::wall())
    }

    /// All balances of a user by the ledger, where every asset can be found.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn ledger(&self, user: UserId) -> Result<Snapshot, Error> {
        let mut found = Vec::new();
        let mut from = Some((user.get(), i32::MIN));
        while let Some(start) = from {
            let Some((key, row)) = self.newest_from(start)? else {
                break;
            };
            if key.0 != user.get() {
                break;
            }
            found.push(row);
            from = after(key);
        }
        snapshot(found, clock::wall())
    }

    /// The seqs of one history, the newest first, at most `most`, each with when it was made.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn history(
        &self,
        user: UserId,
        asset: AssetId,
        most: usize,
    ) -> Result<Vec<(i64, Option<i64>)>, Error> {
        let read = || -> Result<Vec<_>, redb::Error> {
            let table = self.database.begin_read()?.open_table(LEDGER)?;
            let key = |seq| (user.get(), asset.get(), seq);
            let mut rows = Vec::new();
            for row in table.range(key(i64::MIN)..=key(i64::MAX))?.rev().take(most) {
                let (key, row) = row?;
                rows.push((key.value().2, row.value().6));
            }
            Ok(rows)
        };
        read().map_err(Error::unavailable)
    }

    /// The next `most` pairs of user and asset that either table has, from a place on, and where to go on.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn pairs(&self, from: Option<Key>, most: usize) -> Result<(Vec<Pair>, Option<Key>), Error> {
        let mut from = Some(from.unwrap_or((i64::MIN, i32::MIN)));
        let mut pairs = Vec::new();
        while let (Some(start), true) = (from, pairs.len() < most) {
            let ledger = self.newest_from(start)?;
            let table = self.current_from(start)?;
            let keys = [ledger.map(|found| found.0), table.map(|found| found.0)];
            let Some(key) = keys.into_iter().flatten().min() else {
                return Ok((pairs, None));
            };
            let here = |found: Option<(Key, Row)>| -> Result<Option<Balance>, Error> {
                let rows = found.filter(|found| found.0 == key).map(|found| found.1);
                Ok(snapshot(rows.into_iter().collect(), clock::wall())?
                    .balances()
                    .first()
                    .copied())
            };
            let corrupt = |what| Error::Corrupt(format!("{what}").into());
            pairs.push(Pair {
                user: UserId::new(key.0).map_err(corrupt)?,
                asset: AssetId::new(key.1).map_err(corrupt)?,
                ledger: here(ledger)?,
                table: here(table)?,
            });
            from = after(key);
        }
        Ok((pairs, from))
    }

    /// How many rows of current state there are: what a walk through all pairs will meet.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn count(&self) -> Result<u64, Error> {
        let read = || -> Result<u64, redb::Error> {
            Ok(self.database.begin_read()?.open_table(BALANCES)?.len()?)
        };
        read().map_err(Error::unavailable)
    }

    /// The first pair of the ledger from a place on, with its newest row.
    fn newest_from(&self, (user, asset): Key) -> Result<Option<(Key, Row)>, Error> {
        let read = || -> Result<Option<(Key, Row)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(LEDGER)?;
            let first = table.range((user, asset, i64::MIN)..)?.next().transpose()?;
            let Some((key, _)) = first else {
                return Ok(None);
            };
            let (user, asset, _) = key.value();
            let last = table
                .range((user, asset, i64::MIN)..=(user, asset, i64::MAX))?
                .next_back();
            Ok(last.transpose()?.map(|(key, row)| {
                let (seq, row) = (key.value().2, row.value());
                ((user, asset), (asset, seq, row.0, row.1, row.6))
            }))
        };
        read().map_err(Error::unavailable)
    }

    fn current_from(&self, from: Key) -> Result<Option<(Key, Row)>, Error> {
        let read = || -> Result<Option<(Key, Row)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(BALANCES)?;
            let first = table.range(from..)?.next().transpose()?;
            Ok(first.map(|(key, row)| {
                let (key, row) = (key.value(), row.value());
                (key, (key.1, row.2, row.0, row.1, row.3))
            }))
        };
        read().map_err(Error::unavailable)
    }
}

/// The place right behind a pair.
fn after((user, asset): Key) -> Option<Key> {
    asset
        .checked_add(1)
        .map(|next| (user, next))
        .or_else(|| user.checked_add(1).map(|next| (next, i32::MIN)))
}
