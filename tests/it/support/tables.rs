//! Tables of the service's shape without its schema command: what should be a view is a table, and the test's to fill.

use scylla::client::session::Session;

const TABLES: [&str; 5] = [
    "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': replicas}",
    "CREATE TABLE ks.balance_ledger (user_id bigint, asset_id int, seq bigint, delta_avail bigint, delta_frozen bigint, \
     avail bigint, frozen bigint, event_type text, ref_id bigint, created_at bigint, \
     PRIMARY KEY ((user_id, asset_id), seq)) WITH CLUSTERING ORDER BY (seq DESC)",
    "CREATE TABLE ks.user_balances (user_id bigint, asset_id int, avail bigint, frozen bigint, version bigint, \
     updated_at bigint, PRIMARY KEY ((user_id), asset_id))",
    "CREATE TABLE ks.user_balances_by_user (user_id bigint, asset_id int, seq bigint, avail bigint, frozen bigint, \
     created_at bigint, PRIMARY KEY ((user_id), asset_id, seq)) WITH CLUSTERING ORDER BY (asset_id ASC, seq DESC)",
    "CREATE TABLE ks.user_trades (user_id bigint, symbol_id int, settled_at bigint, trade_id bigint, role tinyint, \
     price bigint, quantity bigint, cost bigint, order_id bigint, \
     PRIMARY KEY ((user_id, symbol_id), settled_at, trade_id, role)) \
     WITH CLUSTERING ORDER BY (settled_at DESC, trade_id DESC, role ASC)",
];

/// Makes them in a keyspace of that name, each row on so many nodes.
pub async fn make_tables(session: &Session, keyspace: &str, replicas: u8) {
    for text in TABLES {
        let text = text.replace("KEYSPACE ks", &format!("KEYSPACE {keyspace}"));
        let text = text.replace(" ks.", &format!(" {keyspace}."));
        let text = text.replace(": replicas}", &format!(": {replicas}}}"));
        session.query_unpaged(text, ()).await.unwrap();
    }
}
