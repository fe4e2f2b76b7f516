//! Where balances come from: the ledger behind the cache, and what is derived from it.
//!
//! One seam, three implementations: [`embedded`] (a redb file, one process), [`scylla`] (ScyllaDB or Cassandra) and [`postgres`].
//!
//! **Invariants.** Only the source can fail a read. An error is never an empty answer: `Ok(empty)` means that the user
//! has nothing. A load shows every asset of the user or fails (P6).
//!
//! **Cancellation.** Every future here may be dropped; a write that was dropped may or may not have happened, and is
//! repeated with the same seqs.
//!
//! **Limits.** Each statement has `source.timeout_ms`; how many loads run at once is the caller's business.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;

use crate::{
    diagnosis::Finding,
    domain::{
        AssetId, Entry, LedgerSlice, Notification, Receipt, Reference, Seq, SettleOutcome,
        Snapshot, StatementRow, StoredTransaction, TradeSlice, Transaction, UnixMillis, UserId,
        UserTrade,
    },
};

pub mod embedded;
pub mod history;
pub mod isolation;
mod item;
mod judge;
pub mod postgres;
pub mod records;
mod schema_steps;
pub mod scylla;
mod tls_files;
pub mod totals;
mod watch;

pub use totals::{ScannedTotals, TotalsScan};

/// Why the source did not answer. The text is for the log; a client never sees it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
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

impl LedgerError {
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
    Source(#[from] LedgerError),
}

/// The result of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WrittenCounts {
    /// Entries that are new.
    pub written: u64,
    /// Entries that stood already, with the same amounts.
    pub repeated: u64,
}

/// Whether the source can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceReadiness {
    /// It can.
    Ready,
    /// It could once and cannot now: degraded, with the reason.
    Failing(Arc<str>),
    /// It was never good since the start, or must not be used (view not built, tables missing), with what to do.
    NotReady(Arc<str>),
}

/// The cost of reads, counted while they run: for log lines and metrics, nothing is decided by it.
#[derive(Debug, Default)]
pub struct Cost {
    statements: AtomicU64,
    rows: AtomicU64,
    untrusted: AtomicU64,
    unreadable: AtomicU64,
}

impl Cost {
    /// One more statement, or look into a file, that brought so many rows.
    pub fn add_statement(&self, rows: usize) {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.rows
            .fetch_add(u64::try_from(rows).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts rows that another program wrote, and that were read from the ledger instead.
    pub fn add_untrusted(&self, rows: usize) {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.untrusted.fetch_add(rows, Ordering::Relaxed);
    }

    /// A statement was given up by the database, and others were asked in its place.
    pub fn add_unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// Rows of [`Cost::add_untrusted`], and statements of [`Cost::add_unreadable`].
    pub fn detour_counts(&self) -> (u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (count(&self.untrusted), count(&self.unreadable))
    }

    /// Statements so far, those that failed among them or not.
    pub fn statement_count(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    pub fn row_count(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// The times of a ledger row, as far as they are known, without its amounts. The audit compares them with when an answer was
/// given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowAbove {
    pub seq: Seq,
    /// The writer's own statement.
    pub created_at: Option<UnixMillis>,
    /// When the database took it at the latest, by the database's clock. None where it does not say.
    pub written_at: Option<UnixMillis>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// The transaction stands.
    Stands,
    /// It failed: whether the transaction stands is known when the ledger is read again.
    Unknown,
}

/// Transactions that were left unfinished, and stand whole now.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Its balances, to be announced.
    pub balances: Vec<Notification>,
    /// Transactions, trades and requests of entries.
    pub transactions: u64,
}

/// Takes effect on this instance: called with the receipt of each transaction after its commit, before its caller hears of it.
pub type CommitHook = Box<dyn Fn(&Receipt, Commit) + Send + Sync>;

/// An authoritative source of balances.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// The identity (keyspace and cluster, or the ledger file's own id): the same after a restart, another for other
    /// data. None as long as it was never reached.
    fn identity(&self) -> Option<Arc<str>>;

    /// Whether it can be asked now.
    fn readiness(&self) -> SourceReadiness;

    /// Why no ledger entry can be written, though balances can be read.
    fn write_trouble(&self) -> Option<Finding> {
        None
    }

    /// All balances of a user, by the configured way (`source.read_from`). It may lag behind the ledger.
    /// `said_at` of each is the moment *before* the source was asked.
    fn load_counting<'a>(
        &'a self,
        user: UserId,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>>;

    /// The newest ledger row of each of these assets; an asset that the user never had is absent. Never lags.
    /// `assets` is sorted, without duplicates, and may be longer than one statement takes.
    fn latest_counting<'a>(
        &'a self,
        user: UserId,
        assets: &'a [AssetId],
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>>;

    /// The lowest ledger row of this asset above `seq`, or the lowest of all: the first row that a reader of `seq` has missed.
    /// Never lags.
    fn row_above(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<RowAbove>, LedgerError>> {
        let _ = (user, asset, seq);
        Box::pin(async { Err(LedgerError::unavailable("it holds no ledger rows")) })
    }

    /// As [`Source::load_counting`], without the cost.
    fn load_snapshot(&self, user: UserId) -> BoxFuture<'_, Result<Snapshot, LedgerError>> {
        Box::pin(async move { self.load_counting(user, &Cost::default()).await })
    }

    /// As [`Source::latest_counting`], without the cost.
    fn load_latest<'a>(
        &'a self,
        user: UserId,
        assets: &'a [AssetId],
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async move { self.latest_counting(user, assets, &Cost::default()).await })
    }

    /// Writes entries to the ledger and to the current state (`user_balances`), durably when it returns.
    /// Checked whole before anything is written; repeats are harmless.
    fn write_entries<'a>(
        &'a self,
        entries: &'a [Entry],
    ) -> BoxFuture<'a, Result<WrittenCounts, WriteError>> {
        let _ = entries;
        Box::pin(async { Err(LedgerError::unavailable("it takes no entries").into()) })
    }

    /// Writes transactions, each whole or not at all, in this order: each is judged by what stands after those before it.
    /// Writes are durable when it returns. A source that takes none says that it is unavailable.
    fn settle_transactions<'a>(
        &'a self,
        transactions: &'a [Transaction],
    ) -> BoxFuture<'a, Result<Vec<SettleOutcome>, LedgerError>> {
        let _ = transactions;
        Box::pin(async { Err(LedgerError::unavailable("it takes no transactions")) })
    }

    /// The record under the id of a transaction or a trade.
    fn find_transaction(
        &self,
        reference: Reference,
    ) -> BoxFuture<'_, Result<Option<StoredTransaction>, LedgerError>> {
        let _ = reference;
        Box::pin(async { Err(LedgerError::unavailable("it holds no transactions")) })
    }

    /// The sides of trades in a slice of `user_trades`, in its order. Never lags: it has what was acknowledged before.
    fn user_trades<'a>(
        &'a self,
        slice: TradeSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<UserTrade>, LedgerError>> {
        let _ = (slice, cost);
        Box::pin(async { Err(LedgerError::unavailable("it holds no trades")) })
    }

    /// The rows in a slice of the ledger, in its order. Never lags: it has what was acknowledged before.
    fn read_statement<'a>(
        &'a self,
        slice: LedgerSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<StatementRow>, LedgerError>> {
        let _ = (slice, cost);
        Box::pin(async { Err(LedgerError::unavailable("it holds no statements")) })
    }

    /// Sums the balances of all users, at the pace of `scan`: of one moment where the source can, else row by row. Never called by
    /// a request.
    fn scan_totals<'a>(
        &'a self,
        scan: &'a TotalsScan,
    ) -> BoxFuture<'a, Result<ScannedTotals, LedgerError>> {
        let _ = scan;
        Box::pin(async { Err(LedgerError::unavailable("it cannot be summed")) })
    }

    /// The transactions that batch reads must show whole, where this source promises that.
    fn isolation(&self) -> Option<&isolation::Isolation> {
        None
    }

    /// The balances that stand here and that Redis may not know, of users after `after`, each user's together; none after the last.
    fn list_unannounced(
        &self,
        after: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<Notification>, LedgerError>> {
        let _ = after;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Removes what [`Source::note_announced`] named, without waiting for the next write.
    fn forget_announced(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        Box::pin(async { Ok(()) })
    }

    /// Sets what happens when a transaction stands. Only the first call counts; a source without isolation ignores it.
    fn on_commit(&self, hook: CommitHook) {
        drop(hook);
    }

    /// Whether what stands and was never announced is found again by [`Source::recover_unfinished`].
    fn can_recover(&self) -> bool {
        false
    }

    /// Writes what stands and was left unfinished by any instance, and was seen unfinished at least this long ago. A part of it:
    /// to be called until nothing is left, after [`Source::note_announced`].
    fn recover_unfinished(&self, age: Duration) -> BoxFuture<'_, Result<Recovered, LedgerError>> {
        let _ = age;
        Box::pin(async { Ok(Recovered::default()) })
    }

    /// Balances of other instances' transactions that must be announced together with these.
    fn announced_with(&self, balances: &[Notification]) -> Vec<Notification> {
        let _ = balances;
        Vec::new()
    }

    /// Tells the source that these balances took effect everywhere, so that its outbox may drop them.
    fn note_announced(&self, balances: &[Notification]) {
        let _ = balances;
    }

    /// Times that another instance was faster, and a write was judged again.
    fn lost_races(&self) -> u64 {
        0
    }
}
