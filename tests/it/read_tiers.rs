//! The way of a read through the tiers, told by its `Cache-Status`: memory, Redis, Cassandra; and without a Redis.

use std::time::Instant;

use reqwest::Method;

use crate::support::{
    databases::on_each_database,
    eventually::eventually_async,
    redis::Redis,
    service::{Answer, Service, Setup},
    stage::{Database, SOON, Stage, are, in_order, is_failure, loads, shown, way},
};

const COLD: &str = "source; hit, redis; fwd=miss, memory; fwd=miss";

/// A Redis that stands still for some seconds, or an instance that does, changes the way of no read.
pub fn calm(setup: Setup) -> Setup {
    setup
        .with("redis.timeout_ms", 4_000)
        .with("redis.connect_timeout_ms", 5_000)
        .with("settlement.max_staleness_ms", 15_000)
}

async fn fresh(service: &Service, user: u64) -> Answer {
    let path = format!("/api/user/balance?user_id={user}");
    let request = service.request(Method::GET, &path);
    service
        .send(request.header("cache-control", "no-cache"))
        .await
}

fn ttl(answer: &Answer) -> u64 {
    let text = answer.cache_status();
    let (_, after) = text.split_once("ttl=").unwrap();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

async fn seed_fault_21_cold_then_redis_then_memory_by_every_way_of_reading(database: Database) {
    let stage = Stage::on(database).await;
    stage
        .has(1001, &[(1, 910_000_000_000), (2, 12_345), (3, -1)])
        .await;
    let expected = are(&[
        ("BTC", "9100", 3),
        ("USDT", "0.00012345", 3),
        ("ETH", "-0.00000001", 3),
    ]);
    for read_from in ["view", "table", "ledger"] {
        let redis = Redis::start();
        let setup = calm(stage.setup().and(&redis)).with("source.read_from", read_from);
        let first = Service::start_ready(setup.clone()).await;
        let second = Service::start_ready(setup).await;
        in_order(&first).await;
        in_order(&second).await;

        let cold = first.balances(1001).await;
        assert_eq!(
            (shown(&cold), cold.cache_status().as_str()),
            (expected.clone(), COLD),
            "{read_from}"
        );
        let other = second.balances(1001).await;
        assert_eq!(shown(&other), expected);
        assert_eq!(way(&other), "redis; hit, memory; fwd=miss", "{read_from}");
        assert!((50..=60).contains(&ttl(&other)), "{}", other.cache_status());
        for service in [&first, &second] {
            let again = service.balances(1001).await;
            assert_eq!(shown(&again), expected);
            assert_eq!(way(&again), "memory; hit");
            assert!(ttl(&again) <= 10, "{}", again.cache_status());
            assert_eq!(again.body, cold.body);
        }
        assert_eq!((loads(&first).await, loads(&second).await), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_ledger_answers_cold_then_memory_and_unknown_users_have_nothing() {
    let service = Service::start_ready(Setup::default()).await;
    let cold = service.balances(1001).await;
    let shown = shown(&cold);
    assert_eq!(
        (shown.len(), shown[0].0.as_str(), shown[0].1.as_str()),
        (3, "BTC", "9100")
    );
    assert_eq!(
        cold.cache_status(),
        "source; hit, memory; fwd=miss",
        "no Redis is named where none is"
    );
    assert_eq!(way(&service.balances(1001).await), "memory; hit");
    let again = fresh(&service, 1001).await;
    assert_eq!(
        (again.body, way(&cold).as_str()),
        (cold.body.clone(), "source; hit, memory; fwd=miss")
    );
    for expected in ["source; hit, memory; fwd=miss", "memory; hit"] {
        let unknown = service.balances(999_999).await;
        assert_eq!(
            (unknown.status, unknown.data().as_array().unwrap().len()),
            (200, 0)
        );
        assert_eq!(way(&unknown), expected, "absence is held, too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_ledger_before_a_redis_answers_by_three_tiers() {
    let redis = Redis::start();
    let mut service = Service::start_ready(calm(Setup::default().and(&redis))).await;
    in_order(&service).await;
    let cold = service.balances(1001).await;
    assert_eq!(cold.cache_status(), COLD);
    assert_eq!(way(&service.balances(1001).await), "memory; hit");
    // The same ledger in another process, which is the only one again.
    assert_eq!(service.terminate(), 0);
    service.restart().await;
    in_order(&service).await;
    let after = service.balances(1001).await;
    assert_eq!(
        (way(&after).as_str(), after.body),
        ("redis; hit, memory; fwd=miss", cold.body)
    );
}

async fn no_cache_reads_the_ledger_and_refreshes_the_tiers(database: Database) {
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000)]).await;
    let redis = Redis::start();
    let first = Service::start_ready(calm(stage.setup().and(&redis))).await;
    let second = Service::start_ready(calm(stage.setup().and(&redis))).await;
    in_order(&first).await;
    in_order(&second).await;
    assert_eq!(shown(&first.balances(1).await), are(&[("BTC", "3", 3)]));
    stage.row(1, 1, 4, 400_000_000).await;
    let asked = fresh(&first, 1).await;
    assert_eq!(
        shown(&asked),
        are(&[("BTC", "4", 4)]),
        "told to nobody, and seen"
    );
    assert_eq!(
        asked.cache_status(),
        "source; hit, redis; fwd=request, memory; fwd=request"
    );
    let after = first.balances(1).await;
    assert_eq!(
        (shown(&after), way(&after).as_str()),
        (are(&[("BTC", "4", 4)]), "memory; hit")
    );
    let other = second.balances(1).await;
    assert_eq!(
        (shown(&other), way(&other).as_str()),
        (are(&[("BTC", "4", 4)]), "redis; hit, memory; fwd=miss")
    );
}

async fn min_seq_is_reached_in_the_ledger_or_refused_and_a_forged_one_raises_no_floor(
    database: Database,
) {
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000), (2, 300_000_000)]).await;
    let redis = Redis::start();
    let setup = calm(stage.setup().and(&redis)).with("memory.ttl_ms", 60_000);
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    let ask = async |min: &str| {
        service
            .get(&format!("/api/user/balance?user_id=1&min_seq={min}"))
            .await
    };
    shown(&service.balances(1).await);
    assert_eq!(way(&ask("BTC:3,USDT:2").await), "memory; hit");

    for forged in ["BTC:4611686018427387904", "USDT:4", "ETH:1", "77:1"] {
        is_failure(&ask(forged).await, 503, 5032);
        let plain = service.balances(1).await;
        assert_eq!(
            (shown(&plain).len(), way(&plain).as_str()),
            (2, "memory; hit"),
            "{forged}"
        );
    }
    let fields: std::collections::HashMap<String, String> =
        redis.ask(&["HGETALL", "balance:user:1"]);
    assert!(
        !fields
            .keys()
            .any(|field| field.starts_with("f:") || field.starts_with("d:")),
        "{fields:?}"
    );

    stage.row(1, 2, 5, 500_000_000).await;
    let reached = ask("USDT:5").await;
    assert_eq!(shown(&reached), are(&[("BTC", "3", 3), ("USDT", "5", 5)]));
    assert!(
        reached.cache_status().starts_with("source; hit, ")
            && reached.cache_status().contains("memory; fwd=stale"),
        "{}",
        reached.cache_status()
    );
    let after = service.balances(1).await;
    assert_eq!(
        (shown(&after), way(&after).as_str()),
        (are(&[("BTC", "3", 3), ("USDT", "5", 5)]), "memory; hit"),
        "P3: shown once, shown on"
    );
    let only = service
        .get("/api/user/balance?user_id=1&asset=BTC&min_seq=USDT:6")
        .await;
    is_failure(&only, 503, 5032);
}

async fn equal_data_have_equal_tags_on_two_instances_and_age_counts_from_the_source(
    database: Database,
) {
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000), (77, 5)]).await;
    // Memory would hold it for longer than Redis has it.
    let redis = Redis::start();
    let setup = calm(stage.setup().and(&redis))
        .with("redis.snapshot_ttl_ms", 12_000)
        .with("settlement.max_staleness_ms", 3_000)
        .with("memory.ttl_ms", 60_000);
    let first = Service::start_ready(setup.clone()).await;
    let second = Service::start_ready(setup).await;
    in_order(&first).await;
    in_order(&second).await;
    let begun = Instant::now();
    let (one, other) = (first.balances(1).await, second.balances(1).await);
    assert_eq!(way(&other), "redis; hit, memory; fwd=miss");
    for answer in [&one, &other] {
        let age: u64 = answer.header("age").parse().unwrap();
        assert!(age <= begun.elapsed().as_secs() + 1, "{age} s");
    }
    assert_eq!(
        (one.header("etag"), &one.body),
        (other.header("etag"), &other.body)
    );
    assert!(one.header("etag").starts_with('"'), "strong");
    assert_eq!(one.header("cache-control"), "private, no-cache");

    let request = second.request(Method::GET, "/api/user/balance?user_id=1");
    let same = second
        .send(request.header("if-none-match", one.header("etag")))
        .await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    assert_eq!(same.header("etag"), one.header("etag"));
    let request = second.request(Method::GET, "/api/user/balance?user_id=1");
    assert_eq!(
        second
            .send(request.header("if-none-match", "\"other\""))
            .await
            .status,
        200
    );

    let (left, held) = eventually_async(SOON, "memory answers", async || {
        let left: i64 = redis.ask(&["PTTL", "balance:user:1"]);
        let held = second.balances(1).await;
        (way(&held) == "memory; hit").then_some((left, held))
    })
    .await;
    assert!(
        i64::try_from(ttl(&held) * 1_000).unwrap() <= left,
        "{} of {left} ms",
        held.cache_status()
    );
    eventually_async(SOON, "age grows", async || {
        let answer = second.balances(1).await;
        (way(&answer) == "memory; hit" && answer.header("age") != "0").then_some(())
    })
    .await;
    eventually_async(SOON, "memory ends with Redis", async || {
        (way(&second.balances(1).await) != "memory; hit").then_some(())
    })
    .await;
    let only = first
        .get("/api/user/balance?user_id=1&asset=77")
        .await
        .data();
    assert_eq!(
        (only[0]["asset"].as_str(), only[0]["unit"].as_str()),
        (Some("77"), Some("raw"))
    );
}

on_each_database! {
    seed_fault_21_cold_then_redis_then_memory_by_every_way_of_reading,
    no_cache_reads_the_ledger_and_refreshes_the_tiers,
    min_seq_is_reached_in_the_ledger_or_refused_and_a_forged_one_raises_no_floor,
    equal_data_have_equal_tags_on_two_instances_and_age_counts_from_the_source,
}
