//! A keyspace of its own, services over it, and another program that writes its tables.

use scylla::client::session::Session;
use serde_json::{Value, json};

use crate::support::{cassandra::shared, cql::Place, service::Setup};

pub const TRADES: &str = "/api/v1/order/trades?user_id=1001&symbol=BTC_USDT";
pub const STATEMENT: &str = "/api/v1/user/ledger?user_id=1001&asset=BTC";
/// A page may wait for a machine that is busy.
pub const DEADLINE_MS: u32 = 14_000;

pub fn place(suffix: &str) -> Place {
    Place::new(shared()).with(|settings| {
        settings.keyspace = format!("{}_{suffix}", settings.keyspace.to_lowercase());
    })
}

pub fn over(place: &Place) -> Setup {
    Setup::default()
        .with("source.kind", "scylla")
        .with("source.read_from", "ledger")
        .with("source.timeout_ms", 5_000)
        .with("scylla.nodes", shared().node())
        .with("scylla.keyspace", &place.settings.keyspace)
        .with("limits.deadline_ms", DEADLINE_MS)
}

/// Statements of another program over a keyspace.
pub struct Tables {
    session: Session,
    keyspace: String,
}

impl Tables {
    pub async fn side(&self, settled_at: i64, trade: i64, role: i8) {
        let text = format!(
            "INSERT INTO {}.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost) VALUES (1001, 1, ?, ?, ?, 5, 6, 7)",
            self.keyspace
        );
        self.session
            .query_unpaged(text, (settled_at, trade, role))
            .await
            .unwrap();
    }

    pub async fn row(&self, seq: i64, created_at: Option<i64>) {
        let text = format!(
            "INSERT INTO {}.balance_ledger (user_id, asset_id, seq, avail, created_at) VALUES (1001, 1, ?, ?, ?)",
            self.keyspace
        );
        self.session
            .query_unpaged(text, (seq, seq, created_at))
            .await
            .unwrap();
    }
}

pub async fn tables(place: &Place) -> Tables {
    Tables {
        session: shared().session().await,
        keyspace: place.settings.keyspace.clone(),
    }
}

pub fn trade(id: i64, settled_at: i64, seller: i64) -> Value {
    json!({"trade_id": id, "symbol": "BTC_USDT", "buyer_user_id": 1001, "seller_user_id": seller, "price": 100_000_000,
        "quantity": 10, "settled_at": settled_at})
}
