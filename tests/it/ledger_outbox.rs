//! Redis hears of everything that the embedded ledger committed, also where nobody sends it again.

use serde_json::{Value, json};

use crate::{
    settlement_support::{ENTRIES, SOON, whole},
    support::{
        eventually::eventually_async,
        redis::Redis,
        service::{Service, Setup},
    },
};

const TRANSACTIONS: &str = "/api/v1/ledger/transactions";

fn deposit(id: i64, user: u64, amount: i64) -> Value {
    json!({"transaction_id": id, "entries": [{"user_id": user, "asset_id": 1, "delta_avail": amount}]})
}

fn entry(user: u64, seq: i64) -> Value {
    json!({"user_id": user, "asset_id": 1, "seq": seq, "avail": seq, "frozen": 0})
}

/// Entries in Redis outlive the test unless somebody changes them.
fn setup(redis: &Redis) -> Setup {
    Setup::default()
        .with("redis.url", redis.url())
        .with("source.timeout_ms", 3_000)
        .with("limits.deadline_ms", 5_000)
        .with("ledger.recovery_ms", 600_000)
}

/// Redis has this floor, and the balance of that seq, for the user's BTC.
async fn redis_has(redis: &Redis, user: u64, seq: i64) {
    let key = format!("balance:user:{user}");
    eventually_async(SOON, "redis knows the seq", async || {
        let floor: Option<String> = redis.ask(&["HGET", &key, "f:1"]);
        floor
            .filter(|floor| floor.starts_with(&format!("{seq} ")))
            .map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_was_not_told_for_an_outage_it_is_told_afterwards() {
    let mut redis = Redis::start();
    let service = Service::start_ready(setup(&redis)).await;
    whole(&service).await;
    let first = service
        .post_until_taken(TRANSACTIONS, &deposit(1, 7, 100))
        .await;
    assert_eq!(first.status, 200, "{}", first.body);
    redis_has(&redis, 7, 1).await;
    redis.pause();
    let failed = service.post(TRANSACTIONS, &deposit(2, 7, 11)).await;
    assert!(failed.status >= 503, "{}", failed.body);
    let failed = service.post(ENTRIES, &entry(8, 5)).await;
    assert!(failed.status >= 503, "{}", failed.body);
    redis.resume();
    redis_has(&redis, 7, 2).await;
    redis_has(&redis, 8, 5).await;
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_commit_and_redis_leaves_nothing_old_to_read() {
    let seq_of = |answer: &crate::support::service::Answer| answer.data()[0]["seq"].clone();
    for (path, first, second, seq) in [
        (TRANSACTIONS, deposit(1, 7, 100), deposit(2, 7, 11), 2),
        (ENTRIES, entry(7, 5), entry(7, 6), 6),
    ] {
        let redis = Redis::start();
        let stopping = setup(&redis).raw("FAILPOINTS", "ledger-committed=1*off->pause".to_owned());
        let mut victim = Service::start_ready(stopping).await;
        whole(&victim).await;
        let answer = victim.post_until_taken(path, &first).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        // Redis holds a whole snapshot with the old balance.
        assert_eq!(victim.balances(7).await.status, 200, "{path}");
        let answer = victim.post(path, &second).await;
        assert!(answer.status >= 503, "{path}: {}", answer.body);
        victim.kill9();
        let mut again = victim.setup();
        again
            .environment
            .retain(|(name, _)| name != "FAILPOINTS" && !name.ends_with("LISTEN"));
        let service = Service::start(again).await;
        // The first read after the start, before Redis was told or not.
        let read = service.get("/api/user/balance?user_id=7").await;
        assert_eq!(
            seq_of(&read),
            seq,
            "{path}: {} {}",
            read.cache_status(),
            read.body
        );
        redis_has(&redis, 7, seq).await;
        whole(&service).await;
        assert_eq!(seq_of(&service.balances(7).await), seq, "{path}");
    }
}
