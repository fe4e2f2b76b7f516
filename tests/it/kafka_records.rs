//! What a Kafka record may hold, and what becomes of one that cannot be read.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    settlement_support::{SETTLEMENTS, add_event, btc, seq_of, short, values, whole},
    support::{
        eventually::eventually_async,
        kafka::{SOON, shared},
        redis::Redis,
        service::Service,
        stage::{counted, readiness},
    },
};

const USER: u64 = 1003;

async fn shows(service: &Service, user: u64, seq: i64) {
    eventually_async(SOON, &format!("user {user} shows seq {seq}"), async || {
        (btc(service, user).await == seq).then_some(())
    })
    .await;
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_appears_and_grows_is_followed_and_a_poison_record_is_put_aside() {
    const TOPIC: &str = "forms";
    let kafka = shared().await;
    let redis = Redis::start();
    let service = Service::start_ready(kafka.setup(&redis.url(), TOPIC)).await;
    readiness(&service, "degraded", "has no topic forms").await;
    kafka
        .make_topic(TOPIC, 2, &[("max.message.bytes", "3000000")])
        .await;
    let seq = btc(&service, USER).await + 100;
    let one = |seq: i64| values(USER, 1, seq, seq).to_string();
    kafka.send(TOPIC, 0, None, Some(&one(seq))).await;
    shows(&service, USER, seq).await;
    whole(&service).await;

    // An array, one with a megabyte of what nobody asks for, decimal strings, and a record without a value.
    let both = json!([values(USER, 1, seq + 1, 1), values(USER, 2, seq + 1, 2)]);
    kafka.send(TOPIC, 1, None, Some(&both.to_string())).await;
    shows(&service, USER, seq + 1).await;
    assert_eq!(seq_of(&service.balances(USER).await, "USDT"), seq + 1);
    let mut large = values(USER, 1, seq + 2, 3);
    large["note"] = Value::String("x".repeat(1 << 20));
    kafka.send(TOPIC, 0, None, Some(&large.to_string())).await;
    shows(&service, USER, seq + 2).await;
    let strings = format!(
        r#"{{"user_id":"{USER}","asset_id":"1","seq":"{}","avail":"5","frozen":"0"}}"#,
        seq + 3
    );
    kafka.send(TOPIC, 1, None, Some(&strings)).await;
    shows(&service, USER, seq + 3).await;
    kafka.send(TOPIC, 0, Some(&USER.to_string()), None).await;

    // Each partition has a record that cannot be read, and one behind it.
    let array = json!([values(USER, 1, seq + 50, 1), {"user_id": 0}]).to_string();
    kafka.send(TOPIC, 0, Some("k"), Some(&array)).await;
    kafka.send(TOPIC, 0, None, Some(&one(seq + 4))).await;
    kafka.send(TOPIC, 1, Some("not a user"), None).await;
    kafka.send(TOPIC, 1, None, Some(&one(seq + 5))).await;
    shows(&service, USER, seq + 5).await;
    kafka.all_committed(TOPIC).await;
    assert_eq!(btc(&service, USER).await, seq + 5, "nothing of a bad array");
    let mut dead = kafka.records("forms.dead");
    dead.sort_by_key(|record| record.value.clone());
    assert_eq!(dead.len(), 2);
    assert_eq!(
        (&dead[0].key, &dead[0].value),
        (&Some(b"not a user".to_vec()), &None)
    );
    assert!(dead[0].headers["reason"].contains("key"), "{dead:?}");
    assert_eq!(dead[1].key, Some(b"k".to_vec()));
    assert_eq!(dead[1].value, Some(array.into_bytes()));
    assert!(dead[1].headers["reason"].contains("element 1"), "{dead:?}");
    assert_eq!(
        (&*dead[1].headers["partition"], &*dead[1].headers["topic"]),
        ("0", TOPIC)
    );

    // A partition that is added, and what is counted.
    kafka.grow(TOPIC, 3).await;
    doctor_says(&service, &["forms: 3 partitions"]).await;
    kafka.send(TOPIC, 2, None, Some(&one(seq + 6))).await;
    shows(&service, USER, seq + 6).await;
    kafka.all_committed(TOPIC).await;
    let via = |result: &'static str| [r#"via="kafka""#, result];
    let invalid = counted(&service, "notifications_total", &via(r#"result="invalid""#)).await;
    let applied = counted(&service, "notifications_total", &via(r#"result="applied""#)).await;
    // One whose effect was not answered in time was sent to Redis again.
    let old = counted(&service, "notifications_total", &via(r#"result="old""#)).await;
    assert_eq!((invalid, applied + old >= 7), (2, true), "{applied}, {old}");
    eventually_async(SOON, "no record is behind", async || {
        (counted(&service, "kafka_lag_entries", &[]).await == 0).then_some(())
    })
    .await;
    let expected = [
        "forms: 3 partitions",
        "group forms is 0 records behind",
        "forms.dead holds 2 records",
    ];
    doctor_says(&service, &expected).await;
    whole(&service).await;
}

/// Kafka may be too slow for `doctor` on a busy machine: it is asked again.
async fn doctor_says(service: &Service, expected: &[&str]) {
    eventually_async(SOON, &format!("doctor says {expected:?}"), async || {
        let (_, said, _) = service.run(&["doctor"]);
        expected
            .iter()
            .all(|part| said.contains(part))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_put_aside_is_held_and_keeps_none_behind_it() {
    const TOPIC: &str = "held";
    let kafka = shared().await;
    let redis = Redis::start();
    kafka.make_topic(TOPIC, 1, &[]).await;
    kafka
        .make_topic("held.dead", 1, &[("max.message.bytes", "300")])
        .await;
    let mut service = Service::start_ready(kafka.setup(&redis.url(), TOPIC)).await;
    let seq = btc(&service, USER).await + 100;
    // Compression does not make it fit.
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        char::from(b'!' + u8::try_from((state >> 16) % 90).unwrap())
    };
    let poison: String = (0..3_000).map(|_| noise()).collect();
    kafka.send(TOPIC, 0, None, Some(&poison)).await;
    kafka
        .send(TOPIC, 0, None, Some(&values(USER, 1, seq, 1).to_string()))
        .await;
    shows(&service, USER, seq).await;
    readiness(&service, "degraded", "cannot be written to held.dead").await;
    let behind = async |count: u64| {
        let lag = kafka.look(TOPIC).await.partitions[0].lag();
        assert_eq!(lag, count);
    };
    behind(2).await;
    // Another life of the instance receives both again.
    service.restart().await;
    readiness(&service, "degraded", "cannot be written to held.dead").await;
    behind(2).await;
    kafka
        .alter("held.dead", "max.message.bytes", "1000000")
        .await;
    kafka.all_committed(TOPIC).await;
    let dead = kafka.records("held.dead");
    assert!(
        dead.iter()
            .all(|it| it.value == Some(poison.clone().into_bytes()))
    );
    assert_eq!(dead.len(), 1);
    whole(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_settlement_has_the_same_effect_by_http_stream_and_kafka_byte_for_byte() {
    const TOPIC: &str = "ways";
    let kafka = shared().await;
    kafka
        .make_topic(TOPIC, 1, &[("cleanup.policy", "compact")])
        .await;
    let redises = [Redis::start(), Redis::start(), Redis::start()];
    let by_http = Service::start_ready(short(&redises[0].url())).await;
    let mapped = |setup: crate::support::service::Setup| {
        setup
            .with("settlement.fields.user_id", "/after/user_id")
            .with("settlement.fields.asset_id", "/after/asset_id")
            .with("settlement.fields.seq", "/after/version")
            .with("settlement.fields.avail", "/after/avail")
            .with("settlement.fields.frozen", "/after/frozen")
            .with("settlement.fields.created_at", "/after/created_at")
    };
    let by_stream = Service::start_ready(mapped(short(&redises[1].url()))).await;
    let by_kafka = Service::start_ready(mapped(kafka.setup(&redises[2].url(), TOPIC))).await;
    let services = [&by_http, &by_stream, &by_kafka];
    for service in services {
        whole(service).await;
        service.balances(USER).await;
    }
    let seq = btc(&by_http, USER).await + 100;
    let notifications = json!([values(USER, 1, seq, i64::MAX), values(USER, 3, seq, -7)]);
    let enveloped: Vec<Value> = notifications
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let mut after = one.clone();
            after["version"] = Value::String(after["seq"].to_string());
            after["seq"] = json!("not the seq");
            json!({"before": null, "after": after, "op": "u"})
        })
        .collect();
    let envelope = Value::Array(enveloped).to_string();
    eventually_async(SOON, "it takes effect", async || {
        let answer = by_http.post(SETTLEMENTS, &notifications).await;
        (answer.status == 200).then_some(())
    })
    .await;
    add_event(&redises[1], &envelope);
    kafka.send(TOPIC, 0, Some("1003"), Some(&envelope)).await;
    for service in services {
        shows(service, USER, seq).await;
    }
    let mut answers = Vec::new();
    for service in services {
        let answer = service.balances(USER).await;
        answers.push((answer.body.clone(), answer.header("etag")));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    // On a busy machine Redis may not take each load: the balances that nobody told of come with a later one.
    eventually_async(SOON, "each Redis holds the same", async || {
        for service in services {
            service.balances(USER).await;
        }
        let held = redises.each_ref().map(told_in);
        let all_same = held[0] == held[1] && held[0] == held[2];
        (held[0].len() >= 4 && all_same).then_some(())
    })
    .await;
}

/// Floors and balances that a Redis holds, without the times at which they were told.
fn told_in(redis: &Redis) -> Vec<(String, Vec<String>)> {
    let fields: BTreeMap<String, String> = redis.ask(&["HGETALL", &format!("balance:user:{USER}")]);
    let told = fields.into_iter().filter_map(|(field, value)| {
        let words = match field.get(..2)? {
            "f:" => 2,
            "b:" => 4,
            _ => return None,
        };
        let value: Vec<String> = value.split(' ').take(words).map(str::to_owned).collect();
        Some((field, value))
    });
    told.collect()
}
