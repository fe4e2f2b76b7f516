//! What the settlement tests share: an instance with times short enough to see them end, and how to ask it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    eventually::eventually_async,
    redis::Redis,
    service::{Answer, Service, Setup, in_time},
};

/// `settlement.max_staleness_ms` of [`short`].
pub const MAX_STALENESS: Duration = Duration::from_millis(500);
/// Long enough for whatever comes at all.
pub const SOON: Duration = Duration::from_mins(1);

pub const SETTLEMENTS: &str = "/api/v1/settlements";
pub const ENTRIES: &str = "/api/v1/ledger/entries";
pub const INVALIDATE: &str = "/api/v1/cache/invalidate";
pub const STREAM: &str = "settlement:events";

/// Short times in the order that protocol rule 15 asks for.
pub fn short(redis_url: &str) -> Setup {
    Setup::default()
        .with("redis.url", redis_url)
        .with("memory.ttl_ms", 1_000)
        .with("redis.snapshot_ttl_ms", 2_000)
        .with("settlement.max_staleness_ms", MAX_STALENESS.as_millis())
        .with("settlement.claim_idle_ms", 300)
}

/// An instance with an embedded ledger that knows its Redis.
pub async fn embedded(redis: &Redis) -> Service {
    let service = Service::start_ready(short(&redis.url())).await;
    whole(&service).await;
    service
}

/// Waits until it is ready without any reservation.
pub async fn whole(service: &Service) {
    eventually_async(SOON, "nothing is degraded", async || {
        let answer = service.get_ops("/readyz").await;
        (answer.json()["status"] == "ready").then_some(())
    })
    .await;
}

/// Values, as a settlement service sends them.
pub fn values(user: u64, asset: u32, seq: i64, avail: i64) -> Value {
    json!({"user_id": user, "asset_id": asset, "seq": seq, "avail": avail, "frozen": 0, "created_at": 1_765_352_441_955_i64})
}

/// The balances of a user, as [`in_time`] reads them.
pub async fn ask(service: &Service, user: u64) -> Answer {
    let path = format!("/api/user/balance?user_id={user}");
    in_time(service.request(Method::GET, &path)).await.0
}

/// The same, of the ledger.
pub async fn fresh(service: &Service, user: u64) -> Answer {
    let path = format!("/api/user/balance?user_id={user}");
    let request = service.request(Method::GET, &path);
    in_time(request.header("cache-control", "no-cache")).await.0
}

/// Reads the user until memory answers: one read may come when freshness is not proven, or when the fill of Redis was late.
pub async fn from_memory(service: &Service, user: u64) {
    eventually_async(SOON, "memory answers", async || {
        let status = service.balances(user).await.cache_status();
        status.starts_with("memory; hit").then_some(())
    })
    .await;
}

/// Settles it.
pub async fn settle(service: &Service, body: &Value) {
    settled(&service.post_until_taken(SETTLEMENTS, body).await);
}

/// Settles it, with so many applied and so many old; together as many, if it had to be sent again. Returns whether it had not.
pub async fn settles(service: &Service, body: &Value, (applied, old): (u64, u64)) -> bool {
    let (answer, again) = service.post_in_time(SETTLEMENTS, body).await;
    let found = settled(&answer);
    if again {
        assert_eq!(found.0 + found.1, applied + old, "{}", answer.body);
    } else {
        assert_eq!(found, (applied, old), "{}", answer.body);
    }
    !again
}

/// Writes entries of the ledger, with so many written and so many repeated; together as many, if they had to be sent again.
pub async fn writes(service: &Service, body: &Value, (written, repeated): (u64, u64)) {
    let (answer, again) = service.post_in_time(ENTRIES, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let data = answer.data();
    if again {
        let count = |name: &str| data[name].as_u64().unwrap();
        assert_eq!(count("written") + count("repeated"), written + repeated);
    } else {
        assert_eq!(data, json!({"written": written, "repeated": repeated}));
    }
}

/// Drops the users' snapshots.
pub async fn invalidate(service: &Service, users: &Value) {
    let answer = service.post_until_taken(INVALIDATE, users).await;
    let count = users["user_ids"].as_array().unwrap().len();
    assert_eq!(answer.data()["users"], count, "{}", answer.body);
}

/// Expects 200: applied and old.
#[track_caller]
pub fn settled(answer: &Answer) -> (u64, u64) {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let data = answer.data();
    (
        data["applied"].as_u64().unwrap(),
        data["old"].as_u64().unwrap(),
    )
}

/// The seq shown for an asset by name; 0 where it is not shown.
#[track_caller]
pub fn seq_of(answer: &Answer, asset: &str) -> i64 {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let data = answer.data();
    let found = data
        .as_array()
        .unwrap()
        .iter()
        .find(|balance| balance["asset"] == asset);
    found.map_or(0, |balance| balance["seq"].as_i64().unwrap())
}

/// The seq that the instance shows for a user's BTC.
pub async fn btc(service: &Service, user: u64) -> i64 {
    seq_of(&ask(service, user).await, "BTC")
}

/// One entry of the stream, as fields.
pub fn add(redis: &Redis, notification: &Value) -> String {
    let mut words = vec!["XADD".to_owned(), STREAM.to_owned(), "*".to_owned()];
    for (field, value) in notification.as_object().unwrap() {
        words.push(field.clone());
        words.push(value.to_string());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    redis.ask(&words)
}

/// One entry of the stream, as JSON.
pub fn add_event(redis: &Redis, event: &str) -> String {
    redis.ask(&["XADD", STREAM, "*", "event", event])
}
