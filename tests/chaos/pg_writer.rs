//! Writers of a ledger in PostgreSQL, at whichever of the two servers is the primary.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_postgres::{Client, Error as PgError, NoTls, types::PgLsn};
use tokio_util::task::TaskTracker;

use crate::{
    ledger::{NewRow, STATEMENT},
    support::{eventually::eventually_async, pg_pair::PairPlace},
};

const LEDGER: &str = "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, frozen, created_at) \
     VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT DO NOTHING";
/// Its trigger tells the outbox.
const CURRENT: &str = "INSERT INTO trading.user_balances AS held (user_id, asset_id, version, avail, frozen, updated_at) \
     VALUES ($1, $2, $3, $4, 0, $5) ON CONFLICT (user_id, asset_id) DO UPDATE SET version = EXCLUDED.version, \
     avail = EXCLUDED.avail, frozen = 0, updated_at = EXCLUDED.updated_at WHERE held.version < EXCLUDED.version";
const LAST_TOLD: &str =
    "SELECT COALESCE(max(id), 0) FROM trading.balance_outbox WHERE user_key = $1::text";
const STILL_TOLD: &str =
    "SELECT 1 FROM trading.balance_outbox WHERE user_key = $1::text AND id <= $2 LIMIT 1";

/// A statement waits for no lock for long.
const IMPATIENT: &str = "-c statement_timeout=1000";

/// Connections to the primary that nobody uses, each with the server that it leads to.
#[derive(Debug)]
pub struct PgWriter {
    place: Arc<PairPlace>,
    idle: Mutex<Vec<(usize, Client)>>,
}

impl PgWriter {
    pub fn new(place: &Arc<PairPlace>) -> Self {
        Self {
            place: Arc::clone(place),
            idle: Mutex::default(),
        }
    }

    /// A connection to the primary, and which server that is.
    async fn take_client(&self) -> Option<(usize, Client)> {
        let primary = self.place.primary();
        let idle = {
            let mut idle = self.idle.lock();
            idle.retain(|(leads_to, client)| *leads_to == primary && !client.is_closed());
            idle.pop()
        };
        if idle.is_some() {
            return idle;
        }
        let opened = open(&self.place.url_of(primary), IMPATIENT).await;
        opened.ok().map(|client| (primary, client))
    }

    /// The row in the ledger alone.
    pub async fn write_row(&self, row: NewRow) -> bool {
        let (user, asset) = row.ids();
        let writing = async {
            let (primary, client) = self.take_client().await?;
            client
                .execute(
                    LEDGER,
                    &[&user, &asset, &row.seq, &row.avail, &row.created_at],
                )
                .await
                .ok()?;
            // Only after success: the connection of a statement that may still run is closed.
            self.idle.lock().push((primary, client));
            Some(())
        };
        timeout(STATEMENT, writing)
            .await
            .is_ok_and(|done| done.is_some())
    }

    /// The row in both tables, of which the outbox tells. Returns the last of the outbox' rows of this user.
    pub async fn write_told_row(&self, row: NewRow) -> Option<i64> {
        let (user, asset) = row.ids();
        let key = user.to_string();
        let writing = async {
            let (primary, mut client) = self.take_client().await?;
            let transaction = client.transaction().await.ok()?;
            for text in [LEDGER, CURRENT] {
                transaction
                    .execute(
                        text,
                        &[&user, &asset, &row.seq, &row.avail, &row.created_at],
                    )
                    .await
                    .ok()?;
            }
            let last = transaction.query_one(LAST_TOLD, &[&key]).await.ok()?;
            transaction.commit().await.ok()?;
            self.idle.lock().push((primary, client));
            last.try_get(0).ok()
        };
        timeout(STATEMENT, writing).await.ok().flatten()
    }

    /// Whether the service has taken the outbox' rows of this user up to that one. None: the server does not tell.
    pub async fn has_taken(&self, user: u64, last: i64) -> Option<bool> {
        let key = user.to_string();
        let asking = async {
            let (primary, client) = self.take_client().await?;
            let rows = client.query(STILL_TOLD, &[&key, &last]).await.ok()?;
            self.idle.lock().push((primary, client));
            Some(rows.is_empty())
        };
        timeout(STATEMENT, asking).await.ok().flatten()
    }

    /// Waits until the standby shows what the primary shows now.
    pub async fn caught_up(&self, within: Duration) {
        let primary = self.place.primary();
        let end = open(&self.place.url_of(primary), "").await.unwrap();
        let end = end.query_one("SELECT pg_current_wal_lsn()", &[]).await;
        let end: PgLsn = end.unwrap().get(0);
        let standby = open(&self.place.url_of(1 - primary), "").await.unwrap();
        eventually_async(within, "the standby shows all rows", async || {
            let row = standby
                .query_one("SELECT pg_last_wal_replay_lsn() >= $1", &[&end])
                .await;
            row.unwrap().get::<_, bool>(0).then_some(())
        })
        .await;
    }

    /// Rows of the primary.
    pub async fn rows(&self, text: &str) -> Vec<tokio_postgres::Row> {
        let client = open(&self.place.url_of(self.place.primary()), "").await;
        client.unwrap().query(text, &[]).await.unwrap()
    }
}

async fn open(url: &str, options: &str) -> Result<Client, PgError> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.options(options);
    let (client, connection) = config.connect(NoTls).await?;
    TaskTracker::new().spawn(connection);
    Ok(client)
}
