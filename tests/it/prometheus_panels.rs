//! Every panel of the boards and every recording rule, asked of a real Prometheus that scrapes two real instances.

use std::{collections::BTreeSet, fs};

use reqwest::Method;
use serde_json::json;

use crate::{
    redis_compat::acknowledged,
    settlement_pair::Pair,
    settlement_support::{INVALIDATE, SETTLEMENTS, add, add_event, values},
    support::{
        eventually::eventually_async,
        prometheus::{Prometheus, SOON, Sample, questions},
        service::Service,
        stage::{Database, counted},
    },
};

/// Of what nothing happens here: no read has to wait for a view, the auditor looks when it does, and nobody settles.
const QUIET: [&str; 3] = ["view_lag_seconds", "audit_", "ledger_seconds"];

fn quiet(text: &str) -> bool {
    QUIET.iter().any(|part| text.contains(part))
}

/// A little of everything that two healthy instances do.
async fn traffic(pair: &Pair) {
    let (one, two) = pair.both();
    for user in 1..=20 {
        for service in [one, two, one] {
            assert_eq!(service.balances(user).await.status, 200);
        }
    }
    for page in [
        "/api/v1/user/ledger?user_id=3&asset=BTC",
        "/api/v1/order/trades?user_id=3&symbol=BTC_USDT",
    ] {
        for service in [one, two] {
            assert_eq!(service.get(page).await.status, 200);
        }
    }
    let fresh = one
        .request(Method::GET, "/api/user/balance?user_id=3")
        .header("cache-control", "no-cache");
    assert_eq!(one.send(fresh).await.status, 200);
    for user in 1..=5_u32 {
        let mut said = values(user.into(), 1, 5, 500);
        said["created_at"] = json!(balance_cache::clock::wall_now().0);
        acknowledged(one, SETTLEMENTS, &said).await;
        pair.ledger(user.into(), 1, 5).await;
    }
    let refused = one.post(SETTLEMENTS, &json!({"user_id": 0})).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    acknowledged(two, INVALIDATE, &json!({"user_ids": [6, 7]})).await;
    add(&pair.redis, &values(8, 1, 6, 600));
    add_event(&pair.redis, "no JSON");
    eventually_async(SOON, "both entries of the stream are taken", async || {
        let mut taken = 0;
        for service in [one, two] {
            taken += counted(service, "notifications_total", &[r#"via="stream""#]).await;
        }
        // The other instance claims one that waits for long, and takes it again.
        (taken >= 2).then_some(())
    })
    .await;
    pair.ledger(8, 1, 6).await;
    eventually_async(SOON, "the other instance has heard of it", async || {
        (counted(two, "bus_delay_seconds_count", &[]).await >= 5).then_some(())
    })
    .await;
    assert_eq!(two.balances(1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_every_recording_rule_has_data_of_real_instances() {
    let pair = Pair::start(Database::Cassandra).await;
    let targets: Vec<_> = pair.services.iter().map(Service::ops).collect();
    let prometheus = Prometheus::start(&targets).await;
    // What is counted between two scrapes has a rate.
    traffic(&pair).await;
    prometheus.scraped().await;

    for question in questions() {
        let expression = &question.expression;
        let shown = |sample: &Sample| {
            let number = sample.number();
            number.is_finite() || (number.is_nan() && quiet(expression))
        };
        // A scrape that was late leaves nothing to be seen until the next one.
        let what = format!("{}: data of {expression}", question.of);
        eventually_async(SOON, &what, async || {
            let found = prometheus.query(expression).await;
            (!found.is_empty() && found.iter().all(shown)).then_some(())
        })
        .await;
    }

    let rules = prometheus.rules().await;
    assert!(rules.len() > 40);
    for rule in rules {
        assert_eq!(rule.health, "ok", "{}", rule.name);
        if rule.state.is_empty() && !quiet(&rule.name) {
            let number = |samples: Vec<_>| samples.first().map(Sample::number);
            let value = prometheus.eventually(&rule.name, number).await;
            assert!(value.is_finite(), "{}: {value}", rule.name);
        }
    }
    the_document_has_every_metric(&prometheus).await;
}

/// `docs/OPERATIONS.md` and `/metrics` name the same metrics.
async fn the_document_has_every_metric(prometheus: &Prometheus) {
    let mut exported = BTreeSet::new();
    let all = r#"{job="balance-cache", __name__=~"balance_cache_.+"}"#;
    let some = |found: Vec<Sample>| (!found.is_empty()).then_some(found);
    for sample in prometheus.eventually(all, some).await {
        let name = sample
            .label("__name__")
            .trim_start_matches("balance_cache_")
            .to_owned();
        let histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        exported.insert(histogram.unwrap_or(&name).to_owned());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md");
    let text = fs::read_to_string(path).unwrap();
    let metrics = text
        .split("\n## ")
        .find(|section| section.starts_with("Metrics\n"))
        .unwrap();
    let rows = metrics.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> = rows
        .map(|row| row.split(['`', '{']).next().unwrap().to_owned())
        .collect();
    let in_this_build = |name: &String| cfg!(feature = "kafka") || !name.starts_with("kafka_");
    let documented: BTreeSet<String> = documented.into_iter().filter(in_this_build).collect();
    assert_eq!(exported, documented);
}
