//! The ways to a Redis: a cluster of six nodes, TLS, a Unix socket, a namespace, and whose balances it holds.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde_json::json;

use crate::{
    read_tiers::calm,
    redis_compat::acknowledged,
    settlement_support::SETTLEMENTS,
    support::{
        cassandra::shared,
        databases::on_each_database,
        eventually::eventually_async,
        redis::{Options, Redis},
        redis_cluster::RedisCluster,
        service::{Service, Setup},
        stage::{Database, SOON, Stage, are, in_order, readiness, shown, way},
    },
};

const COLD: &str = "source; hit, redis; fwd=miss, memory; fwd=miss";

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_serves_reads_batches_and_settlements_and_survives_the_loss_of_a_master() {
    let stage = Stage::new(shared()).await;
    for user in 1..=3 {
        stage.has(user, &[(1, 300_000_000 * user)]).await;
    }
    let mut cluster = RedisCluster::start();
    // Six servers, Cassandra and two services take turns at few cores; who is slow is not gone.
    let setup = calm(stage.setup())
        .with("redis.mode", "cluster")
        .with("redis.url", cluster.url())
        .with("limits.deadline_ms", 28_000)
        .with("memory.ttl_ms", 60_000);
    let one = Service::start_ready(setup.clone()).await;
    let other = Service::start_ready(setup).await;
    in_order(&one).await;
    in_order(&other).await;
    all_tiers_answer(&one, &other, 1).await;
    let users: Vec<u64> = (1..=60).collect();
    let answer = one
        .post("/api/v1/user/balances", &json!({ "user_ids": users }))
        .await;
    let list = answer.data();
    assert_eq!(
        (
            list.as_array().unwrap().len(),
            &list[1]["balances"][0]["avail"]
        ),
        (60, &json!("6"))
    );

    let settled: Vec<_> = (1..=30).map(|user| json!({"user_id": user, "asset_id": 1, "seq": 4, "avail": 400_000_000, "frozen": 0})).collect();
    let told = eventually_async(SOON, "all are settled", async || {
        let told = one.post(SETTLEMENTS, &json!(settled)).await;
        (told.status == 200).then(|| told.data())
    })
    .await;
    // All are new, unless they had to be sent again.
    assert_eq!(
        told["applied"].as_u64().unwrap() + told["old"].as_u64().unwrap(),
        30
    );
    eventually_async(SOON, "memory shows it", async || {
        let seen = one.balances(30).await;
        assert_eq!(shown(&seen), are(&[("BTC", "4", 4)]));
        (way(&seen) == "memory; hit").then_some(())
    })
    .await;
    for user in 1..=30 {
        let what = format!("the other instance shows what user {user} has");
        eventually_async(SOON, &what, async || {
            let seen = other.balances(user).await;
            (shown(&seen) == are(&[("BTC", "4", 4)])).then_some(())
        })
        .await;
    }

    is_settled_while_its_slot_moves(&mut cluster, &one).await;

    let master = cluster.masters()[0];
    cluster.nodes()[master].kill9();
    fails_over(&one, &other).await;
}

/// Twenty users of whom nobody asked, of all slots and from this one on, are answered by each tier; a few more where a server stood
/// still.
async fn all_tiers_answer(one: &Service, other: &Service, from: u64) {
    let next = AtomicU64::new(from);
    for _ in 0..20 {
        eventually_async(SOON, "all tiers answer", async || {
            let user = next.fetch_add(1, SeqCst);
            let ways = [
                one.balances(user).await.cache_status(),
                way(&other.balances(user).await),
                way(&other.balances(user).await),
            ];
            let as_told = ways == [COLD, "redis; hit, memory; fwd=miss", "memory; hit"];
            if !as_told {
                in_order(one).await;
                in_order(other).await;
            }
            as_told.then_some(())
        })
        .await;
    }
    let asked = next.load(SeqCst) - from;
    assert!(asked <= 25, "{asked} users for twenty");
}

/// A slot in migration: what is not at its old master is asked for at the new one (`ASK`).
async fn is_settled_while_its_slot_moves(cluster: &mut RedisCluster, service: &Service) {
    let key = "balance:user:77";
    let masters = cluster.masters();
    let nodes = cluster.nodes();
    let owns = |at: &usize| {
        let mut connection = nodes[*at].connection();
        let asked: redis::RedisResult<i64> = redis::cmd("EXISTS").arg(key).query(&mut connection);
        asked.is_ok()
    };
    let (owners, others): (Vec<usize>, Vec<usize>) = masters.into_iter().partition(owns);
    let (from, to) = (&nodes[owners[0]], &nodes[others[0]]);
    let slot = from.ask::<i64>(&["CLUSTER", "KEYSLOT", key]).to_string();
    let id = |node: &Redis| node.ask::<String>(&["CLUSTER", "MYID"]);
    let _: String = to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
    let _: String = from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    let told = json!({"user_id": 77, "asset_id": 1, "seq": 5, "avail": 500_000_000, "frozen": 0});
    acknowledged(service, SETTLEMENTS, &told).await;
    assert_eq!(to.ask::<i64>(&["CLUSTER", "COUNTKEYSINSLOT", &slot]), 1);
    for node in [from, to] {
        let _: String = node.ask(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
    }
}

/// Right while the slots of the lost master are nobody's, and whole when a replica has them.
async fn fails_over(one: &Service, other: &Service) {
    for user in 1..=40 {
        for service in [one, other] {
            let answer = service.balances(user).await;
            let least = if user <= 30 { 4 } else { 0 };
            assert!(
                shown(&answer).first().map_or(0, |balance| balance.2) >= least,
                "{user}: {}",
                answer.body
            );
        }
    }
    eventually_async(2 * SOON, "a replica took over", async || {
        let told = one
            .post(
                SETTLEMENTS,
                &json!({"user_id": 1, "asset_id": 1, "seq": 5, "avail": 500_000_000, "frozen": 0}),
            )
            .await;
        assert_eq!(shown(&other.balances(2).await), are(&[("BTC", "4", 4)]));
        (told.status == 200).then_some(())
    })
    .await;
    in_order(one).await;
    in_order(other).await;
    all_tiers_answer(one, other, 1_001).await;
    eventually_async(SOON, "the feed goes on", async || {
        (shown(&other.balances(1).await) == are(&[("BTC", "5", 5)])).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_works_with_the_right_authority_and_degrades_with_a_wrong_one() {
    let stage = Stage::new(shared()).await;
    stage.has(1, &[(1, 300_000_000)]).await;
    let tls = || {
        Redis::start_with(Options {
            tls: true,
            ..Options::default()
        })
    };
    let (redis, stranger) = (tls(), tls());
    let with =
        |ca: &Redis| calm(stage.setup().and(&redis)).with("redis.ca_file", ca.ca_file().display());
    let right = Service::start_ready(with(&redis)).await;
    in_order(&right).await;
    assert_eq!(right.balances(1).await.cache_status(), COLD);

    let wrong = Service::start_ready(with(&stranger)).await;
    readiness(&wrong, "degraded", "redis: ").await;
    let answer = wrong.balances(1).await;
    assert_eq!(shown(&answer), are(&[("BTC", "3", 3)]));
    assert_eq!(
        answer.cache_status(),
        "source; hit, redis; fwd=bypass, memory; fwd=miss"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_the_urls_users_and_in_its_database() {
    let stage = Stage::new(shared()).await;
    let redis = Redis::start();
    let rule = [
        "ACL", "SETUSER", "reader", "on", ">a word", "~*", "&*", "+@all",
    ];
    redis.ask::<String>(&rule);
    let url = |password| format!("redis://reader:{password}@{}/3", redis.address());
    let setup = |password| calm(stage.setup()).with("redis.url", url(password));
    let one = Service::start_ready(setup("a%20word")).await;
    let other = Service::start_ready(setup("a%20word")).await;
    in_order(&one).await;
    in_order(&other).await;
    assert_eq!(one.balances(1).await.cache_status(), COLD);
    assert_eq!(
        way(&other.balances(1).await),
        "redis; hit, memory; fwd=miss"
    );
    assert!(!redis.ask::<bool>(&["EXISTS", "balance:user:1"]));
    let theirs = |client: &&str| client.contains(" user=reader ") && client.contains(" db=3 ");
    // A connection that is being opened is nobody's yet.
    let what = "each has its five connections, and there are no others";
    eventually_async(SOON, what, async || {
        let clients: String = redis.ask(&["CLIENT", "LIST"]);
        let (theirs, rest): (Vec<_>, Vec<_>) = clients.lines().partition(theirs);
        let is_ours = |client: &&str| client.contains("cmd=client|list");
        (theirs.len() >= 2 * 5 && rest.iter().all(is_ours)).then_some(())
    })
    .await;

    let wrong = Service::start_ready(setup("another")).await;
    readiness(&wrong, "degraded", "redis: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_as_good() {
    let stage = Stage::new(shared()).await;
    let redis = Redis::start();
    let setup = calm(stage.setup()).with("redis.url", redis.unix_url());
    let service = Service::start_ready(setup.clone()).await;
    in_order(&service).await;
    assert_eq!(service.balances(1).await.cache_status(), COLD);
    assert!(redis.ask::<bool>(&["EXISTS", "balance:user:1"]));
    let other = Service::start_ready(setup).await;
    in_order(&other).await;
    assert_eq!(
        way(&other.balances(1).await),
        "redis; hit, memory; fwd=miss"
    );
}

async fn a_redis_that_holds_another_sources_balances_is_refused_until_it_has_a_namespace(
    database: Database,
) {
    let (mine, others) = (Stage::on(database).await, Stage::on(database).await);
    mine.has(1, &[(1, 300_000_000)]).await;
    others.has(1, &[(1, 600_000_000)]).await;
    let redis = Redis::start();
    // What it holds is still there at the end.
    let setup = calm(mine.setup().and(&redis)).with("redis.snapshot_ttl_ms", 300_000);
    let first = Service::start_ready(setup).await;
    in_order(&first).await;
    assert_eq!(shown(&first.balances(1).await), are(&[("BTC", "3", 3)]));

    for setup in [others.setup(), Setup::default()] {
        let refused = Service::start(setup.and(&redis)).await;
        let said = readiness(&refused, "not_ready", "redis.namespace").await;
        assert_eq!(
            (said.status, refused.get_ops("/livez").await.status),
            (503, 200)
        );
        let answer = refused.balances(1).await;
        assert_ne!(answer.cache_status(), "redis; hit, memory; fwd=miss");
        assert!(
            answer.status != 200 || shown(&answer) != are(&[("BTC", "3", 3)]),
            "another source's money"
        );
        assert_ne!(
            refused
                .post(
                    SETTLEMENTS,
                    &json!({"user_id": 1, "asset_id": 1, "seq": 9, "avail": 9, "frozen": 0})
                )
                .await
                .status,
            200
        );
    }
    assert_eq!(shown(&first.balances(1).await), are(&[("BTC", "3", 3)]));

    a_namespace_of_its_own(&others, &redis).await;
    assert_eq!(
        shown(&first.balances(2).await),
        are(&[]),
        "namespaces share nothing"
    );
}

/// Every key but the stream of settlements has the prefix.
async fn a_namespace_of_its_own(others: &Stage, redis: &Redis) {
    let named = others
        .setup()
        .and(redis)
        .with("redis.namespace", "x")
        .with("settlement.stream", "other:events");
    let second = Service::start_ready(named).await;
    in_order(&second).await;
    assert_eq!(shown(&second.balances(1).await), are(&[("BTC", "6", 3)]));
    let told = json!({"user_id": 2, "asset_id": 1, "seq": 9, "avail": 9, "frozen": 0});
    acknowledged(&second, SETTLEMENTS, &told).await;
    let _: String = redis.ask(&["XADD", "other:events", "*", "event", "nonsense"]);
    eventually_async(SOON, "the dead stream is ours", async || {
        redis
            .ask::<bool>(&["EXISTS", "x:other:events:dead"])
            .then_some(())
    })
    .await;
    let mut keys: Vec<String> = redis.ask(&["KEYS", "*"]);
    // Totals are made on their own clock.
    keys.retain(|key| !key.starts_with("x:") && !key.starts_with("balance:total"));
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "balance:epoch",
            "balance:invalidations",
            "balance:source",
            "balance:user:1",
            "other:events",
            "settlement:events"
        ]
    );
    let dead: u64 = redis.ask(&["XLEN", "x:other:events:dead"]);
    assert!(dead >= 1, "once, or again where Redis was silent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_evicts_is_used_and_said_to_be_degraded() {
    let settings = vec![("maxmemory-policy", "allkeys-lru".to_owned())];
    let redis = Redis::start_with(Options {
        settings,
        ..Options::default()
    });
    let service = Service::start_ready(calm(Setup::default().and(&redis))).await;
    readiness(&service, "degraded", "noeviction").await;
    assert_eq!(service.balances(1001).await.cache_status(), COLD);
    assert_eq!(way(&service.balances(1001).await), "memory; hit");
}

on_each_database! {
    a_redis_that_holds_another_sources_balances_is_refused_until_it_has_a_namespace,
}
