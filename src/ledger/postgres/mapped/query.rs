//! A statement of the operator's for the balances of a user, checked against the database.

use tokio_postgres::{Client, Error as PgError, Row, error::SqlState, types::Type};

use super::{
    row::{self, StoredRow},
    statement::{AssetKind, RowShape, bind_asset, bind_user},
};
use crate::{
    domain::{AssetId, CatalogueTable, Snapshot, UnixMillis, UserId},
    ledger::{LedgerError, postgres::faults},
};

/// No user has this number, and no asset has this id.
const NOBODY: i64 = 0;
const NO_ASSET: &str = "0";

/// A statement that was prepared once, so its columns are known.
#[derive(Debug, Clone)]
pub(crate) struct BalancesQuery {
    text: String,
    shape: RowShape,
}

impl BalancesQuery {
    /// Prepares `sql`, the value of the setting `key`. With `asset`, its second parameter is an asset of this kind.
    ///
    /// # Errors
    /// The mistake in it, in words for the operator, or that the database does not answer.
    pub(crate) async fn check(
        client: &Client,
        key: &str,
        sql: &str,
        user_id_sql: &str,
        asset: Option<AssetKind>,
    ) -> Result<Self, LedgerError> {
        let refuse = |why: &str| LedgerError::unavailable(format_args!("{key} {why}"));
        let mut bound = bind_user(sql, user_id_sql);
        if let Some(kind) = asset {
            bound = bind_asset(&bound, kind);
        }
        let refusal = |error: PgError| match error.as_db_error() {
            Some(reply) if *reply.code() == SqlState::READ_ONLY_SQL_TRANSACTION => refuse(
                &format!("must read and change nothing: {}", reply.message()),
            ),
            Some(reply) if !faults::is_connection_lost(&error) => refuse(&format!(
                "is refused by the database: {} (SQLSTATE {})",
                reply.message(),
                reply.code().code()
            )),
            Some(_) | None => faults::map_error(&error),
        };
        let prepared = client.prepare(&bound).await;
        let statement = prepared.map_err(refusal)?;
        let columns: Vec<(&str, Type)> = statement
            .columns()
            .iter()
            .map(|column| (column.name(), column.type_().clone()))
            .collect();
        let shape = RowShape::read(&columns).map_err(|why| refuse(&why))?;
        let wanted = if asset.is_some() { 2 } else { 1 };
        if statement.params().len() != wanted {
            return Err(refuse(if asset.is_some() {
                "needs two parameters: $1 is the user and $2 the asset"
            } else {
                "needs one parameter: $1 is the user"
            }));
        }
        if asset.is_some_and(|kind| kind != shape.asset) {
            return Err(refuse(
                "has another asset_id than postgres.balances_sql: one is a number, the other a name",
            ));
        }
        let query = Self {
            text: shape.wrap(&bound),
            shape,
        };
        query.try_reading(client, wanted).await.map_err(refusal)?;
        Ok(query)
    }

    /// Runs the statement as it is sent, for a user that nobody can be, where nothing can be written: rights are looked at only when a
    /// statement runs, and so is what its functions do. An error that a function raises for an unknown user is none of the statement.
    async fn try_reading(&self, client: &Client, parameters: usize) -> Result<(), PgError> {
        let statement = client.prepare(&self.text).await?;
        client.batch_execute("BEGIN READ ONLY").await?;
        let tried = match parameters {
            1 => client.query(&statement, &[&NOBODY]).await,
            _ => client.query(&statement, &[&NOBODY, &NO_ASSET]).await,
        };
        client.batch_execute("ROLLBACK").await?;
        match tried {
            Err(error) if faults::is_of_row(&error) => Ok(()),
            tried => tried.map(drop),
        }
    }

    /// The type of the assets.
    pub(crate) const fn asset_kind(&self) -> AssetKind {
        self.shape.asset
    }

    /// The unit of each amount, in words for the operator.
    pub(super) fn describe_units(&self) -> String {
        self.shape.describe_units()
    }

    /// The statement as it is sent.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Rows of the result as a snapshot.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`].
    pub(crate) fn read(
        &self,
        user: UserId,
        rows: &[Row],
        catalogue: &CatalogueTable,
        said_at: UnixMillis,
    ) -> Result<Snapshot, LedgerError> {
        let stored: Result<Vec<_>, tokio_postgres::Error> = rows.iter().map(store).collect();
        let stored = stored.map_err(|error| faults::map_error(&error))?;
        row::read_rows(user, &stored, self.shape, catalogue, said_at)
    }

    /// The value of `$2` for an asset.
    pub(crate) fn asset_key(&self, asset: AssetId, catalogue: &CatalogueTable) -> String {
        match (self.shape.asset, catalogue.get_asset(asset)) {
            (AssetKind::Name, Some((name, _))) => name.to_owned(),
            (AssetKind::Name | AssetKind::Number, _) => asset.to_string(),
        }
    }
}

fn store(row: &Row) -> Result<StoredRow, tokio_postgres::Error> {
    Ok(StoredRow {
        asset: row.try_get(0)?,
        avail: row.try_get(1)?,
        frozen: row.try_get(2)?,
        seq: row.try_get(3)?,
        updated_at: row.try_get(4)?,
    })
}
