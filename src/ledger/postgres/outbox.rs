//! The outbox table: users whose balances changed, left there by triggers in the transactions of the changes (schema/postgres/outbox).
//!
//! **Invariants.** One session at a time has the turn: an advisory lock that ends with its connection. The server ends a session that
//! is silent for [`SILENT_MAX`], so a paused instance keeps the turn no longer. Rows are removed by their ids only: one that is
//! written meanwhile stays. Balances are read after their row was seen, on the same server, so they are at least as new.
//!
//! **Cancellation.** A session that is dropped ends; the rows that it had read are read again.

mod inspect;
mod session;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tokio_postgres::{Client, Statement};

pub use self::{
    inspect::{OutboxFacts, OutboxLook},
    session::OutboxSession,
};
use super::{
    connect::PgConnector,
    faults,
    mapped::{BalancesQuery, bind_parameter},
    schema_state::LEDGER,
    statements::StatementTexts,
};
use crate::{
    config,
    domain::{Catalogue, Snapshot, UserId},
    ledger::LedgerError,
};

/// Rows that are read at once.
const PAGE_ROWS: i64 = 1_000;
/// The time after which the server ends a session that says nothing.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// Rows that are counted at most.
const COUNT_MAX: i64 = 100_000;
/// The columns of a statement of this service, with the names that an operator's statement has.
const OWN_COLUMNS: &str = "asset_id, seq, avail, frozen, updated_at";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Rising; with gaps.
    pub id: i64,
    /// The change that it tells of.
    pub content: OutboxContent,
    /// A row of the ledger went away, too.
    pub removed: bool,
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxContent {
    /// Balances of this user changed. The key is the table's own.
    User(String),
    /// Notifications as JSON.
    Event(String),
}

/// Rows that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxBacklog {
    /// How many, at most [`COUNT_MAX`].
    pub rows: u64,
    /// The highest id, 0 where there is none.
    pub last_id: i64,
}

/// A user of the outbox as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxUser {
    pub user: UserId,
    /// All balances, or why they cannot be had.
    pub balances: Result<Snapshot, UnreadBalances>,
}

/// Why the balances of a user cannot be had, while the database answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnreadBalances {
    /// They are not exactly balances, now or later.
    Corrupt(String),
    /// The statement took longer than it may.
    Late,
}

/// Why a key is no user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnknownKey {
    /// There is none of this key, or none any more.
    Absent,
    /// It cannot be a key, or its user has no number.
    Unreadable(String),
}

/// Opens sessions with the outbox.
#[derive(Debug)]
pub struct OutboxTable {
    connector: Arc<PgConnector>,
    settings: config::PostgresSettings,
    catalogue: Arc<Catalogue>,
    timeout: Duration,
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

    /// The balances of the operator's statement, or those of the table that the triggers are on.
    async fn check_balances(&self, client: &Client) -> Result<BalancesQuery, LedgerError> {
        let settings = &self.settings;
        let (sql, user_id_sql) = if settings.is_mapped() {
            (settings.balances_sql.clone(), &*settings.user_id_sql)
        } else {
            let texts = StatementTexts::for_schema(&settings.schema);
            let own = if settings.outbox.table == LEDGER {
                texts.newest
            } else {
                texts.current
            };
            let sql = format!("SELECT {OWN_COLUMNS} FROM ({own}) AS own ({OWN_COLUMNS})");
            (sql, "")
        };
        BalancesQuery::check(client, "postgres.balances_sql", &sql, user_id_sql, None).await
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
                "SELECT count(*), (SELECT max(id) FROM balance_outbox) FROM (SELECT 1 FROM balance_outbox LIMIT {COUNT_MAX}) AS waiting"
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
