//! Reads while Redis is stopped, paused, cut off, black-holed, or full of what others wrote: right, fast, and back by themselves.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use balance_cache::cache::redis::entry::VERSION;

use crate::{
    read_tiers::calm,
    support::{
        databases::on_each_database,
        eventually::eventually_async,
        proxy::{Mode, Proxy, Way},
        redis::Redis,
        service::{Service, Setup},
        stage::{
            Database, SOON, Stage, are, counted, in_order, is_failure, loads, readiness, shown, way,
        },
    },
};

/// Reads per measurement, each of another user, so that none is served from memory.
const READS: u64 = 200;
/// Two shared cores and a debug build: what a measurement may be off by.
const NOISE: Duration = Duration::from_millis(50);

async fn values_of_other_programs_are_misses_counted_and_replaced(database: Database) {
    let stage = Stage::on(database).await;
    let redis = Redis::start();
    let first = Service::start_ready(calm(stage.setup().and(&redis))).await;
    let second = Service::start_ready(calm(stage.setup().and(&redis))).await;
    in_order(&first).await;
    in_order(&second).await;
    let epoch: String = redis.ask(&["HGET", "balance:epoch", "id"]);
    let header = format!("{VERSION} {epoch} 99999999999999 1");
    let other = header.replacen(VERSION, "0", 1);
    let ours = ["v", header.as_str()];
    let seq = "9 9 9 - 9";
    let strange: [(&str, Vec<&str>); 11] = [
        ("SET", vec!["{\"BTC\":\"1\"}"]),
        ("RPUSH", vec!["a", "b"]),
        ("SADD", vec!["a"]),
        ("ZADD", vec!["1", "a"]),
        ("XADD", vec!["*", "a", "b"]),
        ("HSET", vec!["BTC", "1"]),
        ("HSET", vec!["v", &other, "b:1", seq]),
        ("HSET", [&ours[..], &["b:1", "zzzz"]].concat()),
        ("HSET", [&ours[..], &["b:1", seq, "b:0", seq]].concat()),
        ("HSET", [&ours[..], &["b:1", seq, "balance", "5"]].concat()),
        ("HSET", [&ours[..], &["b:1", seq, "f:x", "y"]].concat()),
    ];
    for (user, (command, words)) in (1..).zip(strange) {
        stage.has(user, &[(1, 300_000_000)]).await;
        let key = format!("balance:user:{user}");
        let before = counted(&first, "tier_failures_total", &["redis", "corrupt"]).await;
        let _: redis::Value = redis.ask(&[&[command, key.as_str()], &words[..]].concat());
        let number = u64::try_from(user).unwrap();
        let cold = first.balances(number).await;
        assert_eq!(shown(&cold), are(&[("BTC", "3", 3)]), "{command} {words:?}");
        assert_eq!(
            way(&cold),
            "source; hit, redis; fwd=miss, memory; fwd=miss",
            "{command} {words:?}"
        );
        let after = counted(&first, "tier_failures_total", &["redis", "corrupt"]).await;
        assert!(after > before, "{command} {words:?}: not counted");
        let other = second.balances(number).await;
        assert_eq!(shown(&other), are(&[("BTC", "3", 3)]));
        assert_eq!(
            way(&other),
            "redis; hit, memory; fwd=miss",
            "{command} {words:?}: not replaced"
        );
    }
}

/// The median of reads of users that nobody holds, by each of them in turn: a busy machine is busy for both.
async fn medians(services: [&Service; 2]) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for user in 1_000_000..1_000_000 + READS {
        for (service, times) in services.into_iter().zip(&mut times) {
            let begun = Instant::now();
            let answer = service.balances(user).await;
            times.push(begun.elapsed());
            assert!(
                shown(&answer).is_empty() && answer.cache_status().starts_with("source; hit"),
                "{}",
                answer.cache_status()
            );
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

/// Reads that waited for Redis in vain.
async fn waited(service: &Service) -> u64 {
    let labels = [r#"tier="redis""#, r#"op="get""#, r#"kind="timeout""#];
    counted(service, "tier_failures_total", &labels).await
}

async fn open_breaker(service: &Service) {
    readiness(service, "degraded", "redis: ").await;
    eventually_async(SOON, "the breaker is open", async || {
        let before = counted(service, "tier_failures_total", &["redis", "open"]).await;
        shown(&service.balances(1).await);
        (counted(service, "tier_failures_total", &["redis", "open"]).await > before).then_some(())
    })
    .await;
}

/// What every outage must show: right at once, fast soon, degraded with a reason, and back.
async fn survives(stage: &Stage, setup: Setup, begin: impl FnOnce(), end: impl FnOnce()) {
    let alone = Service::start_ready(stage.setup()).await;
    let service = Service::start_ready(setup.with("redis.timeout_ms", 100)).await;
    in_order(&service).await;
    let expected = are(&[("BTC", "3", 3), ("USDT", "6", 3)]);
    eventually_async(SOON, "memory answers", async || {
        let asked = service.balances(1).await;
        assert_eq!(shown(&asked), expected);
        (way(&asked) == "memory; hit").then_some(())
    })
    .await;

    begin();
    for _ in 0..20 {
        assert_eq!(shown(&service.balances(1).await), expected);
        assert_eq!(shown(&service.balances(2).await), are(&[]));
    }
    // Reads, not the keeper alone, must not wait for it: some of them open the breaker.
    open_breaker(&service).await;
    assert_eq!(service.get_ops("/livez").await.status, 200);
    assert_eq!(service.get_ops("/readyz").await.status, 200);
    let before = waited(&service).await;
    let [own, without] = medians([&alone, &service]).await;
    assert_eq!(waited(&service).await, before, "no read waits for Redis");
    assert!(
        without < own * 2 + NOISE,
        "{without:?} without redis, {own:?} of the source"
    );
    let answer = service.balances(1).await;
    assert_eq!(shown(&answer), expected);
    let notification =
        serde_json::json!({"user_id": 1, "asset_id": 1, "seq": 9, "avail": 9, "frozen": 0});
    is_failure(
        &service.post("/api/v1/settlements", &notification).await,
        503,
        5033,
    );

    end();
    in_order(&service).await;
    eventually_async(SOON, "redis answers or is filled again", async || {
        let asked = service.balances(1).await;
        assert_eq!(shown(&asked), expected);
        (way(&asked) == "memory; hit" && service.balances(3).await.status == 200).then_some(())
    })
    .await;
    let next = AtomicU64::new(3_000_000);
    eventually_async(SOON, "Redis is asked", async || {
        let unseen = service.balances(next.fetch_add(1, SeqCst)).await;
        assert_eq!(shown(&unseen), are(&[]));
        (!unseen.cache_status().contains("bypass")).then_some(())
    })
    .await;
}

async fn stage(database: Database) -> Stage {
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000), (2, 600_000_000)]).await;
    stage
}

async fn reads_are_right_and_fast_while_redis_is_killed(database: Database) {
    let redis = std::cell::RefCell::new(Redis::start());
    let setup = |stage: &Stage| stage.setup().and(&redis.borrow());
    let stage = stage(database).await;
    survives(
        &stage,
        setup(&stage),
        || redis.borrow_mut().kill9(),
        || redis.borrow_mut().restart_empty(),
    )
    .await;
}

async fn reads_are_right_and_fast_while_redis_is_paused(database: Database) {
    let redis = std::cell::RefCell::new(Redis::start());
    let setup = |stage: &Stage| stage.setup().and(&redis.borrow());
    let stage = stage(database).await;
    survives(
        &stage,
        setup(&stage),
        || redis.borrow_mut().pause(),
        || redis.borrow_mut().resume(),
    )
    .await;
}

async fn reads_are_right_and_fast_while_redis_is_cut_off_or_black_holed(database: Database) {
    let redis = Redis::start();
    let stage = stage(database).await;
    for mode in [
        Mode::Cut,
        Mode::Swallow(Way::Both),
        Mode::Swallow(Way::ToClient),
        Mode::Stall(Way::Both),
    ] {
        let proxy = Proxy::start(redis.address());
        let setup = stage
            .setup()
            .with("redis.url", format!("redis://{}", proxy.address()));
        survives(&stage, setup, || proxy.set(mode), || proxy.set(Mode::Pass)).await;
    }
}

async fn a_redis_that_is_away_at_start_is_degraded_and_comes_by_itself(database: Database) {
    let stage = stage(database).await;
    let mut redis = Redis::prepare(crate::support::redis::Options::default());
    let service = Service::start_ready(calm(stage.setup().and(&redis))).await;
    readiness(&service, "degraded", "redis: ").await;
    let cold = service.balances(1).await;
    assert_eq!(shown(&cold).len(), 2);
    assert_eq!(
        cold.cache_status(),
        "source; hit, redis; fwd=bypass, memory; fwd=miss"
    );
    redis.launch();
    in_order(&service).await;
    assert_eq!(
        way(&service.balances(2).await),
        "source; hit, redis; fwd=miss, memory; fwd=miss"
    );
}

async fn without_redis_memory_answers_for_max_staleness_only_and_concurrent_reads_share_a_load(
    database: Database,
) {
    let stage = stage(database).await;
    let mut redis = Redis::start();
    let service = Service::start_ready(stage.setup().and(&redis)).await;
    in_order(&service).await;
    redis.kill9();
    open_breaker(&service).await;
    eventually_async(SOON, "memory is not believed", async || {
        let answer = service.balances(1).await;
        (answer.cache_status() == "source; hit, redis; fwd=bypass, memory; fwd=stale").then_some(())
    })
    .await;
    eventually_async(SOON, "memory answers a second read", async || {
        let before = loads(&service).await;
        let held = service.balances(1).await;
        (way(&held) == "memory; hit" && loads(&service).await == before).then_some(())
    })
    .await;
    // A row that nobody was told of is seen when max_staleness is over.
    stage.row(1, 1, 4, 400_000_000).await;
    eventually_async(SOON, "P2", async || {
        (shown(&service.balances(1).await)[0].2 == 4).then_some(())
    })
    .await;
}

on_each_database! {
    values_of_other_programs_are_misses_counted_and_replaced,
    reads_are_right_and_fast_while_redis_is_killed,
    reads_are_right_and_fast_while_redis_is_paused,
    reads_are_right_and_fast_while_redis_is_cut_off_or_black_holed,
    a_redis_that_is_away_at_start_is_degraded_and_comes_by_itself,
    without_redis_memory_answers_for_max_staleness_only_and_concurrent_reads_share_a_load,
}
