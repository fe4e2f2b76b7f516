//! The schema, for the command line: made, looked at, its view dropped. The files are in `schema/`, compiled in.
//!
//! **Invariants.** [`apply_schema`] may be run again at any time and by several at once: it only adds what is missing, one
//! statement after the other, each agreed upon by all nodes before the next. It never changes or drops anything, and
//! says where something stands that is not as it should be.
//!
//! **Cancellation.** Steps that were done stay done; run it again.
//!
//! **Limits.** [`DDL_TIMEOUT`] for a statement.

mod sample;

use std::{fmt, time::Duration};

use scylla::{client::session::Session, statement::Statement};

use super::{
    connect::Connector,
    names::Names,
    schema_state::{VIEWS_DISABLED, read_schema_state},
    statements::statement_error,
    table_names::{JOURNAL, LEDGER, SETTLED_TRADES, TABLE, TRANSACTIONS, USER_TRADES, VIEW},
};
use crate::config::{self, ReadFrom, ViewCheck};

pub use super::super::schema_steps::{SchemaError, SchemaStep, StepsDone};
pub use super::schema_state::{FoundSchema, Problem, RelationState, ViewBuild};
pub use sample::ViewSample;

const DDL_TIMEOUT: Duration = Duration::from_mins(1);

/// The object that a file makes, its name, its text. The view is made last, so that all tables stand where views are switched off.
const FILES: [(&str, &str, &str); 7] = [
    (
        LEDGER,
        "001_balance_ledger.cql",
        include_str!("../../../schema/001_balance_ledger.cql"),
    ),
    (
        TABLE,
        "002_user_balances.cql",
        include_str!("../../../schema/002_user_balances.cql"),
    ),
    (
        SETTLED_TRADES,
        "004_settled_trades.cql",
        include_str!("../../../schema/004_settled_trades.cql"),
    ),
    (
        USER_TRADES,
        "005_user_trades.cql",
        include_str!("../../../schema/005_user_trades.cql"),
    ),
    (
        TRANSACTIONS,
        "006_ledger_transactions.cql",
        include_str!("../../../schema/006_ledger_transactions.cql"),
    ),
    (
        JOURNAL,
        "007_ledger_journal.cql",
        include_str!("../../../schema/007_ledger_journal.cql"),
    ),
    (
        VIEW,
        "003_user_balances_by_user.cql",
        include_str!("../../../schema/003_user_balances_by_user.cql"),
    ),
];

/// Makes what is missing.
///
/// # Errors
/// [`SchemaError`]; what was made before it stays.
pub async fn apply_schema(
    settings: &config::ScyllaSettings,
    source: &config::SourceSettings,
) -> Result<StepsDone, SchemaError> {
    let connector = Connector::new(settings, source)?.for_schema_changes();
    let session = connector.open_session().await?;
    let names = &connector.names;
    let before = read_schema_state(&session, names, ReadFrom::View).await?;
    let mut steps = Vec::new();
    let what = format!("keyspace {}", names.keyspace());
    if before.exists {
        steps.push((what, SchemaStep::Present));
    } else {
        run_ddl(&session, &create_keyspace(names, settings), &what).await?;
        steps.push((what, SchemaStep::Created));
    }
    for ((name, file, text), (_, standing)) in FILES.into_iter().zip(before.standings()) {
        let outcome = match standing {
            RelationState::Unlike(how) => {
                let how = how.clone();
                let name = names.show_table(name).into_owned();
                return Err(SchemaError::Unlike { name, how });
            }
            RelationState::Table if name == VIEW => plain_table(names, settings.view_check)?,
            RelationState::Table | RelationState::View => SchemaStep::Present,
            RelationState::Missing if name == VIEW && before.views_enabled == Some(false) => {
                if source.read_from == ReadFrom::View {
                    return Err(SchemaError::Unsupported(VIEWS_DISABLED));
                }
                let why = "materialized_views_enabled is false here, and source.read_from is not \"view\"";
                SchemaStep::Skipped(why.to_owned())
            }
            RelationState::Missing => {
                for statement in file_statements(text, names) {
                    run_ddl(&session, &statement, file).await?;
                }
                SchemaStep::Created
            }
        };
        steps.push((file.to_owned(), outcome));
    }
    Ok(StepsDone { steps })
}

fn plain_table(names: &Names, check: ViewCheck) -> Result<SchemaStep, SchemaError> {
    if check == ViewCheck::Off {
        let why = "a plain table of that shape stands there, and scylla.view_check is \"off\"";
        return Ok(SchemaStep::Skipped(why.to_owned()));
    }
    let how =
        "a plain table of that name stands there; drop it, or set scylla.view_check = \"off\"";
    Err(SchemaError::Unlike {
        name: names.show_table(VIEW).into_owned(),
        how: how.to_owned(),
    })
}

fn create_keyspace(names: &Names, settings: &config::ScyllaSettings) -> String {
    let factor = settings.replication_factor;
    let replication = if settings.datacenter.is_empty() {
        format!("'class': 'SimpleStrategy', 'replication_factor': {factor}")
    } else {
        let datacenter = settings.datacenter.replace('\'', "''");
        format!("'class': 'NetworkTopologyStrategy', '{datacenter}': {factor}")
    };
    names.fill_in(&format!(
        "CREATE KEYSPACE IF NOT EXISTS {{ks}} WITH replication = {{{replication}}}"
    ))
}

/// The statements of a file, without its comments, for this keyspace.
fn file_statements(text: &str, names: &Names) -> Vec<String> {
    let bare: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    bare.join("\n")
        .split(';')
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
        .map(|statement| names.fill_in(&statement.replace("trading.", "{ks}.")))
        .collect()
}

/// Runs one statement; the driver waits until all nodes agree on the schema.
async fn run_ddl(session: &Session, text: &str, what: &str) -> Result<(), SchemaError> {
    let mut statement = Statement::new(text);
    statement.set_request_timeout(Some(DDL_TIMEOUT));
    session
        .query_unpaged(statement, ())
        .await
        .map(drop)
        .map_err(|error| SchemaError::Refused {
            what: what.to_owned(),
            reason: statement_error(&error),
        })
}

/// The result of [`read_status`].
#[derive(Debug, Clone)]
pub struct Status {
    /// The value that stands there.
    pub found: FoundSchema,
    /// A sample of how much of the ledger the view shows; none if one of them is missing.
    pub sample: Option<ViewSample>,
    read_from: ReadFrom,
    view_check: ViewCheck,
}

impl Status {
    /// Whether the service can read as configured and write transactions: all that it needs is there, as it should be, and built.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.first_problem().is_none() && self.found.trades_problem().is_none()
    }

    /// The obstacle, and what to do.
    #[must_use]
    pub fn first_problem(&self) -> Option<Problem> {
        self.found.first_problem(self.read_from, self.view_check)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.found;
        let identity = found.identity.as_deref().unwrap_or("unknown");
        let exists = if found.exists { "there" } else { "missing" };
        writeln!(
            f,
            "keyspace {}: {exists} (identity {identity})",
            found.keyspace
        )?;
        for (name, standing) in found.standings() {
            let text = match standing {
                RelationState::Missing => "missing",
                RelationState::Unlike(how) => how,
                RelationState::Table => "there, a table",
                RelationState::View => "there, a materialized view",
            };
            writeln!(f, "{}: {text}", found.names.show_table(name))?;
        }
        for build in &found.builds {
            let reached = if build.connected {
                ""
            } else {
                " (not reached)"
            };
            writeln!(f, "view on node {}: {}{reached}", build.host, build.status)?;
        }
        if let Some(sample) = &self.sample {
            writeln!(f, "view: {sample}")?;
        }
        match (self.first_problem(), self.found.trades_problem()) {
            (None, None) => writeln!(f, "ready"),
            (None, Some(reason)) => writeln!(f, "not ready: {reason}"),
            (Some(Problem::Blocking(reason) | Problem::ViewNotBuilt(reason)), _) => {
                writeln!(f, "not ready: {reason}")
            }
        }
    }
}

/// Looks at everything, and at a sample of the ledger in the view.
///
/// # Errors
/// Settings that cannot be used, or a database that does not answer.
pub async fn read_status(
    settings: &config::ScyllaSettings,
    source: &config::SourceSettings,
) -> Result<Status, SchemaError> {
    let connector = Connector::new(settings, source)?;
    let session = connector.open_session().await?;
    let found = read_schema_state(&session, &connector.names, source.read_from).await?;
    let both = matches!(found.ledger, RelationState::Table)
        && matches!(found.view, RelationState::Table | RelationState::View);
    let sample = if both {
        Some(sample::sample_view(&session, &connector.names).await?)
    } else {
        None
    };
    Ok(Status {
        found,
        sample,
        read_from: source.read_from,
        view_check: settings.view_check,
    })
}

/// The result of [`drop_view`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The view is gone.
    Dropped,
    /// There was none.
    Absent,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "user_balances_by_user: dropped; `schema apply` builds it anew",
            Self::Absent => "user_balances_by_user: there was none",
        })
    }
}

/// Drops the view, so that [`apply_schema`] builds it anew. The ledger loses nothing.
///
/// # Errors
/// A plain table of that name is refused: what is in it may be nowhere else.
pub async fn drop_view(
    settings: &config::ScyllaSettings,
    source: &config::SourceSettings,
) -> Result<Dropped, SchemaError> {
    let connector = Connector::new(settings, source)?.for_schema_changes();
    let session = connector.open_session().await?;
    let found = read_schema_state(&session, &connector.names, ReadFrom::View).await?;
    if found.view_is_view {
        let text = format!("DROP MATERIALIZED VIEW IF EXISTS {{ks}}.{VIEW}");
        run_ddl(&session, &connector.names.fill_in(&text), VIEW).await?;
        Ok(Dropped::Dropped)
    } else if found.view == RelationState::Missing {
        Ok(Dropped::Absent)
    } else {
        let how = "it is a plain table, and not dropped by this".to_owned();
        let name = connector.names.show_table(VIEW).into_owned();
        Err(SchemaError::Unlike { name, how })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_repeatable_and_names_its_keyspace_once_per_relation() {
        for (name, file, text) in FILES {
            assert!(text.contains("IF NOT EXISTS"), "{file}");
            assert!(text.contains(&format!("trading.{name}")), "{file}");
        }
    }
}
