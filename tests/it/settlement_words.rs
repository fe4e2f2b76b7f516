//! Whose word counts at equal seq, and what a Redis that lost its data is told again.

use serde_json::{Value, json};

use crate::{
    settlement_support::{
        ENTRIES, INVALIDATE, SOON, ask, btc, embedded, fresh, invalidate, settle, short, whole,
        writes,
    },
    support::{
        eventually::eventually_async,
        redis::Redis,
        service::{Answer, Service},
    },
};

const USER: u64 = 1002;

/// Amount and time of the user's BTC.
fn of(answer: &Answer) -> (String, Value) {
    let btc = answer.data()[0].clone();
    let avail = btc["avail"].as_str().unwrap().to_owned();
    (avail, btc["updated_at"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_amounts_under_a_right_seq_heal_and_do_not_come_back() {
    let redis = Redis::start();
    let mut service = embedded(&redis).await;
    for heal in ["no-cache", "invalidate"] {
        let seq = btc(&service, USER).await + 1;
        let wrong =
            json!({"user_id": USER, "asset_id": 1, "seq": seq, "avail": 300_000_000, "frozen": 0});
        settle(&service, &wrong).await;
        assert_eq!(
            of(&ask(&service, USER).await),
            ("3".to_owned(), Value::Null)
        );
        let right = json!({"user_id": USER, "asset_id": 1, "seq": seq, "avail": 200_000_000, "frozen": 0, "created_at": 1_765_352_441_955_i64});
        assert_eq!(service.post_until_taken(ENTRIES, &right).await.status, 200);
        if heal == "no-cache" {
            fresh(&service, USER).await;
        } else {
            invalidate(&service, &json!({"user_ids": [USER]})).await;
        }
        let healed = ("2".to_owned(), json!(1_765_352_441_955_i64));
        let first = service.balances(USER).await;
        assert_eq!(of(&first), healed, "{heal}");
        settle(&service, &wrong).await;
        assert_eq!(of(&ask(&service, USER).await), healed, "the same again");
        let tag = first.header("etag");
        service.restart().await;
        whole(&service).await;
        let from_redis = service.balances(USER).await;
        assert_eq!(
            (of(&from_redis), from_redis.header("etag")),
            (healed, tag),
            "{heal}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_entry_with_another_created_at_changes_nothing_that_is_shown() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let seq = btc(&service, USER).await + 1;
    let entry = |created_at: i64| {
        json!({"user_id": USER, "asset_id": 1, "seq": seq, "avail": 200_000_000, "frozen": 0,
               "created_at": created_at})
    };
    let shown = ("2".to_owned(), json!(1_765_352_441_955_i64));
    writes(&service, &entry(1_765_352_441_955), (1, 0)).await;
    // Over a held balance, over a key that was deleted, and over nothing at all.
    for step in ["held", "deleted", "invalidated"] {
        match step {
            "deleted" => {
                let _: i64 = redis.ask(&["DEL", &format!("balance:user:{USER}")]);
            }
            "invalidated" => invalidate(&service, &json!({"user_ids": [USER]})).await,
            _ => assert_eq!(of(&service.balances(USER).await), shown),
        }
        writes(&service, &entry(1_765_352_999_000), (0, 1)).await;
        assert_eq!(of(&service.balances(USER).await), shown, "{step}");
        assert_eq!(of(&fresh(&service, USER).await), shown, "{step}, no-cache");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_its_data_is_told_again_however_often_it_refuses() {
    let redis = Redis::start();
    let mut service = Service::start_ready(short(&redis.url())).await;
    whole(&service).await;
    let users = 2_001..2_601_u64;
    let all: Vec<_> = users
        .clone()
        .map(|user| json!({"user_id": user, "asset_id": 1, "seq": 5, "avail": 1, "frozen": 0}))
        .collect();
    settle(&service, &json!(all)).await;
    let balance =
        |user: u64| redis.ask::<String>(&["HGET", &format!("balance:user:{user}"), "b:1"]);
    let said: Vec<_> = users.clone().map(balance).collect();
    // Everything but users' entries may be written.
    let () = redis.ask(&[
        "ACL",
        "SETUSER",
        "default",
        "resetkeys",
        "~balance:epoch",
        "~balance:source",
        "~balance:invalidations",
        "~settlement:*",
    ]);
    let () = redis.ask(&["FLUSHALL"]);
    eventually_async(SOON, "it was not told", || {
        let logs = service.process().logs();
        std::future::ready(logs.contains("telling redis again").then_some(()))
    })
    .await;
    let () = redis.ask(&["ACL", "SETUSER", "default", "allkeys"]);
    eventually_async(SOON, "all users are told again", async || {
        let told = users
            .clone()
            .filter(|user| redis.ask::<bool>(&["HEXISTS", &format!("balance:user:{user}"), "f:1"]));
        (told.count() == users.clone().count()).then_some(())
    })
    .await;
    let told: Vec<_> = users.map(balance).collect();
    assert!(told == said, "with the time at which it was said");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_that_is_forgotten_while_redis_is_told_again_does_not_come_back() {
    let redis = Redis::start();
    let mut service = Service::start_ready(short(&redis.url())).await;
    whole(&service).await;
    let stands = btc(&service, USER).await;
    let ahead =
        json!({"user_id": USER, "asset_id": 1, "seq": stands + 9_000, "avail": 1, "frozen": 0});
    settle(&service, &ahead).await;
    let () = redis.ask(&["FLUSHALL"]);
    eventually_async(SOON, "it is told again", || {
        let logs = service.process().logs();
        std::future::ready(logs.contains("telling redis again").then_some(()))
    })
    .await;
    let forget = json!({"user_ids": [USER], "floors": true});
    eventually_async(SOON, "the user is forgotten", async || {
        let answer = service.post(INVALIDATE, &forget).await;
        (answer.status == 200).then_some(())
    })
    .await;
    eventually_async(SOON, "the user is dropped once more", || {
        let logs = service.process().logs();
        let told = logs.contains("redis was told again");
        let dropped = logs.contains("dropping users that were forgotten");
        std::future::ready((told && dropped).then_some(()))
    })
    .await;
    // The line stands there before Redis has dropped it.
    eventually_async(SOON, "the floor is gone, the ledger's shown", async || {
        let floor: Option<String> = redis.ask(&["HGET", &format!("balance:user:{USER}"), "f:1"]);
        let far_ahead = (stands + 9_000).to_string();
        let is_gone = floor.is_none_or(|floor| !floor.starts_with(&far_ahead));
        let answer = service.balances(USER).await;
        let is_behind = answer.header("cache-status").contains("behind");
        (is_gone && !is_behind && answer.data()[0]["seq"] == stands).then_some(())
    })
    .await;
}
