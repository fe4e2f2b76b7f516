//! Notifications on one instance, on a real Redis: every form and every way in (P1), and what must do no harm.

mod many;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::{
    settlement_support::{
        ENTRIES, SETTLEMENTS, SOON, add, add_event, ask, btc, embedded, invalidate, seq_of, settle,
        settles, short, values, whole, writes,
    },
    support::{
        desk::make_partial,
        eventually::eventually_async,
        redis::Redis,
        service::{Service, Setup},
    },
};

/// A sample user: each has BTC, USDT and ETH.
const USER: u64 = 1002;

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_03_a_read_after_values_shows_them_from_memory_without_waiting_for_the_ledger() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let before = btc(&service, USER).await;
    let mut seq = before + 6;
    // An instance that had no processor for a moment cannot prove that it is fresh: once more.
    let read = loop {
        seq += 1;
        assert!(seq < before + 100, "no read comes from memory");
        settles(&service, &values(USER, 1, seq, 42), (1, 0)).await;
        let read = ask(&service, USER).await;
        assert_eq!(seq_of(&read, "BTC"), seq);
        if read.cache_status().starts_with("memory; hit") {
            break read;
        }
    };
    assert_eq!(read.data()[0]["avail"], "0.00000042");
    assert_eq!(
        read.data().as_array().unwrap().len(),
        3,
        "the other assets are still there"
    );
    // The same again, and an older one: known.
    let again = json!([values(USER, 1, seq, 42), values(USER, 1, before + 1, 1)]);
    settles(&service, &again, (0, 2)).await;
    assert_eq!(btc(&service, USER).await, seq);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_that_nobody_reaches_is_behind_and_forgetting_it_heals() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let before = btc(&service, USER).await;
    let forged = json!({"user_id": USER, "asset_id": 1, "seq": 1_i64 << 62});
    settle(&service, &forged).await;
    let read = ask(&service, USER).await;
    assert!(
        read.cache_status()
            .starts_with("source; hit; detail=behind"),
        "{}",
        read.cache_status()
    );
    assert_eq!(seq_of(&read, "BTC"), before);
    // What is real is shown meanwhile.
    settle(&service, &values(USER, 1, before + 1, 5)).await;
    assert_eq!(btc(&service, USER).await, before + 1);
    let batch = service
        .post("/api/v1/user/balances", &json!({"user_ids": [USER, 1003]}))
        .await;
    assert_eq!(batch.data()[0]["detail"], "behind");
    assert_eq!(batch.data()[1]["detail"], serde_json::Value::Null);
    // Floors are kept, unless they are to be forgotten.
    invalidate(&service, &json!({"user_ids": [USER]})).await;
    let status = ask(&service, USER).await.cache_status();
    assert!(status.contains("detail=behind"), "{status}");
    invalidate(&service, &json!({"user_ids": [USER], "floors": true})).await;
    // The feed may bring the forged floor here once more, and behind it that it is forgotten.
    eventually_async(SOON, "no floor is left", async || {
        let read = service.balances(USER).await;
        (read.status == 200 && !read.cache_status().contains("detail")).then_some(())
    })
    .await;
    settle(&service, &values(USER, 1, before + 2, 6)).await;
    assert_eq!(btc(&service, USER).await, before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_floor_ends_by_itself_though_the_user_is_read_all_the_time() {
    let redis = Redis::start();
    let floor_ttl = Duration::from_secs(8);
    let setup = short(&redis.url())
        .with("settlement.floor_ttl_ms", floor_ttl.as_millis())
        .with("limits.deadline_ms", 3_000)
        .with("source.timeout_ms", 3_000);
    let service = Service::start_ready(setup).await;
    whole(&service).await;
    let begun = Instant::now();
    let forged = json!({"user_id": USER, "asset_id": 1, "seq": 1_i64 << 62});
    settle(&service, &forged).await;
    eventually_async(SOON, "the floor ends", async || {
        let read = service.balances(USER).await;
        (read.status == 200 && !read.cache_status().contains("behind")).then_some(())
    })
    .await;
    assert!(
        begun.elapsed() >= floor_ttl,
        "not before its time: {:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_without_values_take_what_the_ledger_had() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let mut seq = btc(&service, USER).await;
    for form in [
        json!({"user_id": USER, "asset_id": 1, "avail": null, "whatever": {"a": [1]}}),
        json!({"user_id": USER}),
        json!({"user_id": USER, "asset_id": 1, "seq": null}),
    ] {
        seq += 1;
        let entry = json!({"user_id": USER, "asset_id": 1, "seq": seq, "avail": seq, "frozen": 0});
        writes(&service, &entry, (1, 0)).await;
        settle(&service, &form).await;
        assert_eq!(btc(&service, USER).await, seq, "{form}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_entries_are_written_once_and_a_conflict_writes_nothing() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let seq = btc(&service, USER).await + 1;
    let entry = |asset: u32, seq: i64, avail: i64| json!({"user_id": USER, "asset_id": asset, "seq": seq, "avail": avail, "frozen": 0, "event_type": "deposit"});
    let both = json!([entry(1, seq, 10), entry(2, 900, 20)]);
    writes(&service, &both, (2, 0)).await;
    writes(&service, &both, (0, 2)).await;
    let conflict = json!([entry(3, 900, 1), entry(1, seq, 11)]);
    let refused = service.post(ENTRIES, &conflict).await;
    assert_eq!(
        (refused.status, refused.json()["status"].as_i64()),
        (409, Some(4091))
    );
    let read = service.balances(USER).await;
    assert_eq!((seq_of(&read, "BTC"), seq_of(&read, "USDT")), (seq, 900));
    assert_ne!(
        seq_of(&read, "ETH"),
        900,
        "nothing of the request is written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deposit_comes_into_a_snapshot_that_is_held_and_into_none_that_is_not() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let (held, not_held) = (7_001, 7_002);
    assert_eq!(service.balances(held).await.data(), json!([]));
    for user in [held, not_held] {
        settle(&service, &values(user, 77, 3, -5)).await;
        let read = service.balances(user).await;
        assert_eq!(seq_of(&read, "77"), 3, "{}", read.body);
        assert_eq!(read.data()[0]["avail"], "-5");
        assert_eq!(read.data()[0]["unit"], "raw");
    }
    // A sample user that is not held: one asset is no snapshot.
    settle(&service, &values(1_009, 77, 1, 1)).await;
    assert_eq!(
        service
            .balances(1_009)
            .await
            .data()
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn seqs_beyond_2_to_the_53_are_told_apart() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let top = (1_i64 << 53) + 1;
    for seq in [top - 1, top, top + 1] {
        settles(&service, &values(USER, 1, seq, seq), (1, 0)).await;
        assert_eq!(btc(&service, USER).await, seq);
        make_partial(&redis, USER);
    }
    settles(&service, &values(USER, 1, top, 1), (0, 1)).await;
    assert_eq!(btc(&service, USER).await, top + 1);
    let most = i64::MAX;
    settle(&service, &values(USER, 2, most, most)).await;
    assert_eq!(seq_of(&service.balances(USER).await, "USDT"), most);
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_20_a_late_duplicate_after_the_key_is_gone_brings_nothing_old_back() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let before = btc(&service, USER).await;
    let notification =
        |seq: i64| json!({"user_id": USER, "asset_id": 1, "seq": seq, "avail": seq, "frozen": 0});
    for seq in [before + 1, before + 2] {
        writes(&service, &notification(seq), (1, 0)).await;
    }
    for _ in 0..3 {
        redis.ask::<i64>(&["DEL", &format!("balance:user:{USER}")]);
        settle(&service, &notification(before + 1)).await;
        assert_eq!(btc(&service, USER).await, before + 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_04_reordered_notifications_end_at_the_highest_seq() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let before = btc(&service, USER).await;
    let mut highest = before;
    for step in [3, 9, 1, 7, 9, 2] {
        settle(&service, &values(USER, 1, before + step, 100 + step)).await;
        highest = highest.max(before + step);
        let read = service.balances(USER).await;
        assert_eq!(seq_of(&read, "BTC"), highest);
        let amount = format!("0.00000{}", 100 + highest - before);
        assert_eq!(read.data()[0]["avail"], amount);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_19_one_key_holds_all_assets_so_that_none_is_forgotten() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let one = format!("/api/user/balance?user_id={USER}&asset=BTC");
    let before = seq_of(&service.get(&one).await, "BTC");
    settle(&service, &values(USER, 1, before + 1, 1)).await;
    assert_eq!(seq_of(&service.get(&one).await, "BTC"), before + 1);
    assert_eq!(btc(&service, USER).await, before + 1);
    let keys: Vec<String> = redis.ask(&["KEYS", &format!("*{USER}*")]);
    assert_eq!(keys, [format!("balance:user:{USER}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_down_nothing_is_acknowledged_and_afterwards_it_takes_effect() {
    let mut redis = Redis::start();
    let service = embedded(&redis).await;
    let seq = btc(&service, USER).await + 1;
    redis.kill9();
    let notification = values(USER, 1, seq, 1);
    let refused = service.post(SETTLEMENTS, &notification).await;
    assert_eq!(
        (refused.status, refused.json()["status"].as_i64()),
        (503, Some(5033))
    );
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(
        service.balances(USER).await.status,
        200,
        "reads go to the ledger"
    );
    redis.launch();
    eventually_async(SOON, "it is taken", async || {
        let answer = service.post(SETTLEMENTS, &notification).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(btc(&service, USER).await, seq);
    // The group, the scripts and the feed are gone with the old Redis, and made again.
    add(&redis, &values(USER, 1, seq + 1, 1));
    eventually_async(SOON, "the stream goes on", async || {
        (btc(&service, USER).await == seq + 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_loads_what_is_not_held() {
    let redis = Redis::start();
    // The usual times: it is to be held a moment later.
    let setup = Setup::default().with("redis.url", redis.url());
    let service = Service::start_ready(setup).await;
    whole(&service).await;
    let mut status = String::new();
    // A fill of Redis that comes too late is not held: other users then.
    for first in [1_001, 1_004, 1_007] {
        let users = json!({"user_ids": [first, first + 1, first + 2]});
        let warmed = service.post_until_taken("/api/v1/cache/warm", &users).await;
        assert_eq!(warmed.data(), json!({"users": 3, "loaded": 3, "failed": 0}));
        status = service.balances(first + 1).await.cache_status();
        if status.starts_with("memory; hit") {
            return;
        }
    }
    panic!("{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_comes_in_by_the_stream_too_and_what_cannot_be_read_is_put_aside() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let mut seq = btc(&service, USER).await;
    seq += 5;
    add(
        &redis,
        &json!({"user_id": USER, "asset_id": 1, "seq": seq, "avail": 1, "frozen": 2, "event_type": "x", "ref_id": null}),
    );
    eventually_async(SOON, "fields", async || {
        (btc(&service, USER).await == seq).then_some(())
    })
    .await;
    seq += 5;
    let bad = add_event(&redis, r#"{"user_id":1002,"asset_id":1,"avail":1}"#);
    let worse = add_event(&redis, "not json");
    add_event(&redis, &values(USER, 1, seq, 9).to_string());
    eventually_async(SOON, "event", async || {
        (btc(&service, USER).await == seq).then_some(())
    })
    .await;
    let dead: Vec<(String, Vec<String>)> =
        redis.ask(&["XRANGE", "settlement:events:dead", "-", "+"]);
    let mut aside = BTreeSet::new();
    // Where Redis answered too late, one stands there twice.
    for (_, fields) in &dead {
        let value = |name: &str| {
            let pair = fields.chunks(2).find(|pair| pair[0] == name);
            pair.map(|pair| pair[1].clone())
        };
        let reason = value("reason").filter(|reason| !reason.is_empty());
        assert!(reason.is_some() && value("event").is_some(), "{fields:?}");
        aside.extend(value("id"));
    }
    assert_eq!(aside, BTreeSet::from([bad, worse]));
    eventually_async(SOON, "all is acknowledged", async || {
        let pending: Vec<redis::Value> =
            redis.ask(&["XPENDING", "settlement:events", "balance-cache"]);
        (pending[0] == redis::Value::Int(0)).then_some(())
    })
    .await;
    // The stream is its producer's: its end, its deletion and FLUSHALL are survived.
    for command in ["DEL settlement:events", "FLUSHALL"] {
        seq += 1;
        redis.ask::<redis::Value>(&command.split(' ').collect::<Vec<_>>());
        add_event(&redis, &values(USER, 1, seq, 9).to_string());
        eventually_async(SOON, command, async || {
            (btc(&service, USER).await == seq).then_some(())
        })
        .await;
    }
}
