//! A session with its prepared statements: the only way from here to the database.
//!
//! **Invariants.** Every statement is prepared once, is idempotent (reads, and writes of absolute values) and names its
//! columns. Every statement that is sent is counted.
//!
//! **Cancellation.** A dropped future leaves the server's work to run out by itself.
//!
//! **Limits.** A result is one page: each statement has a LIMIT or reads one row per asset.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use scylla::{
    DeserializeRow,
    client::session::Session,
    errors::{DbError, ExecutionError, RequestAttemptError},
    response::query_result::{QueryResult, QueryRowsResult},
    serialize::row::SerializeRow,
    statement::prepared::PreparedStatement,
    value::MaybeUnset,
};

use tokio::sync::OnceCell;

pub(super) use super::faults::{not_prepared as prepare_failed, statement_error};
use super::{
    faults,
    names::Names,
    prepared::{PageStatements, Postings},
};
use crate::{
    config::ReadFrom,
    diagnosis::{Code, Finding},
    domain::{Amount, AssetId, Balance, Seq, UnixMillis},
    ledger::{Cost, LedgerError},
    telemetry::RateLimitedLog,
};

/// Rows of the view that the first statement of a load asks for. A user whose whole history is shorter costs one
/// statement; a longer one is not read. Measured: `benches/results/view_read.md`.
pub(super) const PAGE: usize = 64;

const LEDGER_ABOVE: &str = "SELECT seq, created_at, WRITETIME(avail), WRITETIME(created_at) FROM {ks}.balance_ledger \
     WHERE user_id = ? AND asset_id = ? AND seq > ? ORDER BY seq ASC LIMIT 1";

/// Reads `user_balances` with the timestamp of each cell.
const TABLE_ROWS: &str = "SELECT asset_id, version, avail, frozen, updated_at, \
     WRITETIME(version), WRITETIME(avail), WRITETIME(frozen), WRITETIME(updated_at) \
     FROM {ks}.user_balances WHERE user_id = ?";

#[derive(Debug)]
pub(super) enum Load {
    View {
        /// The first rows of the user's history.
        page: PreparedStatement,
        /// The newest row of the first asset from some id to another.
        jump: PreparedStatement,
    },
    Table(PreparedStatement),
    /// By `ledger_many`.
    Ledger,
}

/// A session that can be used.
#[derive(Debug)]
pub(super) struct LiveSession {
    pub(super) session: Session,
    pub(super) load: Load,
    pub(super) ledger_many: PreparedStatement,
    pub(super) ledger_one: PreparedStatement,
    pub(super) ledger_row: PreparedStatement,
    /// The lowest row above a seq, with its times.
    pub(super) ledger_above: PreparedStatement,
    pub(super) insert_ledger: PreparedStatement,
    pub(super) insert_table: PreparedStatement,
    /// The rows of a user in `user_balances`.
    pub(super) table_rows: PreparedStatement,
    /// The statements of transactions, prepared on first use: an older keyspace has no tables for them.
    pub(super) postings: OnceCell<Postings>,
    /// The statements of trade pages, prepared on first use.
    pub(super) trade_pages: OnceCell<PageStatements>,
    /// The statements of account statement pages, prepared on first use.
    pub(super) statement_pages: OnceCell<PageStatements>,
    /// Before lines about what stands in the tables.
    pub(super) limited_log: RateLimitedLog,
    sent: Arc<AtomicU64>,
}

impl LiveSession {
    pub(super) async fn prepare_reads(
        session: Session,
        names: &Names,
        from: ReadFrom,
        sent: Arc<AtomicU64>,
    ) -> Result<Self, LedgerError> {
        let prepare = async |text: &str| {
            let mut statement = session
                .prepare(names.fill_in(text))
                .await
                .map_err(|error| prepare_failed(&error))?;
            statement.set_is_idempotent(true);
            Ok::<_, LedgerError>(statement)
        };
        let load = match from {
            ReadFrom::View => Load::View {
                page: prepare(&format!(
                    "SELECT asset_id, seq, avail, frozen, created_at \
                     FROM {{ks}}.user_balances_by_user WHERE user_id = ? LIMIT {PAGE}"
                ))
                .await?,
                jump: prepare(
                    "SELECT asset_id, seq, avail, frozen, created_at \
                     FROM {ks}.user_balances_by_user WHERE user_id = ? AND asset_id >= ? AND asset_id <= ? LIMIT 1",
                )
                .await?,
            },
            ReadFrom::Table => Load::Table(prepare(TABLE_ROWS).await?),
            ReadFrom::Ledger => Load::Ledger,
        };
        let ledger_many = prepare(
            "SELECT asset_id, seq, avail, frozen, created_at FROM {ks}.balance_ledger \
             WHERE user_id = ? AND asset_id IN ? PER PARTITION LIMIT 1",
        )
        .await?;
        let ledger_one = prepare(
            "SELECT asset_id, seq, avail, frozen, created_at FROM {ks}.balance_ledger \
             WHERE user_id = ? AND asset_id = ? LIMIT 1",
        )
        .await?;
        let ledger_row = prepare(
            "SELECT avail, frozen, created_at FROM {ks}.balance_ledger \
             WHERE user_id = ? AND asset_id = ? AND seq = ?",
        )
        .await?;
        let ledger_above = prepare(LEDGER_ABOVE).await?;
        let insert_ledger = prepare(
            "INSERT INTO {ks}.balance_ledger (user_id, asset_id, seq, delta_avail, delta_frozen, \
             avail, frozen, event_type, ref_id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .await?;
        let insert_table = prepare(
            "INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen, version, updated_at) \
             VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
        )
        .await?;
        let table_rows = prepare(TABLE_ROWS).await?;
        Ok(Self {
            session,
            load,
            ledger_many,
            ledger_one,
            ledger_row,
            ledger_above,
            insert_ledger,
            insert_table,
            table_rows,
            postings: OnceCell::new(),
            trade_pages: OnceCell::new(),
            statement_pages: OnceCell::new(),
            limited_log: RateLimitedLog::default(),
            sent,
        })
    }

    /// Whether a read is answered, not counted.
    pub(super) async fn probe_read(&self) -> Result<(), LedgerError> {
        self.session
            .execute_unpaged(&self.ledger_one, (i64::MAX, i32::MAX))
            .await
            .map(drop)
            .map_err(|error| statement_error(&error))
    }

    /// The right that is missing to write ledger entries, if one is. Tried with a row without a seq, which is refused after the
    /// right was checked: nothing is written.
    pub(super) async fn missing_right(&self) -> Option<Finding> {
        let unset = || MaybeUnset::<i64>::Unset;
        let no_row = (
            i64::MAX,
            i32::MAX,
            None::<i64>,
            unset(),
            unset(),
            unset(),
            unset(),
            MaybeUnset::<&str>::Unset,
            unset(),
            unset(),
        );
        let tried = self.session.execute_unpaged(&self.insert_ledger, no_row);
        let finding = tried
            .await
            .err()
            .map(|error| faults::statement_finding(&error))?;
        (finding.code == Code::SourceForbidden).then_some(finding)
    }

    pub(super) async fn query_rows(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, LedgerError> {
        rows_of(self.run_statement(statement, values).await?)
    }

    /// Reads rows and adds them to the cost.
    pub(super) async fn query_counted(
        &self,
        cost: &Cost,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryRowsResult, LedgerError> {
        let rows = self.query_rows(statement, values).await?;
        cost.add_statement(rows.rows_num());
        Ok(rows)
    }

    /// Reads rows and adds them to the cost; none if the nodes gave up, as above their tombstone limit.
    pub(super) async fn query_readable(
        &self,
        cost: &Cost,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Option<QueryRowsResult>, LedgerError> {
        match self.execute_timed(statement, values).await {
            Ok(result) => {
                let rows = rows_of(result)?;
                cost.add_statement(rows.rows_num());
                Ok(Some(rows))
            }
            Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
                DbError::ReadFailure { .. },
                _,
            ))) => {
                cost.add_unreadable();
                Ok(None)
            }
            Err(error) => Err(statement_error(&error)),
        }
    }

    pub(super) async fn run_statement(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, LedgerError> {
        let result = self.execute_timed(statement, values).await;
        result.map_err(|error| statement_error(&error))
    }

    /// One more statement is sent.
    pub(super) fn count_one(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    async fn execute_timed(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, ExecutionError> {
        self.count_one();
        self.session.execute_unpaged(statement, values).await
    }
}

/// One balance as a statement of a load returns it.
#[derive(Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub(super) struct BalanceColumnsRow {
    pub(super) asset_id: i32,
    pub(super) seq: Option<i64>,
    pub(super) avail: Option<i64>,
    pub(super) frozen: Option<i64>,
    pub(super) created_at: Option<i64>,
}

impl BalanceColumnsRow {
    /// The balance; a missing amount is 0 (some writers leave it out).
    pub(super) fn to_balance(&self, said_at: UnixMillis) -> Result<Balance, LedgerError> {
        let seq = self.seq.unwrap_or_default();
        let (Ok(asset), Ok(seq)) = (AssetId::new(self.asset_id), Seq::new(seq)) else {
            let what = format!("asset_id {} seq {seq}", self.asset_id);
            return Err(LedgerError::Corrupt(what.into()));
        };
        Ok(Balance {
            asset,
            seq,
            avail: Amount::from_raw(self.avail.unwrap_or_default()),
            frozen: Amount::from_raw(self.frozen.unwrap_or_default()),
            updated_at: self.created_at.map(UnixMillis),
            said_at,
        })
    }
}

pub(super) fn read_balances(
    rows: &QueryRowsResult,
    said_at: UnixMillis,
) -> Result<Vec<Balance>, LedgerError> {
    rows.rows::<BalanceColumnsRow>()
        .map_err(unreadable_row)?
        .map(|row| row.map_err(unreadable_row)?.to_balance(said_at))
        .collect()
}

/// The rows of a result that must have some kind of rows.
pub(super) fn rows_of(result: QueryResult) -> Result<QueryRowsResult, LedgerError> {
    result.into_rows_result().map_err(unreadable_row)
}

/// A row that is not of the types that the schema says.
pub(super) fn unreadable_row(error: impl std::fmt::Display) -> LedgerError {
    LedgerError::Corrupt(error.to_string().into())
}
