//! Reads while the database is stopped or silent: 503, never an empty balance; what is held is answered; back by itself.

use serde_json::json;

use crate::{
    read_tiers::calm,
    redis_compat::acknowledged,
    settlement_support::{SETTLEMENTS, add},
    support::{
        databases::{OwnServer, on_each_database},
        desk::holds_whole,
        eventually::eventually_async,
        proxy::{Mode, Proxy, Way},
        redis::Redis,
        service::{Answer, Service, Setup},
        stage::{Database, SOON, Stage, are, counted, in_order, is_failure, readiness, shown, way},
    },
};

async fn behind_a_proxy(database: Database) -> (Stage, Proxy) {
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000), (2, 600_000_000)]).await;
    let proxy = Proxy::start(stage.address());
    (stage, proxy)
}

async fn back(service: &Service, user: u64) -> Answer {
    let what = "the source answers again";
    eventually_async(SOON, what, async || {
        let answer = service.balances(user).await;
        if answer.status != 200 {
            is_failure(&answer, 503, 5031);
        }
        (answer.status == 200).then_some(answer)
    })
    .await
}

/// Reads the user until memory and Redis hold it.
async fn held(service: &Service, redis: &Redis, user: u64) {
    eventually_async(SOON, "memory and Redis hold the user", async || {
        let answer = back(service, user).await;
        (way(&answer) == "memory; hit" && holds_whole(redis, user)).then_some(())
    })
    .await;
}

async fn seed_fault_08_a_source_that_is_away_at_start_is_503_and_never_poverty_and_comes_by_itself(
    database: Database,
) {
    let mut node = OwnServer::start_durable(database);
    let stage = Stage::at(node.server()).await;
    stage.has(1, &[(1, 300_000_000)]).await;
    node.stop();
    let redis = Redis::start();
    let service = Service::start(stage.setup().and(&redis)).await;
    assert_eq!(service.get_ops("/livez").await.status, 200);
    let not_ready = readiness(&service, "not_ready", "source: ").await;
    assert_eq!(not_ready.status, 503);
    is_failure(&service.balances(1).await, 503, 5031);
    is_failure(&service.balances(999_999).await, 503, 5031);
    let batch = service
        .post("/api/v1/user/balances", &json!({"user_ids": [1, 2]}))
        .await;
    is_failure(&batch, 503, 5031);
    assert!(!not_ready.body.contains("panicked"));
    node.start_again();
    in_order(&service).await;
    assert_eq!(shown(&back(&service, 1).await), are(&[("BTC", "3", 3)]));
    assert!(shown(&back(&service, 999_999).await).is_empty());

    // And when it goes away later: killed, not the wire.
    node.stop();
    readiness(&service, "degraded", "source: ").await;
    is_failure(&service.balances(2).await, 503, 5031);
    node.start_again();
    in_order(&service).await;
    assert!(shown(&back(&service, 2).await).is_empty());
}

async fn while_the_source_is_cut_off_or_silent_what_is_held_is_answered_and_nothing_else(
    database: Database,
) {
    let (stage, proxy) = behind_a_proxy(database).await;
    let expected = are(&[("BTC", "3", 3), ("USDT", "6", 3)]);
    for mode in [
        Mode::Cut,
        Mode::Swallow(Way::Both),
        Mode::Stall(Way::ToClient),
    ] {
        let redis = Redis::start();
        let setup = calm(stage.setup_at(proxy.address()).and(&redis))
            .with("source.timeout_ms", 1_000)
            .with("memory.ttl_ms", 60_000)
            .with("redis.snapshot_ttl_ms", 300_000);
        let (one, other) = (
            Service::start_ready(setup.clone()).await,
            Service::start_ready(setup).await,
        );
        in_order(&one).await;
        in_order(&other).await;
        held(&one, &redis, 1).await;
        assert_eq!(shown(&one.balances(1).await), expected);
        proxy.set(mode);
        for _ in 0..3 {
            is_failure(&one.balances(2).await, 503, 5031);
        }
        assert_eq!(way(&one.balances(1).await), "memory; hit");
        let from_redis = other.balances(1).await;
        assert_eq!(
            (shown(&from_redis), way(&from_redis).as_str()),
            (expected.clone(), "redis; hit, memory; fwd=miss")
        );
        let fresh = one.request(reqwest::Method::GET, "/api/user/balance?user_id=1");
        is_failure(
            &one.send(fresh.header("cache-control", "no-cache")).await,
            503,
            5031,
        );
        is_failure(
            &one.get("/api/user/balance?user_id=1&min_seq=BTC:9").await,
            503,
            5031,
        );
        let batch = one
            .post("/api/v1/user/balances", &json!({"user_ids": [1, 2]}))
            .await;
        is_failure(&batch, 503, 5031);
        let batch = one
            .post("/api/v1/user/balances", &json!({"user_ids": [1]}))
            .await;
        assert_eq!(batch.status, 200);
        let warm = one
            .post("/api/v1/cache/warm", &json!({"user_ids": [1, 2, 3]}))
            .await;
        assert_eq!(warm.data(), json!({"users": 3, "loaded": 1, "failed": 2}));
        assert_eq!(readiness(&one, "degraded", "source: ").await.status, 200);
        assert!(!holds_whole(&redis, 2), "nothing of a failure is kept");
        proxy.set(Mode::Pass);
        assert!(shown(&back(&one, 2).await).is_empty());
        in_order(&one).await;
        in_order(&other).await;
    }
}

async fn stale_answers_are_off_by_default(database: Database) {
    let (stage, proxy) = behind_a_proxy(database).await;
    let setup = stage
        .setup_at(proxy.address())
        .with("memory.ttl_ms", 200)
        .with("source.timeout_ms", 1_000);
    let service = Service::start_ready(setup).await;
    shown(&back(&service, 1).await);
    proxy.set(Mode::Cut);
    eventually_async(SOON, "memory's time is over", async || {
        let answer = service.balances(1).await;
        (answer.status != 200).then(|| is_failure(&answer, 503, 5031))
    })
    .await;
}

async fn stale(service: &Service) -> Answer {
    stale_of(service, 1).await
}

async fn stale_of(service: &Service, user: u64) -> Answer {
    eventually_async(SOON, "a stale answer", async || {
        let answer = service.balances(user).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
            .cache_status()
            .contains("detail=stale")
            .then_some(answer)
    })
    .await
}

fn stale_setup(stage: &Stage, proxy: &Proxy) -> Setup {
    let setup = stage.setup_at(proxy.address()).with("stale.enabled", true);
    setup
        .with("memory.ttl_ms", 200)
        .with("source.timeout_ms", 1_000)
}

async fn stale_answers_are_the_last_known_marked_within_max_age_and_not_below_a_floor(
    database: Database,
) {
    let (stage, proxy) = behind_a_proxy(database).await;
    let expected = are(&[("BTC", "3", 3), ("USDT", "6", 3)]);
    let service = Service::start_ready(stale_setup(&stage, &proxy)).await;
    shown(&back(&service, 1).await);
    proxy.set(Mode::Cut);
    let last = stale(&service).await;
    assert_eq!(
        (shown(&last), last.cache_status().as_str()),
        (expected, "memory; hit; detail=stale, source; fwd=stale")
    );
    is_failure(&service.balances(2).await, 503, 5031);
    let fresh = service.request(reqwest::Method::GET, "/api/user/balance?user_id=1");
    is_failure(
        &service
            .send(fresh.header("cache-control", "no-cache"))
            .await,
        503,
        5031,
    );
    is_failure(
        &service
            .get("/api/user/balance?user_id=1&min_seq=BTC:4")
            .await,
        503,
        5032,
    );
    let reached = service
        .get("/api/user/balance?user_id=1&min_seq=BTC:3")
        .await;
    assert_eq!(reached.status, 200);
    let batch = service
        .post("/api/v1/user/balances", &json!({"user_ids": [1, 1]}))
        .await;
    assert_eq!(batch.data()[1]["detail"], "stale");

    // A floor that is known here holds, also for what is stale.
    let told = service
        .post(
            "/api/v1/settlements",
            &json!({"user_id": 1, "asset_id": 1, "seq": 4}),
        )
        .await;
    assert_eq!(told.status, 200, "{}", told.body);
    is_failure(&service.balances(1).await, 503, 5031);
    proxy.set(Mode::Pass);
    stage.row(1, 1, 4, 400_000_000).await;
    eventually_async(SOON, "right again", async || {
        let answer = service.balances(1).await;
        (answer.status == 200 && !answer.cache_status().contains("detail"))
            .then(|| assert_eq!(shown(&answer)[0].2, 4))
    })
    .await;
}

async fn stale_answers_end_with_max_age(database: Database) {
    let (stage, proxy) = behind_a_proxy(database).await;
    let redis = Redis::start();
    let setup = calm(stale_setup(&stage, &proxy).and(&redis)).with("stale.max_age_ms", 10_000);
    let setup = setup
        .with("redis.snapshot_ttl_ms", 2_000)
        .with("settlement.max_staleness_ms", 500);
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    held(&service, &redis, 1).await;
    proxy.set(Mode::Cut);
    let last = stale(&service).await;
    assert_eq!(
        last.cache_status(),
        "memory; hit; detail=stale, source; fwd=stale, redis; fwd=miss"
    );
    eventually_async(SOON, "it is too old", async || {
        let answer = service.balances(1).await;
        (answer.status != 200).then(|| is_failure(&answer, 503, 5031))
    })
    .await;
}

async fn what_a_notification_without_a_seq_made_old_is_not_shown_as_stale(database: Database) {
    let (stage, proxy) = behind_a_proxy(database).await;
    for user in 2..=5 {
        stage.has(user, &[(1, 300_000_000)]).await;
    }
    let redis = Redis::start();
    let setup = calm(stale_setup(&stage, &proxy).and(&redis));
    let setup = setup
        .with("redis.snapshot_ttl_ms", 2_000)
        .with("settlement.max_staleness_ms", 500);
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    for user in 1..=5 {
        held(&service, &redis, user).await;
    }
    for told in [json!({"user_id": 1}), json!({"user_id": 2, "asset_id": 1})] {
        acknowledged(&service, SETTLEMENTS, &told).await;
    }
    add(&redis, &json!({"user_id": 3}));
    add(&redis, &json!({"user_id": 4, "asset_id": 1}));
    eventually_async(SOON, "the stream took effect", async || {
        let applied = [r#"via="stream""#, r#"result="applied""#];
        let applied = counted(&service, "notifications_total", &applied).await;
        // One whose acknowledgement was late is taken once more.
        (applied >= 2).then_some(())
    })
    .await;
    proxy.set(Mode::Cut);
    for user in 1..=4 {
        is_failure(&service.balances(user).await, 503, 5031);
        let batch = json!({"user_ids": [user]});
        let batch = service.post("/api/v1/user/balances", &batch).await;
        is_failure(&batch, 503, 5031);
    }
    assert_eq!(
        shown(&stale_of(&service, 5).await)[0].2,
        3,
        "of whom nobody spoke"
    );
    proxy.set(Mode::Pass);
    for user in 1..=4 {
        shown(&back(&service, user).await);
    }
}

on_each_database! {
    seed_fault_08_a_source_that_is_away_at_start_is_503_and_never_poverty_and_comes_by_itself,
    while_the_source_is_cut_off_or_silent_what_is_held_is_answered_and_nothing_else,
    stale_answers_are_off_by_default,
    stale_answers_are_the_last_known_marked_within_max_age_and_not_below_a_floor,
    stale_answers_end_with_max_age,
    what_a_notification_without_a_seq_made_old_is_not_shown_as_stale,
}
