//! Read-only inspection of a ledger file for the command-line tools. Everything here blocks.
//!
//! **Invariants.** Nothing is written to the file: what a repair after a crash needs stays in memory. All answers of one look are
//! of one moment. A ledger that an instance has open is asked through that instance.

use std::{fmt, fs, path::Path, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use super::queries::PlaceKey;
use super::{
    OpenError, OpenErrorKind,
    create::check_layout,
    file::{self, Access, LedgerFile},
    keeper::{OpenDatabase, open_overlay},
    queries::Queries,
    records::{FoundRecord, JudgedRow},
    row_times::RowTimes,
    rows::{CurrentColumns, snapshot_of_rows},
    tools::{ToolClient, ToolRequest},
};
use crate::{
    clock,
    domain::{AssetId, Balance, Snapshot, UnixMillis, UserId},
    ledger::{LedgerError, records::RowKey},
};

/// An open ledger.
pub struct EmbeddedInspector {
    from: From,
}

enum From {
    File {
        _session: OpenDatabase,
        queries: Queries,
    },
    Instance(ToolClient),
}

impl fmt::Debug for EmbeddedInspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedInspector").finish_non_exhaustive()
    }
}

/// The newest rows of one (user, asset) in both tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TablePair {
    pub user: UserId,
    pub asset: AssetId,
    /// The ledger's newest row.
    pub ledger: Option<Balance>,
    /// The row of `user_balances`.
    pub table: Option<Balance>,
}

/// The result of [`check_file`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedFile {
    /// Rows of `user_balances`.
    pub balances: u64,
    /// Whether it was made with sample data.
    pub sample: bool,
}

/// Reads all of a file that no instance has open and compares it with the checksums in it. Writes nothing.
///
/// redb may panic on a damaged file. The tools run this in a process of its own.
pub fn check_file(path: &Path) -> Result<CheckedFile, OpenError> {
    let (file, mut session) = open_database(path)?;
    let failed = |error: redb::Error| OpenError::of_redb_error(path, &error, file.take_failure());
    if !session.tables.check_integrity().map_err(failed)? {
        return Err(OpenError::of_damaged(
            path,
            "it is not consistent with itself",
        ));
    }
    let queries = Queries::begin_read(session.tables.database()).map_err(failed)?;
    Ok(CheckedFile {
        balances: queries.count_pairs().map_err(failed)?,
        sample: queries.is_sample().map_err(failed)?,
    })
}

/// Looks whether a start could use that place, without changing anything: a ledger that may be written, or a folder in which
/// one can be made.
pub fn check_place(path: &Path) -> Result<(), OpenError> {
    let writable = |place: &Path| {
        rustix::fs::access(place, rustix::fs::Access::WRITE_OK)
            .map_err(|error| OpenError::of_inaccessible(path, place, &error.into()))
    };
    if fs::symlink_metadata(path).is_ok() {
        return writable(path);
    }
    let mut folder = file::folder_of(path);
    while let Some(place) = folder {
        match fs::metadata(place) {
            Ok(found) if found.is_dir() => return writable(place),
            Ok(_) => {
                let error = std::io::ErrorKind::NotADirectory.into();
                return Err(OpenError::of_inaccessible(path, place, &error));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                folder = file::folder_of(place);
            }
            Err(error) => return Err(OpenError::of_inaccessible(path, place, &error)),
        }
    }
    Ok(())
}

/// Bytes that the file system of a ledger, or of the nearest folder that is there, has left for this process.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let place = std::iter::successors(Some(path), |place| file::folder_of(place))
        .take(64)
        .find(|place| place.exists())?;
    let found = rustix::fs::statvfs(place).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn open_database(path: &Path) -> Result<(Arc<LedgerFile>, OpenDatabase), OpenError> {
    let file = Arc::new(LedgerFile::open_file(path, Access::Read)?);
    let times = Arc::new(RowTimes::opened_at(clock::wall_now()));
    let failed = |error: redb::Error| OpenError::of_redb_error(path, &error, file.take_failure());
    let session = open_overlay(&file, &times).map_err(failed)?;
    check_layout(path, session.tables.read_meta().map_err(failed)?)?;
    Ok((file, session))
}

impl EmbeddedInspector {
    /// Opens the file, or asks the instance that has it open.
    pub fn open_ledger(path: &Path) -> Result<Self, OpenError> {
        match open_database(path) {
            Ok((file, session)) => {
                let queries = Queries::begin_read(session.tables.database())
                    .map_err(|error| OpenError::of_redb_error(path, &error, file.take_failure()))?;
                Ok(Self {
                    from: From::File {
                        _session: session,
                        queries,
                    },
                })
            }
            Err(error) if error.kind == OpenErrorKind::InUse => {
                match ToolClient::connect_to(path) {
                    Ok(client) => Ok(Self {
                        from: From::Instance(client),
                    }),
                    Err(reason) => Err(OpenError {
                        said: format!("{}, and its process is not asked: {reason}", error.said),
                        ..error
                    }),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a running instance answers, not the file.
    pub const fn is_running(&self) -> bool {
        matches!(self.from, From::Instance(_))
    }

    /// The ledger's own id.
    pub fn read_identity(&self) -> Result<String, LedgerError> {
        let id: Option<String> = self.ask_or_query(&ToolRequest::Id, Queries::read_id)?;
        id.map(|id| format!("embedded:{id}"))
            .ok_or_else(|| LedgerError::unavailable("the ledger has no id"))
    }

    /// Whether it was made with sample data.
    pub fn is_sample(&self) -> Result<bool, LedgerError> {
        self.ask_or_query(&ToolRequest::Sample, Queries::is_sample)
    }

    /// All balances of a user by `user_balances`.
    pub fn read_table(&self, user: UserId) -> Result<Snapshot, LedgerError> {
        let user = user.get();
        let rows = self.ask_or_query(&ToolRequest::Table { user }, |queries| {
            queries.read_table(user)
        })?;
        snapshot_of_rows(rows, clock::wall_now())
    }

    /// All balances of a user by the ledger, where every asset can be found.
    pub fn read_ledger(&self, user: UserId) -> Result<Snapshot, LedgerError> {
        let user = user.get();
        let rows = self.ask_or_query(&ToolRequest::Ledger { user }, |queries| {
            queries.read_ledger(user)
        })?;
        snapshot_of_rows(rows, clock::wall_now())
    }

    /// The seqs of one history, the newest first, at most `most`, each with when it was made.
    pub fn read_history(
        &self,
        user: UserId,
        asset: AssetId,
        most: usize,
    ) -> Result<Vec<(i64, Option<i64>)>, LedgerError> {
        let (user, asset) = (user.get(), asset.get());
        let request = ToolRequest::History { user, asset, most };
        self.ask_or_query(&request, |queries| queries.read_history(user, asset, most))
    }

    /// The next `most` pairs of user and asset that either table has, from a place on, and where to go on.
    pub fn read_pairs(
        &self,
        from: Option<PlaceKey>,
        most: usize,
    ) -> Result<(Vec<TablePair>, Option<PlaceKey>), LedgerError> {
        let request = ToolRequest::Pairs { from, most };
        let (rows, next) = self.ask_or_query(&request, |queries| queries.read_pairs(from, most))?;
        let said_at = clock::wall_now();
        let pairs: Result<Vec<_>, LedgerError> = rows
            .into_iter()
            .map(|((user, asset), ledger, table)| {
                let corrupt = |what| LedgerError::Corrupt(format!("{what}").into());
                Ok(TablePair {
                    user: UserId::new(user).map_err(corrupt)?,
                    asset: AssetId::new(asset).map_err(corrupt)?,
                    ledger: checked_balance(ledger, said_at)?,
                    table: checked_balance(table, said_at)?,
                })
            })
            .collect();
        Ok((pairs?, next))
    }

    /// The next `most` rows of the ledger below a key: users and assets falling, of each the newest first.
    pub fn rows_below(
        &self,
        below: Option<RowKey>,
        most: usize,
    ) -> Result<Vec<JudgedRow>, LedgerError> {
        let request = ToolRequest::RowsBelow { below, most };
        self.ask_or_query(&request, |queries| queries.rows_below(below, most))
    }

    /// The next `most` records of transactions and trades above one (whether it is a trade, and its id), each with the rows that
    /// stand under its keys.
    pub fn records_above(
        &self,
        above: Option<(bool, i64)>,
        most: usize,
    ) -> Result<Vec<FoundRecord>, LedgerError> {
        let above = above.map(|(is_trade, id)| (u8::from(is_trade), id));
        let request = ToolRequest::RecordsAbove { above, most };
        self.ask_or_query(&request, |queries| queries.records_above(above, most))
    }

    /// How many rows of current state there are: what a walk through all pairs will meet.
    pub fn count_pairs(&self) -> Result<u64, LedgerError> {
        self.ask_or_query(&ToolRequest::Count, Queries::count_pairs)
    }

    /// Writes a backup of it, and returns how many rows it has.
    /// Errors: a ledger that cannot be read, or a backup that cannot be written.
    pub fn write_backup(&self, out: &mut dyn std::io::Write) -> Result<u64, LedgerError> {
        match &self.from {
            From::File { queries, .. } => super::backup::write_backup(&queries.transaction, out)
                .map_err(LedgerError::unavailable),
            From::Instance(client) => client.copy_backup(out).map_err(LedgerError::unavailable),
        }
    }

    fn ask_or_query<T: DeserializeOwned>(
        &self,
        request: &ToolRequest,
        query: impl Fn(&Queries) -> Result<T, redb::Error>,
    ) -> Result<T, LedgerError> {
        match &self.from {
            From::File { queries, .. } => query(queries).map_err(LedgerError::unavailable),
            From::Instance(client) => client
                .ask_instance(request)
                .map_err(LedgerError::unavailable),
        }
    }
}

fn checked_balance(
    row: Option<CurrentColumns>,
    said_at: UnixMillis,
) -> Result<Option<Balance>, LedgerError> {
    let found = snapshot_of_rows(row.into_iter().collect(), said_at)?;
    Ok(found.balances().first().copied())
}
