//! The operator's own tables as the tools see them: the answers of the statements on the primary, read only.
//!
//! **Limits.** A statement of a tool may take [`PATIENCE`] where `source.timeout_ms` is shorter.

use std::sync::Arc;

use super::{MappedLedger, OF_ASSET, PgPool, UnservedPart};
use crate::{
    config,
    domain::{Balance, Catalogue, Snapshot, UserId},
    ledger::{
        Cost, LedgerError,
        postgres::{
            connect::PgConnector,
            inspect::{PATIENCE, PgTrouble},
            session::check_sessions,
        },
    },
};

/// A database whose statements were checked.
#[derive(Debug)]
pub struct MappedLook {
    pool: PgPool,
    mapped: MappedLedger,
    /// The database and its cluster.
    pub identity: String,
}

impl MappedLook {
    /// Connects, and checks the statements.
    ///
    /// # Errors
    /// A setting that cannot be used, a statement that is refused, or a database that does not answer.
    pub async fn open(
        settings: &config::PostgresSettings,
        source: &config::SourceSettings,
        catalogue: &Arc<Catalogue>,
    ) -> Result<Self, PgTrouble> {
        let pool = PgConnector::new(settings, source.timeout_ms.0.max(PATIENCE))?.open_primary()?;
        pool.take_connection().await?.give_back();
        check_sessions(&pool, &settings.schema).await?;
        let mapped = MappedLedger::new(settings, catalogue);
        let identity = mapped.check_statements(&pool).await?;
        Ok(Self {
            pool,
            mapped,
            identity,
        })
    }

    /// The tables that the statements read whole, each behind the key of its statement.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn find_unserved(&self) -> Result<Vec<(&'static str, UnservedPart)>, LedgerError> {
        self.mapped.find_unserved(&self.pool).await
    }

    /// The units of the amounts of each statement, in words, behind the key of the statement.
    ///
    /// # Errors
    /// None once the statements were checked.
    pub fn describe_units(&self) -> Result<Vec<(&'static str, String)>, LedgerError> {
        self.mapped.describe_units()
    }

    /// The answer of `postgres.balances_sql`.
    ///
    /// # Errors
    /// Those of the source; [`LedgerError::Corrupt`] for rows that are not exactly balances.
    pub async fn read_balances(&self, user: UserId) -> Result<Snapshot, LedgerError> {
        let queries = self.mapped.queries()?;
        let (query, cost) = (&queries.of_user, Cost::default());
        self.mapped.read_user(&self.pool, query, user, &cost).await
    }

    /// The balances for which `postgres.balance_sql` answers an older one than this, other amounts, or nothing. It is asked after
    /// `postgres.balances_sql`, so a newer one is none of them.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn find_unlike(
        &self,
        user: UserId,
        balances: &Snapshot,
    ) -> Result<Vec<(Balance, Option<Balance>)>, LedgerError> {
        let mut unlike = Vec::new();
        if self.mapped.queries()?.of_asset.is_none() {
            return Ok(unlike);
        }
        for balance in balances.balances() {
            let (assets, cost) = ([balance.asset], Cost::default());
            let reading = self.mapped.read_latest(&self.pool, user, &assets, &cost);
            let one = reading.await.map_err(name_statement)?;
            let one = one.get(balance.asset).copied();
            if !one.is_some_and(|one| continues(balance, &one)) {
                unlike.push((*balance, one));
            }
        }
        Ok(unlike)
    }
}

/// Rows that are no balances, with the statement that has them.
fn name_statement(error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Corrupt(why) => LedgerError::Corrupt(format!("{OF_ASSET}: {why}").into()),
        other => other,
    }
}

/// Whether a balance that was read later can be of the same ledger.
fn continues(balance: &Balance, later: &Balance) -> bool {
    let is_same = (later.avail, later.frozen) == (balance.avail, balance.frozen);
    later.seq > balance.seq || (later.seq == balance.seq && is_same)
}
