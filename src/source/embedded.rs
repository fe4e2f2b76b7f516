//! The embedded ledger: the tables of contract section 1 in one file, for one instance and nothing else installed.
//!
//! The interface to redb is localized here and in the files below. A load reads the current state, which is written in
//! the same transaction as the ledger, so `source.read_from` makes no difference: view, table and ledger are one.
//!
//! **Invariants.** A request is checked whole and written in one transaction, or not at all. The current state of a
//! (user, asset) is its ledger row with the highest seq. What was answered is on the disk (`fsync`) and survives
//! `kill -9`: the next open repairs the file. A read costs O(assets), whatever the length of the history. The file's own
//! id never changes.
//!
//! **Cancellation.** Reads leave nothing behind. A write whose caller leaves before its transaction begins does not
//! happen; later it may, and can be repeated with the same seqs.
//!
//! **Limits.** redb blocks, so all work is done on blocking threads: reads as many as the caller lets in, writes one at a
//! time. Writes that wait meanwhile are committed together, up to [`GROUP_ENTRIES_MAX`] entries; how many wait is bounded
//! by the requests that are open. Each call has `source.timeout_ms`. One process has the file; a second is refused.
//!
//! **Deliberately absent**: reopening after the disk failed. redb refuses everything then, the source says so
//! ([`Readiness::Failing`]), and a restart opens the file anew.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    clock, config,
    domain::{
        AssetId, Entry, Outcome, Reference, Seq, Snapshot, StoredTransaction, Transaction, UserId,
    },
    source::{
        CommitHook, Cost, Error, Readiness, Source, Stood, WriteError, Written,
        isolation::Isolation,
    },
};

mod group;
pub mod look;
mod requests;
mod sample;
mod tables;
mod times;
mod transactions;

pub use group::GROUP_ENTRIES_MAX;
use group::Group;
use requests::{Answer, Request};
use tables::Tables;

/// Why the file cannot be the ledger. Each says what to do; for the operator, never for a client.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error(
        "{} is in use: an embedded ledger belongs to one instance; stop the other one, give this one its own \
         embedded.path, or share a database with source.kind = \"scylla\"", path.display()
    )]
    InUse {
        /// `embedded.path`
        path: PathBuf,
    },
    /// Its folder cannot be made, or the file not be opened.
    #[error("{} cannot be opened: {reason}; see embedded.path", path.display())]
    Path {
        /// `embedded.path`
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is no ledger, or a damaged one.
    #[error("{} is not a ledger or is damaged: {reason}; restore it from a copy, or name another file in embedded.path", path.display())]
    Corrupt {
        /// `embedded.path`
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// It was written by another version of the program.
    #[error("{} has layout {found}, this version reads {}", path.display(), tables::LAYOUT)]
    Layout {
        /// `embedded.path`
        path: PathBuf,
        /// What the file says.
        found: String,
    },
}

/// A ledger in a file.
pub struct Embedded {
    tables: Arc<Tables>,
    group: Group,
    isolation: Arc<Isolation>,
    identity: Arc<str>,
    timeout: Duration,
    /// What the last call failed with, while that is the last word.
    failing: ArcSwapOption<Error>,
}

impl Embedded {
    /// Opens the ledger, makes it with its folder where there is none, and repairs it after a crash. Blocks.
    ///
    /// `timeout` is `source.timeout_ms`; `fresh_id`, random, becomes the id of a ledger that is new.
    ///
    /// # Errors
    /// [`OpenError`], with what to do.
    pub fn open(
        settings: &config::Embedded,
        timeout: Duration,
        fresh_id: u128,
    ) -> Result<Self, OpenError> {
        let path = &settings.path;
        make_folder(path).map_err(|error| OpenError::Path {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let sample = if settings.sample_data {
            sample::entries()
        } else {
            Vec::new()
        };
        let (tables, id) = Tables::open(path, fresh_id, &sample)?;
        let tables = Arc::new(tables);
        let isolation = Arc::<Isolation>::default();
        Ok(Self {
            group: Group::new(Arc::clone(&tables), Arc::clone(&isolation)),
            isolation,
            tables,
            identity: format!("embedded:{id}").into(),
            timeout,
            failing: ArcSwapOption::empty(),
        })
    }

    /// Runs `read` on a blocking thread.
    async fn read<T, R>(&self, read: R) -> Result<T, Error>
    where
        T: Send + 'static,
        R: FnOnce(&Tables) -> Result<T, Error> + Send + 'static,
    {
        let tables = Arc::clone(&self.tables);
        let work = tokio::task::spawn_blocking(move || read(&tables));
        let done = async { work.await.map_err(Error::unavailable)? };
        self.watched(done).await
    }

    /// The same; every row that it looks at is one of the snapshot.
    async fn counted<R>(&self, cost: &Cost, read: R) -> Result<Snapshot, Error>
    where
        R: FnOnce(&Tables) -> Result<Snapshot, Error> + Send + 'static,
    {
        let snapshot = self.read(read).await?;
        cost.add(snapshot.balances().len());
        Ok(snapshot)
    }

    /// A conflict or a refusal is an answer, not a failure of the source.
    async fn written(&self, request: Request) -> Result<Answer, Error> {
        self.watched(self.group.write(request)).await
    }

    /// Within the time that a call has; remembers whether it failed.
    async fn watched<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let done = tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or(Err(Error::Timeout));
        match &done {
            Ok(_) if self.failing.load().is_some() => self.failing.store(None),
            Ok(_) => {}
            Err(error) => self.failing.store(Some(Arc::new(error.clone()))),
        }
        done
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Source for Embedded {
    fn identity(&self) -> Option<Arc<str>> {
        Some(Arc::clone(&self.identity))
    }

    fn readiness(&self) -> Readiness {
        match self.failing.load_full() {
            None => Readiness::Ready,
            Some(error) => Readiness::Failing(error.to_string().into()),
        }
    }

    fn load_counting<'a>(
        &'a self,
        user: UserId,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, Error>> {
        let said_at = clock::wall();
        self.counted(cost, move |tables| tables.balances(user, said_at))
            .boxed()
    }

    fn latest_counting<'a>(
        &'a self,
        user: UserId,
        assets: &'a [AssetId],
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, Error>> {
        let said_at = clock::wall();
        let assets = assets.to_vec();
        self.counted(cost, move |tables| tables.latest(user, &assets, said_at))
            .boxed()
    }

    fn row_above(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<Stood>, Error>> {
        self.read(move |tables| tables.above(user, asset, seq))
            .boxed()
    }

    fn write<'a>(&'a self, entries: &'a [Entry]) -> BoxFuture<'a, Result<Written, WriteError>> {
        async move {
            match self.written(Request::Entries(entries.to_vec())).await? {
                Answer::Entries(answer) => answer,
                Answer::Transactions(_) => Err(unasked().into()),
            }
        }
        .boxed()
    }

    fn settle<'a>(
        &'a self,
        transactions: &'a [Transaction],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Error>> {
        async move {
            let request = Request::Transactions(transactions.to_vec());
            match self.written(request).await? {
                Answer::Transactions(outcomes) => Ok(outcomes),
                Answer::Entries(_) => Err(unasked()),
            }
        }
        .boxed()
    }

    fn transaction(
        &self,
        reference: Reference,
    ) -> BoxFuture<'_, Result<Option<StoredTransaction>, Error>> {
        self.read(move |tables| tables.transaction(reference))
            .boxed()
    }

    fn isolation(&self) -> Option<&Isolation> {
        Some(&self.isolation)
    }

    fn on_commit(&self, hook: CommitHook) {
        self.isolation.on_commit(hook);
    }
}

fn unasked() -> Error {
    Error::unavailable("the writer answered another request")
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
