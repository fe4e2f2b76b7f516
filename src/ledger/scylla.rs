//! `ScyllaDB` and Cassandra as the source, by the scylla driver. The interface to that crate is localized here and below.
//!
//! [`Scylla`] is made without touching the network; [`Scylla::run`] connects and keeps checking. A load reads one of three places
//! (`source.read_from`): the view (`view`), `user_balances` (`table`) or the ledger (`ledger`), with the same answer.
//!
//! **Invariants.** A source that is not connected, or must not be read, is an error at once and never an empty snapshot (seed fault 8).
//! `said_at` is taken before the first statement is sent. Amounts stay signed; a missing one is 0.
//!
//! **Cancellation.** Every future may be dropped; the server may finish the statement.
//!
//! **Limits.** `source.timeout_ms` per statement; a load from the view takes at most two waves for assets that can be guessed.
//! No breaker, no caching, no own retries: the driver knows which nodes are down.

mod appends;
pub mod backfill;
mod bad_setting;
mod certificates;
mod connect;
mod faults;
mod group_writer;
mod history;
pub mod inspect;
mod journal;
mod judge;
mod ledger;
mod names;
mod postings;
mod prepared;
mod record;
mod recovery;
mod requests;
pub mod schema;
mod schema_state;
mod statements;
mod table;
mod table_names;
mod totals;
mod view;
mod watch;
mod write;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{
    appends::Appends,
    connect::Connector,
    journal::Reach,
    prepared::Postings,
    statements::{Live, Load},
    table::TableWriter,
};
use crate::{
    clock,
    config::{self, ReadFrom, ViewCheck, Writer},
    domain::{
        AssetId, Catalogue, Entry, LedgerSlice, Notification, Outcome, Reference, Seq, Snapshot,
        StatementRow, StoredTransaction, TradeSlice, Transaction, UserId, UserTrade,
    },
    ledger::{
        CommitHook, Cost, Error, Readiness, Recovered, ScannedTotals, Source, Stood, TotalsScan,
        WriteError, Written,
    },
};

pub use bad_setting::BadSetting;

/// The CQL source.
pub struct Scylla {
    connector: Connector,
    read_from: ReadFrom,
    view_check: ViewCheck,
    catalogue: Arc<Catalogue>,
    state: ArcSwap<State>,
    identity: OnceLock<Arc<str>>,
    remembered: view::Remembered,
    /// A statement failed: look what is the matter, now.
    nudge: Notify,
    warned: Mutex<String>,
    writing: Mutex<Writing>,
    sent: Arc<AtomicU64>,
    assigns_seqs: bool,
    reach: Reach,
    appends: Appends,
    hook: OnceLock<CommitHook>,
}

/// Whether ledger entries can be written.
#[derive(Debug, Default)]
struct Writing {
    /// They could once, or a client wanted to: a right that is missing is told.
    wanted: bool,
    /// Why they cannot be.
    refusal: Option<Arc<str>>,
}

/// Certificates that were read and are not in force yet: see [`Scylla::read_certificates`].
#[derive(Debug)]
pub struct NewCertificates(certificates::Read);

/// The operations that can be done at the moment.
#[derive(Debug)]
struct State {
    live: Option<Arc<Live>>,
    readiness: Readiness,
}

impl fmt::Debug for Scylla {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scylla")
            .field("identity", &self.identity.get())
            .field("read_from", &self.read_from)
            .field("readiness", &self.state.load().readiness)
            .finish_non_exhaustive()
    }
}

impl Scylla {
    /// A source that is not connected yet; see [`Scylla::run`].
    ///
    /// # Errors
    /// A setting that cannot be used: a bad keyspace name, a certificate file that cannot be read.
    pub fn new(
        settings: &config::Scylla,
        source: &config::Source,
        catalogue: Arc<Catalogue>,
    ) -> Result<Self, BadSetting> {
        let reach = Reach::of(
            connect::consistency(settings.consistency),
            !settings.datacenter.is_empty(),
        );
        Ok(Self {
            connector: Connector::new(settings, source)?,
            read_from: source.read_from,
            view_check: settings.view_check,
            catalogue,
            state: ArcSwap::from_pointee(State {
                live: None,
                readiness: Readiness::NotReady("not connected yet".into()),
            }),
            identity: OnceLock::new(),
            remembered: view::Remembered::default(),
            nudge: Notify::new(),
            warned: Mutex::default(),
            writing: Mutex::default(),
            sent: Arc::default(),
            assigns_seqs: false,
            reach,
            appends: Appends::default(),
            hook: OnceLock::new(),
        })
    }

    /// Whether this service assigns seqs (`ledger.writer`). Without this call another writer does.
    #[must_use]
    pub fn with_writer(mut self, writer: Writer) -> Self {
        self.assigns_seqs = writer == Writer::Service;
        self
    }

    /// Connects and keeps checking, until told to stop. The service lives meanwhile.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut queues = self.appends.queues.lock().await;
        let appends::Queues { waiting, removals } = &mut *queues;
        let write = async {
            tokio::join!(
                group_writer::run(&self, waiting),
                recovery::run_removals(&self, removals)
            );
        };
        tokio::join!(
            watch::run(&self, &shutdown),
            shutdown.run_until_cancelled(write)
        );
    }

    /// Reads the certificate files again; nothing is in force yet. None where TLS is off, or the files are as they were.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn read_certificates(
        &self,
        settings: &config::Scylla,
    ) -> Result<Option<NewCertificates>, BadSetting> {
        let Some(certificates) = self.connector.certificates() else {
            return Ok(None);
        };
        let read = certificates::Read::files(settings)?;
        Ok(read
            .filter(|read| certificates.differ(read))
            .map(NewCertificates))
    }

    /// Connections that are opened from here on use these.
    pub fn use_certificates(&self, new: NewCertificates) {
        if let Some(certificates) = self.connector.certificates() {
            certificates.replace(new.0);
        }
    }

    /// Statements that loads and writes sent since the start, without the checks' own.
    #[must_use]
    pub fn statements_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The connection, or why there is none.
    fn live(&self) -> Result<Arc<Live>, Error> {
        let state = self.state.load();
        match (&state.live, &state.readiness) {
            (Some(live), _) => Ok(Arc::clone(live)),
            (None, Readiness::NotReady(reason) | Readiness::Failing(reason)) => {
                Err(Error::Unavailable(Arc::clone(reason)))
            }
            (None, Readiness::Ready) => Err(Error::unavailable("no connection")),
        }
    }

    async fn load_balances(&self, user: UserId, cost: &Cost) -> Result<Snapshot, Error> {
        let live = self.live()?;
        if let Readiness::NotReady(reason) = &self.state.load().readiness {
            return Err(Error::Unavailable(Arc::clone(reason)));
        }
        let said_at = clock::wall();
        let read = match &live.load {
            Load::View { page, jump } => {
                let guesses = (&self.remembered, &*self.catalogue);
                view::load((&live, cost), (page, jump), user, guesses, said_at).await?
            }
            Load::Table(statement) => {
                return table::load((&live, cost), statement, user, said_at).await;
            }
            Load::Ledger => {
                let mut assets: Vec<_> = self.catalogue.ids().collect();
                assets.sort_unstable();
                return self.read_ledger((&live, cost), user, &assets).await;
            }
        };
        self.make_whole((&live, cost), user, read, |_| true).await
    }

    /// Completes a read of view or ledger where transactions are written through the journal.
    async fn make_whole(
        &self,
        from: (&Live, &Cost),
        user: UserId,
        read: Snapshot,
        is_asked: impl Fn(AssetId) -> bool,
    ) -> Result<Snapshot, Error> {
        let writer = if self.assigns_seqs {
            TableWriter::Service
        } else if self.appends.is_journal_used() {
            TableWriter::Others
        } else {
            return Ok(read);
        };
        table::make_whole(from, user, read, writer, is_asked).await
    }

    /// The newest ledger row of each of these assets, sorted.
    async fn read_ledger(
        &self,
        (live, cost): (&Live, &Cost),
        user: UserId,
        assets: &[AssetId],
    ) -> Result<Snapshot, Error> {
        let read = ledger::latest((live, cost), user, assets).await?;
        let is_asked = |asset| assets.binary_search(&asset).is_ok();
        self.make_whole((live, cost), user, read, is_asked).await
    }

    /// The statements of transactions.
    async fn postings<'l>(&self, live: &'l Live) -> Result<&'l Postings, Error> {
        let prepare = || Postings::prepare(live, &self.connector.names, self.reach);
        live.postings.get_or_try_init(prepare).await
    }

    /// Asks for a check where the database did not answer.
    fn noticed<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Unavailable(_) | Error::Timeout) = &result {
            self.nudge.notify_one();
        }
        result
    }

    /// A warning that is repeated by every check is logged when its text changes.
    fn warn_once(&self, reason: &str) {
        let mut warned = self.warned.lock();
        if *warned != reason {
            tracing::warn!(source.reason = %reason, "reading all the same");
            reason.clone_into(&mut warned);
        }
    }
}

// === impl Source for Scylla ===

impl Source for Scylla {
    fn identity(&self) -> Option<Arc<str>> {
        self.identity.get().cloned()
    }

    fn readiness(&self) -> Readiness {
        let readiness = self.state.load().readiness.clone();
        let writing = self.writing.lock();
        match (&readiness, &writing.refusal) {
            (Readiness::Ready, Some(refusal)) if writing.wanted => {
                Readiness::Failing(Arc::clone(refusal))
            }
            _ => readiness,
        }
    }

    fn load_counting<'a>(
        &'a self,
        user: UserId,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, Error>> {
        Box::pin(async move { self.noticed(self.load_balances(user, cost).await) })
    }

    fn latest_counting<'a>(
        &'a self,
        user: UserId,
        assets: &'a [AssetId],
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, Error>> {
        Box::pin(async move {
            let live = self.live()?;
            self.noticed(self.read_ledger((&live, cost), user, assets).await)
        })
    }

    fn row_above(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<Stood>, Error>> {
        Box::pin(async move {
            let live = self.live()?;
            self.noticed(ledger::above(&live, user, asset, seq).await)
        })
    }

    fn write<'a>(&'a self, entries: &'a [Entry]) -> BoxFuture<'a, Result<Written, WriteError>> {
        Box::pin(async move {
            let result = self.write_entries(entries).await;
            if let Err(WriteError::Source(Error::Unavailable(_) | Error::Timeout)) = &result {
                self.writing.lock().wanted = true;
                self.nudge.notify_one();
            }
            result
        })
    }

    fn settle<'a>(
        &'a self,
        transactions: &'a [Transaction],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, Error>> {
        Box::pin(async move { self.noticed(self.settle_all(transactions).await) })
    }

    fn transaction(
        &self,
        reference: Reference,
    ) -> BoxFuture<'_, Result<Option<StoredTransaction>, Error>> {
        Box::pin(async move { self.noticed(recovery::find(self, reference).await) })
    }

    fn on_commit(&self, hook: CommitHook) {
        let _ = self.hook.set(hook);
    }

    fn recovers(&self) -> bool {
        true
    }

    fn recover(&self, age: Duration) -> BoxFuture<'_, Result<Recovered, Error>> {
        Box::pin(async move { recovery::recover(self, age).await })
    }

    fn announced_with(&self, balances: &[Notification]) -> Vec<Notification> {
        self.appends.announced_with(balances)
    }

    fn announced(&self, balances: &[Notification]) {
        self.appends.announced(balances);
    }

    fn lost_races(&self) -> u64 {
        self.appends.lost_races()
    }

    fn user_trades<'a>(
        &'a self,
        slice: TradeSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<UserTrade>, Error>> {
        Box::pin(async move {
            let live = self.live()?;
            let names = &self.connector.names;
            self.noticed(history::user_trades((&live, cost), names, &slice).await)
        })
    }

    fn statement<'a>(
        &'a self,
        slice: LedgerSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<StatementRow>, Error>> {
        Box::pin(async move {
            let live = self.live()?;
            self.noticed(history::statement((&live, cost), &self.connector.names, &slice).await)
        })
    }

    fn scan_totals<'a>(
        &'a self,
        scan: &'a TotalsScan,
    ) -> BoxFuture<'a, Result<ScannedTotals, Error>> {
        Box::pin(async move { self.noticed(Self::scan_totals(self, scan).await) })
    }
}
