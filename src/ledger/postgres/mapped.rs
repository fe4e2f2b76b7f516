//! Balances from somebody else's tables, by the statements of `postgres.balances_sql` and `postgres.balance_sql`.
//!
//! **Invariants.** The statements are checked against the database before the first read, and again with every look at the schema: their
//! columns, their types, and that there is a seq. Nothing is written, and nothing but balances is read.
//!
//! **Limits.** One statement a read, `source.timeout_ms` each. Whether an index serves it, `doctor` says ([`plan`]).

mod look;
mod plan;
mod query;
mod row;
mod statement;

use std::sync::Arc;

use arc_swap::ArcSwapOption;

pub use self::{look::MappedLook, plan::UnservedPart};
pub(super) use self::{query::BalancesQuery, statement::bind_parameter};
use super::{
    pool::{PgPool, Values},
    replicas::Replicas,
};
use crate::{
    clock, config,
    domain::{AssetId, Catalogue, Seq, Snapshot, UserId},
    ledger::{Cost, LedgerError, RowAbove},
};

const OF_USER: &str = "postgres.balances_sql";
const OF_ASSET: &str = "postgres.balance_sql";
const IDENTITY: &str = "SELECT 'postgres:' || system_identifier::text || '/' || current_database() FROM pg_control_system()";

/// The statements that were checked.
#[derive(Debug)]
struct MappedQueries {
    of_user: BalancesQuery,
    of_asset: Option<BalancesQuery>,
}

impl MappedQueries {
    /// Each statement behind the key of its setting.
    fn each_query(&self) -> impl Iterator<Item = (&'static str, &BalancesQuery)> {
        let of_asset = self.of_asset.as_ref().map(|query| (OF_ASSET, query));
        std::iter::once((OF_USER, &self.of_user)).chain(of_asset)
    }
}

/// A ledger in the operator's own tables.
#[derive(Debug)]
pub struct MappedLedger {
    settings: config::PostgresSettings,
    catalogue: Arc<Catalogue>,
    checked: ArcSwapOption<MappedQueries>,
}

impl MappedLedger {
    /// None where the tables are this service's own.
    pub(super) fn of_settings(
        settings: &config::PostgresSettings,
        catalogue: &Arc<Catalogue>,
    ) -> Option<Self> {
        settings.is_mapped().then(|| Self::new(settings, catalogue))
    }

    fn new(settings: &config::PostgresSettings, catalogue: &Arc<Catalogue>) -> Self {
        Self {
            settings: settings.clone(),
            catalogue: Arc::clone(catalogue),
            checked: ArcSwapOption::empty(),
        }
    }

    /// Checks the statements. Returns the identity of the database.
    pub(super) async fn check_statements(&self, pool: &PgPool) -> Result<String, LedgerError> {
        let mut connection = pool.take_connection().await?;
        let client = connection.cached_client()?;
        let (user, settings) = (&*self.settings.user_id_sql, &self.settings);
        let of_user =
            BalancesQuery::check(client, OF_USER, &settings.balances_sql, user, None).await?;
        let of_asset = if settings.balance_sql.trim().is_empty() {
            None
        } else {
            let kind = Some(of_user.asset_kind());
            let sql = &settings.balance_sql;
            Some(BalancesQuery::check(client, OF_ASSET, sql, user, kind).await?)
        };
        connection.give_back();
        let identity = Self::read_identity(pool).await?;
        self.checked
            .store(Some(Arc::new(MappedQueries { of_user, of_asset })));
        Ok(identity)
    }

    /// The identity of a database: that of its cluster, which a standby shares, and its name.
    pub(super) async fn read_identity(pool: &PgPool) -> Result<String, LedgerError> {
        let rows = pool.read_rows(IDENTITY, &[]).await?;
        let identity = rows.first().and_then(|row| row.try_get(0).ok());
        identity.ok_or_else(|| LedgerError::unavailable("the database does not say who it is"))
    }

    /// The tables that the statements read whole, each behind the key of its statement.
    pub(super) async fn find_unserved(
        &self,
        pool: &PgPool,
    ) -> Result<Vec<(&'static str, UnservedPart)>, LedgerError> {
        let queries = self.queries()?;
        let mut found = Vec::new();
        for (key, query) in queries.each_query() {
            let unserved = plan::explain_query(pool, query.text()).await?;
            found.extend(unserved.into_iter().map(|one| (key, one)));
        }
        Ok(found)
    }

    /// The units of the amounts of each statement, in words, behind the key of the statement.
    pub(super) fn describe_units(&self) -> Result<Vec<(&'static str, String)>, LedgerError> {
        let queries = self.queries()?;
        let each = queries.each_query();
        Ok(each
            .map(|(key, query)| (key, query.describe_units()))
            .collect())
    }

    fn queries(&self) -> Result<Arc<MappedQueries>, LedgerError> {
        let checked = self.checked.load_full();
        checked.ok_or_else(|| LedgerError::unavailable("postgres.balances_sql is not checked yet"))
    }

    /// All balances, from a replica where one answers.
    pub(super) async fn load_balances(
        &self,
        primary: &PgPool,
        replicas: &Replicas,
        user: UserId,
        cost: &Cost,
    ) -> Result<Snapshot, LedgerError> {
        let query = &self.queries()?.of_user;
        let said_at = clock::wall_now();
        let id = user.get();
        let values: Values<'_> = &[&id];
        if let Some(replica) = replicas.choose_replica()
            && let Some(rows) = replicas.read_rows(replica, query.text(), values).await
        {
            cost.add_statement(rows.len());
            return query.read(user, &rows, &self.catalogue.current_table(), said_at);
        }
        self.read_user(primary, query, user, cost).await
    }

    /// The balances in these assets, from the primary.
    pub(super) async fn read_latest(
        &self,
        primary: &PgPool,
        user: UserId,
        assets: &[AssetId],
        cost: &Cost,
    ) -> Result<Snapshot, LedgerError> {
        let queries = self.queries()?;
        if let (Some(query), [asset]) = (&queries.of_asset, assets) {
            let said_at = clock::wall_now();
            let catalogue = self.catalogue.current_table();
            let key = query.asset_key(*asset, &catalogue);
            let rows = primary
                .read_rows(query.text(), &[&user.get(), &key])
                .await?;
            cost.add_statement(rows.len());
            return Ok(query
                .read(user, &rows, &catalogue, said_at)?
                .only_asset(*asset));
        }
        let all = self
            .read_user(primary, &queries.of_user, user, cost)
            .await?;
        let asked = assets.iter().filter_map(|asset| all.get(*asset));
        Ok(Snapshot::new(asked.copied().collect()))
    }

    async fn read_user(
        &self,
        pool: &PgPool,
        query: &BalancesQuery,
        user: UserId,
        cost: &Cost,
    ) -> Result<Snapshot, LedgerError> {
        let said_at = clock::wall_now();
        let rows = pool.read_rows(query.text(), &[&user.get()]).await?;
        cost.add_statement(rows.len());
        query.read(user, &rows, &self.catalogue.current_table(), said_at)
    }

    /// The row that stands, where it is above `seq`: rows between are not kept.
    pub(super) async fn read_row_above(
        &self,
        primary: &PgPool,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> Result<Option<RowAbove>, LedgerError> {
        let cost = Cost::default();
        let snapshot = self.read_latest(primary, user, &[asset], &cost).await?;
        let above = snapshot
            .get(asset)
            .filter(|balance| Some(balance.seq) > seq);
        Ok(above.map(|balance| RowAbove {
            seq: balance.seq,
            created_at: balance.updated_at,
            written_at: None,
        }))
    }
}
