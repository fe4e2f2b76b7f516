//! The routes' view of the rest of the service: the seam between the wire and the work.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    apply::{self, Applied, Warmed},
    cache_status::Forward,
    config::Writer,
    domain::{
        AssetId, DatedRate, Entry, Notification, Outcome, Page, Rates, RatesTaken, Reference,
        StatementQuestion, StatementRow, StoredTransaction, Totals, TradesQuestion, Transaction,
        UserId, UserTrade,
    },
    ledger::{Error as SourceError, Written},
    read::{self, Answer, Ask},
    settle,
    telemetry::{HttpStatus, Route, Via},
};

/// Reads and changes, as the routes ask for them. Implemented over read and apply; a fake in the tests.
///
/// **Cancellation.** Every future may be dropped at any point: clients hang up. Whatever must not stop half-way runs in
/// a task of its own behind this seam.
///
/// **Deadlines.** `deadline` is when the answer has to be there. The routes cut a little later
/// ([`super::Options::deadline`]), so that this side can say in its own words what was waited for.
pub trait Backend: Send + Sync + 'static {
    /// Memory only, without waiting: shows the answer if memory may give it to a reader who came at `now`. The error says why it
    /// does not, and counts nothing: [`Backend::read`] follows, which is told of it ([`Ask::passed_on`]).
    ///
    /// # Errors
    /// Why memory does not answer.
    fn held<T>(
        &self,
        user: UserId,
        ask: &Ask,
        now: Instant,
        show: impl FnMut(Answer<&[u8]>) -> T,
    ) -> Result<T, Forward>;

    /// One user's balances, from wherever they may come, or a failure, by the deadline whatever happens.
    fn read(
        &self,
        user: UserId,
        ask: Ask,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answer, read::Error>> + Send;

    /// Many users' balances, one answer for each, in the order asked; a user asked twice is answered twice.
    fn read_many(
        &self,
        users: Vec<UserId>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Answer>, read::Error>> + Send;

    /// Makes notifications take effect; `Ok` is the promise of contract §4 for all of them.
    fn settle(
        &self,
        notifications: Vec<Notification>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Applied, apply::Error>> + Send;

    /// A request of notifications (or ledger entries) could not be read: to be counted.
    fn malformed(&self, via: Via);

    /// A request was answered after `took`: to be counted. Not called for hits that [`Backend::held`] showed, which count
    /// themselves.
    fn answered(&self, route: Route, status: HttpStatus, took: Duration) {
        let _ = (route, status, took);
    }

    /// A hit that [`Backend::held`] showed was answered with 304: to be counted.
    fn unchanged_hit(&self) {}

    /// Writes ledger entries and applies them.
    fn write_entries(
        &self,
        entries: Vec<Entry>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Written, apply::WriteError>> + Send;

    /// The writer: the side that assigns seqs.
    fn writer(&self) -> Writer;

    /// Writes transactions, one outcome for each in this order, and makes what stands take effect.
    fn settle_transactions(
        &self,
        transactions: Vec<Transaction>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<Outcome>, settle::Error>> + Send;

    /// The record under an id.
    fn find_transaction(
        &self,
        reference: Reference,
        deadline: Instant,
    ) -> impl Future<Output = Result<Option<StoredTransaction>, SourceError>> + Send;

    /// A page of trades.
    fn trades_page(
        &self,
        question: TradesQuestion,
        deadline: Instant,
    ) -> impl Future<Output = Result<Page<UserTrade>, read::Error>> + Send;

    /// A page of a statement.
    fn statement_page(
        &self,
        question: StatementQuestion,
        deadline: Instant,
    ) -> impl Future<Output = Result<Page<StatementRow>, read::Error>> + Send;

    /// The totals over all users that this instance holds.
    fn totals(&self) -> HeldTotals;

    /// Takes rates in a quote of the catalogue.
    fn set_rates(
        &self,
        quote: AssetId,
        rates: Vec<(AssetId, DatedRate)>,
        deadline: Instant,
    ) -> impl Future<Output = Result<RatesTaken, apply::Error>> + Send;

    /// The rates in a quote of the catalogue; empty where nobody has told one.
    fn rates(
        &self,
        quote: AssetId,
        deadline: Instant,
    ) -> impl Future<Output = Result<Arc<Rates>, apply::Error>> + Send;

    /// Drops snapshots everywhere, and with `floors` what must not be undercut too. Says how many users.
    fn invalidate(
        &self,
        users: Vec<UserId>,
        floors: bool,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, apply::Error>> + Send;

    /// Loads users ahead of their readers. A source that is down is counted, not an error.
    fn warm(&self, users: Vec<UserId>, deadline: Instant) -> impl Future<Output = Warmed> + Send;
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
