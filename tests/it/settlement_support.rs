//! What the settlement tests share: an instance with times short enough to see them end, and how to ask it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    eventually::eventually_async,
    redis::Redis,
    service::{Answer, Service, Setup},
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

/// Sends it and expects 200: applied and old.
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
    seq_of(&service.balances(user).await, "BTC")
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
