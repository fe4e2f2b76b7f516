//! What `/dashboard` and `/dashboard/data` say, without a browser.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cli_support::fill_redis,
    support::{
        eventually::eventually_async,
        redis::Redis,
        service::{Service, Setup},
        stage::{SOON, counted, in_order},
    },
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
            eventually_async(SOON, "the users are dropped", async || {
                let dropped = service.post("/api/v1/cache/invalidate", &body).await;
                (dropped.status == 200).then_some(())
            })
            .await;
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
    for column in [
        "at",
        "lasted_ms",
        "loads",
        "load_failures",
        "notifications",
        "notification_failures",
    ] {
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

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
#[tokio::test]
async fn the_data_have_their_shape_and_history_goes_on_where_it_was_left() {
    let setup = Setup::default().with("memory.ttl_ms", 60_000);
    let service = Service::start_ready(setup).await;
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
            "Redis' breaker",
            "Invalidation feed",
            "Settlement stream",
            "Source",
            "View build",
            "Warm start",
            "Totals",
            "Backfill"
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
        ("/docs/OPERATIONS.md", "text/html; charset=utf-8"),
        ("/docs/runbook.css", "text/css; charset=utf-8"),
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

/// Series of `http_requests_total` of one route that are not zero: status and count.
async fn requests(service: &Service, route: &str) -> BTreeMap<String, u64> {
    let page = service.get_ops("/metrics").await.body;
    let start = format!("balance_cache_http_requests_total{{route=\"{route}\",status=\"");
    let series = page.lines().filter_map(|line| {
        let (status, count) = line.strip_prefix(&start)?.split_once("\"} ")?;
        Some((status.to_owned(), count.parse().unwrap()))
    });
    series.filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status_whichever_way_they_took() {
    let setup = Setup::default().with("memory.ttl_ms", 60_000);
    let service = Service::start_ready(setup).await;
    let balance = "/api/user/balance?user_id=1001";
    // Cold, then three hits of the fast path, one of them 304.
    let tag = service.balances(1001).await.header("etag");
    service.balances(1001).await;
    service.get("/api/v1/user/balance?user_id=1001").await;
    let known = service.request(Method::GET, balance);
    let known = service.send(known.header("if-none-match", tag)).await;
    assert_eq!(known.status, 304);
    // By the router.
    let fresh = service.request(Method::GET, balance);
    let fresh = service
        .send(fresh.header("cache-control", "no-cache"))
        .await;
    assert_eq!(fresh.status, 200);
    let behind = service.get(&format!("{balance}&min_seq=BTC:9000000")).await;
    assert_eq!(behind.status, 503);
    assert_eq!(service.get("/api/user/balance?user_id=x").await.status, 400);
    let empty = service.post("/api/v1/settlements", &json!([])).await;
    assert_eq!(empty.status, 200);
    assert_eq!(service.get("/api/v1/settlements").await.status, 405);
    let lost = service.get("/api/v1/nothing/1001").await;
    assert_eq!(lost.status, 404);
    assert!(lost.body.contains("/docs"), "{}", lost.body);

    let are = |expected: &[(&str, u64)]| -> BTreeMap<String, u64> {
        let owned = expected.iter();
        owned
            .map(|(status, n)| ((*status).to_owned(), *n))
            .collect()
    };
    let of_balances = [("200", 4), ("304", 1), ("400", 1), ("503", 1)];
    let found = requests(&service, "/api/v1/user/balance").await;
    assert_eq!(found, are(&of_balances));
    let timed = [r#"route="/api/v1/user/balance""#];
    let timed = counted(&service, "http_request_seconds_count", &timed).await;
    assert_eq!(timed, found.values().sum::<u64>());
    let found = requests(&service, "/api/v1/settlements").await;
    assert_eq!(found, are(&[("200", 1), ("405", 1)]));
    assert_eq!(requests(&service, "other").await, are(&[("404", 1)]));
    // Hits of the fast path are reads like all others.
    let hits = counted(&service, "reads_total", &[r#"outcome="memory""#]).await;
    assert_eq!(hits, 3);
}

#[tokio::test]
async fn the_bare_address_leads_to_the_page() {
    let service = Service::start(Setup::default()).await;
    let found = service.get_ops("/").await;
    assert_eq!(found.status, 200, "{}", found.body);
    assert!(found.body.contains("<title>balance-cache</title>"));
}

#[tokio::test]
async fn a_user_is_looked_up_and_each_tier_says_what_it_holds() {
    let redis = Redis::start();
    let setup = Setup::default().and(&redis).with("memory.ttl_ms", 60_000);
    let service = Service::start(setup).await;
    in_order(&service).await;
    fill_redis(&service, &redis, "", 1001).await;
    let ahead = json!({"user_id": 1001, "asset_id": 1, "seq": 9000});
    eventually_async(SOON, "the floor is announced", async || {
        let told = service.post("/api/v1/settlements", &ahead).await;
        (told.status == 200).then_some(())
    })
    .await;

    let answer = service.get_ops("/dashboard/user?user_id=1001").await;
    let seen = answer.json();
    let tiers: Vec<_> = seen["tiers"].as_array().unwrap().iter().collect();
    let names: Vec<_> = tiers.iter().map(|tier| &tier["tier"]).collect();
    assert_eq!(names, ["ledger", "source", "redis", "memory"]);
    for tier in &tiers {
        assert_eq!(tier["balances"][0]["asset"], "BTC", "{tier}");
        assert_eq!(tier["balances"][0]["avail"], "9100", "{tier}");
    }
    let state = |tier: usize| tiers[tier]["state"].as_str().unwrap();
    assert!(state(2).contains("no whole snapshot"), "{}", state(2));
    assert!(state(3).contains("not served"), "{}", state(3));
    assert_eq!(seen["floors"][0], json!({"asset": "BTC", "seq": 9000}));
    let finding = &seen["findings"][0];
    assert_eq!(finding["bad"], true);
    let text = finding["text"].as_str().unwrap();
    assert!(
        text.starts_with("BTC: a notification announced seq 9000"),
        "{text}"
    );
}

#[tokio::test]
async fn a_user_is_not_looked_up_where_the_settings_forbid_it() {
    let service = Service::start(Setup::default().with("ops.user_lookup", "off")).await;
    let answer = service.get_ops("/dashboard/user?user_id=1001").await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(!answer.body.contains("9100"), "{}", answer.body);
    assert_eq!(data(&service, "").await["user_lookup"], false);
}
