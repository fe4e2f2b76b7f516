//! A look at the database from outside, for the tools: view, table and ledger each by itself, and what product it is.
//!
//! **Invariants.** Nothing is written. A read of the view asks the view alone, never the ledger beside it: the tools want to
//! see where the two differ. Consistency is that of the service.
//!
//! **Cancellation.** Nothing is kept of a question that was dropped.
//!
//! **Limits.** [`PATIENCE`] for a statement; [`HISTORY_MAX`] rows of a history; a user of the view costs a statement per asset.

mod history;
mod scan;

use std::{fmt, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    client::session::Session, serialize::row::SerializeRow, statement::prepared::PreparedStatement,
};

use super::{
    connect::Connector,
    faults::not_prepared,
    names::Names,
    schema_state::{FoundSchema, RelationState, query_rows, read_schema_state},
    statements::{BalanceColumnsRow, read_balances, rows_of, statement_error, unreadable_row},
    table_names::{LEDGER, TABLE, VIEW},
};
use crate::{
    clock,
    config::{self, BadSetting, Millis, ReadFrom},
    domain::{AssetId, Balance, Seq, Snapshot, UnixMillis, UserId},
    ledger::LedgerError,
};

pub use history::{HistoryScan, PagedRows, RecordTable};
pub use scan::{RangeWalk, Relation, ScannedPartition, TokenRange};

/// How long one statement may take, where `source.timeout_ms` is shorter: what is slow is to be measured, not hidden.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Rows of one history that are looked at.
pub const HISTORY_MAX: usize = 100;

/// The number of values that one statement takes in an IN.
const IN_MAX: usize = 100;
const AT_ONCE: usize = 8;

const COLUMNS: &str = "asset_id, seq, avail, frozen, created_at";
const TABLE_COLUMNS: &str = "asset_id, version, avail, frozen, updated_at";

/// Why it could not be looked at.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InspectError {
    /// A setting that cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The database does not answer as it should.
    #[error(transparent)]
    Source(#[from] LedgerError),
}

impl From<BadSetting> for InspectError {
    fn from(bad: BadSetting) -> Self {
        Self::Setting(bad.to_string())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// `ScyllaDB` or `Cassandra`.
    pub name: &'static str,
    /// As it writes it.
    pub version: String,
}

impl Product {
    /// Major and minor number; 0 where they cannot be read.
    pub fn release_numbers(&self) -> (u32, u32) {
        let mut numbers = self
            .version
            .split(['.', '-', '~'])
            .map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

/// One row of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatedSeq {
    pub seq: Seq,
    /// When its writer says it was made.
    pub created_at: Option<UnixMillis>,
}

/// The statements over a relation that is there.
#[derive(Debug)]
struct Reads {
    all: PreparedStatement,
    one: PreparedStatement,
}

/// A session to look through.
pub struct CqlInspector {
    session: Session,
    names: Names,
    /// The relations that stand there, and how far the view is.
    pub found: FoundSchema,
    view: Option<Reads>,
    table: Option<Reads>,
    ledger: Option<Reads>,
    history: Option<PreparedStatement>,
}

impl fmt::Debug for CqlInspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CqlInspector")
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl CqlInspector {
    /// Connects, looks at the schema, and prepares reads of what is there.
    pub async fn open_session(
        settings: &config::ScyllaSettings,
        source: &config::SourceSettings,
    ) -> Result<Self, InspectError> {
        let patient = config::SourceSettings {
            timeout_ms: Millis(source.timeout_ms.0.max(PATIENCE)),
            ..source.clone()
        };
        let connector = Connector::new(settings, &patient)?;
        let session = connector.open_session().await?;
        // By the table, so that an empty one beside a full ledger is seen whatever is read from.
        let found = read_schema_state(&session, &connector.names, ReadFrom::Table).await?;
        let mut look = Self {
            session,
            names: connector.names,
            found,
            view: None,
            table: None,
            ledger: None,
            history: None,
        };
        look.prepare_reads().await?;
        Ok(look)
    }

    async fn prepare_reads(&mut self) -> Result<(), LedgerError> {
        let stands = |standing: &RelationState| {
            matches!(standing, RelationState::Table | RelationState::View)
        };
        if stands(&self.found.view) {
            let of = |rest: &str| {
                format!("SELECT {COLUMNS} FROM {{ks}}.{VIEW} WHERE user_id = ? AND {rest} LIMIT 1")
            };
            self.view = Some(Reads {
                all: self.prepare_statement(&of("asset_id >= ?")).await?,
                one: self.prepare_statement(&of("asset_id = ?")).await?,
            });
        }
        if stands(&self.found.table) {
            let of = format!("SELECT {TABLE_COLUMNS} FROM {{ks}}.{TABLE} WHERE user_id = ?");
            self.table = Some(Reads {
                all: self.prepare_statement(&of).await?,
                one: self
                    .prepare_statement(&format!("{of} AND asset_id = ?"))
                    .await?,
            });
        }
        if stands(&self.found.ledger) {
            let of = format!("FROM {{ks}}.{LEDGER} WHERE user_id = ? AND asset_id");
            let all = format!("SELECT {COLUMNS} {of} IN ? PER PARTITION LIMIT 1");
            self.ledger = Some(Reads {
                all: self.prepare_statement(&all).await?,
                one: self
                    .prepare_statement(&format!("SELECT {COLUMNS} {of} = ? LIMIT 1"))
                    .await?,
            });
            let history = format!("SELECT seq, created_at {of} = ? LIMIT {HISTORY_MAX}");
            self.history = Some(self.prepare_statement(&history).await?);
        }
        Ok(())
    }

    async fn prepare_statement(&self, text: &str) -> Result<PreparedStatement, LedgerError> {
        let prepared = self.session.prepare(self.names.fill_in(text)).await;
        let mut prepared = prepared.map_err(|error| not_prepared(&error))?;
        prepared.set_is_idempotent(true);
        Ok(prepared)
    }

    /// The database product; none where it does not say.
    pub async fn read_product(&self) -> Option<Product> {
        let of = async |text: &str| {
            let rows: Vec<(Option<String>,)> = query_rows(&self.session, text, ()).await.ok()?;
            rows.into_iter().next()?.0
        };
        // ScyllaDB calls itself an old Cassandra in system.local.
        if let Some(version) = of("SELECT version FROM system.versions WHERE key = 'local'").await {
            return Some(Product {
                name: "ScyllaDB",
                version,
            });
        }
        let version = of("SELECT release_version FROM system.local WHERE key = 'local'").await?;
        Some(Product {
            name: "Cassandra",
            version,
        })
    }

    /// All balances of a user by the view alone: the newest row of each asset that it shows.
    /// Errors: a view that is missing, or a database that does not answer.
    pub async fn read_view(&self, user: UserId) -> Result<Snapshot, LedgerError> {
        let jump = prepared_read(self.view.as_ref(), VIEW)?;
        let mut found = Vec::new();
        let mut from = Some(i32::MIN);
        while let Some(start) = from {
            let Some(balance) = self.query_first(jump, (user.get(), start)).await? else {
                break;
            };
            from = balance.asset.get().checked_add(1);
            found.push(balance);
        }
        Ok(Snapshot::new(found))
    }

    /// All balances of a user by `user_balances`.
    /// Errors: a table that is missing, or a database that does not answer.
    pub async fn read_table(&self, user: UserId) -> Result<Snapshot, LedgerError> {
        self.query_rows(prepared_read(self.table.as_ref(), TABLE)?, (user.get(),))
            .await
    }

    /// The newest ledger row of each of these assets.
    /// Errors: a ledger that is missing, or a database that does not answer.
    pub async fn read_ledger(
        &self,
        user: UserId,
        assets: &[AssetId],
    ) -> Result<Snapshot, LedgerError> {
        let many = prepared_read(self.ledger.as_ref(), LEDGER)?;
        let chunks: Vec<_> = assets
            .chunks(IN_MAX)
            .map(|few| {
                let ids: Vec<i32> = few.iter().map(|asset| asset.get()).collect();
                self.query_rows(many, (user.get(), ids))
            })
            .collect();
        let found: Vec<Snapshot> = stream::iter(chunks)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(found
            .iter()
            .fold(Snapshot::default(), |all, some| all.merge_with(some)))
    }

    /// The newest row of one asset of a user in one of the relations.
    /// Errors: a relation that is missing, or a database that does not answer.
    pub async fn read_newest(
        &self,
        relation: Relation,
        user: UserId,
        asset: AssetId,
    ) -> Result<Option<Balance>, LedgerError> {
        let (reads, name) = match relation {
            Relation::Ledger => (&self.ledger, LEDGER),
            Relation::View => (&self.view, VIEW),
            Relation::Table => (&self.table, TABLE),
        };
        let one = &reads.as_ref().ok_or_else(|| missing_relation(name))?.one;
        self.query_first(one, (user.get(), asset.get())).await
    }

    /// The newest rows of one history, the newest first, at most [`HISTORY_MAX`].
    /// Errors: a ledger that is missing, or a database that does not answer.
    pub async fn read_history(
        &self,
        user: UserId,
        asset: AssetId,
    ) -> Result<Vec<DatedSeq>, LedgerError> {
        let statement = self
            .history
            .as_ref()
            .ok_or_else(|| missing_relation(LEDGER))?;
        let values = (user.get(), asset.get());
        let result = self.session.execute_unpaged(statement, values).await;
        let rows = rows_of(result.map_err(|error| statement_error(&error))?)?;
        let mut past = Vec::new();
        for row in rows.rows::<(i64, Option<i64>)>().map_err(unreadable_row)? {
            let (seq, created_at) = row.map_err(unreadable_row)?;
            if let Ok(seq) = Seq::new(seq) {
                past.push(DatedSeq {
                    seq,
                    created_at: created_at.map(UnixMillis),
                });
            }
        }
        Ok(past)
    }

    async fn query_rows(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Snapshot, LedgerError> {
        let said_at = clock::wall_now();
        let result = self.session.execute_unpaged(statement, values).await;
        let rows = rows_of(result.map_err(|error| statement_error(&error))?)?;
        read_balances(&rows, said_at).map(Snapshot::new)
    }

    async fn query_first(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Option<Balance>, LedgerError> {
        let said_at = clock::wall_now();
        let result = self.session.execute_unpaged(statement, values).await;
        let rows = rows_of(result.map_err(|error| statement_error(&error))?)?;
        let row = rows
            .maybe_first_row::<BalanceColumnsRow>()
            .map_err(unreadable_row)?;
        row.map(|row| row.to_balance(said_at)).transpose()
    }
}

fn prepared_read<'a>(
    reads: Option<&'a Reads>,
    name: &str,
) -> Result<&'a PreparedStatement, LedgerError> {
    reads
        .map(|reads| &reads.all)
        .ok_or_else(|| missing_relation(name))
}

fn missing_relation(name: &str) -> LedgerError {
    LedgerError::unavailable(format_args!("{name} is missing, or is not as it should be"))
}
