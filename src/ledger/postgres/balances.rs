//! Reads of balances: of a user as reads load them, and the newest rows of the ledger.
//!
//! The ledger's key is (user, asset, seq). Its newest row of an asset is the first one from the top, and the next asset is found by one
//! more step of the index: a load costs by the number of assets, not by the length of the history.
//!
//! **Limits.** One statement for each, whatever the number of assets.

use super::{
    Postgres,
    pool::{PgPool, Values},
    statements::{read_balance, read_column, unreadable_row},
};
use crate::{
    clock,
    config::ReadFrom,
    domain::{AssetId, Seq, Snapshot, UnixMillis, UserId},
    ledger::{Cost, LedgerError, RowAbove},
};

impl Postgres {
    /// All balances of the user, by the configured way.
    pub(super) async fn load_balances(
        &self,
        user: UserId,
        cost: &Cost,
    ) -> Result<Snapshot, LedgerError> {
        self.refuse_loads()?;
        if let Some(mapped) = &self.mapped {
            let (primary, replicas) = (&self.primary, &self.replicas);
            return mapped.load_balances(primary, replicas, user, cost).await;
        }
        let text = match self.read_from {
            ReadFrom::View | ReadFrom::Ledger => &self.texts.newest,
            ReadFrom::Table => &self.texts.current,
        };
        let said_at = clock::wall_now();
        let user = user.get();
        let values: Values<'_> = &[&user];
        if self.read_from != ReadFrom::Ledger
            && let Some(replica) = self.replicas.choose_replica()
            && let Some(rows) = self.replicas.read_rows(replica, text, values).await
        {
            cost.add_statement(rows.len());
            return snapshot_of(&rows, said_at);
        }
        self.read_snapshot(&self.primary, text, values, cost).await
    }

    /// The newest ledger row of each of these assets.
    pub(super) async fn read_latest(
        &self,
        user: UserId,
        assets: &[AssetId],
        cost: &Cost,
    ) -> Result<Snapshot, LedgerError> {
        self.refuse_everything()?;
        if assets.is_empty() {
            return Ok(Snapshot::default());
        }
        if let Some(mapped) = &self.mapped {
            return mapped.read_latest(&self.primary, user, assets, cost).await;
        }
        let ids: Vec<i32> = assets.iter().map(|asset| asset.get()).collect();
        let values: Values<'_> = &[&user.get(), &ids];
        self.read_snapshot(&self.primary, &self.texts.latest, values, cost)
            .await
    }

    async fn read_snapshot(
        &self,
        pool: &PgPool,
        text: &str,
        values: Values<'_>,
        cost: &Cost,
    ) -> Result<Snapshot, LedgerError> {
        let said_at = clock::wall_now();
        let rows = self.read_counting(pool, text, values, cost).await?;
        snapshot_of(&rows, said_at)
    }

    /// The lowest row above `seq`, and since when it stands there.
    pub(super) async fn read_row_above(
        &self,
        user: UserId,
        asset: AssetId,
        seq: Option<Seq>,
    ) -> Result<Option<RowAbove>, LedgerError> {
        self.refuse_everything()?;
        if let Some(mapped) = &self.mapped {
            return mapped.read_row_above(&self.primary, user, asset, seq).await;
        }
        let text = if self.commit_times() {
            &self.texts.above_with_commit
        } else {
            &self.texts.above
        };
        let values: Values<'_> = &[&user.get(), &asset.get(), &seq.map_or(0, Seq::get)];
        let cost = Cost::default();
        let rows = self
            .read_counting(&self.primary, text, values, &cost)
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(RowAbove {
            seq: Seq::new(read_column(row, 0)?).map_err(unreadable_row)?,
            created_at: read_column::<Option<i64>>(row, 1)?.map(UnixMillis),
            written_at: read_column::<Option<i64>>(row, 2)?.map(UnixMillis),
        }))
    }
}

fn snapshot_of(rows: &[tokio_postgres::Row], said_at: UnixMillis) -> Result<Snapshot, LedgerError> {
    let balances: Result<_, _> = rows.iter().map(|row| read_balance(row, said_at)).collect();
    Ok(Snapshot::new(balances?))
}
