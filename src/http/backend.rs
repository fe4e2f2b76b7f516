//! The trait through which the routes use the rest of the service.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    apply::{self, ApplyResult, WarmResult},
    cache_status::ForwardReason,
    config::LedgerSide,
    domain::{
        AssetId, DatedRate, Entry, HistoryPage, Notification, Rates, RatesTaken, Reference,
        SettleOutcome, StatementQuestion, StatementRow, StoredTransaction, Totals, TradesQuestion,
        Transaction, UserId, UserTrade,
    },
    ledger::{LedgerError, WrittenCounts},
    read::{self, ReadAnswer, ReadOptions},
    settle,
    telemetry::{HttpStatus, Route, Via},
};

/// Reads and changes, as the routes ask for them. Implemented over read and apply; a fake in the tests.
///
/// **Cancellation.** Every future may be dropped at any point: clients hang up. Whatever must not stop half-way runs in
/// a task of its own behind this seam.
///
/// **Deadlines.** `deadline` is when the answer has to be there. The routes cut a little later ([`super::Options::deadline`]),
/// so that this side can name what was late.
pub trait Backend: Send + Sync + 'static {
    /// Answers from memory only, without waiting, for a read that came at `now`. The error says why it does not, and counts
    /// nothing: [`Backend::read_balances`] follows, which is told of it ([`ReadOptions::passed_on`]).
    /// Errors: the reason why memory does not answer.
    fn read_memory<T>(
        &self,
        user: UserId,
        ask: &ReadOptions,
        now: Instant,
        show: impl FnMut(ReadAnswer<&[u8]>) -> T,
    ) -> Result<T, ForwardReason>;

    /// Reads one user's balances from any tier, or fails, by the deadline.
    fn read_balances(
        &self,
        user: UserId,
        ask: ReadOptions,
        deadline: Instant,
    ) -> impl Future<Output = Result<ReadAnswer, read::ReadError>> + Send;

    /// Many users' balances, one answer for each, in the order asked; a user asked twice is answered twice.
    fn read_many(
        &self,
        users: Vec<UserId>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<ReadAnswer>, read::ReadError>> + Send;

    /// Makes notifications take effect; `Ok` is the promise of contract §4 for all of them.
    fn apply_notifications(
        &self,
        notifications: Vec<Notification>,
        deadline: Instant,
    ) -> impl Future<Output = Result<ApplyResult, apply::ApplyError>> + Send;

    /// A request of notifications (or ledger entries) could not be read: to be counted.
    fn count_malformed(&self, via: Via);

    /// A request was answered after `took`: to be counted. Not called for hits that [`Backend::read_memory`] showed, which count
    /// themselves.
    fn record_response(&self, route: Route, status: HttpStatus, took: Duration) {
        let _ = (route, status, took);
    }

    /// A hit that [`Backend::read_memory`] showed was answered with 304: to be counted.
    fn unchanged_hit(&self) {}

    /// Writes ledger entries and applies them.
    fn write_entries(
        &self,
        entries: Vec<Entry>,
        deadline: Instant,
    ) -> impl Future<Output = Result<WrittenCounts, apply::EntriesError>> + Send;

    /// The writer: the side that assigns seqs.
    fn seq_writer(&self) -> LedgerSide;

    /// Whether the ledger is somebody else's tables: balances are read from it, and nothing else is.
    fn shows_balances_only(&self) -> bool {
        false
    }

    /// Writes transactions, one outcome for each in this order, and makes what stands take effect.
    fn settle_transactions(
        &self,
        transactions: Vec<Transaction>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<SettleOutcome>, settle::SettleError>> + Send;

    /// The record under an id.
    fn find_transaction(
        &self,
        reference: Reference,
        deadline: Instant,
    ) -> impl Future<Output = Result<Option<StoredTransaction>, LedgerError>> + Send;

    fn trades_page(
        &self,
        question: TradesQuestion,
        deadline: Instant,
    ) -> impl Future<Output = Result<HistoryPage<UserTrade>, read::ReadError>> + Send;

    fn statement_page(
        &self,
        question: StatementQuestion,
        deadline: Instant,
    ) -> impl Future<Output = Result<HistoryPage<StatementRow>, read::ReadError>> + Send;

    /// The totals over all users that this instance holds.
    fn current_totals(&self) -> HeldTotals;

    fn set_rates(
        &self,
        quote: AssetId,
        rates: Vec<(AssetId, DatedRate)>,
        deadline: Instant,
    ) -> impl Future<Output = Result<RatesTaken, apply::ApplyError>> + Send;

    /// Returns the rates in a quote of the catalogue; empty if none was posted.
    fn load_rates(
        &self,
        quote: AssetId,
        deadline: Instant,
    ) -> impl Future<Output = Result<Arc<Rates>, apply::ApplyError>> + Send;

    /// Drops the users' snapshots in every tier and instance, with `floors` their floors too; returns the number of users.
    fn invalidate_users(
        &self,
        users: Vec<UserId>,
        floors: bool,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, apply::ApplyError>> + Send;

    /// Loads users ahead of their readers. A source that is down is counted, not an error.
    fn warm_users(
        &self,
        users: Vec<UserId>,
        deadline: Instant,
    ) -> impl Future<Output = WarmResult> + Send;
}

/// The totals that can be shown.
#[derive(Debug, Clone)]
pub enum HeldTotals {
    /// None are made here.
    Off,
    /// The first are not made yet.
    Pending,
    /// The newest.
    Held(Arc<Totals>),
}
