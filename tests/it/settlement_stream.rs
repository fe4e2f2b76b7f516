//! The settlement stream where Redis refuses something, where deployments share it, and what one entry may hold.

use std::collections::HashMap;

use serde_json::json;

use crate::{
    settlement_support::{
        SOON, STREAM, add, add_event, btc, embedded, seq_of, short, values, whole,
    },
    support::{
        desk::{Desk, script_file},
        eventually::eventually_async,
        redis::Redis,
        service::Service,
        stage::readiness,
    },
};

const USER: u64 = 1002;

fn acl(redis: &Redis, rule: &str) {
    let mut words = vec!["ACL", "SETUSER", "default"];
    words.extend(rule.split(' '));
    let () = redis.ask(&words);
}

async fn shows(service: &Service, seq: i64, what: &str) {
    eventually_async(SOON, what, async || {
        (btc(service, USER).await == seq).then_some(())
    })
    .await;
}

fn pending(redis: &Redis, group: &str) -> i64 {
    let pending: Vec<redis::Value> = redis.ask(&["XPENDING", STREAM, group]);
    match pending.first() {
        Some(redis::Value::Int(count)) => *count,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_told_and_keeps_nothing_else_from_taking_effect() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let mut seq = btc(&service, USER).await;
    for (right, follows) in [
        ("xautoclaim", true),
        ("xinfo|consumers", true),
        ("xack", true),
        ("xreadgroup", false),
    ] {
        acl(&redis, &format!("-{right}"));
        // The consumer may have begun its wait before.
        for _ in 0..2 {
            seq += 1;
            add(&redis, &values(USER, 1, seq, 1));
            if follows {
                shows(&service, seq, right).await;
            }
        }
        let command = right.split('|').next().unwrap().to_uppercase();
        readiness(&service, "degraded", &command).await;
        acl(&redis, &format!("+{right}"));
        shows(&service, seq, right).await;
        whole(&service).await;
    }
    eventually_async(SOON, "all is acknowledged", async || {
        (pending(&redis, "balance-cache") == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_put_aside_keeps_none_behind_it() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let seq = btc(&service, USER).await + 1;
    acl(&redis, "resetkeys ~balance:* ~settlement:events");
    add_event(&redis, "not json");
    add(&redis, &values(USER, 1, seq, 1));
    shows(&service, seq, "the one behind it").await;
    readiness(&service, "degraded", "settlement:events:dead").await;
    // It is acknowledged after it took effect.
    eventually_async(SOON, "the other alone is left", async || {
        (pending(&redis, "balance-cache") == 1).then_some(())
    })
    .await;
    acl(&redis, "allkeys");
    eventually_async(SOON, "it is put aside", async || {
        let dead: u64 = redis.ask(&["XLEN", "settlement:events:dead"]);
        (dead > 0 && pending(&redis, "balance-cache") == 0).then_some(())
    })
    .await;
    whole(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_entry_may_hold_an_array_that_is_taken_or_put_aside_whole() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let seq = btc(&service, USER).await + 1_000;
    let both = |seq: i64| json!([values(USER, 1, seq, 1), values(USER, 2, seq, 2)]);
    add_event(&redis, &both(seq).to_string());
    shows(&service, seq, "both").await;
    assert_eq!(seq_of(&service.balances(USER).await, "USDT"), seq);
    let bad = json!([values(USER, 1, seq + 1, 1), {"user_id": 0}]);
    add_event(&redis, &bad.to_string());
    let reason = eventually_async(SOON, "it is put aside", async || {
        let dead: Vec<(String, HashMap<String, String>)> =
            redis.ask(&["XRANGE", "settlement:events:dead", "-", "+"]);
        dead.first().map(|(_, fields)| fields["reason"].clone())
    })
    .await;
    assert!(reason.contains("element 1"), "{reason}");
    assert_eq!(btc(&service, USER).await, seq, "nothing of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_that_share_a_stream_each_get_all_of_it() {
    let redis = Redis::start();
    let mut services = Vec::new();
    for namespace in ["", "x"] {
        let setup = short(&redis.url()).with("redis.namespace", namespace);
        let service = Service::start_ready(setup).await;
        whole(&service).await;
        services.push(service);
    }
    let seq = btc(&services[0], USER).await;
    for next in seq + 1..=seq + 20 {
        add(&redis, &values(USER, 1, next, 1));
    }
    add_event(&redis, "not json");
    for service in &services {
        shows(service, seq + 20, "all of it").await;
    }
    for dead in ["settlement:events:dead", "x:settlement:events:dead"] {
        eventually_async(SOON, dead, async || {
            (redis.ask::<u64>(&["XLEN", dead]) > 0).then_some(())
        })
        .await;
    }
    let patient = services[0].setup().with("redis.timeout_ms", 5_000);
    let (_, said, _) = patient.run(&["doctor"]);
    let line = said.lines().find(|line| line.contains("redis.stream"));
    assert!(
        line.is_some_and(|line| line.contains("x:balance-cache")),
        "{said}"
    );
    for (service, group) in services
        .iter_mut()
        .zip(["balance-cache", "x:balance-cache"])
    {
        let consumers = || -> Vec<redis::Value> {
            let all: Vec<HashMap<String, redis::Value>> =
                redis.ask(&["XINFO", "CONSUMERS", STREAM, group]);
            all.iter().map(|one| one["name"].clone()).collect()
        };
        eventually_async(SOON, "all is acknowledged", async || {
            ((pending(&redis, group), consumers().len()) == (0, 1)).then_some(())
        })
        .await;
        service.terminate();
        // Where Redis was too slow for its farewell, its successor removes it.
        if let Some(left) = consumers().first() {
            service.restart().await;
            eventually_async(SOON, "its successor removes it", async || {
                (!consumers().contains(left)).then_some(())
            })
            .await;
            service.terminate();
        }
        assert_eq!(consumers().len(), 0, "it has left {group}");
    }
}

#[test]
fn a_consumer_is_removed_only_if_it_has_nothing_when_it_is_removed() {
    let mut desk = Desk::new();
    let group = "balance-cache";
    let mut remove = |redis_words: &[&str]| {
        let _: redis::Value = desk.redis.ask(redis_words);
        let code = script_file!("remove_consumer");
        desk.try_run::<i64>(code, &[STREAM], &[group, "gone"])
    };
    let make = ["XGROUP", "CREATE", STREAM, group, "0", "MKSTREAM"];
    assert_eq!(remove(&make).unwrap(), 0, "no such consumer");
    let id = "1-1";
    remove(&["XADD", STREAM, id, "event", "not json"]).unwrap();
    let read = ["XREADGROUP", "GROUP", group, "gone", "STREAMS", STREAM, ">"];
    assert_eq!(remove(&read).unwrap(), 0, "it has an entry");
    let right = "xgroup|delconsumer";
    let denied = format!("-{right}");
    remove(&["ACL", "SETUSER", "default", &denied]).unwrap();
    let refused = remove(&["XACK", STREAM, group, id]).unwrap_err();
    let named = refused.to_string().to_lowercase();
    assert!(named.contains(&format!("'{right}'")), "{refused}");
    let granted = format!("+{right}");
    assert_eq!(remove(&["ACL", "SETUSER", "default", &granted]).unwrap(), 1);
    let consumers: Vec<redis::Value> = desk.redis.ask(&["XINFO", "CONSUMERS", STREAM, group]);
    assert_eq!(consumers.len(), 0);
}
