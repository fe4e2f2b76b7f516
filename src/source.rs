//! Where balances come from: the ledger behind the cache, and what is derived from it.
//!
//! One seam, two implementations: [`embedded`] (a redb file, one process) and [`scylla`] (ScyllaDB or Cassandra).
//!
//! **Invariants.** Only the source can fail a read. An error is never an empty answer: `Ok(empty)` means that the user
//! has nothing. A load shows every asset of the user or fails (P6).
//!
//! **Cancellation.** Every future here may be dropped; a write that was dropped may or may not have happened, and is
//! repeated with the same seqs.
//!
//! **Limits.** Each statement has `source.timeout_ms`; how many loads run at once is the caller's business.

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

use crate::domain::{AssetId, Entry, Snapshot, UserId};

pub mod embedded;
pub mod scylla;

/// Why the source did not answer. The text is for the log; a client never sees it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, refuses, or is not connected yet.
    #[error("source unavailable: {0}")]
    Unavailable(Arc<str>),
    /// It was silent for `source.timeout_ms`.
    #[error("source timed out")]
    Timeout,
    /// It holds something that cannot be a balance (an asset id or seq below 1).
    #[error("source holds a corrupt row: {0}")]
    Corrupt(Arc<str>),
}

impl Error {
    /// `Unavailable`, with what was the matter.
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable(reason.to_string().into())
    }
}

/// Why entries were not written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The seq of the entry at `index` exists with other amounts; nothing was written.
    #[error("the seq of entry {index} is taken by other amounts")]
    Conflict {
        /// Counted from 0.
        index: usize,
    },
    /// The source failed; some of the entries may stand, and may be written again.
    #[error(transparent)]
    Source(#[from] Error),
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Entries that are new.
    pub written: u64,
    /// Entries that stood already, with the same amounts.
    pub repeated: u64,
}

/// Whether the source can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It could once and cannot now: degraded, with the reason.
    Failing(Arc<str>),
    /// It was never good since the start, or must not be used (view not built, tables missing), with what to do.
    NotReady(Arc<str>),
}

/// An authoritative source of balances.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Who this is (keyspace and cluster, or the ledger file's own id): the same after a restart, another for other
    /// data. None as long as it was never reached.
    fn identity(&self) -> Option<Arc<str>>;

    /// Whether it can be asked now.
    fn readiness(&self) -> Readiness;

    /// All balances of a user, by the configured way (`source.read_from`). It may lag behind the ledger.
    /// `said_at` of each is the moment *before* the source was asked.
    fn load(&self, user: UserId) -> BoxFuture<'_, Result<Snapshot, Error>>;

    /// The newest ledger row of each of these assets; an asset that the user never had is absent. Never lags.
    /// `assets` is sorted, without duplicates, and may be longer than one statement takes.
    fn latest<'a>(
        &'a self,
        user: UserId,
        assets: &'a [AssetId],
    ) -> BoxFuture<'a, Result<Snapshot, Error>>;

    /// Writes entries to the ledger and to the current state (`user_balances`), durably when it returns.
    /// Checked whole before anything is written; repeats are harmless.
    fn write<'a>(&'a self, entries: &'a [Entry]) -> BoxFuture<'a, Result<Written, WriteError>>;
}
