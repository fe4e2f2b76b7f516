//! `ScyllaDB` and Cassandra as the source, by the scylla driver. The interface to that crate is localized here and below.
//!
//! [`Scylla`] is made without touching the network; [`Scylla::run_watch`] connects and keeps checking. A load reads one of three places
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
mod certificates;
mod connect;
mod faults;
mod group_writer;
mod history;
pub mod inspect;
mod journal;
mod ledger;
mod names;
mod postings;
mod prepared;
mod record;
mod recovery;
mod requests;
pub mod schema;
mod schema_state;
mod source;
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
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::{
    appends::Appends, connect::Connector, journal::QuorumReach, prepared::Postings,
    statements::LiveSession,
};
use crate::{
    config::{self, BadSetting, LedgerSide, ReadFrom, ViewCheck},
    domain::Catalogue,
    ledger::{CommitHook, LedgerError, SourceReadiness, judge},
};

/// The CQL source.
pub struct Scylla {
    connector: Connector,
    read_from: ReadFrom,
    view_check: ViewCheck,
    catalogue: Arc<Catalogue>,
    state: ArcSwap<ConnectionState>,
    identity: OnceLock<Arc<str>>,
    remembered: view::RememberedAssets,
    /// A statement failed: look what is the matter, now.
    nudge: Notify,
    warned: Mutex<String>,
    writing: Mutex<WriteAccess>,
    sent: Arc<AtomicU64>,
    assigns_seqs: bool,
    reach: QuorumReach,
    appends: Appends,
    hook: OnceLock<CommitHook>,
}

/// Whether ledger entries can be written.
#[derive(Debug, Default)]
struct WriteAccess {
    /// They could once, or a client wanted to: a right that is missing is told.
    wanted: bool,
    /// Why they cannot be.
    refusal: Option<Arc<str>>,
}

/// Certificates that were read and are not in force yet: see [`Scylla::read_certificates`].
#[derive(Debug)]
pub struct NewCertificates(certificates::CheckedCertificates);

/// The operations that can be done at the moment.
#[derive(Debug)]
struct ConnectionState {
    live: Option<Arc<LiveSession>>,
    readiness: SourceReadiness,
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
    /// A source that is not connected yet; see [`Scylla::run_watch`].
    /// Errors: a setting that cannot be used: a bad keyspace name, a certificate file that cannot be read.
    pub fn new(
        settings: &config::ScyllaSettings,
        source: &config::SourceSettings,
        catalogue: Arc<Catalogue>,
    ) -> Result<Self, BadSetting> {
        let reach = QuorumReach::of_settings(
            connect::driver_consistency(settings.consistency),
            !settings.datacenter.is_empty(),
        );
        Ok(Self {
            connector: Connector::new(settings, source)?,
            read_from: source.read_from,
            view_check: settings.view_check,
            catalogue,
            state: ArcSwap::from_pointee(ConnectionState {
                live: None,
                readiness: SourceReadiness::NotReady("not connected yet".into()),
            }),
            identity: OnceLock::new(),
            remembered: view::RememberedAssets::default(),
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
    pub fn with_writer(mut self, writer: LedgerSide) -> Self {
        self.assigns_seqs = writer == LedgerSide::Service;
        self
    }

    /// Connects and keeps checking, until told to stop. The service lives meanwhile.
    pub async fn run_watch(self: Arc<Self>, shutdown: CancellationToken) {
        let mut queues = self.appends.queues.lock().await;
        let appends::Queues { waiting, removals } = &mut *queues;
        let write = async {
            tokio::join!(
                group_writer::run_writer(&self, waiting),
                recovery::run_removals(&self, removals)
            );
        };
        tokio::join!(
            watch::run_watch(&self, &shutdown),
            shutdown.run_until_cancelled(write)
        );
    }

    /// Reads the certificate files again; nothing is in force yet. None where TLS is off, or the files are as they were.
    /// Errors: a file that cannot be used.
    pub fn read_certificates(
        &self,
        settings: &config::ScyllaSettings,
    ) -> Result<Option<NewCertificates>, BadSetting> {
        let Some(certificates) = self.connector.certificates() else {
            return Ok(None);
        };
        let read = certificates::CheckedCertificates::read_files(settings)?;
        Ok(read
            .filter(|read| certificates.differ_from(read))
            .map(NewCertificates))
    }

    /// Connections that are opened from here on use these.
    pub fn use_certificates(&self, new: NewCertificates) {
        if let Some(certificates) = self.connector.certificates() {
            certificates.replace_with(new.0);
        }
    }

    /// Statements that loads and writes sent since the start, without the checks' own.
    pub fn statements_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The connection, or why there is none.
    fn live_connection(&self) -> Result<Arc<LiveSession>, LedgerError> {
        let state = self.state.load();
        match (&state.live, &state.readiness) {
            (Some(live), _) => Ok(Arc::clone(live)),
            (None, SourceReadiness::NotReady(reason) | SourceReadiness::Failing(reason)) => {
                Err(LedgerError::Unavailable(Arc::clone(reason)))
            }
            (None, SourceReadiness::Ready) => Err(LedgerError::unavailable("no connection")),
        }
    }

    /// The statements of transactions.
    async fn prepared_postings<'l>(
        &self,
        live: &'l LiveSession,
    ) -> Result<&'l Postings, LedgerError> {
        let prepare = || Postings::prepare_all(live, &self.connector.names, self.reach);
        live.postings.get_or_try_init(prepare).await
    }

    /// Asks for a check where the database did not answer.
    fn notice_failure<T>(&self, result: Result<T, LedgerError>) -> Result<T, LedgerError> {
        if let Err(LedgerError::Unavailable(_) | LedgerError::Timeout) = &result {
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
