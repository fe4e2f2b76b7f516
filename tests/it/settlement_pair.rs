//! Two instances on one Redis and one Cassandra, each with its own wire to Redis, and a view that nobody fills.

use std::sync::atomic::{AtomicU32, Ordering};

use scylla::client::session::Session;

use crate::{
    settlement_support::{short, whole},
    support::{
        cassandra::{Cassandra, shared},
        proxy::Proxy,
        redis::Redis,
        service::{Service, Setup},
        tables::make_tables,
    },
};

/// Both, with what they stand on.
pub struct Pair {
    pub redis: Redis,
    session: Session,
    keyspace: String,
    node: String,
    pub wires: Vec<Proxy>,
    pub services: Vec<Service>,
}

impl Pair {
    pub async fn start() -> Self {
        Self::start_on(shared()).await
    }

    pub async fn start_on(node: &Cassandra) -> Self {
        let mut pair = Self::without_services(node, Redis::start(), 20).await;
        for wire in 0..2 {
            let service = Service::start_ready(pair.setup(wire)).await;
            whole(&service).await;
            pair.services.push(service);
        }
        pair
    }

    /// What they stand on, with this many users.
    pub async fn without_services(node: &Cassandra, redis: Redis, users: i64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let keyspace = format!("pair_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let session = node.session().await;
        make_tables(&session, &keyspace, 1).await;
        let wire = || Proxy::start(redis.address());
        let wires = vec![wire(), wire()];
        let pair = Self {
            redis,
            session,
            keyspace,
            node: node.node(),
            wires,
            services: Vec::new(),
        };
        for user in 1..=users {
            for asset in 1..=2 {
                pair.insert("balance_ledger", user, asset, 1).await;
                pair.insert("user_balances_by_user", user, asset, 1).await;
            }
        }
        pair
    }

    /// What an instance on this wire is given.
    pub fn setup(&self, wire: usize) -> Setup {
        short(&format!("redis://{}", self.wires[wire].address()))
            .with("source.kind", "scylla")
            .with("scylla.nodes", &self.node)
            .with("scylla.keyspace", &self.keyspace)
            .with("scylla.view_check", "off")
    }

    /// Whether the ledger has the row of a user's BTC.
    #[cfg_attr(
        not(feature = "failpoints"),
        expect(dead_code, reason = "only tests of fail points look")
    )]
    pub async fn row(&self, user: u64, seq: i64) -> bool {
        let text = format!(
            "SELECT seq FROM {}.balance_ledger WHERE user_id = {user} AND asset_id = 1 AND seq = {seq}",
            self.keyspace
        );
        let rows = self
            .session
            .query_unpaged(text, ())
            .await
            .unwrap()
            .into_rows_result()
            .unwrap();
        rows.rows_num() == 1
    }

    async fn insert(&self, table: &str, user: i64, asset: i32, seq: i64) {
        let text = format!(
            "INSERT INTO {}.{table} (user_id, asset_id, seq, avail, frozen) VALUES ({user}, {asset}, {seq}, {seq}, 0)",
            self.keyspace
        );
        self.session.query_unpaged(text, ()).await.unwrap();
    }

    /// A row that the view does not get.
    pub async fn ledger(&self, user: i64, asset: i32, seq: i64) {
        self.insert("balance_ledger", user, asset, seq).await;
    }

    /// A row that the view gets now.
    #[cfg_attr(
        not(feature = "failpoints"),
        expect(dead_code, reason = "only tests of fail points fill the view")
    )]
    pub async fn view(&self, user: i64, asset: i32, seq: i64) {
        self.insert("user_balances_by_user", user, asset, seq).await;
    }

    pub fn both(&self) -> (&Service, &Service) {
        (&self.services[0], &self.services[1])
    }
}
