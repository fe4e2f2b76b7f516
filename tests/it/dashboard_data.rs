//! What `/dashboard` and `/dashboard/data` say, without a browser.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    eventually::eventually_async,
    redis::Redis,
    service::{Service, Setup},
    stage::{SOON, counted, in_order},
};

const OUTCOMES: [&str; 8] = [
    "memory", "redis", "source", "joined", "stale", "behind", "shed", "failed",
];

async fn data(service: &Service, query: &str) -> Value {
    let answer = service.get_ops(&format!("/dashboard/data{query}")).await;
    assert_eq!(
        (answer.status, answer.header("cache-control").as_str()),
        (200, "no-store")
    );
    answer.json()
}

/// Who answered, as a client reads it off `Cache-Status` (RFC 9211).
fn outcome_of(cache_status: &str) -> &'static str {
    let first = cache_status.split(", ").next().unwrap();
    let tier = first.split(';').next().unwrap();
    let joined = cache_status.contains("; collapsed");
    match (first, tier) {
        (first, _) if first.contains("detail=stale") => "stale",
        (first, _) if first.contains("detail=behind") => "behind",
        _ if joined => "joined",
        (_, "memory") => "memory",
        (_, "redis") => "redis",
        (_, "source") => "source",
        _ => panic!("{cache_status}"),
    }
}

/// 10,000 reads over 200 users that come and go, some of them asked for from the ledger, some by a second instance first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_metrics_and_cache_status_agree_on_ten_thousand_reads() {
    let redis = Redis::start();
    let namespace = Setup::default().and(&redis).with("memory.ttl_ms", 60_000);
    let service = Service::start(namespace).await;
    in_order(&service).await;
    let mut seen: BTreeMap<&str, u64> = OUTCOMES.iter().map(|outcome| (*outcome, 0)).collect();
    let ask = async |n: u64, fresh: bool| {
        let user = 1 + (n * n + 7 * n) % 200;
        let path = format!("/api/user/balance?user_id={user}");
        let request = service.request(Method::GET, &path);
        let request = if fresh {
            request.header("cache-control", "no-cache")
        } else {
            request
        };
        let answer = service.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        outcome_of(&answer.cache_status())
    };
    for round in 0..100 {
        // Four at a time, so that some join others' loads.
        for n in 0..25 {
            let at = |k: u64| round * 100 + n * 4 + k;
            let (a, b, c, d) = tokio::join!(
                ask(at(0) / 2, false),
                ask(at(0) / 2, false),
                ask(at(2), false),
                ask(at(3), at(3) % 40 == 3)
            );
            for outcome in [a, b, c, d] {
                *seen.get_mut(outcome).unwrap() += 1;
            }
        }
        if round % 10 == 9 {
            let users: Vec<u64> = (1..=20).map(|n| n * 10).collect();
            let body = json!({ "user_ids": users });
            let dropped = service.post("/api/v1/cache/invalidate", &body).await;
            assert_eq!(dropped.status, 200, "{}", dropped.body);
        }
    }
    assert_eq!(seen.values().sum::<u64>(), 10_000);
    assert!(seen["memory"] > 5_000 && seen["source"] > 100, "{seen:?}");
    let shown = data(&service, "").await;
    for outcome in OUTCOMES {
        let label = format!(r#"outcome="{outcome}""#);
        let counter = counted(&service, "reads_total", &[&label]).await;
        let histogram = counted(&service, "read_seconds_count", &[&label]).await;
        let page = shown["totals"]["reads"][outcome].as_u64().unwrap();
        assert_eq!(
            (counter, histogram, page),
            (seen[outcome], seen[outcome], seen[outcome]),
            "{outcome}: {seen:?}"
        );
    }
}

/// No second is missing or told twice, and every column has them all.
fn columns_fit(columns: &Value, newest: u64) {
    let numbers: Vec<_> = columns["numbers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .collect();
    let expected: Vec<_> = (newest + 1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "no second is missing or told twice");
    for column in ["at", "lasted_ms", "loads", "load_failures", "notifications"] {
        assert_eq!(
            columns[column].as_array().unwrap().len(),
            numbers.len(),
            "{column}"
        );
    }
    for outcome in OUTCOMES {
        assert_eq!(
            columns["reads"][outcome].as_array().unwrap().len(),
            numbers.len()
        );
        assert_eq!(
            columns["quantiles"][outcome][2].as_array().unwrap().len(),
            numbers.len()
        );
    }
}

#[tokio::test]
async fn the_data_have_their_shape_and_history_goes_on_where_it_was_left() {
    let service = Service::start_ready(Setup::default()).await;
    let first = eventually_async(SOON, "a second is over", async || {
        let data = data(&service, "").await;
        let some = !data["history"]["numbers"].as_array().unwrap().is_empty();
        some.then_some(data)
    })
    .await;
    assert_eq!(
        (&first["status"], &first["reasons"]),
        (&json!("ready"), &json!({"not_ready": [], "degraded": []}))
    );
    let names: Vec<_> = first["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| &part["name"])
        .collect();
    assert_eq!(
        names,
        [
            "Redis",
            "Circuit breaker",
            "Invalidation feed",
            "Settlement stream",
            "Source",
            "View build"
        ]
    );
    assert_eq!(first["audits"].as_array().unwrap().len(), 12);
    assert_eq!(
        first["window"]["reads"]["all"]["quantiles"],
        json!([null, null, null])
    );
    assert_eq!(first["slowest"], json!([]));

    assert_eq!(service.balances(1001).await.status, 200);
    assert_eq!(service.balances(1001).await.status, 200);
    let newest = first["history"]["numbers"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .as_u64()
        .unwrap();
    let later = eventually_async(SOON, "the reads are in the history", async || {
        let data = data(&service, &format!("?after={newest}")).await;
        let reads = data["history"]["reads"]["memory"].as_array()?.iter();
        (reads.filter_map(Value::as_u64).sum::<u64>() == 1).then_some(data)
    })
    .await;
    columns_fit(&later["history"], newest);
    assert_eq!(later["window"]["reads"]["memory"]["count"], 1);
    assert!(
        later["window"]["reads"]["memory"]["quantiles"][0]
            .as_u64()
            .unwrap()
            > 0
    );
    let slowest = later["slowest"].as_array().unwrap();
    assert_eq!(slowest.len(), 2);
    let took = |slow: &Value| slow["took"].as_u64().unwrap();
    assert!(took(&slowest[0]) >= took(&slowest[1]));
    // On a busy machine either of them may be the slower one.
    let loaded = slowest.iter().find(|slow| slow["outcome"] == "source");
    let loaded = loaded.unwrap();
    assert_eq!(
        (&loaded["user"], &loaded["assets"]),
        (&json!("1001"), &json!(3))
    );
    assert!(!later.to_string().contains("9100"), "no amounts");
    assert_eq!(later["memory"]["entries"], 1);
}

#[tokio::test]
async fn every_part_of_the_page_is_served_here_under_a_strict_policy() {
    let service = Service::start(Setup::default()).await;
    for (path, kind) in [
        ("/dashboard", "text/html; charset=utf-8"),
        ("/dashboard/page.css", "text/css; charset=utf-8"),
        ("/dashboard/page.js", "text/javascript; charset=utf-8"),
        ("/dashboard/uplot.js", "text/javascript; charset=utf-8"),
        ("/dashboard/uplot.css", "text/css; charset=utf-8"),
        ("/dashboard/uplot.LICENSE", "text/plain; charset=utf-8"),
    ] {
        let answer = service.get_ops(path).await;
        assert_eq!(
            (answer.status, answer.header("content-type").as_str()),
            (200, kind),
            "{path}"
        );
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with(
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
            ),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
}
