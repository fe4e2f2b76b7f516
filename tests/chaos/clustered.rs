//! Redis as a cluster of six, whose masters are killed one after the other: a replica takes over, without what had not
//! reached it yet.
//!
//! For long runs only, and without events by stream: see `main.rs`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::task::{JoinSet, block_in_place};

use crate::{
    clients::Workload,
    ledger::CqlWriter,
    pace::pace,
    run::{LAG_MAX, at_rest, report, rest, setup, start},
    support::{
        cassandra::shared, eventually::eventually, redis_cluster::RedisCluster, service::Service,
        tables::make_tables,
    },
    world::{INSTANCES, World},
};

const KEYSPACE: &str = "clustered";
const MASTERS: usize = 3;
/// How long a replica may take to become a master.
const FAILOVER: Duration = Duration::from_secs(30);

/// The run.
pub async fn run(seconds: u64, seed: u64) {
    eprintln!("a cluster of Redis for {seconds} s, seed {seed}");
    let load = Workload {
        users: 60,
        writers: 4,
        readers: 12,
        think: Duration::from_millis(25),
        lag_max: LAG_MAX,
        all_ways: true,
        stream: false,
        outbox: false,
    };
    let node = shared();
    let mut cluster = block_in_place(RedisCluster::start);
    make_tables(&node.session().await, KEYSPACE, 1).await;
    let setup = setup(&node.node(), KEYSPACE, &cluster.url()).with("redis.mode", "cluster");
    let mut services = Vec::new();
    for _ in 0..INSTANCES {
        services.push(Service::start_ready(setup.clone()).await);
    }
    let instances = [services[0].http(), services[1].http()];
    let mut background = JoinSet::new();
    let ledger = CqlWriter::open_writer(node.session().await, KEYSPACE).await;
    let world = World::new(ledger, cluster.url(), instances, &mut background);
    let clients = start(&world, load, seed).await;
    let killed = kill_masters(&mut cluster, &world, Duration::from_secs(seconds), seed).await;
    let mut found = rest(&world, clients).await;
    at_rest(&world, load, &mut found).await;
    report(&world, &found, &killed);
    assert!(found.is_empty(), "{} violations", found.len());
    for service in &mut services {
        assert_eq!(service.terminate(), 0);
    }
}

/// Kills a master, waits for its replica to take over, and brings it back empty, as that one's replica. Returns how often
/// each was killed.
async fn kill_masters(
    cluster: &mut RedisCluster,
    world: &Arc<World>,
    time: Duration,
    seed: u64,
) -> BTreeMap<usize, u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let end = world.now() + time;
    let mut killed = BTreeMap::new();
    while world.now() < end {
        pace(Duration::from_millis(rng.random_range(100..4_000))).await;
        let masters = block_in_place(|| cluster.masters());
        let one = *masters.choose(&mut rng).unwrap();
        eprintln!("{:>9.3?} master {one} is killed", world.now());
        *killed.entry(one).or_default() += 1;
        block_in_place(|| {
            cluster.nodes()[one].kill9();
            eventually(FAILOVER, "a replica takes over", || {
                (cluster.masters().len() == MASTERS).then_some(())
            });
        });
        eprintln!("{:>9.3?} its replica has taken over", world.now());
        pace(Duration::from_millis(rng.random_range(0..3_000))).await;
        block_in_place(|| {
            cluster.nodes()[one].launch();
            cluster.await_settled();
        });
    }
    killed
}
