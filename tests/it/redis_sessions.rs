//! The session with Redis: it ends when the server is no master, or no longer what it was, and goes on when only a connection broke.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use balance_cache::cache::redis::entry::VERSION;
use serde_json::json;

use crate::{
    read_tiers::calm,
    redis_compat::acknowledged,
    settlement_support::{ENTRIES, SETTLEMENTS, SOON, embedded, short, values},
    support::{
        eventually::{eventually, eventually_async},
        redis::{Options, Redis},
        rewrite::Rewriter,
        service::{Service, Setup},
        stage::{in_order, is_failure, readiness, way},
    },
};

fn epoch(redis: &Redis) -> String {
    redis.ask(&["HGET", "balance:epoch", "id"])
}

/// As [`embedded`]; that Redis or the instance stands still for a moment ends no session.
async fn steady(redis: &Redis) -> Service {
    let setup = short(&redis.url())
        .with("redis.timeout_ms", 4_000)
        .with("redis.connect_timeout_ms", 5_000);
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    service
}

/// Gives a user a balance and reads it until memory answers.
async fn remembered(service: &Service, user: u64) {
    let entry = json!({"user_id": user, "asset_id": 1, "seq": 1, "avail": 100, "frozen": 0});
    acknowledged(service, ENTRIES, &entry).await;
    answered_from_memory(service, user).await;
}

async fn answered_from_memory(service: &Service, user: u64) {
    eventually_async(SOON, "memory answers", async || {
        (way(&service.balances(user).await) == "memory; hit").then_some(())
    })
    .await;
}

async fn answered_by_the_source(service: &Service, user: u64) {
    eventually_async(SOON, "the source answers", async || {
        let from = service.balances(user).await.cache_status();
        from.starts_with("source; hit").then_some(())
    })
    .await;
}

// === the role ===

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_master_proves_nothing_and_acknowledges_nothing() {
    // Such a replica takes writes, and loses them.
    let redis = Redis::start_with(Options {
        settings: vec![("replica-read-only", "no".to_owned())],
        ..Options::default()
    });
    let mut service = embedded(&redis).await;
    remembered(&service, 1).await;
    let before = epoch(&redis);

    // To a master that is not there: its link stays down, and it answers reads as ever.
    let _: String = redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    is_failure(
        &service.post(SETTLEMENTS, &values(1, 1, 2, 200)).await,
        503,
        5033,
    );
    let said = readiness(
        &service,
        "degraded",
        "is a replica (its link to the master is down)",
    );
    assert!(said.await.body.contains("name the master in redis.url"));
    // Memory answers for as long as what it read from the ledger itself is young.
    answered_by_the_source(&service, 1).await;

    let _: String = redis.ask(&["REPLICAOF", "NO", "ONE"]);
    in_order(&service).await;
    acknowledged(&service, SETTLEMENTS, &values(1, 1, 2, 200)).await;
    assert_ne!(epoch(&redis), before, "its data may be another master's");
    let log = service.process().stderr();
    assert!(log.contains("redis session ended"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_another_master_proves_nothing_though_reads_alone_come() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    remembered(&service, 1).await;
    let _: String = redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    answered_by_the_source(&service, 1).await;
    readiness(&service, "degraded", "is a replica").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_replica_is_no_other_redis_and_a_fence_is_asked_for() {
    let redis = Redis::start();
    let mut service = steady(&redis).await;
    remembered(&service, 1).await;
    let before = (epoch(&redis), history(&redis));
    let port = redis.address().port();
    let replica = Redis::start_with(Options {
        settings: vec![("replicaof", format!("127.0.0.1 {port}"))],
        ..Options::default()
    });
    // The advice says that the keeper has seen it.
    let log = service.process();
    eventually(SOON, "the replica is seen", || {
        let advice = "has 1 replicas and no min-replicas-to-write";
        log.stderr().contains(advice).then_some(())
    });
    assert_ne!(
        history(&redis),
        before.1,
        "Redis begins a new history for its first replica"
    );
    acknowledged(&service, SETTLEMENTS, &values(1, 1, 2, 200)).await;
    answered_from_memory(&service, 1).await;
    assert_eq!(epoch(&redis), before.0);
    let log = service.process().stderr();
    assert!(!log.contains("redis session ended"), "{log}");
    drop(replica);
}

fn history(redis: &Redis) -> String {
    let info: String = redis.ask(&["INFO", "replication"]);
    let line = info.lines().find(|line| line.starts_with("master_replid:"));
    line.unwrap().to_owned()
}

// === the clock ===

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_redis_clock_is_another_epoch_forward_and_back() {
    let redis = Redis::start();
    let relay = Rewriter::start(
        redis.address(),
        &[("server_time_usec:17", "server_time_usec:19")],
    );
    relay.switch(false);
    let url = format!("redis://{}", relay.address());
    let mut service = Service::start_ready(short(&url)).await;
    in_order(&service).await;
    remembered(&service, 1).await;
    let mut before = epoch(&redis);
    for forward in [true, false] {
        relay.switch(forward);
        eventually(SOON, "another epoch", || {
            (epoch(&redis) != before).then_some(())
        });
        in_order(&service).await;
        before = epoch(&redis);
        answered_from_memory(&service, 1).await;
    }
    assert_eq!(epoch(&redis), before, "one step is one epoch");
    let log = service.process().stderr();
    let steps = log.matches("redis session ended reason=redis: the clock of");
    assert_eq!(steps.count(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_is_served_for_longer_than_one_may_live() {
    let redis = Redis::start();
    // One may live for a minute.
    let service = Service::start_ready(calm(Setup::default().and(&redis))).await;
    in_order(&service).await;
    let epoch = epoch(&redis);
    for (user, left_ms, hit) in [(5, 50_000, true), (6, 3_600_000, false)] {
        let seconds: Vec<u64> = redis.ask(&["TIME"]);
        let until = seconds[0] * 1_000 + left_ms;
        let header = format!("{VERSION} {epoch} {until} 1");
        let key = format!("balance:user:{user}");
        let _: i64 = redis.ask(&["HSET", &key, "v", &header, "b:1", "9 900 0 - 9"]);
        let answer = service.balances(user).await;
        assert_eq!(
            answer.cache_status().starts_with("redis; hit"),
            hit,
            "{}",
            answer.cache_status()
        );
    }
}

// === connections ===

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_redis_ends_are_replaced_and_the_session_goes_on() {
    let redis = Redis::start();
    let mut service = steady(&redis).await;
    remembered(&service, 1).await;
    let before = epoch(&redis);
    for seq in 2..6 {
        let _: i64 = redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        acknowledged(&service, SETTLEMENTS, &values(1, 1, seq, 100)).await;
    }
    in_order(&service).await;
    answered_from_memory(&service, 1).await;
    assert_eq!(epoch(&redis), before);
    let log = service.process().stderr();
    assert!(!log.contains("redis session ended"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_idle_for_as_long_as_a_timeout_of_redis() {
    let redis = Redis::start();
    let _: String = redis.ask(&["CONFIG", "SET", "timeout", "2"]);
    let service = steady(&redis).await;
    let field = |line: &str, name: &str| {
        let mut words = line.split(' ');
        let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.unwrap().parse::<u64>().unwrap()
    };
    let what = "all of them are older than the timeout, and none is idle";
    eventually(SOON, what, || {
        let list: String = redis.ask(&["CLIENT", "LIST", "TYPE", "normal"]);
        let ours: Vec<_> = list
            .lines()
            .filter(|line| !line.contains("cmd=client"))
            .collect();
        let old = ours.iter().filter(|line| field(line, "age") >= 4).count();
        let idle = ours.iter().map(|line| field(line, "idle")).max();
        // A reader, the writer, the lane and the two that follow streams. One of an instance that stood still is another one since.
        (old >= 5 && idle <= Some(1)).then_some(())
    });
    in_order(&service).await;
}

/// A relay of which one connection, by number, stops to bring answers when it is told to.
struct Deaf {
    address: SocketAddr,
    swallows: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl Deaf {
    fn start(server: SocketAddr, number: usize) -> Self {
        let listener = TcpListener::bind((server.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (swallows, accepted) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (switch, count) = (Arc::clone(&swallows), Arc::clone(&accepted));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let at = count.fetch_add(1, Ordering::SeqCst);
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                let back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
                let switch = if at == number {
                    Arc::clone(&switch)
                } else {
                    Arc::default()
                };
                thread::spawn(move || copy(client, upstream, &AtomicBool::new(false)));
                thread::spawn(move || copy(back.0, back.1, &switch));
            }
        });
        Self {
            address,
            swallows,
            accepted,
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, swallows: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !swallows.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_swallows_is_replaced_while_the_others_work() {
    // In the order in which a session opens them: the writer, a reader, the connection for hashes.
    for number in [0, 1, 2] {
        let redis = Redis::start();
        let relay = Deaf::start(redis.address(), number);
        // One that cannot be opened at once would be another number.
        let setup = Setup::default()
            .with("redis.url", format!("redis://{}", relay.address))
            .with("redis.connect_timeout_ms", 10_000);
        let mut service = Service::start_ready(setup).await;
        in_order(&service).await;
        let opened = relay.accepted.load(Ordering::SeqCst);
        assert!(opened >= 3, "{opened}");
        relay.swallows.store(true, Ordering::SeqCst);
        let log = service.process();
        eventually(SOON, "it is replaced", || {
            let log = log.stderr();
            let replaced = log.contains("redis connection") && log.contains("replaced");
            replaced.then_some(())
        });
        let next = AtomicU64::new(9);
        eventually_async(SOON, "Redis is asked", async || {
            let answer = service.balances(next.fetch_add(1, Ordering::SeqCst)).await;
            let way = answer.cache_status();
            way.starts_with("source; hit, redis; fwd=miss")
                .then_some(())
        })
        .await;
        acknowledged(&service, SETTLEMENTS, &values(1, 1, 2, 100)).await;
        let log = service.process().stderr();
        assert!(!log.contains("redis session ended"), "{number}: {log}");
    }
}
