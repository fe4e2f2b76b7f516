//! Services over tables of their own, and another program that writes these tables.

use std::time::Instant;

use scylla::client::session::Session;
use serde_json::{Value, json};

use crate::support::{
    cassandra::shared, eventually::pause, ground::Ground, service::Setup, stage::SOON,
};

pub const TRADES: &str = "/api/v1/order/trades?user_id=1001&symbol=BTC_USDT";
pub const STATEMENT: &str = "/api/v1/user/ledger?user_id=1001&asset=BTC";
/// A page may wait for a machine that is busy.
pub const DEADLINE_MS: u32 = 14_000;

pub fn over(ground: &Ground) -> Setup {
    ground
        .name_in(Setup::default())
        .with("source.read_from", "ledger")
        .with("source.timeout_ms", 5_000)
        .with("limits.deadline_ms", DEADLINE_MS)
}

/// Statements of another program.
pub enum Tables {
    Cassandra {
        session: Box<Session>,
        keyspace: String,
    },
    Postgres {
        client: tokio_postgres::Client,
        schema: String,
    },
}

impl Tables {
    pub async fn of(ground: &Ground) -> Self {
        match ground {
            Ground::Cassandra(place) => Self::Cassandra {
                session: Box::new(shared().session().await),
                keyspace: place.settings.keyspace.clone(),
            },
            Ground::Postgres(place) => Self::Postgres {
                client: place.client().await,
                schema: place.settings.schema.clone(),
            },
        }
    }

    pub async fn side(&self, settled_at: i64, trade: i64, role: i8) {
        let columns = "user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost";
        let values = format!("1001, 1, {settled_at}, {trade}, {role}, 5, 6, 7");
        self.put("user_trades", columns, &values).await;
    }

    pub async fn row(&self, seq: i64, created_at: Option<i64>) {
        let columns = "user_id, asset_id, seq, avail, created_at";
        let created_at = created_at.map_or_else(|| "NULL".to_owned(), |at| at.to_string());
        let values = format!("1001, 1, {seq}, {seq}, {created_at}");
        self.put("balance_ledger", columns, &values).await;
    }

    /// A row that may stand already. A database that stands still for too long is asked again.
    async fn put(&self, table: &str, columns: &str, values: &str) {
        let end = Instant::now() + SOON;
        while let Err(error) = self.try_put(table, columns, values).await {
            assert!(Instant::now() < end, "{table}: {error}");
            pause().await;
        }
    }

    async fn try_put(&self, table: &str, columns: &str, values: &str) -> Result<(), String> {
        match self {
            Self::Cassandra { session, keyspace } => {
                let text = format!("INSERT INTO {keyspace}.{table} ({columns}) VALUES ({values})");
                let done = session.query_unpaged(text, ()).await;
                done.map(drop).map_err(|error| error.to_string())
            }
            Self::Postgres { client, schema } => {
                let text = format!(
                    "INSERT INTO {schema}.{table} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"
                );
                let done = client.batch_execute(&text).await;
                done.map_err(|error| error.to_string())
            }
        }
    }
}

pub fn trade(id: i64, settled_at: i64, seller: i64) -> Value {
    json!({"trade_id": id, "symbol": "BTC_USDT", "buyer_user_id": 1001, "seller_user_id": seller, "price": 100_000_000,
        "quantity": 10, "settled_at": settled_at})
}
