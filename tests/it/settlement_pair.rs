//! Two instances on one Redis and one database, each with its own wire to Redis. What they read lags: on Cassandra a view, on
//! PostgreSQL `user_balances`, and nobody but the test fills it.

use std::sync::atomic::{AtomicU32, Ordering};

use scylla::client::session::Session;

use crate::{
    settlement_support::{SOON, short, whole},
    support::{
        databases::DatabaseServer,
        eventually::eventually_async,
        pg_place::PgPlace,
        proxy::Proxy,
        redis::Redis,
        service::{Service, Setup},
        stage::Database,
        tables::make_tables,
    },
};

/// Both, with what they stand on.
pub struct Pair {
    pub redis: Redis,
    tables: PairTables,
    pub wires: Vec<Proxy>,
    pub services: Vec<Service>,
}

enum PairTables {
    Cassandra {
        session: Session,
        keyspace: String,
        node: String,
    },
    Postgres(PgPlace),
}

impl PairTables {
    async fn make(server: DatabaseServer<'_>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        match server {
            DatabaseServer::Cassandra(node) => {
                let keyspace = format!("pair_{}", NEXT.fetch_add(1, Ordering::Relaxed));
                let session = node.session().await;
                make_tables(&session, &keyspace, 1).await;
                Self::Cassandra {
                    session,
                    keyspace,
                    node: node.node(),
                }
            }
            DatabaseServer::Postgres(server) => {
                Self::Postgres(PgPlace::create(server).await.applied().await)
            }
        }
    }

    async fn write_ledger(&self, user: i64, asset: i32, seq: i64) {
        let into = "balance_ledger (user_id, asset_id, seq, avail, frozen)";
        let text = format!("INSERT INTO {{ks}}.{into} VALUES ({user}, {asset}, {seq}, {seq}, 0)");
        self.run(&text).await;
    }

    /// What loads read first.
    async fn write_lagging(&self, user: i64, asset: i32, seq: i64) {
        let text = match self {
            Self::Cassandra { .. } => format!(
                "INSERT INTO {{ks}}.user_balances_by_user (user_id, asset_id, seq, avail, frozen) \
                 VALUES ({user}, {asset}, {seq}, {seq}, 0)"
            ),
            Self::Postgres(_) => format!(
                "INSERT INTO {{ks}}.user_balances (user_id, asset_id, version, avail, frozen) \
                 VALUES ({user}, {asset}, {seq}, {seq}, 0) ON CONFLICT (user_id, asset_id) DO UPDATE \
                 SET version = excluded.version, avail = excluded.avail"
            ),
        };
        self.run(&text).await;
    }

    async fn run(&self, text: &str) {
        match self {
            Self::Cassandra {
                session, keyspace, ..
            } => {
                let text = text.replace("{ks}", keyspace);
                // A node on a busy machine may refuse what came too late for it.
                eventually_async(SOON, &text, async || {
                    let done = session.query_unpaged(text.as_str(), ()).await;
                    done.inspect_err(|error| println!("{error}")).ok().map(drop)
                })
                .await;
            }
            Self::Postgres(place) => {
                place
                    .execute(&text.replace("{ks}", &place.settings.schema))
                    .await;
            }
        }
    }
}

impl Pair {
    pub async fn start(database: Database) -> Self {
        Self::start_on(database.shared_server()).await
    }

    pub async fn start_on(server: DatabaseServer<'_>) -> Self {
        let mut pair = Self::without_services(server, Redis::start(), 20).await;
        for wire in 0..2 {
            let service = Service::start_ready(pair.setup(wire)).await;
            whole(&service).await;
            pair.services.push(service);
        }
        pair
    }

    /// What they stand on, with this many users.
    pub async fn without_services(server: DatabaseServer<'_>, redis: Redis, users: i64) -> Self {
        let wire = || Proxy::start(redis.address());
        let wires = vec![wire(), wire()];
        let pair = Self {
            tables: PairTables::make(server).await,
            redis,
            wires,
            services: Vec::new(),
        };
        for user in 1..=users {
            for asset in 1..=2 {
                pair.tables.write_ledger(user, asset, 1).await;
                pair.tables.write_lagging(user, asset, 1).await;
            }
        }
        pair
    }

    /// What an instance on this wire is given.
    pub fn setup(&self, wire: usize) -> Setup {
        let setup = short(&format!("redis://{}", self.wires[wire].address()));
        match &self.tables {
            PairTables::Cassandra { keyspace, node, .. } => setup
                .with("source.kind", "scylla")
                .with("scylla.nodes", node)
                .with("scylla.keyspace", keyspace)
                .with("scylla.view_check", "off"),
            PairTables::Postgres(place) => setup
                .with("source.kind", "postgres")
                .with("source.read_from", "table")
                .with("postgres.url", &place.settings.url),
        }
    }

    /// Whether the ledger has the row of a user's BTC.
    #[cfg_attr(
        not(feature = "failpoints"),
        expect(dead_code, reason = "only tests of fail points look")
    )]
    pub async fn row(&self, user: u64, seq: i64) -> bool {
        let text = format!(
            "SELECT seq FROM {{ks}}.balance_ledger WHERE user_id = {user} AND asset_id = 1 AND seq = {seq}"
        );
        match &self.tables {
            PairTables::Cassandra {
                session, keyspace, ..
            } => {
                let text = text.replace("{ks}", keyspace);
                let rows = session.query_unpaged(text, ()).await.unwrap();
                rows.into_rows_result().unwrap().rows_num() == 1
            }
            PairTables::Postgres(place) => {
                let text = text.replace("{ks}", &place.settings.schema);
                place.client().await.query(&text, &[]).await.unwrap().len() == 1
            }
        }
    }

    /// A row that what loads read first does not get.
    pub async fn ledger(&self, user: i64, asset: i32, seq: i64) {
        self.tables.write_ledger(user, asset, seq).await;
    }

    /// A row that it gets now.
    #[cfg_attr(
        not(feature = "failpoints"),
        expect(dead_code, reason = "only tests of fail points fill the view")
    )]
    pub async fn view(&self, user: i64, asset: i32, seq: i64) {
        self.tables.write_lagging(user, asset, seq).await;
    }

    pub fn both(&self) -> (&Service, &Service) {
        (&self.services[0], &self.services[1])
    }
}
