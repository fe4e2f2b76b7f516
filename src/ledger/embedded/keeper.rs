//! The open ledger: closes it when the disk failed, and opens it again. Everything here blocks.
//!
//! redb refuses everything after the first error of its file. So the database is replaced: by one over the file where the disk
//! takes writes again, else by one that reads the file and keeps the repair of the last commit in memory.
//!
//! **Invariants.** One database at most writes to the file: the one before is retired first. A write that failed was not
//! acknowledged, and may be repeated. While no write can succeed, none is begun.
//!
//! **Limits.** The file is opened for writing again at most once in [`RETRY_MIN`], doubled after each failure up to [`RETRY_MAX`],
//! and a damaged one once in [`RETRY_DAMAGED`]: opening costs a walk through the file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    backend::{BackendGate, FileBackend, Overlay},
    failure::DiskFailure,
    file::LedgerFile,
    outbox::Outbox,
    requests::{WriteAnswer, WriteRequest},
    row_times::RowTimes,
    tables::{Tables, open_database},
};
use crate::{domain::Receipt, ledger::LedgerError};

const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(8);
const RETRY_DAMAGED: Duration = Duration::from_mins(1);

/// Whether the ledger takes writes, and how often it did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteHealth {
    /// Why writes fail now. None while they work.
    pub failing: Option<DiskFailure>,
    /// Write transactions that failed, or were not begun, since the start.
    pub failures: u64,
    /// Times that the file was opened again after a failure.
    pub reopened: u64,
}

/// One database over the file.
#[derive(Debug)]
pub(super) struct OpenDatabase {
    pub(super) tables: Tables,
    gate: Arc<BackendGate>,
    writable: bool,
}

#[derive(Debug)]
pub(super) struct Keeper {
    file: Arc<LedgerFile>,
    times: Arc<RowTimes>,
    pub(super) outbox: Outbox,
    session: ArcSwap<OpenDatabase>,
    retry: Mutex<Retry>,
    failing: Mutex<Option<DiskFailure>>,
    failures: AtomicU64,
    reopened: AtomicU64,
}

/// When the file may be opened for writing again.
#[derive(Debug, Default)]
struct Retry {
    wait: Duration,
    next: Option<Instant>,
}

/// Opens the file itself.
pub(super) fn open_direct(
    file: &Arc<LedgerFile>,
    times: &Arc<RowTimes>,
) -> Result<OpenDatabase, redb::Error> {
    let gate = Arc::new(BackendGate::default());
    let backend = FileBackend {
        file: Arc::clone(file),
        gate: Arc::clone(&gate),
    };
    Ok(OpenDatabase {
        tables: Tables::new(open_database(backend)?, Arc::clone(times)),
        gate,
        writable: true,
    })
}

/// Opens the file for reading; what redb writes for it stays in memory.
pub(super) fn open_overlay(
    file: &Arc<LedgerFile>,
    times: &Arc<RowTimes>,
) -> Result<OpenDatabase, redb::Error> {
    let gate = Arc::new(BackendGate::default());
    let backend = Overlay::new(Arc::clone(file), Arc::clone(&gate))?;
    Ok(OpenDatabase {
        tables: Tables::new(open_database(backend)?, Arc::clone(times)),
        gate,
        writable: false,
    })
}

impl Keeper {
    pub(super) fn new(file: Arc<LedgerFile>, times: Arc<RowTimes>, session: OpenDatabase) -> Self {
        Self {
            file,
            times,
            outbox: Outbox::default(),
            session: ArcSwap::from_pointee(session),
            retry: Mutex::default(),
            failing: Mutex::default(),
            failures: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
        }
    }

    pub(super) fn session(&self) -> Arc<OpenDatabase> {
        self.session.load_full()
    }

    pub(super) fn file(&self) -> &LedgerFile {
        &self.file
    }

    pub(super) fn write_health(&self) -> WriteHealth {
        WriteHealth {
            failing: self.failing.lock().clone(),
            failures: self.failures.load(Ordering::Relaxed),
            reopened: self.reopened.load(Ordering::Relaxed),
        }
    }

    /// Reads; once more where the database had to be opened again.
    pub(super) fn read_tables<T>(
        &self,
        read: impl Fn(&Tables) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let session = self.session();
        match read(&session.tables) {
            Err(LedgerError::Unavailable(said)) => {
                self.replace_broken(&session, &said);
                let fresh = self.session();
                if Arc::ptr_eq(&session, &fresh) {
                    return Err(self.unavailable_error(&said));
                }
                read(&fresh.tables)
            }
            answer => answer,
        }
    }

    /// Writes these requests in one redb transaction, each whole or not at all; the answers in their order.
    pub(super) fn write_requests(
        &self,
        requests: &[&WriteRequest],
        before_commit: &mut dyn FnMut(&Receipt),
    ) -> Result<Vec<WriteAnswer>, LedgerError> {
        let session = self.session();
        if !session.writable {
            self.count_failure();
            return Err(self.unavailable_error("it is open for reading only"));
        }
        if !self.file.is_in_place() {
            self.count_failure();
            self.note_failure(DiskFailure::Replaced);
            return Err(self.unavailable_error("it is not in its place"));
        }
        if self.file.is_cut_off() {
            self.count_failure();
            self.note_failure(DiskFailure::Truncated);
            return Err(self.unavailable_error("its end is missing"));
        }
        match session
            .tables
            .write_requests(requests, &self.outbox, before_commit)
        {
            Ok(answers) => {
                self.writes_work();
                Ok(answers)
            }
            Err(error) => {
                self.count_failure();
                let said = error.to_string();
                self.replace_broken(&session, &said);
                Err(self.unavailable_error(&said))
            }
        }
    }

    /// Looks whether the disk works again after a failure: to be called once in a while.
    pub(super) fn look_again(&self) {
        if self.file.is_cut_off() {
            self.note_failure(DiskFailure::Truncated);
            return;
        }
        let replaced = *self.failing.lock() == Some(DiskFailure::Replaced);
        match (self.file.is_in_place(), replaced) {
            (false, _) => self.note_failure(DiskFailure::Replaced),
            (true, true) => self.writes_work(),
            (true, false) => {
                let session = self.session();
                if !session.writable || session.gate.is_retired() {
                    self.open_again(&session, false);
                }
            }
        }
    }

    /// Replaces a database that failed, unless another thread has done so meanwhile.
    fn replace_broken(&self, broken: &Arc<OpenDatabase>, said: &str) {
        let retry = self.retry.lock();
        if Arc::ptr_eq(broken, &self.session()) {
            self.note_file_failure(said);
            drop(retry);
            self.open_again(broken, true);
        }
    }

    fn open_again(&self, broken: &Arc<OpenDatabase>, failed: bool) {
        let mut retry = self.retry.lock();
        if !Arc::ptr_eq(broken, &self.session()) {
            return;
        }
        let due = retry.next.is_none_or(|next| next <= Instant::now());
        let first = failed && !broken.gate.is_retired();
        if !due && !first {
            return;
        }
        if due && self.disk_takes_writes() {
            broken.gate.retire_gate();
            match open_direct(&self.file, &self.times) {
                Ok(fresh) => {
                    retry.postpone_retry(false);
                    self.use_again(fresh);
                    return;
                }
                Err(error) => {
                    self.note_file_failure(&error.to_string());
                    retry.postpone_retry(self.is_damaged());
                }
            }
        } else if due {
            retry.postpone_retry(false);
        }
        if first || broken.gate.is_retired() {
            broken.gate.retire_gate();
            match open_overlay(&self.file, &self.times) {
                Ok(fresh) => self.session.store(Arc::new(fresh)),
                Err(error) => self.note_file_failure(&error.to_string()),
            }
        }
    }

    fn use_again(&self, fresh: OpenDatabase) {
        self.session.store(Arc::new(fresh));
        self.reopened.fetch_add(1, Ordering::Relaxed);
        *self.failing.lock() = None;
        let path = self.file.path().display();
        tracing::warn!(%path, "the ledger was opened again after a failure: it reads and writes");
    }

    fn is_damaged(&self) -> bool {
        let failing = self.failing.lock();
        matches!(
            *failing,
            Some(DiskFailure::Damaged { .. } | DiskFailure::Truncated)
        )
    }

    fn disk_takes_writes(&self) -> bool {
        match self.file.probe_disk() {
            Ok(()) => true,
            Err(error) => {
                self.note_failure(DiskFailure::of_io_error(&error));
                false
            }
        }
    }

    fn note_file_failure(&self, said: &str) {
        let failure = self.file.take_failure();
        let held = self.failing.lock().is_some();
        match failure {
            Some(failure) => self.note_failure(failure),
            None if !held => self.note_failure(DiskFailure::Other(said.to_owned())),
            None => {}
        }
    }

    fn note_failure(&self, failure: DiskFailure) {
        let mut failing = self.failing.lock();
        if failing.as_ref() != Some(&failure) {
            tracing::error!(
                path = %self.file.path().display(),
                reason = %failure,
                remedy = %failure.remedy(),
                "the ledger cannot be written"
            );
            *failing = Some(failure);
        }
    }

    fn writes_work(&self) {
        let was = self.failing.lock().take();
        if was.is_some() {
            tracing::warn!(path = %self.file.path().display(), "the ledger takes writes again");
        }
        let mut retry = self.retry.lock();
        if retry.next.is_some() {
            *retry = Retry::default();
        }
    }

    fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The error of a call that failed, with the cause where it is known.
    fn unavailable_error(&self, said: &str) -> LedgerError {
        let failing = self.failing.lock();
        let path = self.file.path().display();
        LedgerError::unavailable(match failing.as_ref() {
            Some(failure) => format!("{path}: {failure}; {}", failure.remedy()),
            None => format!("{path}: {said}"),
        })
    }
}

impl Retry {
    fn postpone_retry(&mut self, damaged: bool) {
        self.wait = if damaged {
            RETRY_DAMAGED
        } else {
            self.wait.saturating_mul(2).clamp(RETRY_MIN, RETRY_MAX)
        };
        self.next = Instant::now().checked_add(self.wait);
    }
}
