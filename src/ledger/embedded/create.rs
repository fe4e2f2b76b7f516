//! Makes the file of a ledger, and recognises one of another layout.

use std::{path::Path, sync::Arc};

use super::{
    OpenError,
    file::{self, LedgerFile},
    keeper::{self, OpenDatabase},
    row_times::RowTimes,
    tables,
};
use crate::{clock, domain::Entry};

/// Makes a ledger beside `path`, and gives it its place when it is whole.
pub(super) fn create_ledger(
    path: &Path,
    fresh_id: u128,
    sample: &[Entry],
) -> Result<LedgerFile, OpenError> {
    create_with(path, |session| {
        session.tables.prepare_tables(fresh_id, sample)
    })
}

/// Makes a ledger with what `write` writes. The database is closed before the file gets its name.
pub(super) fn create_with(
    path: &Path,
    write: impl FnOnce(&OpenDatabase) -> Result<(), redb::Error>,
) -> Result<LedgerFile, OpenError> {
    if let Some(folder) = file::folder_of(path) {
        std::fs::create_dir_all(folder)
            .map_err(|error| OpenError::of_inaccessible(path, folder, &error))?;
    }
    let file = Arc::new(LedgerFile::create_file(&file::path_beside(path, ".new"))?);
    let times = Arc::new(RowTimes::opened_at(clock::wall_now()));
    keeper::open_direct(&file, &times)
        .and_then(|session| write(&session))
        .map_err(|error| OpenError::of_redb_error(path, &error, file.take_failure()))?;
    let file = Arc::into_inner(file).ok_or_else(|| OpenError::in_use(path))?;
    file.rename_to(path)
}

/// A file of another layout, or of another program, is left as it is.
pub(super) fn check_layout(path: &Path, meta: Option<tables::Meta>) -> Result<(), OpenError> {
    match meta.and_then(|meta| meta.layout) {
        Some(layout) if layout == tables::LAYOUT => Ok(()),
        Some(layout) => Err(OpenError::of_layout(path, &layout, tables::LAYOUT)),
        None => Err(OpenError::of_foreign(
            path,
            "it is a redb database of another program",
        )),
    }
}
