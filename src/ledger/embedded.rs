//! The embedded ledger: the contract's tables in one file, for one instance. The interface to redb is localized here and below.
//!
//! The current state is written in the same transaction as the ledger, so view, table and ledger are one for `source.read_from`.
//!
//! **Invariants.** A request is written in one transaction or not at all. Acknowledged writes are on the disk (`fsync`) and survive
//! `kill -9`. A read costs O(assets). The file's own id never changes. A block that is not what was written never reaches redb, and a
//! database that failed is closed and opened again (`file`, `keeper`, docs/adr/0018).
//!
//! **Cancellation.** A write whose caller leaves before its transaction begins does not happen; later it may, and can be repeated.
//!
//! **Limits.** All work runs on blocking threads; writes one at a time, grouped up to [`GROUP_ENTRIES_MAX`] entries. Each call has
//! `source.timeout_ms`. One process has the file; a second is refused.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;

use crate::{
    clock, config,
    domain::{Notification, Snapshot, Totals, UserId},
    ledger::{
        Cost, LedgerError, ScannedTotals, TotalsScan, isolation::Isolation, totals::permille_of,
    },
};

mod backend;
pub mod backup;
mod create;
mod failure;
mod file;
mod group;
mod history;
pub mod inspect;
mod keeper;
mod outbox;
mod queries;
pub mod records;
mod requests;
mod row_times;
mod rows;
mod sample;
mod source;
mod tables;
mod tools;
mod totals;
mod transactions;

use self::{
    create::{check_layout, create_ledger},
    file::{Access, LedgerFile},
    group::Group,
    keeper::Keeper,
    requests::{WriteAnswer, WriteRequest},
    row_times::RowTimes,
    tables::Tables,
};
pub use self::{
    failure::{DiskFailure, OpenError, OpenErrorKind},
    group::GROUP_ENTRIES_MAX,
    keeper::WriteHealth,
};

/// Rows that a scan of all balances reads at once.
const TOTALS_STEP_MAX: u32 = 2_000;
/// Balances of one step through the outbox.
const OUTBOX_STEP: usize = 1_000;

/// How the ledger that was opened came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerOrigin {
    /// There was no file: it was made by this start.
    pub new: bool,
    /// It was made with sample data.
    pub sample: bool,
}

/// A ledger in a file.
pub struct Embedded {
    keeper: Arc<Keeper>,
    group: Group,
    isolation: Arc<Isolation>,
    identity: Arc<str>,
    origin: LedgerOrigin,
    timeout: Duration,
    /// The error of the last read, until one succeeds.
    failing: ArcSwapOption<LedgerError>,
    looks_again: Arc<AtomicBool>,
}

impl Embedded {
    /// Opens the ledger, makes it with its folder where there is none, and repairs it after a crash. Blocks.
    ///
    /// `timeout` is `source.timeout_ms`; `fresh_id`, random, becomes the id of a ledger that is new.
    pub fn open_ledger(
        settings: &config::EmbeddedSettings,
        timeout: Duration,
        fresh_id: u128,
    ) -> Result<Self, OpenError> {
        let path = &settings.path;
        let sample = if settings.sample_data {
            sample::sample_entries()
        } else {
            Vec::new()
        };
        let (file, new) = match LedgerFile::open_file(path, Access::Write) {
            Err(error) if error.kind == OpenErrorKind::Missing => {
                (create_ledger(path, fresh_id, &sample)?, true)
            }
            found => (found?, false),
        };
        if settings.check_at_start {
            let failed = |error| {
                OpenError::of_redb_error(path, &redb::Error::Io(error), file.take_failure())
            };
            file.learn_hashes().map_err(failed)?;
        }
        let (file, times) = (
            Arc::new(file),
            Arc::new(RowTimes::opened_at(clock::wall_now())),
        );
        let failed =
            |error: redb::Error| OpenError::of_redb_error(path, &error, file.take_failure());
        let session = keeper::open_direct(&file, &times).map_err(failed)?;
        let tables = &session.tables;
        check_layout(path, tables.read_meta().map_err(failed)?)?;
        tables.prepare_tables(fresh_id, &sample).map_err(failed)?;
        let meta = tables.read_meta().map_err(failed)?.unwrap_or_default();
        let keeper = Arc::new(Keeper::new(Arc::clone(&file), times, session));
        let isolation = Arc::<Isolation>::default();
        Ok(Self {
            group: Group::new(Arc::clone(&keeper), Arc::clone(&isolation)),
            isolation,
            keeper,
            identity: format!("embedded:{}", meta.id.unwrap_or_default()).into(),
            origin: LedgerOrigin {
                new,
                sample: meta.sample,
            },
            timeout,
            failing: ArcSwapOption::empty(),
            looks_again: Arc::default(),
        })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        self.keeper.file().path()
    }

    /// How it came to be.
    pub const fn origin(&self) -> LedgerOrigin {
        self.origin
    }

    /// Whether writes work.
    pub fn write_health(&self) -> WriteHealth {
        self.keeper.write_health()
    }

    /// Looks after the file, on a blocking thread: whether it is in its place, and works again after a failure. To be called
    /// about once a second.
    pub fn keep_up(&self) {
        if self.looks_again.swap(true, Ordering::AcqRel) {
            return;
        }
        let (keeper, looks_again) = (Arc::clone(&self.keeper), Arc::clone(&self.looks_again));
        drop(tokio::task::spawn_blocking(move || {
            keeper.look_again();
            drop(keeper);
            looks_again.store(false, Ordering::Release);
        }));
    }

    /// Remembers in the file, from now on, which balances Redis was not told yet.
    pub fn keep_outbox(&self) {
        self.keeper.outbox.keep_entries();
    }

    /// The current balances that Redis may not know, of users after `after`, each user's together; none after the last. Blocks.
    pub fn unannounced_after(
        &self,
        after: Option<UserId>,
    ) -> Result<Vec<Notification>, LedgerError> {
        let after = after.map(UserId::get);
        self.keeper
            .read_tables(|tables| tables.list_unannounced(after, OUTBOX_STEP))
    }

    /// Answers the tools of the command line at a socket beside the file, until `stop` is cancelled.
    pub async fn serve_tools(&self, stop: CancellationToken) {
        tools::serve_tools(Arc::clone(&self.keeper), stop).await;
    }

    /// Runs `read` on a blocking thread.
    async fn read_tables<T, R>(&self, read: R) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        R: Fn(&Tables) -> Result<T, LedgerError> + Send + 'static,
    {
        let keeper = Arc::clone(&self.keeper);
        let work = tokio::task::spawn_blocking(move || keeper.read_tables(read));
        let done = async { work.await.map_err(LedgerError::unavailable)? };
        self.watch_read(done).await
    }

    /// Runs a read and counts its rows; every row it reads is part of the snapshot.
    async fn read_counted<R>(&self, cost: &Cost, read: R) -> Result<Snapshot, LedgerError>
    where
        R: Fn(&Tables) -> Result<Snapshot, LedgerError> + Send + 'static,
    {
        let snapshot = self.read_tables(read).await?;
        cost.add_statement(snapshot.balances().len());
        Ok(snapshot)
    }

    /// Sums one snapshot, a step at a time.
    async fn sum_snapshot(&self, scan: &TotalsScan) -> Result<ScannedTotals, LedgerError> {
        let mut snapshot = self.read_tables(Tables::snapshot_totals).await?;
        let step = scan.step_rows(TOTALS_STEP_MAX);
        while !snapshot.is_done() {
            let work = tokio::task::spawn_blocking(move || {
                let rows = snapshot.add_rows(step)?;
                Ok::<_, LedgerError>((snapshot, rows))
            });
            let rows;
            (snapshot, rows) = work.await.map_err(LedgerError::unavailable)??;
            scan.pace_rows(u64::from(rows)).await;
            scan.set_progress(permille_of(scan.rows_read(), snapshot.rows));
        }
        let (began, ended) = snapshot.taken;
        Ok(ScannedTotals {
            totals: Totals {
                assets: snapshot.sums,
                began,
                ended,
            },
            maintained: snapshot.maintained,
            untrusted_rows: 0,
        })
    }

    /// A conflict or a refusal is an answer, not a failure of the source. The keeper knows whether writes fail; reads may go on.
    async fn write_request(&self, request: WriteRequest) -> Result<WriteAnswer, LedgerError> {
        self.limit_time(self.group.write_grouped(request)).await
    }

    /// Runs a read within the time that it has; remembers whether it failed.
    async fn watch_read<T>(
        &self,
        work: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let done = self.limit_time(work).await;
        match &done {
            Ok(_) if self.failing.load().is_some() => self.failing.store(None),
            Ok(_) => {}
            Err(error) => self.failing.store(Some(Arc::new(error.clone()))),
        }
        done
    }

    async fn limit_time<T>(
        &self,
        work: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let done = tokio::time::timeout(self.timeout, work).await;
        done.unwrap_or(Err(LedgerError::Timeout))
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
