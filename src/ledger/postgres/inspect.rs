//! A look at a ledger in PostgreSQL from outside, for the tools: each table by itself, read only, on the primary.
//!
//! **Limits.** A statement of a tool may take [`PATIENCE`] where `source.timeout_ms` is shorter.

mod snapshot;

use std::time::Duration;

pub use snapshot::{PairKey, PgPair, PgSnapshot};

use super::{
    connect::PgConnector,
    pool::{PgPool, Values},
    schema_state::{PgSchemaState, read_schema_state},
    session::check_sessions,
    statements::{StatementTexts, fill_schema, read_balance, read_column},
};
use crate::{
    clock,
    config::{self, BadSetting, ReadFrom},
    domain::{AssetId, Snapshot, UserId},
    ledger::LedgerError,
};

/// How long a tool waits at least.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Rows of a history, newest first.
const HISTORY: &str = "SELECT seq, created_at FROM {s}.balance_ledger WHERE user_id = $1 AND asset_id = $2 \
     ORDER BY asset_id DESC, seq DESC LIMIT $3";

/// Some user of the ledger.
const SOME_USER: &str =
    "SELECT user_id FROM {s}.balance_ledger ORDER BY user_id, asset_id, seq LIMIT 1";

const USER_FROM: &str = "SELECT user_id FROM {s}.balance_ledger WHERE user_id >= $1 ORDER BY user_id, asset_id, seq LIMIT 1";

const EXTENT: &str = "SELECT min(user_id), max(user_id), \
     (SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = '{s}.user_balances'::regclass) FROM {s}.balance_ledger";

/// Why nothing could be seen.
#[derive(Debug, thiserror::Error)]
pub enum PgTrouble {
    /// A setting that cannot be used.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The database does not answer as it should.
    #[error(transparent)]
    Source(#[from] LedgerError),
}

/// A database that is looked at.
#[derive(Debug)]
pub struct PgLook {
    pool: PgPool,
    schema: String,
    texts: StatementTexts,
    /// Everything that stands there.
    pub found: PgSchemaState,
}

impl PgLook {
    /// Connects, and looks at the schema.
    ///
    /// # Errors
    /// [`PgTrouble`].
    pub async fn open_schema(
        settings: &config::PostgresSettings,
        source: &config::SourceSettings,
    ) -> Result<Self, PgTrouble> {
        let connector = PgConnector::new(settings, source.timeout_ms.0.max(PATIENCE))?;
        let pool = connector.open_primary()?;
        pool.take_connection().await?.give_back();
        let schema = connector.schema().to_owned();
        check_sessions(&pool, &schema).await?;
        let found = read_schema_state(&pool, &schema, ReadFrom::Table).await?;
        Ok(Self {
            texts: StatementTexts::for_schema(&schema),
            schema,
            pool,
            found,
        })
    }

    /// Hosts and database, without secrets.
    #[must_use]
    pub fn address(&self) -> &str {
        self.pool.address()
    }

    /// The newest rows of the ledger, of every asset of the user.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn read_ledger(&self, user: UserId) -> Result<Snapshot, LedgerError> {
        self.read_user(&self.texts.newest, user).await
    }

    /// The rows of `user_balances`.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn read_table(&self, user: UserId) -> Result<Snapshot, LedgerError> {
        self.read_user(&self.texts.current, user).await
    }

    async fn read_user(&self, text: &str, user: UserId) -> Result<Snapshot, LedgerError> {
        let said_at = clock::wall_now();
        let values: Values<'_> = &[&user.get()];
        let rows = self.pool.read_rows(text, values).await?;
        let balances: Result<_, _> = rows.iter().map(|row| read_balance(row, said_at)).collect();
        Ok(Snapshot::new(balances?))
    }

    /// Seqs and times of the newest rows of one balance, newest first.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn read_history(
        &self,
        user: UserId,
        asset: AssetId,
        rows_max: usize,
    ) -> Result<Vec<(i64, Option<i64>)>, LedgerError> {
        let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let values: Values<'_> = &[&user.get(), &asset.get(), &limit];
        let text = fill_schema(HISTORY, &self.schema);
        let rows = self.pool.read_rows(&text, values).await?;
        let rows = rows.iter();
        rows.map(|row| Ok((read_column(row, 0)?, read_column(row, 1)?)))
            .collect()
    }

    /// All tables at this moment, for a walk through every row.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn begin_snapshot(&self) -> Result<PgSnapshot, LedgerError> {
        let connection = self.pool.take_connection().await?;
        PgSnapshot::begin_snapshot(connection, &self.schema).await
    }

    /// The first user at or above an id that the ledger has.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn find_user_from(&self, id: i64) -> Result<Option<UserId>, LedgerError> {
        let text = fill_schema(USER_FROM, &self.schema);
        let rows = self.pool.read_rows(&text, &[&id]).await?;
        let id: Option<i64> = rows.first().map(|row| read_column(row, 0)).transpose()?;
        Ok(id.and_then(|id| UserId::new(id).ok()))
    }

    /// The lowest and the highest user of the ledger, and the server's estimate of the rows of `user_balances`.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn find_extent(&self) -> Result<(i64, i64, u64), LedgerError> {
        let text = fill_schema(EXTENT, &self.schema);
        let rows = self.pool.read_rows(&text, &[]).await?;
        let Some(row) = rows.first() else {
            return Ok((0, 0, 0));
        };
        let end =
            |at| Ok::<_, LedgerError>(read_column::<Option<i64>>(row, at)?.unwrap_or_default());
        Ok((end(0)?, end(1)?, u64::try_from(end(2)?).unwrap_or(0)))
    }

    /// A user that the ledger has, to measure with.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn find_some_user(&self) -> Result<Option<UserId>, LedgerError> {
        let text = fill_schema(SOME_USER, &self.schema);
        let rows = self.pool.read_rows(&text, &[]).await?;
        let id: Option<i64> = rows.first().map(|row| read_column(row, 0)).transpose()?;
        Ok(id.and_then(|id| UserId::new(id).ok()))
    }
}
