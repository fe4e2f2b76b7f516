//! The users that were read most are loaded after a start: before the instance is ready, or beside its first reads.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{
    databases::on_each_database,
    eventually::eventually_async,
    redis::Redis,
    service::{Service, Setup},
    stage::{Database, SOON, Stage, counted, in_order, loads},
};

const USERS: u64 = 200;
/// How often an instance may be started in a test: one that does not reach Redis in two seconds, or whose Redis stands still for a moment
/// meanwhile, does without what it would have loaded.
const STARTS: usize = 5;

/// Waits until all users are in the lists of the hours.
async fn all_are_listed(redis: &Redis) {
    eventually_async(SOON, "all users are in the list", async || {
        let keys: Vec<String> = redis.ask(&["KEYS", "balance:most_read:*"]);
        let users = keys
            .iter()
            .flat_map(|key| redis.ask::<Vec<u64>>(&["ZRANGE", key, "0", "-1"]));
        let users: BTreeSet<u64> = users.collect();
        users.into_iter().eq(1..=USERS).then_some(())
    })
    .await;
}

async fn write_users(service: &Service) {
    let entry =
        |user| json!({"user_id": user, "asset_id": 1, "seq": 1, "avail": user, "frozen": 0});
    let entries: Vec<_> = (1..=USERS).map(entry).collect();
    let written = service
        .post_until_taken("/api/v1/ledger/entries", &json!(entries))
        .await;
    assert_eq!(written.status, 200, "{}", written.body);
}

async fn read_all(service: &Service) -> usize {
    let mut hits = 0;
    for user in 1..=USERS {
        let answer = service.balances(user).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        hits += usize::from(answer.cache_status().starts_with("memory; hit"));
    }
    hits
}

fn setup(stage: &Stage, redis: &Redis) -> Setup {
    stage
        .setup()
        .and(redis)
        .with("memory.ttl_ms", 60_000)
        .with("limits.source_loads", 8)
        .with("memory.warm_on_start", "before_ready")
        .with("memory.warm_max_ms", 50_000)
}

async fn the_most_read_users_are_in_memory_when_a_restarted_instance_is_ready(database: Database) {
    let (stage, redis) = (Stage::on(database).await, Redis::start());
    let mut service = Service::start_ready(setup(&stage, &redis)).await;
    in_order(&service).await;
    assert_eq!(
        counted(&service, "warm_users", &[]).await,
        0,
        "nobody was read yet"
    );
    write_users(&service).await;
    read_all(&service).await;
    let before = read_all(&service).await;
    all_are_listed(&redis).await;
    let mut starts = Vec::new();
    loop {
        // The longest way: Redis has their names and nothing of their balances.
        for user in 1..=USERS {
            let _: i64 = redis.ask(&["DEL", &format!("balance:user:{user}")]);
        }
        service.restart().await;
        service.ready().await;
        let loaded = counted(&service, "warmed_users_total", &[r#"result="loaded""#]).await;
        let of_source = loads(&service).await;
        let after = read_all(&service).await;
        if (loaded, of_source) == (USERS, USERS) && after * 10 >= before * 9 {
            break;
        }
        starts.push((loaded, of_source, after));
        assert!(
            starts.len() < STARTS,
            "loaded, of the source, hits: {starts:?}, and {before} hits before"
        );
    }
    let page = service.get_ops("/dashboard/data").await;
    assert!(
        page.body.contains("200 of 200 users loaded, 0 not"),
        "{}",
        page.body
    );
}

async fn an_instance_waits_for_its_users_and_not_for_ever(database: Database) {
    let (stage, redis) = (Stage::on(database).await, Redis::start());
    let slow = setup(&stage, &redis)
        .with("memory.warm_users_per_second", 4)
        .with("memory.warm_max_ms", 10_000);
    let mut service = Service::start_ready(slow).await;
    in_order(&service).await;
    write_users(&service).await;
    read_all(&service).await;
    all_are_listed(&redis).await;
    let mut starts = 0;
    while !waits_after_restart(&mut service).await {
        starts += 1;
        assert!(starts < STARTS, "it waits for nobody");
    }
    service.ready().await;
    let loaded = counted(&service, "warmed_users_total", &[r#"result="loaded""#]).await;
    assert!(loaded < USERS, "{loaded}: it waited for all");
    assert_eq!(counted(&service, "warm_under_way", &[]).await, 1);
}

/// Whether an instance that is started again waits for its users before it is ready.
async fn waits_after_restart(service: &mut Service) -> bool {
    service.restart().await;
    let service = &*service;
    eventually_async(SOON, "it waits, or is ready", async || {
        let said = service.get_ops("/readyz").await;
        let waits = said.json()["status"] == "not_ready" && said.body.contains(" of 200 users");
        (waits || said.status == 200).then_some(waits)
    })
    .await
}

#[expect(clippy::disallowed_methods, reason = "the hour of the list in Redis")]
async fn a_list_that_cannot_be_read_keeps_nobody_waiting(database: Database) {
    let (stage, redis) = (Stage::on(database).await, Redis::start());
    let hour = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        / 3600;
    for hour in [hour, hour + 1] {
        let _: String = redis.ask(&["SET", &format!("balance:most_read:{hour}"), "no list"]);
    }
    let service = Service::start_ready(setup(&stage, &redis)).await;
    assert_eq!(counted(&service, "warm_under_way", &[]).await, 0);
    write_users(&service).await;
    assert_eq!(service.balances(7).await.status, 200);
}

on_each_database! {
    the_most_read_users_are_in_memory_when_a_restarted_instance_is_ready,
    an_instance_waits_for_its_users_and_not_for_ever,
    a_list_that_cannot_be_read_keeps_nobody_waiting,
}
