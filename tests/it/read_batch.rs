//! Batches: order and duplicates kept, one round trip to Redis for all that memory lacks, one failure fails it.

use serde_json::{Value, json};

use crate::{
    read_tiers::calm,
    support::{
        cassandra::shared,
        databases::on_each_database,
        redis::Redis,
        service::{Answer, Service},
        stage::{Database, Stage, are, balances, counted, in_order, is_failure, loads, shown, way},
    },
};

async fn batch(service: &Service, users: &[u64]) -> Answer {
    service
        .post("/api/v1/user/balances", &json!({ "user_ids": users }))
        .await
}

/// Whose balances, in the answer's order, and how many each has.
#[track_caller]
fn whose(answer: &Answer) -> Vec<(u64, usize)> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let one = |item: &Value| {
        (
            item["user_id"].as_u64().unwrap(),
            balances(&item["balances"]).len(),
        )
    };
    answer.data().as_array().unwrap().iter().map(one).collect()
}

/// Calls of a command that this Redis has seen.
fn calls(redis: &Redis, command: &str) -> u64 {
    let info: String = redis.ask(&["INFO", "commandstats"]);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next())
        .map_or(0, |calls| calls.parse().unwrap())
}

async fn a_batch_keeps_order_and_duplicates_and_each_user_is_a_read(database: Database) {
    let stage = Stage::on(database).await;
    stage.has(7, &[(1, 300_000_000), (2, 600_000_000)]).await;
    stage.has(3, &[(3, 300_000_000)]).await;
    for redis in [None, Some(Redis::start())] {
        let setup = redis
            .as_ref()
            .map_or(stage.setup(), |redis| calm(stage.setup().and(redis)));
        let service = Service::start_ready(setup).await;
        in_order(&service).await;
        let before = counted(&service, "reads_total", &[]).await;
        for cold in [true, false] {
            let answer = batch(&service, &[7, 999, 3, 7, 3]).await;
            assert_eq!(
                whose(&answer),
                [(7, 2), (999, 0), (3, 1), (7, 2), (3, 1)],
                "{cold}"
            );
            let first = answer.data()[0].clone();
            assert_eq!(
                balances(&first["balances"]),
                are(&[("BTC", "3", 3), ("USDT", "6", 3)])
            );
            assert!(first.get("detail").is_none());
        }
        assert_eq!(counted(&service, "reads_total", &[]).await - before, 10);
        assert_eq!(
            loads(&service).await,
            3,
            "a user who is named twice is loaded once"
        );
        assert_eq!(way(&service.balances(7).await), "memory; hit");
        assert!(whose(&batch(&service, &[]).await).is_empty());
    }
}

async fn what_memory_lacks_is_asked_of_redis_in_one_round_trip(database: Database) {
    let stage = Stage::on(database).await;
    stage.has(5, &[(1, 300_000_000)]).await;
    let redis = Redis::start();
    // Totals look at their hash in Redis on a clock of their own, which would be counted too.
    let setup = calm(stage.setup().and(&redis))
        .with("limits.deadline_ms", 30_000)
        .with("redis.timeout_ms", 10_000)
        .with("memory.ttl_ms", 50_000)
        .with("redis.snapshot_ttl_ms", 3_600_000)
        .with("settlement.floor_ttl_ms", 7_200_000)
        .with("totals.interval_ms", 0);
    let filler = Service::start_ready(setup.clone()).await;
    in_order(&filler).await;
    let users: Vec<u64> = (1..=1_000).collect();
    // Absence is held like balances are.
    assert_eq!(whose(&batch(&filler, &users).await).len(), 1_000);
    let reader = Service::start_ready(setup).await;
    in_order(&reader).await;
    assert_eq!(
        way(&reader.balances(5).await),
        "redis; hit, memory; fwd=miss"
    );
    let before = (
        calls(&redis, "hgetall"),
        counted(&reader, "tier_seconds_count", &["redis", r#"op="get""#]).await,
    );
    let answer = batch(&reader, &users).await;
    assert_eq!(whose(&answer)[4], (5, 1));
    let asked = calls(&redis, "hgetall") - before.0;
    // Trials of readiness ask for a hash now and then: the more of them, the longer this took.
    assert!(
        (999..1_500).contains(&asked),
        "{asked}: each that memory lacks, once"
    );
    let trips = counted(&reader, "tier_seconds_count", &["redis", r#"op="get""#]).await - before.1;
    assert_eq!(trips, 1);
    assert_eq!(loads(&reader).await, 0);
    assert_eq!(way(&reader.balances(1_000).await), "memory; hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_that_fails_fails_the_request_and_the_others_are_kept() {
    let stage = Stage::new(shared()).await;
    stage.has(1, &[(1, 300_000_000)]).await;
    let session = shared().session().await;
    let corrupt = "INSERT INTO {ks}.balance_ledger (user_id, asset_id, seq, avail, frozen) VALUES (2, 0, 1, 1, 1)";
    stage.place().cql(&session, corrupt).await;
    let service = Service::start_ready(stage.setup()).await;
    let one = service.balances(2).await;
    is_failure(&one, 503, 5031);
    is_failure(&batch(&service, &[1, 2, 3]).await, 503, 5031);
    assert_eq!(whose(&batch(&service, &[1, 3]).await), [(1, 1), (3, 0)]);
    is_failure(&batch(&service, &[0]).await, 400, 1001);
    is_failure(
        &batch(&service, &(1..=1_001).collect::<Vec<_>>()).await,
        400,
        1001,
    );
}

async fn seed_fault_10_a_batch_shows_assets_outside_the_catalogue_raw(database: Database) {
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000), (77, 300)]).await;
    let service = Service::start_ready(stage.setup()).await;
    let expected = are(&[("BTC", "3", 3), ("77", "300", 3)]);
    let answer = batch(&service, &[1]).await.data();
    assert_eq!(balances(&answer[0]["balances"]), expected);
    assert_eq!(answer[0]["balances"][1]["unit"], "raw");
    assert_eq!(shown(&service.balances(1).await), expected);
}

on_each_database! {
    a_batch_keeps_order_and_duplicates_and_each_user_is_a_read,
    what_memory_lacks_is_asked_of_redis_in_one_round_trip,
    seed_fault_10_a_batch_shows_assets_outside_the_catalogue_raw,
}
