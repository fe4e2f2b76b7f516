//! What most tests of reading start with: a ledger with balances in either database, the settings that lead there, and what is counted.

use std::{net::SocketAddr, time::Duration};

use balance_cache::config::ReadFrom;
use serde_json::{Value, json};

use super::{
    cassandra::{self, Cassandra},
    cql::{Place, catalogue, entry},
    eventually::eventually_async,
    pg_place::PgPlace,
    postgres::{self, PgServer},
    redis::Redis,
    service::{Answer, Service, Setup},
};

/// How long anything may take that comes by itself.
pub const SOON: Duration = Duration::from_mins(1);

/// The database under a test: that which all tests of this program share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Cassandra,
    Postgres,
}

/// A ledger of a test's own, with all tables.
#[derive(Debug)]
pub struct Stage {
    ledger: StageLedger,
}

#[derive(Debug)]
enum StageLedger {
    Cassandra { place: Place, node: String },
    Postgres(PgPlace),
}

impl Stage {
    pub async fn new(node: &Cassandra) -> Self {
        let place = Place::new(node)
            .with(|settings| settings.keyspace = settings.keyspace.to_lowercase())
            .applied()
            .await;
        let node = node.node();
        Self {
            ledger: StageLedger::Cassandra { place, node },
        }
    }

    /// The same in PostgreSQL.
    pub async fn in_postgres(server: &PgServer) -> Self {
        let place = PgPlace::create(server).await.applied().await;
        Self {
            ledger: StageLedger::Postgres(place),
        }
    }

    /// On the server that all tests share.
    pub async fn on(database: Database) -> Self {
        match database {
            Database::Cassandra => Self::new(cassandra::shared()).await,
            Database::Postgres => Self::in_postgres(postgres::shared()).await,
        }
    }

    /// The keyspace, of a stage on Cassandra.
    pub fn place(&self) -> &Place {
        match &self.ledger {
            StageLedger::Cassandra { place, .. } => place,
            StageLedger::Postgres(_) => panic!("PostgreSQL has no keyspace"),
        }
    }

    /// The database, of a stage on PostgreSQL.
    pub fn pg_place(&self) -> Option<&PgPlace> {
        match &self.ledger {
            StageLedger::Cassandra { .. } => None,
            StageLedger::Postgres(place) => Some(place),
        }
    }

    /// Where its database listens.
    pub fn address(&self) -> SocketAddr {
        match &self.ledger {
            StageLedger::Cassandra { node, .. } => node.parse().unwrap(),
            StageLedger::Postgres(place) => place.address(),
        }
    }

    /// The user's newest balances: asset and amount, behind a history of three rows each. The view has them on return.
    pub async fn has(&self, user: i64, balances: &[(i32, i64)]) {
        let place = match &self.ledger {
            StageLedger::Cassandra { place, .. } => place,
            StageLedger::Postgres(place) => {
                for (asset, avail) in balances {
                    for seq in 1..=3 {
                        place.put_row(user, *asset, seq, avail * seq / 3).await;
                    }
                }
                return;
            }
        };
        let writer = place.open(ReadFrom::View, &catalogue([1, 2, 3])).await;
        let rows: Vec<_> = balances
            .iter()
            .flat_map(|(asset, avail)| {
                (1..=3).map(move |seq| entry(user, *asset, seq, avail * seq / 3))
            })
            .collect();
        writer.writes(&rows).await;
        let newest: Vec<_> = balances
            .iter()
            .map(|(asset, avail)| (*asset, 3, *avail))
            .collect();
        writer.shows(user, &newest).await;
    }

    /// One more row, told to nobody.
    pub async fn row(&self, user: i64, asset: i32, seq: i64, avail: i64) {
        let place = match &self.ledger {
            StageLedger::Cassandra { place, .. } => place,
            StageLedger::Postgres(place) => return place.put_row(user, asset, seq, avail).await,
        };
        let writer = place.open(ReadFrom::View, &catalogue([1, 2, 3])).await;
        writer.writes(&[entry(user, asset, seq, avail)]).await;
    }

    /// Settings that read this ledger.
    pub fn setup(&self) -> Setup {
        self.setup_at(self.address())
    }

    /// The same by another address: a proxy's.
    pub fn setup_at(&self, address: SocketAddr) -> Setup {
        match &self.ledger {
            StageLedger::Cassandra { place, .. } => Setup::default()
                .with("source.kind", "scylla")
                .with("scylla.nodes", address)
                .with("scylla.keyspace", &place.settings.keyspace),
            StageLedger::Postgres(place) => Setup::default()
                .with("source.kind", "postgres")
                .with("postgres.url", place.url_at(address)),
        }
    }
}

impl Setup {
    /// With this Redis before the source.
    pub fn and(self, redis: &Redis) -> Self {
        self.with("redis.url", redis.url())
    }
}

/// Waits until the instance is ready with nothing to complain of, and proves that it is fresh.
pub async fn in_order(service: &Service) {
    readiness(service, "ready", "").await;
}

/// Waits until `/readyz` says this status, with a reason that contains `part`.
pub async fn readiness(service: &Service, status: &str, part: &str) -> Answer {
    let what = format!("/readyz says {status}: {part}");
    eventually_async(SOON, &what, async || {
        let said = service.get_ops("/readyz").await;
        let fits = said.json()["status"] == status && said.body.contains(part);
        fits.then_some(said)
    })
    .await
}

/// What all series of this name with all of these labels count together.
pub async fn counted(service: &Service, name: &str, labels: &[&str]) -> u64 {
    let page = service.get_ops("/metrics").await.body;
    let name = format!("balance_cache_{name}");
    let of = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let named = series == name || series.starts_with(&format!("{name}{{"));
        (named && labels.iter().all(|label| series.contains(label)))
            .then(|| value.parse::<u64>().unwrap())
    };
    let found: Vec<u64> = page.lines().filter_map(of).collect();
    assert!(!found.is_empty(), "no series {name} {labels:?}\n{page}");
    found.iter().sum()
}

/// Loads from the source so far.
pub async fn loads(service: &Service) -> u64 {
    counted(
        service,
        "tier_seconds_count",
        &[r#"tier="source""#, r#"op="load""#],
    )
    .await
}

/// asset, avail, seq of an answer's `data`.
#[track_caller]
pub fn shown(answer: &Answer) -> Vec<(String, String, i64)> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    balances(&answer.data())
}

/// The same of a list of balances.
pub fn balances(list: &Value) -> Vec<(String, String, i64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let balance = |b: &Value| {
        (
            text(&b["asset"]),
            text(&b["avail"]),
            b["seq"].as_i64().unwrap(),
        )
    };
    list.as_array().unwrap().iter().map(balance).collect()
}

/// What [`shown`] is compared with.
pub fn are(expected: &[(&str, &str, i64)]) -> Vec<(String, String, i64)> {
    let owned =
        |(asset, avail, seq): &(&str, &str, i64)| ((*asset).to_owned(), (*avail).to_owned(), *seq);
    expected.iter().map(owned).collect()
}

/// A failure as the contract has it: code, envelope, never cached.
#[track_caller]
pub fn is_failure(answer: &Answer, code: u16, status: u64) {
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (code, &json!(status)),
        "{}",
        answer.body
    );
    assert!(answer.data().is_null(), "{}", answer.body);
    assert_eq!(answer.header("cache-control"), "no-store");
    if code == 503 {
        assert_ne!(answer.header("retry-after"), "");
    }
}

/// A `Cache-Status` without its seconds.
pub fn way(answer: &Answer) -> String {
    let text = answer.cache_status();
    let parts = text.split("; ").filter(|part| !part.starts_with("ttl="));
    let mut way = parts.collect::<Vec<_>>().join("; ");
    // A ttl can end a member: "hit; ttl=9, memory; …".
    if let Some(at) = text.find("ttl=")
        && let Some(end) = text[at..].find(", ")
    {
        let rest = &text[at + end..];
        way = format!("{}{rest}", text[..at].trim_end_matches("; "));
    }
    way
}
