//! Connections to one server: handed out one by one, closed when they may be dirty, opened again at scattered times.
//!
//! **Invariants.** A connection goes back to the pool only after the statement on it was answered: [`PgConnection`] that was dropped
//! before is closed. After a connection that could not be opened, statements fail at once until the next try is due, so that all
//! instances do not come back in one moment.
//!
//! **Cancellation.** A dropped future closes its connection; the server may finish the statement.
//!
//! **Limits.** `postgres.connections` at once, a quarter of them for reads alone; more wait, within `source.timeout_ms`. How many wait is bounded above (`admission`).

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{ClientWrapper, Manager, Object, Pool, PoolError, QueueMode, Runtime};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Error as PgError, Row, types::ToSql};
use tokio_util::task::TaskTracker;

use super::{faults, timeline::NewestPrimary};
use crate::{
    config::{self, BadSetting},
    ledger::LedgerError,
};

/// The time beyond `postgres.connect_timeout_ms` in which the hosts that answered decide.
const CONNECT_SLACK: Duration = Duration::from_millis(100);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The part of the connections that is kept for reads.
const KEPT_FOR_READS: usize = 4;
/// How long a server may keep a connection whose transaction it does not answer.
const UNANSWERED_MAX: Duration = Duration::from_mins(1);
/// Pause between two looks whether such a connection leads to an old primary.
const UNANSWERED_LOOK: Duration = Duration::from_millis(250);

/// The values of a statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Connections to one server, or to the primary among several.
#[derive(Debug)]
pub(super) struct PgPool {
    pool: Pool,
    connections_max: usize,
    timeout: Duration,
    address: String,
    gate: Mutex<RetryGate>,
    newest: Arc<NewestPrimary>,
    /// Permits of transactions that write.
    postings: Arc<Semaphore>,
    unanswered: TaskTracker,
}

/// When a connection may be opened again.
#[derive(Debug, Default)]
struct RetryGate {
    wait: Duration,
    closed: Option<(Instant, LedgerError)>,
}

impl RetryGate {
    /// The reason for which no connection may be opened now.
    fn reason_to_wait(&self) -> Option<LedgerError> {
        let (until, reason) = self.closed.as_ref()?;
        (Instant::now() < *until).then(|| reason.clone())
    }

    fn close_after(&mut self, reason: LedgerError) {
        self.wait = self.wait.saturating_mul(2).clamp(RETRY_MIN, RETRY_MAX);
        let until = Instant::now().checked_add(jittered_wait(self.wait));
        self.closed = until.map(|until| (until, reason));
    }
}

/// A random time between half of `wait` and half as much again.
pub(super) fn jittered_wait(wait: Duration) -> Duration {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    let half = micros.checked_div(2).unwrap_or(0);
    let extra = rand::random_range(0..=micros);
    Duration::from_micros(half.saturating_add(extra))
}

impl PgPool {
    pub(super) fn new(
        manager: Manager,
        settings: &config::PostgresSettings,
        timeout: Duration,
        address: String,
        newest: Arc<NewestPrimary>,
    ) -> Result<Self, BadSetting> {
        let connecting = settings.connect_timeout_ms.0.saturating_add(CONNECT_SLACK);
        let pool = Pool::builder(manager)
            .max_size(settings.connections)
            .create_timeout(Some(connecting))
            // The connection that was used last: the server has its plans and caches at hand.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build();
        Ok(Self {
            pool: pool.map_err(|error| BadSetting::new("postgres.connections", error))?,
            connections_max: settings.connections,
            timeout,
            address,
            gate: Mutex::default(),
            newest,
            postings: Arc::new(Semaphore::new(posting_count(settings.connections))),
            unanswered: TaskTracker::new(),
        })
    }

    /// Hosts and database, without secrets.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Connections at once.
    pub(super) const fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// How long a statement may take.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A connection of the caller's own, however long it takes to connect. It is closed unless the caller calls
    /// [`PgConnection::give_back`].
    pub(super) async fn take_connection(&self) -> Result<PgConnection, LedgerError> {
        let may_open = self.pool.status().available > 0;
        if !may_open && let Some(reason) = self.gate.lock().reason_to_wait() {
            return Err(reason);
        }
        match self.get_current().await {
            Ok(object) => {
                let mut gate = self.gate.lock();
                if gate.closed.is_some() {
                    *gate = RetryGate::default();
                }
                drop(gate);
                Ok(PgConnection {
                    object: Some(object),
                    permit: None,
                })
            }
            Err(error) => {
                let error = match error {
                    PoolError::Backend(error) => faults::map_error(&error),
                    PoolError::Timeout(_)
                    | PoolError::Closed
                    | PoolError::NoRuntimeSpecified
                    | PoolError::PostCreateHook(_) => faults::never_connected(),
                };
                self.gate.lock().close_after(error.clone());
                Err(error)
            }
        }
    }

    /// A connection for a transaction that writes. Some of the pool are kept for reads: see [`Self::leave_to_server`].
    pub(super) async fn take_for_posting(&self) -> Result<PgConnection, LedgerError> {
        let taking = async {
            let permit = Arc::clone(&self.postings).acquire_owned().await.ok();
            let mut connection = self.take_connection().await?;
            connection.permit = permit;
            Ok(connection)
        };
        let result = timeout(self.timeout, taking).await;
        result.unwrap_or(Err(LedgerError::Timeout))
    }

    /// Closes a connection when the server has answered. A commit that waits for a standby does not notice that its client left: it
    /// keeps its session until the standby is there, so it keeps its place in the pool as well.
    pub(super) fn leave_to_server(&self, mut connection: PgConnection) {
        let Some(object) = connection.object.take() else {
            return;
        };
        let (newest, permit) = (Arc::clone(&self.newest), connection.permit.take());
        self.unanswered.spawn(async move {
            let opened = Object::metrics(&object).created;
            let outdated = async {
                while !newest.outdates(opened) {
                    sleep(UNANSWERED_LOOK).await;
                }
            };
            tokio::select! {
                // Answered after all that was sent before it.
                _ = timeout(UNANSWERED_MAX, object.batch_execute("")) => {}
                () = outdated => {}
            }
            drop(Object::take(object));
            drop(permit);
        });
    }

    /// A connection that does not lead to an old primary, as far as is known.
    async fn get_current(&self) -> Result<Object, PoolError> {
        loop {
            let object = self.pool.get().await?;
            if !self.newest.outdates(Object::metrics(&object).created) {
                return Ok(object);
            }
            drop(Object::take(object));
        }
    }

    /// Runs a statement that changes nothing, on a second connection where the first one turns out to be lost.
    pub(super) async fn read_rows(
        &self,
        text: &str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, LedgerError> {
        let reading = async {
            // Each connection of the pool may turn out to be lost, and one more.
            for _ in 0..=self.connections_max {
                let mut connection = self.take_connection().await?;
                match query_rows(connection.cached_client()?, text, values).await {
                    Ok(rows) => {
                        connection.give_back();
                        return Ok(rows);
                    }
                    Err(error) if faults::is_connection_lost(&error) => {}
                    Err(error) => {
                        connection.give_back();
                        return Err(faults::map_error(&error));
                    }
                }
            }
            Err(faults::never_connected())
        };
        let reading = timeout(self.timeout, reading);
        reading.await.map_err(|_| LedgerError::Timeout)?
    }

    /// Closes the idle connections: the server behind them did not answer.
    pub(super) fn close_idle(&self) {
        self.pool.retain(|_, _| false);
    }
}

/// Runs a statement that is prepared once for each connection.
pub(super) async fn query_rows(
    client: &ClientWrapper,
    text: &str,
    values: Values<'_>,
) -> Result<Vec<Row>, PgError> {
    let statement = client.prepare_cached(text).await?;
    client.query(&statement, values).await
}

/// How many of these connections transactions that write may have.
fn posting_count(connections: usize) -> usize {
    let kept = connections.checked_div(KEPT_FOR_READS).unwrap_or(0).max(1);
    connections.saturating_sub(kept).max(1)
}

/// A connection that is the holder's alone.
pub(super) struct PgConnection {
    object: Option<Object>,
    /// Of a transaction that writes.
    permit: Option<OwnedSemaphorePermit>,
}

impl PgConnection {
    /// The driver's client, with its cache of statements.
    pub(super) fn cached_client(&mut self) -> Result<&mut ClientWrapper, LedgerError> {
        self.object
            .as_deref_mut()
            .ok_or_else(faults::never_connected)
    }

    /// The connection is as it was: another caller may use it.
    pub(super) fn give_back(mut self) {
        drop(self.object.take());
    }
}

impl Drop for PgConnection {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}
