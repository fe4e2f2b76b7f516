//! The schema, for the command line: made by numbered migrations, looked at, taken back. The files are in `schema/postgres/`, compiled in.
//!
//! **Invariants.** Each migration and its line in `schema_migrations` are one transaction. [`apply_migrations`] may be run again at any
//! time and by several at once: one after the other, by an advisory lock. It never changes or drops a table, and says where something
//! stands that is not as it should be. [`roll_back`] drops what the newest migrations made, with all rows.
//!
//! **Cancellation.** Migrations that were done stay done; run it again.
//!
//! **Limits.** None of time: a statement runs as long as it takes.

use std::fmt;

use deadpool_postgres::ClientWrapper;

use super::{
    connect::PgConnector, faults, pool::PgPool, schema_state::read_schema_state,
    statements::fill_schema,
};
use crate::config::{self, ReadFrom};

mod outbox;

pub use self::outbox::{apply_outbox, roll_back_outbox};
pub use super::super::schema_steps::{SchemaError, SchemaStep, StepsDone};
pub use super::schema_state::{PgSchemaState, TableState};

/// One step of the schema and the way back.
#[derive(Debug, Clone, Copy)]
struct Migration {
    version: i32,
    /// The table that it makes.
    table: &'static str,
    up: &'static str,
    down: &'static str,
}

macro_rules! migration {
    ($version:literal, $table:literal, $file:literal) => {
        Migration {
            version: $version,
            table: $table,
            up: include_str!(concat!("../../../schema/postgres/", $file, ".up.sql")),
            down: include_str!(concat!("../../../schema/postgres/", $file, ".down.sql")),
        }
    };
}

/// In their order.
const MIGRATIONS: [Migration; 6] = [
    migration!(1, "balance_ledger", "001_balance_ledger"),
    migration!(2, "user_balances", "002_user_balances"),
    migration!(3, "settled_trades", "003_settled_trades"),
    migration!(4, "user_trades", "004_user_trades"),
    migration!(5, "ledger_transactions", "005_ledger_transactions"),
    migration!(6, "redis_outbox", "006_redis_outbox"),
];

/// The record of what was applied.
const RECORD: &str = "CREATE TABLE IF NOT EXISTS {s}.schema_migrations ( \
     version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())";

/// One number for all schemas: migrations are rare.
const LOCK: &str = "SELECT pg_advisory_lock(7236524819)";

/// The pool of the primary, and the name of the schema.
struct SchemaAccess {
    pool: PgPool,
    schema: String,
}

impl SchemaAccess {
    async fn open_access(
        settings: &config::PostgresSettings,
        source: &config::SourceSettings,
    ) -> Result<Self, SchemaError> {
        let connector = PgConnector::new(settings, source.timeout_ms.0)?;
        let pool = connector.open_primary()?;
        // Connecting may take longer than a statement.
        pool.take_connection().await?.give_back();
        Ok(Self {
            pool,
            schema: connector.schema().to_owned(),
        })
    }

    async fn read_state(&self, from: ReadFrom) -> Result<PgSchemaState, SchemaError> {
        Ok(read_schema_state(&self.pool, &self.schema, from).await?)
    }

    async fn run_batch(
        &self,
        client: &ClientWrapper,
        what: &str,
        text: &str,
    ) -> Result<(), SchemaError> {
        let text = fill_schema(&text.replace("trading.", "{s}."), &self.schema);
        let run = client.batch_execute(&text).await;
        run.map_err(|error| SchemaError::Refused {
            what: what.to_owned(),
            reason: faults::map_error(&error),
        })
    }
}

impl Migration {
    fn file_name(&self) -> String {
        format!("{:03} {}", self.version, self.table)
    }

    /// The migration and its line in the record, as one transaction. The line stands already where the table was dropped by hand.
    fn up_text(&self) -> String {
        format!(
            "BEGIN; {} ; INSERT INTO trading.schema_migrations (version, name) VALUES ({}, '{}') ON CONFLICT DO NOTHING; COMMIT",
            self.up, self.version, self.table
        )
    }

    fn down_text(&self) -> String {
        format!(
            "BEGIN; {} ; DELETE FROM trading.schema_migrations WHERE version = {}; COMMIT",
            self.down, self.version
        )
    }
}

/// Makes what is missing.
///
/// # Errors
/// [`SchemaError`]; what was made before it stays.
pub async fn apply_migrations(
    settings: &config::PostgresSettings,
    source: &config::SourceSettings,
) -> Result<StepsDone, SchemaError> {
    let access = SchemaAccess::open_access(settings, source).await?;
    // Closed at the end, and with it the lock.
    let mut connection = access.pool.take_connection().await?;
    let client = connection.cached_client()?;
    let mut steps = Vec::new();
    let what = format!("schema {}", access.schema);
    access
        .run_batch(client, &what, "SET statement_timeout = 0")
        .await?;
    access.run_batch(client, &what, LOCK).await?;
    let before = access.read_state(ReadFrom::View).await?;
    if before.exists {
        steps.push((what, SchemaStep::Present));
    } else {
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", access.schema);
        access.run_batch(client, &what, &create).await?;
        steps.push((what, SchemaStep::Created));
    }
    access
        .run_batch(client, "schema_migrations", RECORD)
        .await?;
    for migration in &MIGRATIONS {
        let state = before
            .tables
            .iter()
            .find(|(name, _)| *name == migration.table);
        let outcome = match state {
            Some((name, TableState::Unlike(how))) => {
                let (name, how) = ((*name).to_owned(), how.clone());
                return Err(SchemaError::Unlike { name, how });
            }
            Some((_, TableState::Good)) => {
                // Made by hand from the same file, or by an earlier run.
                let note = format!(
                    "INSERT INTO trading.schema_migrations (version, name) VALUES ({}, '{}') ON CONFLICT DO NOTHING",
                    migration.version, migration.table
                );
                access
                    .run_batch(client, &migration.file_name(), &note)
                    .await?;
                SchemaStep::Present
            }
            Some((_, TableState::Missing)) | None => {
                let text = migration.up_text();
                access
                    .run_batch(client, &migration.file_name(), &text)
                    .await?;
                SchemaStep::Created
            }
        };
        steps.push((migration.file_name(), outcome));
    }
    Ok(StepsDone { steps })
}

/// The migrations above `to`, newest first, as they would be taken back: the tables with all their rows.
///
/// # Errors
/// Settings that cannot be used, or a database that does not answer.
pub async fn find_migrations_above(
    settings: &config::PostgresSettings,
    source: &config::SourceSettings,
    to: Option<i32>,
) -> Result<Vec<String>, SchemaError> {
    let access = SchemaAccess::open_access(settings, source).await?;
    let found = access.read_state(ReadFrom::View).await?;
    Ok(migrations_above(&found, to)
        .iter()
        .map(Migration::file_name)
        .collect())
}

/// Without `to` the newest one.
fn migrations_above(found: &PgSchemaState, to: Option<i32>) -> Vec<Migration> {
    let newest = found.migrations.last().copied().unwrap_or_default();
    let to = to.unwrap_or_else(|| newest.saturating_sub(1));
    let mut applied: Vec<_> = MIGRATIONS
        .into_iter()
        .filter(|it| it.version > to && found.migrations.contains(&it.version))
        .collect();
    applied.reverse();
    applied
}

/// Takes the migrations above `to` back, or the newest one. Their rows are gone.
///
/// # Errors
/// [`SchemaError`]; what was taken back before it is gone.
pub async fn roll_back(
    settings: &config::PostgresSettings,
    source: &config::SourceSettings,
    to: Option<i32>,
) -> Result<StepsDone, SchemaError> {
    let access = SchemaAccess::open_access(settings, source).await?;
    let mut connection = access.pool.take_connection().await?;
    let client = connection.cached_client()?;
    access
        .run_batch(client, "rollback", "SET statement_timeout = 0")
        .await?;
    access.run_batch(client, "rollback", LOCK).await?;
    let found = access.read_state(ReadFrom::View).await?;
    let mut steps = Vec::new();
    for migration in migrations_above(&found, to) {
        let text = migration.down_text();
        access
            .run_batch(client, &migration.file_name(), &text)
            .await?;
        steps.push((migration.file_name(), SchemaStep::RolledBack));
    }
    Ok(StepsDone { steps })
}

/// The result of [`read_status`].
#[derive(Debug, Clone)]
pub struct PgStatus {
    /// Everything that stands there.
    pub found: PgSchemaState,
    read_from: ReadFrom,
}

impl PgStatus {
    /// The obstacle to reading or writing, and what to do.
    #[must_use]
    pub fn find_problem(&self) -> Option<String> {
        let reading = self.found.reading_problem(self.read_from);
        reading.or_else(|| self.found.trades_problem())
    }
}

impl fmt::Display for PgStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.found;
        let identity = found.identity.as_deref().unwrap_or("unknown");
        let exists = if found.exists { "there" } else { "missing" };
        writeln!(f, "PostgreSQL {}", found.server_version)?;
        writeln!(f, "schema {}: {exists} (identity {identity})", found.schema)?;
        for (name, state) in &found.tables {
            let text = match state {
                TableState::Missing => "missing",
                TableState::Unlike(how) => how,
                TableState::Good => "there",
            };
            writeln!(f, "{name}: {text}")?;
        }
        let newest = found.migrations.last().copied().unwrap_or_default();
        writeln!(f, "migration {newest} of {}", MIGRATIONS.len())?;
        if let Some(right) = &found.missing_right {
            writeln!(f, "this user cannot write: it lacks {right}")?;
        }
        match self.find_problem() {
            None => writeln!(f, "ready"),
            Some(reason) => writeln!(f, "not ready: {reason}"),
        }
    }
}

/// Looks at everything.
///
/// # Errors
/// Settings that cannot be used, or a database that does not answer.
pub async fn read_status(
    settings: &config::PostgresSettings,
    source: &config::SourceSettings,
) -> Result<PgStatus, SchemaError> {
    let access = SchemaAccess::open_access(settings, source).await?;
    Ok(PgStatus {
        found: access.read_state(source.read_from).await?,
        read_from: source.read_from,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_has_its_number_and_a_way_back() {
        for (number, migration) in (1..).zip(MIGRATIONS) {
            assert_eq!(migration.version, number);
            assert!(
                migration
                    .up
                    .contains(&format!("trading.{}", migration.table))
            );
            assert!(
                migration
                    .down
                    .contains(&format!("DROP TABLE trading.{}", migration.table))
            );
        }
    }
}
