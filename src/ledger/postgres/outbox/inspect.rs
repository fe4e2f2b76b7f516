//! A look at the outbox from outside, for `doctor`: what stands there, what this user may do with it, and what waits.

use std::time::Duration;

use super::super::{
    connect::PgConnector,
    inspect::{PATIENCE, PgTrouble},
    pool::{PgPool, Values},
    statements::read_column,
};
use crate::{config, ledger::LedgerError};

/// Rights on each table that the service needs, and those that this user has.
const RIGHTS: &str = "SELECT needed.name, needed.kind, \
     COALESCE(has_table_privilege(c.oid, needed.kind), false), c.oid IS NOT NULL FROM (VALUES ('balance_outbox', 'SELECT'), \
     ('balance_outbox', 'DELETE'), ('balance_outbox_dead', 'SELECT'), ('balance_outbox_dead', 'INSERT')) AS needed (name, kind) \
     LEFT JOIN pg_class c ON c.relname = needed.name AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)";

/// Triggers of the outbox that do not run on the table.
const TRIGGERS: &str = "SELECT 'balance_outbox_' || needed.kind FROM (VALUES ('insert'), ('update'), ('delete'), ('truncate')) \
     AS needed (kind) WHERE NOT EXISTS (SELECT 1 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 \
     AND t.tgname = 'balance_outbox_' || needed.kind AND t.tgenabled IN ('O', 'A')) ORDER BY 1";

const WAITING: &str = "SELECT (SELECT count(*) FROM (SELECT 1 FROM balance_outbox LIMIT 100000) AS waiting), \
     (SELECT floor(extract(epoch FROM clock_timestamp() - created_at))::bigint FROM balance_outbox ORDER BY id LIMIT 1), \
     (SELECT count(*) FROM (SELECT 1 FROM balance_outbox_dead LIMIT 100000) AS dead)";

/// The outbox as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxLook {
    /// A table of it is missing.
    Missing(String),
    /// Both tables are there, and these are not: rights of this user, as GRANT names them.
    Forbidden(Vec<String>),
    /// It can be followed.
    Usable(OutboxFacts),
}

/// The facts about an outbox that can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxFacts {
    /// Triggers that are not there, or switched off.
    pub missing_triggers: Vec<String>,
    /// Rows that wait, 100,000 at most.
    pub waiting: i64,
    /// How long the oldest of them waits.
    pub oldest: Option<Duration>,
    /// Rows that were put aside, 100,000 at most.
    pub dead: i64,
}

impl OutboxLook {
    /// Looks at the outbox of `postgres.outbox.table`.
    ///
    /// # Errors
    /// A setting that cannot be used, or a database that does not answer.
    pub async fn read(
        settings: &config::PostgresSettings,
        source: &config::SourceSettings,
    ) -> Result<Self, PgTrouble> {
        let pool = PgConnector::new(settings, source.timeout_ms.0.max(PATIENCE))?.open_primary()?;
        pool.take_connection().await?.give_back();
        Ok(Self::read_from(&pool, settings).await?)
    }

    async fn read_from(
        pool: &PgPool,
        settings: &config::PostgresSettings,
    ) -> Result<Self, LedgerError> {
        let of_schema: Values<'_> = &[&settings.schema];
        let mut lacked = Vec::new();
        for row in pool.read_rows(RIGHTS, of_schema).await? {
            let (name, kind): (String, String) = (read_column(&row, 0)?, read_column(&row, 1)?);
            if !read_column::<bool>(&row, 3)? {
                return Ok(Self::Missing(name));
            }
            if !read_column::<bool>(&row, 2)? {
                lacked.push(format!("{kind} ON {name}"));
            }
        }
        if !lacked.is_empty() {
            return Ok(Self::Forbidden(lacked));
        }
        let of_table: Values<'_> = &[&settings.schema, &settings.outbox.table];
        let triggers = pool.read_rows(TRIGGERS, of_table).await?;
        let waiting = pool.read_rows(WAITING, &[]).await?;
        let number = |at: usize| -> Result<Option<i64>, LedgerError> {
            let row = waiting.first();
            row.map_or(Ok(None), |row| read_column(row, at))
        };
        let seconds = number(1)?.map(|age| u64::try_from(age).unwrap_or(0));
        Ok(Self::Usable(OutboxFacts {
            missing_triggers: triggers
                .iter()
                .map(|row| read_column(row, 0))
                .collect::<Result<_, _>>()?,
            waiting: number(0)?.unwrap_or(0),
            oldest: seconds.map(Duration::from_secs),
            dead: number(2)?.unwrap_or(0),
        }))
    }
}
