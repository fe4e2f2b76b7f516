//! The outbox table: users whose balances changed, left there by triggers in the transactions of the changes (schema/postgres/outbox).
//!
//! **Invariants.** One session at a time has the turn: an advisory lock that ends with its connection. The server ends a session that
//! is silent for [`SILENT_MAX`], so a paused instance keeps the turn no longer. Rows are removed by their ids only: one that is
//! written meanwhile stays. Balances are read after their row was seen, on the same server, so they are at least as new.
//!
//! **Cancellation.** A session that is dropped ends; the rows that it had read are read again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{Client, Error as PgError, Statement, types::ToSql};

use super::{
    connect::PgConnector,
    faults,
    mapped::{BalancesQuery, bind_parameter},
    timeline::NewestPrimary,
};
use crate::{
    clock, config,
    domain::{Catalogue, Snapshot, UserId},
    ledger::LedgerError,
};

/// Rows that are read at once.
const PAGE_ROWS: i64 = 1_000;
/// Users that are asked for at the same time, on one connection.
const QUESTIONS: usize = 32;
/// The time after which the server ends a session that says nothing.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// Rows that are counted at most.
const COUNT_MAX: i64 = 100_000;
/// The balances of this service's own schema.
const OWN_BALANCES: &str = "SELECT asset_id, avail, frozen, version AS seq, updated_at FROM user_balances WHERE user_id = $1";
/// The name by which the turn is known in one database.
const TURN: &str =
    "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '.balance_outbox', 0))";

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Rising; with gaps.
    pub id: i64,
    /// The change that it tells of.
    pub content: OutboxContent,
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxContent {
    /// Balances of this user changed. The key is the table's own.
    Changed(String),
    /// A row of this user went away, too.
    Removed(String),
    /// Notifications as JSON.
    Event(String),
}

/// A user of the outbox as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxUser {
    /// The user.
    pub user: UserId,
    /// All balances.
    pub snapshot: Snapshot,
}

/// Why the balances of one key cannot be had.
#[derive(Debug, Clone)]
pub enum OutboxFault {
    /// The row cannot be read, now or later.
    Unreadable(String),
    /// The database does not answer.
    Source(LedgerError),
}

/// Opens sessions with the outbox.
#[derive(Debug)]
pub struct OutboxTable {
    connector: Arc<PgConnector>,
    settings: config::PostgresSettings,
    catalogue: Arc<Catalogue>,
    timeout: Duration,
}

/// A connection that follows the outbox.
pub struct OutboxSession {
    client: Client,
    opened: Instant,
    newest: Arc<NewestPrimary>,
    wakeups: mpsc::Receiver<()>,
    timeout: Duration,
    catalogue: Arc<Catalogue>,
    balances: BalancesQuery,
    statements: Statements,
}

struct Statements {
    page: Statement,
    remove: Statement,
    put_aside: Statement,
    count: Statement,
    balances: Statement,
    user: Option<Statement>,
}

impl OutboxTable {
    pub(super) fn new(
        connector: Arc<PgConnector>,
        settings: &config::PostgresSettings,
        catalogue: Arc<Catalogue>,
        timeout: Duration,
    ) -> Self {
        Self {
            connector,
            settings: settings.clone(),
            catalogue,
            timeout,
        }
    }

    /// Connects, listens and prepares. It has no turn yet.
    ///
    /// # Errors
    /// The database does not answer, or a statement cannot be used.
    pub async fn open(&self) -> Result<OutboxSession, LedgerError> {
        let opening = async {
            let (client, wakeups) = self.connector.open_listener().await?;
            let opened = Instant::now();
            // Before PostgreSQL 14 there is no such setting.
            let silent = format!("SET idle_session_timeout = {}", SILENT_MAX.as_millis());
            drop(client.batch_execute(&silent).await);
            let listening = client.batch_execute("LISTEN balance_outbox").await;
            listening.map_err(|error| faults::map_error(&error))?;
            let balances = self.check_balances(&client).await?;
            let statements = self.prepare(&client, &balances).await?;
            Ok(OutboxSession {
                client,
                opened,
                newest: self.connector.newest(),
                wakeups,
                timeout: self.timeout,
                catalogue: Arc::clone(&self.catalogue),
                balances,
                statements,
            })
        };
        let patience = self
            .settings
            .connect_timeout_ms
            .0
            .saturating_add(self.timeout);
        timeout(patience, opening)
            .await
            .map_err(|_| LedgerError::Timeout)?
    }

    async fn check_balances(&self, client: &Client) -> Result<BalancesQuery, LedgerError> {
        let (sql, user_id_sql) = if self.settings.is_mapped() {
            (&*self.settings.balances_sql, &*self.settings.user_id_sql)
        } else {
            (OWN_BALANCES, "")
        };
        BalancesQuery::check(client, "postgres.balances_sql", sql, user_id_sql, None).await
    }

    async fn prepare(
        &self,
        client: &Client,
        balances: &BalancesQuery,
    ) -> Result<Statements, LedgerError> {
        let user_sql = self.settings.outbox.user_id_sql.trim();
        Ok(Statements {
            page: prepare(client, &format!(
                "SELECT id, user_key, kind, event FROM balance_outbox WHERE id > $1 ORDER BY id LIMIT {PAGE_ROWS}"
            ))
            .await?,
            remove: prepare(client, "DELETE FROM balance_outbox WHERE id = ANY($1)").await?,
            put_aside: prepare(
                client,
                "WITH gone AS (DELETE FROM balance_outbox WHERE id = $1 RETURNING *) \
                 INSERT INTO balance_outbox_dead (id, user_key, kind, event, created_at, reason) \
                 SELECT id, user_key, kind, event, created_at, $2 FROM gone ON CONFLICT (id) DO NOTHING",
            )
            .await?,
            count: prepare(client, &format!(
                "SELECT count(*) FROM (SELECT 1 FROM balance_outbox LIMIT {COUNT_MAX}) AS waiting"
            ))
            .await?,
            balances: prepare(client, balances.text()).await?,
            user: if user_sql.is_empty() {
                None
            } else {
                let bound = bind_parameter(user_sql, 1, "($1::text)");
                Some(prepare(client, &format!("SELECT id::text FROM ({bound}\n) AS u (id)")).await?)
            },
        })
    }
}

async fn prepare(client: &Client, text: &str) -> Result<Statement, LedgerError> {
    let prepared = client.prepare(text).await;
    prepared.map_err(|error| faults::map_error(&error))
}

impl OutboxSession {
    /// Whether this session has the turn, now or already.
    ///
    /// # Errors
    /// The connection is of no use any more, or leads to an old primary.
    pub async fn take_turn(&self) -> Result<bool, LedgerError> {
        if self.newest.outdates(self.opened) {
            return Err(faults::never_connected());
        }
        let taking = async {
            let row = self.client.query_one(TURN, &[]).await?;
            row.try_get(0)
        };
        self.ask(taking).await
    }

    /// Rows above `after`, in order.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read_page(&self, after: i64) -> Result<Vec<OutboxRow>, LedgerError> {
        let rows = self.query(&self.statements.page, &[&after]).await?;
        let read = |row: &tokio_postgres::Row| {
            let (key, event): (Option<String>, Option<String>) = (row.try_get(1)?, row.try_get(3)?);
            let removed = row.try_get::<_, &str>(2)? == "removed";
            Ok::<_, PgError>(OutboxRow {
                id: row.try_get(0)?,
                content: match (event, removed) {
                    (Some(event), _) => OutboxContent::Event(event),
                    (None, true) => OutboxContent::Removed(key.unwrap_or_default()),
                    (None, false) => OutboxContent::Changed(key.unwrap_or_default()),
                },
            })
        };
        let read: Result<Vec<_>, _> = rows.iter().map(read).collect();
        read.map_err(|error| faults::map_error(&error))
    }

    /// The balances of these keys as they are now, in their order.
    pub async fn find_balances(&self, keys: &[&str]) -> Vec<Result<OutboxUser, OutboxFault>> {
        let mut questions = Vec::with_capacity(keys.len());
        for key in keys {
            questions.push(self.find_one(key).boxed());
        }
        stream::iter(questions).buffered(QUESTIONS).collect().await
    }

    async fn find_one(&self, key: &str) -> Result<OutboxUser, OutboxFault> {
        let user = self.find_user(key).await?;
        let said_at = clock::wall_now();
        let id = user.get();
        let rows = self.ask_readable(&self.statements.balances, &[&id]).await?;
        let catalogue = self.catalogue.current_table();
        let snapshot = self.balances.read(user, &rows, &catalogue, said_at);
        let snapshot = snapshot.map_err(|error| match error {
            LedgerError::Corrupt(reason) => OutboxFault::Unreadable(reason.to_string()),
            other @ (LedgerError::Unavailable(_) | LedgerError::Timeout) => {
                OutboxFault::Source(other)
            }
        })?;
        Ok(OutboxUser { user, snapshot })
    }

    /// The service's id of the user that the table calls `key`.
    async fn find_user(&self, key: &str) -> Result<UserId, OutboxFault> {
        let unreadable = |why: &str| OutboxFault::Unreadable(why.to_owned());
        let id = match &self.statements.user {
            None => key.to_owned(),
            Some(statement) => {
                let rows = self.ask_readable(statement, &[&key]).await?;
                let id: Option<String> = match rows.first() {
                    None => None,
                    Some(row) => row.try_get(0).ok().flatten(),
                };
                id.ok_or_else(|| {
                    unreadable("postgres.outbox.user_id_sql finds no user of this key")
                })?
            }
        };
        id.parse()
            .map_err(|_| unreadable("the user is no whole number from 1 to 9223372036854775807; postgres.outbox.user_id_sql has to make one of it"))
    }

    /// Removes rows that took effect.
    ///
    /// # Errors
    /// They may be there still, and may be removed again.
    pub async fn remove_rows(&self, ids: &[i64]) -> Result<(), LedgerError> {
        self.query(&self.statements.remove, &[&ids]).await.map(drop)
    }

    /// Puts a row that cannot be read where nothing reads it, with the reason.
    ///
    /// # Errors
    /// It may be there still.
    pub async fn put_aside(&self, id: i64, reason: &str) -> Result<(), LedgerError> {
        let statement = &self.statements.put_aside;
        self.query(statement, &[&id, &reason]).await.map(drop)
    }

    /// Rows that wait.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn count_waiting(&self) -> Result<u64, LedgerError> {
        let rows = self.query(&self.statements.count, &[]).await?;
        let count = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
        Ok(count
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or(0))
    }

    /// Waits for a change, at most this long.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn wait_for_change(&mut self, at_most: Duration) -> Result<(), LedgerError> {
        match timeout(at_most, self.wakeups.recv()).await {
            Ok(None) => Err(faults::never_connected()),
            Ok(Some(())) | Err(_) => Ok(()),
        }
    }

    async fn query(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, LedgerError> {
        self.ask(self.client.query(statement, values)).await
    }

    async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, PgError>>,
    ) -> Result<T, LedgerError> {
        let answered = timeout(self.timeout, asked).await;
        let answered = answered.map_err(|_| LedgerError::Timeout)?;
        answered.map_err(|error| faults::map_error(&error))
    }

    /// A value that the database cannot take (class 22) is the row's fault, all else the database's.
    async fn ask_readable(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, OutboxFault> {
        let asked = timeout(self.timeout, self.client.query(statement, values)).await;
        let asked = asked.map_err(|_| OutboxFault::Source(LedgerError::Timeout))?;
        asked.map_err(|error| {
            let data = error
                .code()
                .is_some_and(|code| code.code().starts_with("22"));
            if data {
                let code = error.code().map_or("", |code| code.code());
                OutboxFault::Unreadable(format!(
                    "the database cannot take the key (SQLSTATE {code})"
                ))
            } else {
                OutboxFault::Source(faults::map_error(&error))
            }
        })
    }
}

impl std::fmt::Debug for OutboxSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxSession").finish_non_exhaustive()
    }
}
