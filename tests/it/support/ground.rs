//! A database of a test's own, of either kind, and a look into it behind the service's back.

use std::sync::Arc;

use balance_cache::{
    config::ReadFrom,
    domain::{Asset, Catalogue, Entry, Symbol},
    ledger::Source,
};
use scylla::deserialize::row::DeserializeRow;

use super::{
    cassandra::shared,
    cql::{Place, Running, catalogue, until},
    pg_place::{PgPlace, PgRunning},
    postgres::{self, PgServer},
    service::Setup,
    stage::Stage,
};

/// user, asset, seq, delta of avail, avail, event type, id
pub type LedgerRow = (i64, i32, i64, i64, i64, String, i64);
/// user, asset, seq, avail
pub type CurrentRow = (i64, i32, i64, i64);

/// A source that runs as long as this is kept.
pub struct OpenSource {
    pub source: Arc<dyn Source>,
    running: (Option<Running>, Option<PgRunning>),
}

impl OpenSource {
    /// Writes these, once more where the database stood still for a moment: a repetition changes nothing.
    pub async fn writes(&self, entries: &[Entry]) {
        until("the entries are written", async || {
            self.source.write_entries(entries).await.is_ok()
        })
        .await;
    }

    /// Statements that were sent so far, of a source that counts them.
    pub fn statements_sent(&self) -> Option<u64> {
        let cassandra = self.running.0.as_ref();
        cassandra.map(|running| running.scylla.statements_sent())
    }
}

impl From<Running> for OpenSource {
    fn from(running: Running) -> Self {
        Self {
            source: running.scylla.clone(),
            running: (Some(running), None),
        }
    }
}

impl From<PgRunning> for OpenSource {
    fn from(running: PgRunning) -> Self {
        Self {
            source: running.source.clone(),
            running: (None, Some(running)),
        }
    }
}

impl Stage {
    /// A source over it, whose seqs are assigned elsewhere.
    pub async fn open(&self, read_from: ReadFrom) -> OpenSource {
        if let Some(place) = self.pg_place() {
            return place.open(read_from).await.into();
        }
        let known = catalogue([1, 2, 3]);
        self.place().open(read_from, &known).await.into()
    }
}

/// The catalogue of the defaults, without its last asset and symbol.
pub fn btc_and_usdt() -> Arc<Catalogue> {
    let symbol = Symbol::new(1, "BTC_USDT", "BTC", "USDT");
    let assets = [Asset::new(1, "BTC", 8), Asset::new(2, "USDT", 8)];
    Catalogue::new(&assets, &[symbol]).unwrap().into()
}

/// Tables of the service's own, empty.
#[derive(Debug)]
pub enum Ground {
    /// A keyspace.
    Cassandra(Place),
    /// A database.
    Postgres(PgPlace),
}

impl Ground {
    pub async fn cassandra() -> Self {
        // Of lower case, which a setting from the environment can name.
        let place = Place::new(shared())
            .with(|settings| settings.keyspace = settings.keyspace.to_lowercase() + "_g");
        Self::Cassandra(place.applied().await)
    }

    pub async fn postgres() -> Self {
        Self::Postgres(PgPlace::create(server()).await.applied().await)
    }

    /// With a source that leads here.
    pub fn name_in(&self, setup: Setup) -> Setup {
        match self {
            Self::Cassandra(place) => setup
                .with("source.kind", "scylla")
                .with("scylla.nodes", shared().node())
                .with("scylla.keyspace", &place.settings.keyspace),
            Self::Postgres(place) => setup
                .with("source.kind", "postgres")
                .with("postgres.url", &place.settings.url),
        }
    }

    /// A source over it, whose seqs are assigned elsewhere.
    pub async fn open(&self, read_from: ReadFrom) -> OpenSource {
        match self {
            Self::Cassandra(place) => place.open(read_from, &btc_and_usdt()).await.into(),
            Self::Postgres(place) => place.open(read_from).await.into(),
        }
    }

    /// A statement that either database understands; `{ks}` is the keyspace or schema.
    pub async fn run(&self, text: &str) {
        match self {
            Self::Cassandra(place) => place.cql(&shared().session().await, text).await,
            Self::Postgres(place) => pg_run(place, text).await,
        }
    }

    /// A session of PostgreSQL whose transaction has run this, and is open.
    pub async fn hold(&self, text: &str) -> tokio_postgres::Client {
        let Self::Postgres(place) = self else {
            panic!("Cassandra has no such transactions");
        };
        let client = server().client(&place.database).await;
        let text = text.replace("{ks}", &place.settings.schema);
        client
            .batch_execute(&format!("BEGIN; {text}"))
            .await
            .unwrap();
        client
    }

    /// user, role, order and cost of the sides of all trades of these users in symbol 1, by user.
    pub async fn sides(&self, users: &str) -> Vec<(i64, i16, Option<i64>, i64)> {
        let text = format!(
            "SELECT user_id, role, order_id, cost FROM {{ks}}.user_trades WHERE user_id IN ({users}) AND symbol_id = 1"
        );
        match self {
            Self::Cassandra(place) => {
                let rows = self
                    .cql_rows::<(i64, i8, Option<i64>, i64)>(place, &text)
                    .await;
                let wide = |(user, role, order, cost)| (user, i16::from(role), order, cost);
                rows.into_iter().map(wide).collect()
            }
            Self::Postgres(place) => {
                let rows = pg_rows(place, &text).await;
                let mut sides: Vec<_> = rows
                    .iter()
                    .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
                    .collect();
                sides.sort_unstable();
                sides
            }
        }
    }

    async fn cql_rows<R>(&self, place: &Place, text: &str) -> Vec<R>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
    {
        let session = shared().session().await;
        let keyspace = format!("\"{}\"", place.settings.keyspace);
        let rows = session
            .query_unpaged(text.replace("{ks}", &keyspace), ())
            .await
            .unwrap();
        let rows = rows.into_rows_result().unwrap();
        rows.rows().unwrap().map(Result::unwrap).collect()
    }

    /// The whole ledger, in any order.
    pub async fn ledger_rows(&self) -> Vec<LedgerRow> {
        const COLUMNS: &str = "user_id, asset_id, seq, delta_avail, avail, event_type, ref_id";
        match self {
            Self::Cassandra(place) => {
                let text = format!("SELECT {COLUMNS} FROM {{ks}}.balance_ledger");
                self.cql_rows(place, &text).await
            }
            Self::Postgres(place) => {
                let text = format!("SELECT {COLUMNS} FROM {{ks}}.balance_ledger");
                let rows = pg_rows(place, &text).await;
                let row = |row: &tokio_postgres::Row| {
                    (
                        row.get(0),
                        row.get(1),
                        row.get(2),
                        row.get(3),
                        row.get(4),
                        row.get(5),
                        row.get(6),
                    )
                };
                rows.iter().map(row).collect()
            }
        }
    }

    /// Seq and avail of a newest row of the ledger.
    pub async fn newest_row(&self, user: i64, asset: i32) -> (i64, i64) {
        let of = format!("balance_ledger WHERE user_id = {user} AND asset_id = {asset}");
        match self {
            Self::Cassandra(place) => {
                let text = format!("SELECT seq, avail FROM {{ks}}.{of} LIMIT 1");
                self.cql_rows(place, &text).await[0]
            }
            Self::Postgres(place) => {
                let text = format!("SELECT seq, avail FROM {{ks}}.{of} ORDER BY seq DESC LIMIT 1");
                let rows = pg_rows(place, &text).await;
                (rows[0].get(0), rows[0].get(1))
            }
        }
    }

    /// All of `user_balances`, in any order.
    pub async fn current_rows(&self) -> Vec<CurrentRow> {
        const COLUMNS: &str = "user_id, asset_id, version, avail";
        match self {
            Self::Cassandra(place) => {
                let text = format!("SELECT {COLUMNS} FROM {{ks}}.user_balances");
                self.cql_rows(place, &text).await
            }
            Self::Postgres(place) => {
                let rows = pg_rows(
                    place,
                    &format!("SELECT {COLUMNS} FROM {{ks}}.user_balances"),
                )
                .await;
                let row =
                    |row: &tokio_postgres::Row| (row.get(0), row.get(1), row.get(2), row.get(3));
                rows.iter().map(row).collect()
            }
        }
    }

    /// What stands and is not known to be in effect everywhere.
    pub async fn unfinished(&self) -> usize {
        match self {
            Self::Cassandra(place) => {
                let text =
                    "SELECT position FROM {ks}.ledger_journal WHERE journal = 0 AND position > 0";
                self.cql_rows::<(i64,)>(place, text).await.len()
            }
            Self::Postgres(place) => pg_rows(place, "SELECT seq FROM {ks}.redis_outbox")
                .await
                .len(),
        }
    }
}

async fn pg_rows(place: &PgPlace, text: &str) -> Vec<tokio_postgres::Row> {
    let client = server().client(&place.database).await;
    let text = text.replace("{ks}", &place.settings.schema);
    client.query(&text, &[]).await.unwrap()
}

async fn pg_run(place: &PgPlace, text: &str) {
    let text = text.replace("{ks}", &place.settings.schema);
    server().execute(&place.database, &text).await;
}

/// The server of all of these.
fn server() -> &'static PgServer {
    postgres::shared()
}

/// A test of each name on each database, by a function that is given the ground.
macro_rules! on_each_ground {
    ($($name:ident),+ $(,)?) => {
        mod cassandra {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::support::ground::Ground::cassandra().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::support::ground::Ground::postgres().await).await;
            })+
        }
    };
}

pub(crate) use on_each_ground;
