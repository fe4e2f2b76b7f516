//! One number, asked three ways: the hit ratio as a client counts it from `Cache-Status`, as `/metrics` has it, and as the
//! board's panel gets it from Prometheus, are the same to the last bit.

use std::collections::BTreeMap;

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::{
    redis_compat::acknowledged,
    settlement_support::{INVALIDATE, SETTLEMENTS, short, values, whole},
    support::{
        prometheus::{Prometheus, questions},
        redis::Redis,
        service::{Answer, Service},
        stage::counted,
    },
};

const READERS: u64 = 8;
const READS_EACH: u64 = 1_250;
const OUTCOMES: [&str; 8] = [
    "memory", "redis", "source", "joined", "stale", "behind", "shed", "failed",
];

type Counts = BTreeMap<&'static str, u64>;

/// The outcome that an answer tells: by the first member of its `Cache-Status`, or by its code.
fn outcome(answer: &Answer) -> &'static str {
    match answer.status {
        200 => {}
        429 => return "shed",
        503 => return "failed",
        other => panic!("{other}: {}", answer.body),
    }
    let text = answer.cache_status();
    let first = text.split(", ").next().unwrap();
    if first.contains("detail=stale") {
        "stale"
    } else if first.contains("detail=behind") {
        "behind"
    } else if text.ends_with("; collapsed") {
        "joined"
    } else {
        let tier = first.split(';').next().unwrap();
        OUTCOMES.into_iter().find(|word| *word == tier).unwrap()
    }
}

/// One reader's part of the script: mostly plain reads, some that want the ledger, some that cannot be answered, and between
/// them settlements and invalidations.
async fn reader(service: &Service, number: u64) -> Counts {
    let mut counts = Counts::new();
    for turn in 0..READS_EACH {
        let user = 1001 + (turn * 7 + number / 2) % 10;
        if turn % 90 == number {
            let seq = i64::try_from(1_000 + turn * READERS + number).unwrap();
            acknowledged(service, SETTLEMENTS, &values(user, 1, seq, 5)).await;
        }
        if turn % 40 == number {
            acknowledged(service, INVALIDATE, &json!({"user_ids": [user]})).await;
        }
        let beyond = if turn % 250 == 249 {
            "&min_seq=ETH:9000000"
        } else {
            ""
        };
        let mut request = service.request(
            Method::GET,
            &format!("/api/user/balance?user_id={user}{beyond}"),
        );
        if turn % 60 == number {
            request = request.header("cache-control", "no-cache");
        }
        *counts
            .entry(outcome(&service.send(request).await))
            .or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hit_ratio_of_ten_thousand_reads_is_the_same_for_client_metrics_and_board() {
    let redis = Redis::start();
    let setup = short(&redis.url())
        .with("memory.ttl_ms", 100)
        .with("settlement.lag_budget_ms", 10)
        // A machine that is busy with other tests is no failure.
        .with("settlement.floor_ttl_ms", 60_000)
        .with("limits.deadline_ms", 10_000)
        .with("redis.timeout_ms", 2_000);
    let service = Service::start_ready(setup).await;
    whole(&service).await;
    let prometheus = Prometheus::start(&[service.ops()]).await;

    let mut client = Counts::new();
    for counts in join_all((0..READERS).map(|number| reader(&service, number))).await {
        for (outcome, count) in counts {
            *client.entry(outcome).or_default() += count;
        }
    }
    prometheus.scraped().await;

    let of = |outcome: &str| client.get(outcome).copied().unwrap_or(0);
    assert_eq!(client.values().sum::<u64>(), READERS * READS_EACH);
    for outcome in ["memory", "redis", "source", "failed"] {
        assert!(
            of(outcome) > 0,
            "the script brings no {outcome}: {client:?}"
        );
    }
    for outcome in OUTCOMES {
        let label = format!("outcome=\"{outcome}\"");
        let name = format!("balance_cache_reads_total{{{label}}}");
        assert_eq!(
            counted(&service, "reads_total", &[&label]).await,
            of(outcome),
            "{outcome}: {client:?}"
        );
        // A scrape that was late leaves nothing to be seen until the next one.
        let expected = of(outcome).to_string();
        prometheus
            .eventually(&name, |told| {
                (told.len() == 1 && told[0].value == expected).then_some(())
            })
            .await;
    }

    let panel = questions()
        .into_iter()
        .find(|question| question.of.ends_with("Hit ratio since start"))
        .unwrap();
    let shown = prometheus
        .eventually(&panel.expression, |found| found.into_iter().next())
        .await;
    let hits = of("memory") + of("redis");
    let ratio = f64::from(u32::try_from(hits).unwrap())
        / f64::from(u32::try_from(READERS * READS_EACH).unwrap());
    assert_eq!(
        shown.number().to_bits(),
        ratio.to_bits(),
        "{} is not {ratio}",
        shown.value
    );
}
