//! The ledger in PostgreSQL: a primary and a synchronous standby that replays late and is read from (`postgres.read_urls`).
//!
//! Both are killed and stand still, and they change places. A commit is acknowledged when both have it, so what a failover
//! keeps is what the database promises; all else is up to the service.

use std::{collections::BTreeMap, time::Duration};

use tokio::task::JoinSet;

use crate::{
    audit::audited,
    clients::Workload,
    ledger::LedgerWriter,
    nemesis::{Database, Nemesis},
    pg_faults::WITH_POSTGRES,
    pg_writer::PgWriter,
    run::{TURN, nothing_is_broken, setup_beside, told},
    support::{
        pg_pair::{PairPlace, PgPair},
        proxy::Proxy,
        redis::Redis,
        service::{Service, Setup},
    },
    world::{INSTANCES, World},
};

/// How much later than it could the standby shows a row.
pub const REPLAY_DELAY: Duration = Duration::from_secs(2);

/// The longest time between two faults.
pub const PAUSE_MAX: Duration = Duration::from_millis(600);

/// Settings of an instance with this pair and this Redis.
pub fn setup_on(place: &PairPlace, redis: &str) -> Setup {
    setup_beside(redis)
        .with("source.kind", "postgres")
        .with("postgres.url", place.url())
        .with(
            "postgres.read_urls",
            format!("{},{}", place.url_of(0), place.url_of(1)),
        )
}

/// The same for a command, for which no reader waits: a statement has the time that a busy machine needs.
pub fn at_leisure(setup: &Setup) -> Setup {
    setup
        .clone()
        .with("source.timeout_ms", 15_000)
        .with("limits.deadline_ms", 15_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_promise_is_broken_while_postgresql_fails() {
    let _turn = TURN.lock().await;
    let (seconds, seed) = (
        told("BALANCE_CACHE_CHAOS_SECONDS", 15),
        told("BALANCE_CACHE_CHAOS_SEED", 1),
    );
    eprintln!("PostgreSQL for {seconds} s, seed {seed}");
    let load = Workload {
        users: 60,
        writers: 4,
        readers: 12,
        think: Duration::from_millis(25),
        lag_max: Duration::ZERO,
        all_ways: true,
        stream: true,
        outbox: true,
    };
    let (pair, redis) = (PgPair::start("chaos", REPLAY_DELAY).await, Redis::start());
    let proxies: Vec<_> = (0..INSTANCES)
        .map(|_| Proxy::start(redis.address()))
        .collect();
    let mut services = Vec::new();
    for proxy in &proxies {
        let redis = format!("redis://{}", proxy.address());
        let setup = audited(setup_on(&pair.place, &redis)).with("postgres.outbox.enabled", true);
        if services.is_empty() {
            let apply = ["schema", "apply", "--outbox"];
            let (code, said, wrong) = at_leisure(&setup).run(&apply);
            assert_eq!(code, 0, "{said}{wrong}");
        }
        services.push(Service::start_ready(setup).await);
    }
    let instances = [services[0].http(), services[1].http()];
    let mut background = JoinSet::new();
    let ledger = LedgerWriter::Postgres(PgWriter::new(&pair.place));
    let world = World::new(ledger, redis.url(), instances, &mut background);
    let nemesis = Nemesis {
        redis,
        database: Database::Postgres(Box::new(pair)),
        services,
        proxies,
        injected: BTreeMap::new(),
        users: load.users,
        faults: WITH_POSTGRES,
        pause_max: PAUSE_MAX,
    };
    nothing_is_broken(&world, nemesis, load, Duration::from_secs(seconds), seed).await;
    let told = world.notifications.lock().clone();
    for way in ["entry", "values", "seq", "asset", "user", "outbox"] {
        assert!(told.contains_key(way), "{way}: {told:?}");
    }
}
