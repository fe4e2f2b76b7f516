//! The runs: the service under faults, and the wrong service without any.

use std::{
    collections::BTreeMap,
    fmt::{Debug, Write as _},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{sync::Mutex, task::JoinSet};

use crate::{
    audit::{audited, found_nothing},
    clients::{self, ASSETS, LATE_ASSET, Workload},
    clustered,
    history::{Amounts, Kind, Rules, Violation},
    ledger::CqlWriter,
    nemesis::{Database, Nemesis, WITH_CASSANDRA},
    pace::pace,
    support::{
        cassandra::shared,
        eventually::eventually_async,
        proxy::Proxy,
        redis::Redis,
        service::{Service, Setup},
        tables::make_tables,
    },
    world::{INSTANCES, World},
    wrong,
};

pub const MAX_STALENESS: Duration = Duration::from_millis(350);
/// The latest that the view gets a row.
pub const LAG_MAX: Duration = Duration::from_secs(10);
/// How long the view may take to catch up when all is healed.
pub const CATCH_UP: Duration = Duration::from_mins(2);
/// Violations that are told at length.
const STORIES: usize = 20;

/// Runs share the machine and the database: one after the other.
pub static TURN: Mutex<()> = Mutex::const_new(());

pub fn rules() -> Rules {
    Rules {
        amounts: Amounts::Computed,
        max_staleness: MAX_STALENESS,
        assets: ASSETS.to_vec(),
        catalogue: (1..=LATE_ASSET).collect(),
    }
}

/// A number from the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "a long run is told by the environment"
)]
pub fn told(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a long run is told by the environment"
)]
fn clustered_redis() -> bool {
    std::env::var("BALANCE_CACHE_CHAOS_REDIS").is_ok_and(|kind| kind == "cluster")
}

/// Settings of an instance with this database and this Redis.
pub fn setup(nodes: &str, keyspace: &str, redis: &str) -> Setup {
    audited(setup_beside(redis))
        .with("source.kind", "scylla")
        .with("scylla.nodes", nodes)
        .with("scylla.keyspace", keyspace)
        .with("scylla.view_check", "off")
}

/// Settings of an instance with this Redis, whatever its database is.
pub fn setup_beside(redis: &str) -> Setup {
    let mut file = String::new();
    for asset in 1..=LATE_ASSET {
        writeln!(
            file,
            "[[assets]]\nid = {asset}\nname = \"A{asset}\"\ndecimals = 0"
        )
        .unwrap();
    }
    writeln!(
        file,
        "[[symbols]]\nid = 1\nname = \"A1_A2\"\nbase = \"A1\"\nquote = \"A2\""
    )
    .unwrap();
    let setup = Setup {
        file,
        ..Setup::default()
    };
    setup
        .with("redis.url", redis)
        .with("redis.snapshot_ttl_ms", 1_500)
        .with("memory.ttl_ms", 1_000)
        .with("redis.timeout_ms", 100)
        .with("source.timeout_ms", 1_000)
        .with("limits.deadline_ms", 1_500)
        .with("settlement.max_staleness_ms", MAX_STALENESS.as_millis())
        .with("settlement.claim_idle_ms", 1_000)
        // Above snapshot, memory, deadline and budget by more than the view lags, the pauses of databases included.
        .with("settlement.floor_ttl_ms", 20_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_promises_hold_whatever_fails() {
    let _turn = TURN.lock().await;
    let (seconds, seed) = (
        told("BALANCE_CACHE_CHAOS_SECONDS", 60),
        told("BALANCE_CACHE_CHAOS_SEED", 1),
    );
    if clustered_redis() {
        return clustered::run(seconds, seed).await;
    }
    eprintln!("chaos for {seconds} s, seed {seed}");
    let load = Workload {
        users: 60,
        writers: 4,
        readers: 12,
        think: Duration::from_millis(25),
        lag_max: LAG_MAX,
        all_ways: true,
        stream: true,
        outbox: false,
    };
    let (node, redis) = (shared(), Redis::start());
    make_tables(&node.session().await, "chaos", 1).await;
    let proxies: Vec<_> = (0..INSTANCES)
        .map(|_| Proxy::start(redis.address()))
        .collect();
    let mut services = Vec::new();
    for proxy in &proxies {
        services.push(
            Service::start_ready(setup(
                &node.node(),
                "chaos",
                &format!("redis://{}", proxy.address()),
            ))
            .await,
        );
    }
    let instances = [services[0].http(), services[1].http()];
    let mut background = JoinSet::new();
    let ledger = CqlWriter::open_writer(node.session().await, "chaos").await;
    let world = World::new(ledger, redis.url(), instances, &mut background);
    let nemesis = Nemesis {
        redis,
        database: Database::Cassandra(node),
        services,
        proxies,
        injected: BTreeMap::new(),
        users: load.users,
        faults: WITH_CASSANDRA,
        pause_max: Duration::from_millis(2_500),
    };
    nothing_is_broken(&world, nemesis, load, Duration::from_secs(seconds), seed).await;
}

/// Lets clients run while the nemesis does its work. In the end no promise was broken, and all tiers agree.
pub async fn nothing_is_broken(
    world: &Arc<World>,
    mut nemesis: Nemesis,
    load: Workload,
    time: Duration,
    seed: u64,
) {
    let clients = start(world, load, seed).await;
    nemesis.run(world, time, seed).await;
    let mut found = rest(world, clients).await;
    for service in &nemesis.services {
        service.ready().await;
    }
    let tiers = at_rest(world, load, &mut found).await;
    report(world, &found, &nemesis.injected);
    assert!(found.is_empty(), "{} violations", found.len());
    assert!(
        tiers.contains_key("memory") && tiers.len() > 1,
        "every tier was asked"
    );
    found_nothing(&mut nemesis.services).await;
    for service in &mut nemesis.services {
        assert_eq!(service.terminate(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_service_is_found_out() {
    let _turn = TURN.lock().await;
    let load = Workload {
        users: 20,
        writers: 2,
        readers: 4,
        think: Duration::from_millis(20),
        lag_max: LAG_MAX,
        all_ways: false,
        stream: false,
        outbox: false,
    };
    let (node, redis) = (shared(), Redis::start());
    make_tables(&node.session().await, "wrong", 1).await;
    let mut background = JoinSet::new();
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let session = node.session().await;
        instances.push(wrong::start(&redis.url(), session, "wrong", &mut background).await);
    }
    let instances = instances.try_into().unwrap();
    let ledger = CqlWriter::open_writer(node.session().await, "wrong").await;
    let world = World::new(ledger, redis.url(), instances, &mut background);
    let clients = start(&world, load, 1).await;
    let history = &world.history;
    let kinds = ["P1", "P2"];
    eventually_async(
        Duration::from_mins(1),
        "both promises are seen broken",
        async || {
            let found = history.lock().check(&rules());
            kinds
                .iter()
                .all(|kind| found.iter().any(|one| one.promise == *kind))
                .then_some(())
        },
    )
    .await;
    let found = rest(&world, clients).await;
    report(&world, &found, &"none");
    assert!(!found.is_empty());
}

/// Starts writers and readers.
pub async fn start(world: &Arc<World>, load: Workload, seed: u64) -> JoinSet<()> {
    let seqs = clients::first_rows(world, load).await;
    world.caught_up(CATCH_UP).await;
    let mut clients = JoinSet::new();
    for me in 0..load.writers {
        clients.spawn(clients::write(
            Arc::clone(world),
            load,
            me,
            seqs.clone(),
            seed ^ (me << 8),
        ));
    }
    for me in 0..load.readers {
        clients.spawn(clients::read(
            Arc::clone(world),
            load,
            seed ^ (me << 16) ^ 1,
        ));
    }
    clients
}

/// No more is written, the view catches up, and all that was seen is checked.
pub async fn rest(world: &Arc<World>, clients: JoinSet<()>) -> Vec<Violation> {
    end(world, clients).await;
    world.history.lock().check(&rules())
}

/// No more is written, and the view catches up.
pub async fn end(world: &Arc<World>, mut clients: JoinSet<()>) {
    world.over.store(true, Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    world.caught_up(LAG_MAX + CATCH_UP).await;
    pace(MAX_STALENESS).await;
}

/// All tiers agree with the ledger; memory and Redis answer the second time at the latest. Returns who answered how many.
pub async fn at_rest(
    world: &World,
    load: Workload,
    found: &mut Vec<Violation>,
) -> BTreeMap<String, u64> {
    let mut tiers: BTreeMap<String, u64> = BTreeMap::new();
    for user in 1..=load.users {
        for instance in [0, 1, 0, 1] {
            for read in clients::ask(world, instance, Kind::Single, &[user]).await {
                let tier = read.status.split(';').next().unwrap_or_default().to_owned();
                *tiers.entry(tier).or_default() += 1;
                found.extend(world.history.lock().check_at_rest(&read));
            }
        }
    }
    eprintln!("at rest: {tiers:?}");
    tiers
}

/// Tells what was seen; returns how many of 1,000 reads were answered.
pub fn report<T: Debug>(world: &World, found: &[Violation], faults: &T) -> u64 {
    let history = world.history.lock();
    let failures = world.failures.lock();
    let unread: u64 = failures
        .iter()
        .filter(|(what, _)| what.starts_with("read"))
        .map(|(_, count)| count)
        .sum();
    let reads = u64::try_from(history.reads.len()).unwrap();
    let mut answered: BTreeMap<String, u64> = BTreeMap::new();
    for read in &history.reads {
        let tier = read.status.split(';').next().unwrap_or_default();
        let outcome = if read.kind == Kind::Batch {
            "batch"
        } else {
            read.detail.as_deref().unwrap_or(tier)
        };
        *answered.entry(outcome.to_owned()).or_default() += 1;
    }
    eprintln!("reads checked: {reads} {answered:?}");
    eprintln!(
        "rows: {}, notifications: {:?}",
        history.rows.len(),
        world.notifications.lock()
    );
    eprintln!("faults: {faults:?}");
    let permille = (reads * 1000).checked_div(reads + unread).unwrap_or(0);
    eprintln!(
        "availability of reads: {}.{} %, not answered: {failures:?}",
        permille / 10,
        permille % 10
    );
    let mut by_promise: BTreeMap<&str, u64> = BTreeMap::new();
    for violation in found {
        *by_promise.entry(violation.promise).or_default() += 1;
    }
    eprintln!("violations: {} {by_promise:?}", found.len());
    for violation in found.iter().take(STORIES) {
        eprintln!("  {violation}");
    }
    permille
}
