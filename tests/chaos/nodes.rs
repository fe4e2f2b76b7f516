//! Three databases at replication factor 3, one of them dead most of the time: in turn, the one that the service's
//! configuration names first to begin with. At last one is replaced by an empty one.
//!
//! Nothing else is broken here, so what is not answered is the fault of how the service uses a cluster.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::{JoinSet, block_in_place};

use crate::{
    clients::Workload,
    ledger::CqlWriter,
    pace::pace,
    run::{TURN, at_rest, report, rest, setup, start, told},
    support::{
        cassandra_cluster::{CassandraCluster, NODES},
        eventually::eventually_async,
        names::{NAME, Names},
        redis::Redis,
        service::{Service, Setup},
        tables::make_tables,
    },
    world::{INSTANCES, World},
};

const KEYSPACE: &str = "nodes";
/// Of 1,000 reads. Nearly all are answered where the machine has time for three databases and for one that starts beside them; without
/// that time a statement may take longer than a read waits for it.
const AVAILABLE_MIN: u64 = 500;
/// How long an instance that is ready may fail, at the moment at which a database died.
const ANSWERED: Duration = Duration::from_mins(1);
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_database_of_three_may_be_killed() {
    let _turn = TURN.lock().await;
    let (seconds, seed) = (
        told("BALANCE_CACHE_CHAOS_SECONDS", 20),
        told("BALANCE_CACHE_CHAOS_SEED", 1),
    );
    eprintln!("three databases for {seconds} s, seed {seed}");
    let load = Workload {
        users: 60,
        writers: 4,
        readers: 12,
        // Leaves time of the machine to the node that starts again.
        think: Duration::from_millis(50),
        lag_max: Duration::from_secs(3),
        all_ways: true,
        stream: true,
        outbox: false,
    };
    let mut cluster = block_in_place(CassandraCluster::start);
    let redis = Redis::start();
    let session = cluster.session().await;
    cluster.whole(&session).await;
    make_tables(&session, KEYSPACE, NODES).await;
    let setup = setup(&cluster.nodes(), KEYSPACE, &redis.url())
        .with("source.timeout_ms", 2_000)
        .with("limits.deadline_ms", 4_500);
    let mut services = Vec::new();
    for _ in 0..INSTANCES {
        services.push(Service::start_ready(setup.clone()).await);
    }
    let instances = [services[0].http(), services[1].http()];
    let mut background = JoinSet::new();
    let ledger = CqlWriter::open_writer(session, KEYSPACE).await;
    let world = World::new(ledger, redis.url(), instances, &mut background);
    let clients = start(&world, load, seed).await;
    let killed = kill_in_turn(
        &mut cluster,
        &world,
        &setup,
        Duration::from_secs(seconds),
        seed,
    )
    .await;
    replace_one(&mut cluster, &world).await;
    let mut found = rest(&world, clients).await;
    let tiers = at_rest(&world, load, &mut found).await;
    let available = report(&world, &found, &killed);
    assert!(found.is_empty(), "{} violations", found.len());
    assert!(
        tiers.contains_key("memory") && tiers.len() > 1,
        "every tier was asked"
    );
    assert!(
        available >= AVAILABLE_MIN,
        "{available} of 1,000 reads were answered"
    );
    for what in world.failures.lock().keys() {
        let clear = !what.starts_with("POST") || what.ends_with(" 503") || what.ends_with(" 504");
        assert!(clear, "a write that is not done is 503, or late: {what}");
    }
    for service in &mut services {
        assert_eq!(service.terminate(), 0);
    }
}

/// Kills one node after the other and brings it back, until the time is over and all are there. Sometimes it is silent
/// before it dies: its connections stay and nobody answers. Returns how often each was killed, and was silent first.
async fn kill_in_turn(
    cluster: &mut CassandraCluster,
    world: &Arc<World>,
    setup: &Setup,
    time: Duration,
    seed: u64,
) -> BTreeMap<(usize, bool), u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let end = world.now() + time;
    let session = cluster.session().await;
    let late = by_one_name(&cluster.nodes(), setup);
    let mut killed = BTreeMap::new();
    for at in (0..usize::from(NODES)).cycle() {
        if world.now() >= end {
            break;
        }
        pace(Duration::from_millis(rng.random_range(500..2_000))).await;
        let silent_first = rng.random_bool(0.3);
        if silent_first {
            eprintln!("{:>9.3?} node {at} is silent", world.now());
            cluster.node(at).pause();
            if at == 0 {
                starts_without_the_first(world, &late.1).await;
            }
            pace(Duration::from_millis(rng.random_range(500..4_000))).await;
        }
        eprintln!("{:>9.3?} node {at} is killed", world.now());
        block_in_place(|| cluster.node(at).stop());
        *killed.entry((at, silent_first)).or_default() += 1;
        if at == 0 {
            starts_without_the_first(world, &late.1).await;
        }
        pace(Duration::from_millis(rng.random_range(500..2_000))).await;
        block_in_place(|| cluster.node(at).start_again());
        cluster.whole(&session).await;
        eprintln!("{:>9.3?} node {at} is back", world.now());
    }
    killed
}

/// The same with one name for all nodes, as a DNS server tells them.
fn by_one_name(nodes: &str, setup: &Setup) -> (Names, Setup) {
    let nodes: Vec<(&str, &str)> = nodes
        .split(',')
        .filter_map(|node| node.split_once(':'))
        .collect();
    let addresses: Vec<&str> = nodes.iter().map(|(address, _)| *address).collect();
    let names = Names::compile();
    let setup = setup
        .clone()
        .with("scylla.nodes", format!("{NAME}:{}", nodes[0].1));
    let setup = names.tell(setup, &addresses);
    (names, setup)
}

/// Kills a node for good, and starts one without its data in its place, which takes its part of the ring.
async fn replace_one(cluster: &mut CassandraCluster, world: &World) {
    let at = usize::from(NODES) - 1;
    let session = cluster.session().await;
    block_in_place(|| cluster.node(at).stop());
    let begun = world.now();
    block_in_place(|| cluster.node(at).replace());
    cluster.whole(&session).await;
    let took = world.now().saturating_sub(begun);
    eprintln!("node {at} was replaced in {took:?}");
}

/// An instance that finds the first of its nodes dead comes up by the others.
async fn starts_without_the_first(world: &World, setup: &Setup) {
    let begun = world.now();
    // Less than it takes to give up a silent node.
    let setup = setup.clone().with("scylla.connect_timeout_ms", 1_000);
    let mut late = Service::start_ready(setup).await;
    let took = world.now().saturating_sub(begun);
    eprintln!("an instance was ready after {took:?}");
    eventually_async(ANSWERED, "it answers", async || {
        (late.balances(1).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(late.terminate(), 0);
}
