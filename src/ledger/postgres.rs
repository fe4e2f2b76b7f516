//! PostgreSQL as the source, by tokio-postgres. The interface to that crate and to deadpool-postgres is localized here and below.
//!
//! [`Postgres`] is made without touching the network; [`Postgres::run_watch`] connects and keeps checking. There is no view: `view` and
//! `ledger` read the newest rows of the ledger by its key, `table` reads `user_balances`.
//!
//! **Invariants.** A source that is not connected, or must not be read, is an error at once and never an empty snapshot. `said_at` is
//! taken before the first statement is sent. Loads may be read from replicas; everything that must not lag asks the primary.
//!
//! **Cancellation.** Every future may be dropped; its connection is closed, and the server may finish the statement.
//!
//! **Limits.** `source.timeout_ms` per statement, `postgres.connections` at once to each server.

mod balances;
mod columns;
mod connect;
mod dialer;
mod faults;
mod history;
pub mod inspect;
pub mod mapped;
pub mod outbox;
mod pool;
mod post_failure;
mod post_rows;
mod post_statements;
mod posting;
mod redis_outbox;
mod replicas;
mod requests;
pub mod schema;
mod schema_state;
mod session;
mod statements;
mod timeline;
mod tls;
mod totals;
mod watch;
mod writing;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

use self::{
    connect::PgConnector,
    history::PageTexts,
    mapped::MappedLedger,
    outbox::OutboxTable,
    pool::{PgPool, Values},
    redis_outbox::RedisOutbox,
    replicas::Replicas,
    statements::StatementTexts,
    writing::PgWriting,
};
use crate::{
    config::{self, BadSetting, LedgerSide, ReadFrom},
    diagnosis::Finding,
    domain::{
        AssetId, Catalogue, Entry, LedgerSlice, Notification, Reference, Seq, SettleOutcome,
        Snapshot, StatementRow, StoredTransaction, TradeSlice, Transaction, UserId, UserTrade,
    },
    ledger::{
        Cost, LedgerError, Recovered, RowAbove, ScannedTotals, Source, SourceReadiness, TotalsScan,
        WriteError, WrittenCounts,
    },
    telemetry::RateLimitedLog,
};

/// The PostgreSQL source.
pub struct Postgres {
    connector: Arc<PgConnector>,
    /// The tables are somebody else's.
    mapped: Option<MappedLedger>,
    primary: PgPool,
    replicas: Replicas,
    texts: StatementTexts,
    pages: PageTexts,
    read_from: ReadFrom,
    assigns_seqs: bool,
    state: ArcSwap<PgState>,
    identity: OnceLock<Arc<str>>,
    /// The server says when a row was committed.
    has_commit_times: AtomicBool,
    /// A statement failed: look what is the matter, now.
    nudge: Notify,
    limited_log: RateLimitedLog,
    redis_outbox: RedisOutbox,
    writing: PgWriting,
}

/// Certificates that were read and are not in force yet: see [`Postgres::read_certificates`].
#[derive(Debug)]
pub struct NewPgCertificates(tls::CheckedPgCertificates);

/// The operations that can be done at the moment.
#[derive(Debug)]
struct PgState {
    readiness: SourceReadiness,
    refused: PgRefused,
}

/// The operations that are refused without asking the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PgRefused {
    Nothing,
    Loads,
    Everything,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("identity", &self.identity.get())
            .field("read_from", &self.read_from)
            .field("readiness", &self.state.load().readiness)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// A source that is not connected yet; see [`Postgres::run_watch`].
    ///
    /// # Errors
    /// A setting that cannot be used: a certificate file that cannot be read.
    pub fn new(
        settings: &config::PostgresSettings,
        source: &config::SourceSettings,
    ) -> Result<Self, BadSetting> {
        let connector = Arc::new(PgConnector::new(settings, source.timeout_ms.0)?);
        Ok(Self {
            mapped: None,
            primary: connector.open_primary()?,
            replicas: Replicas::new(connector.open_replicas()?),
            texts: StatementTexts::for_schema(connector.schema()),
            pages: PageTexts::for_schema(connector.schema()),
            connector,
            read_from: source.read_from,
            assigns_seqs: false,
            state: ArcSwap::from_pointee(PgState {
                readiness: SourceReadiness::NotReady("not connected yet".into()),
                refused: PgRefused::Everything,
            }),
            identity: OnceLock::new(),
            has_commit_times: AtomicBool::new(false),
            nudge: Notify::new(),
            limited_log: RateLimitedLog::default(),
            redis_outbox: RedisOutbox::default(),
            writing: PgWriting::default(),
        })
    }

    /// Whether this service assigns seqs (`ledger.writer`). Without this call another writer does.
    #[must_use]
    pub fn with_writer(mut self, writer: LedgerSide) -> Self {
        self.assigns_seqs = writer == LedgerSide::Service;
        self
    }

    /// Reads balances from somebody else's tables, where the settings say so.
    #[must_use]
    pub fn with_mapping(
        mut self,
        settings: &config::PostgresSettings,
        catalogue: &Arc<Catalogue>,
    ) -> Self {
        self.mapped = MappedLedger::of_settings(settings, catalogue);
        self
    }

    /// The outbox of this ledger. `catalogue` gives decimals their scale.
    #[must_use]
    pub fn open_outbox(
        &self,
        settings: &config::PostgresSettings,
        catalogue: &Arc<Catalogue>,
    ) -> OutboxTable {
        OutboxTable::new(
            Arc::clone(&self.connector),
            settings,
            Arc::clone(catalogue),
            self.primary.timeout(),
        )
    }

    /// Connects and keeps checking, until told to stop. The service lives meanwhile.
    pub async fn run_watch(self: Arc<Self>, shutdown: CancellationToken) {
        tokio::join!(
            watch::run_checks(&self, &shutdown),
            shutdown.run_until_cancelled(self.run_removals()),
        );
    }

    /// Reads the certificate files again; nothing is in force yet. None where TLS is off, or the files are as they were.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn read_certificates(
        &self,
        settings: &config::PostgresSettings,
    ) -> Result<Option<NewPgCertificates>, BadSetting> {
        let Some(in_force) = self.connector.tls() else {
            return Ok(None);
        };
        let files = tls::CheckedPgCertificates::read_files(settings)?;
        let changed = files.filter(|files| in_force.differs_from(files));
        Ok(changed.map(NewPgCertificates))
    }

    /// Connections that are opened from here on use these.
    pub fn use_certificates(&self, new: NewPgCertificates) {
        if let Some(in_force) = self.connector.tls() {
            in_force.replace_files(new.0);
        }
    }

    /// An error where nothing may be asked.
    fn refuse_everything(&self) -> Result<(), LedgerError> {
        self.refuse_from(PgRefused::Everything)
    }

    /// An error where loads are refused.
    fn refuse_loads(&self) -> Result<(), LedgerError> {
        self.refuse_from(PgRefused::Loads)
    }

    fn refuse_from(&self, asked: PgRefused) -> Result<(), LedgerError> {
        let state = self.state.load();
        let is_refused = match state.refused {
            PgRefused::Nothing => false,
            PgRefused::Loads => asked == PgRefused::Loads,
            PgRefused::Everything => true,
        };
        match &state.readiness {
            SourceReadiness::NotReady(reason) | SourceReadiness::Failing(reason) if is_refused => {
                Err(LedgerError::Unavailable(Arc::clone(reason)))
            }
            _ => Ok(()),
        }
    }

    /// Whether the server says when a row was committed.
    fn commit_times(&self) -> bool {
        self.has_commit_times.load(Ordering::Relaxed)
    }

    /// Rows of a read that says what it cost.
    async fn read_counting(
        &self,
        pool: &PgPool,
        text: &str,
        values: Values<'_>,
        cost: &Cost,
    ) -> Result<Vec<Row>, LedgerError> {
        let rows = pool.read_rows(text, values).await?;
        cost.add_statement(rows.len());
        Ok(rows)
    }

    /// Asks for a check where the database did not answer.
    fn note_failure<T>(&self, result: Result<T, LedgerError>) -> Result<T, LedgerError> {
        if let Err(LedgerError::Unavailable(_) | LedgerError::Timeout) = &result {
            self.nudge.notify_one();
        }
        result
    }
}

// === impl Source for Postgres ===

impl Source for Postgres {
    fn identity(&self) -> Option<Arc<str>> {
        self.identity.get().cloned()
    }

    fn readiness(&self) -> SourceReadiness {
        self.state.load().readiness.clone()
    }

    fn write_trouble(&self) -> Option<Finding> {
        self.writing.trouble()
    }

    fn load_counting<'a>(
        &'a self,
        user: UserId,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async move { self.note_failure(self.load_balances(user, cost).await) })
    }

    fn latest_counting<'a>(
        &'a self,
        user: UserId,
        assets: &'a [AssetId],
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async move { self.note_failure(self.read_latest(user, assets, cost).await) })
    }

    fn row_above(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> BoxFuture<'_, Result<Option<RowAbove>, LedgerError>> {
        Box::pin(async move { self.note_failure(self.read_row_above(user, asset, seq).await) })
    }

    fn write_entries<'a>(
        &'a self,
        entries: &'a [Entry],
    ) -> BoxFuture<'a, Result<WrittenCounts, WriteError>> {
        Box::pin(async move {
            let result = self.post_entries(entries).await;
            if let Err(WriteError::Source(LedgerError::Unavailable(_) | LedgerError::Timeout)) =
                &result
            {
                self.nudge.notify_one();
            }
            result
        })
    }

    fn settle_transactions<'a>(
        &'a self,
        transactions: &'a [Transaction],
    ) -> BoxFuture<'a, Result<Vec<SettleOutcome>, LedgerError>> {
        Box::pin(async move { self.note_failure(self.post_transactions(transactions).await) })
    }

    fn find_transaction(
        &self,
        reference: Reference,
    ) -> BoxFuture<'_, Result<Option<StoredTransaction>, LedgerError>> {
        Box::pin(async move { self.note_failure(self.find_record(reference).await) })
    }

    fn can_recover(&self) -> bool {
        true
    }

    fn recover_unfinished(&self, age: Duration) -> BoxFuture<'_, Result<Recovered, LedgerError>> {
        Box::pin(async move { self.find_unannounced(age).await })
    }

    fn announced_with(&self, balances: &[Notification]) -> Vec<Notification> {
        self.redis_outbox.owed_with(balances)
    }

    fn note_announced(&self, balances: &[Notification]) {
        self.redis_outbox.note_announced(balances);
    }

    fn lost_races(&self) -> u64 {
        self.redis_outbox.lost_races()
    }

    fn user_trades<'a>(
        &'a self,
        slice: TradeSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<UserTrade>, LedgerError>> {
        Box::pin(async move { self.note_failure(self.read_trades(&slice, cost).await) })
    }

    fn read_statement<'a>(
        &'a self,
        slice: LedgerSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<StatementRow>, LedgerError>> {
        Box::pin(async move { self.note_failure(self.select_statement(&slice, cost).await) })
    }

    fn scan_totals<'a>(
        &'a self,
        scan: &'a TotalsScan,
    ) -> BoxFuture<'a, Result<ScannedTotals, LedgerError>> {
        Box::pin(async move { self.note_failure(self.sum_balances(scan).await) })
    }
}
