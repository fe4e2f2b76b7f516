//! Alerts that real trouble makes fire, with the rules' times shortened; all of them fire in `config/prometheus/tests`.

use reqwest::Method;
use serde_json::json;

use crate::{
    redis_compat::acknowledged,
    settlement_support::{ENTRIES, SETTLEMENTS, STREAM, add_event, short, values, whole},
    support::{
        eventually::eventually_async,
        prometheus::{Prometheus, SOON},
        redis::Redis,
        service::Service,
        stage::counted,
    },
};

/// Nothing has to last, and what was counted counts for a while.
fn impatient(rules: &str) -> String {
    let lines = rules.lines().map(|line| {
        let mut line = line.to_owned();
        if line.trim_start().starts_with("for: ") {
            let at = line.find(':').unwrap();
            line.replace_range(at.., ": 0s");
        }
        for window in [
            "1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "6h", "1d",
        ] {
            line = line.replace(&format!("[{window}]"), "[1m]");
        }
        line + "\n"
    });
    lines.collect()
}

async fn fires(prometheus: &Prometheus, alerts: &[&str]) {
    for alert in alerts {
        for text in prometheus.fires(alert).await {
            let filled =
                !text.is_empty() && !text.contains("<no value>") && !text.contains("<error");
            assert!(filled, "{alert}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_trouble_makes_alerts_fire() {
    let mut redis = Redis::start();
    // After its start an instance is blind for as long as floors are kept.
    let setup = short(&redis.url()).with("settlement.floor_ttl_ms", 15_000);
    let mut service = Service::start_ready(setup).await;
    whole(&service).await;
    let prometheus = Prometheus::start_with(&[service.ops()], impatient).await;
    assert_eq!(service.balances(1001).await.status, 200);
    prometheus.scraped().await;
    // Before the first scrape nobody was ready; and if that read was slow, reads count as slow for a minute.
    eventually_async(3 * SOON, "no alert fires", async || {
        let firing = prometheus.query(r#"ALERTS{alertstate="firing"}"#).await;
        firing.is_empty().then_some(())
    })
    .await;

    let poor = json!({"user_id": 1001, "asset_id": 1, "seq": 900, "avail": -1, "frozen": 0});
    acknowledged(&service, ENTRIES, &poor).await;
    let fresh = service
        .request(Method::GET, "/api/user/balance?user_id=1001")
        .header("cache-control", "no-cache");
    assert_eq!(service.send(fresh).await.status, 200);
    add_event(&redis, "no JSON");
    let ahead = json!({"user_id": 1002, "asset_id": 1, "seq": 9_000_000});
    acknowledged(&service, SETTLEMENTS, &ahead).await;
    let behind = service.balances(1002).await;
    assert!(
        behind.cache_status().contains("detail=behind"),
        "{}",
        behind.cache_status()
    );
    let beyond = service
        .get("/api/user/balance?user_id=1003&min_seq=BTC:9000000")
        .await;
    assert_eq!(beyond.status, 503, "{}", beyond.body);
    fires(
        &prometheus,
        &[
            "BalanceCacheNegativeAmounts",
            "BalanceCacheNotificationsInvalid",
            "BalanceCacheAnswersBehind",
            "BalanceCacheReadsFailing",
            "BalanceCacheReadsFailingFast",
            "BalanceCacheReadsFailingSlowly",
        ],
    )
    .await;

    redis.stop();
    let refused = service.post(SETTLEMENTS, &values(1004, 1, 50, 5)).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    fires(
        &prometheus,
        &[
            "BalanceCacheRedisDown",
            "BalanceCacheNotificationsFailing",
            "BalanceCacheDegraded",
        ],
    )
    .await;

    service.kill9();
    fires(
        &prometheus,
        &["BalanceCacheDown", "BalanceCacheNobodyReady"],
    )
    .await;
}

#[tokio::test]
async fn entries_of_the_stream_that_wait_are_counted() {
    let redis = Redis::start();
    let () = redis.ask(&["XGROUP", "CREATE", STREAM, "balance-cache", "0", "MKSTREAM"]);
    for user in 1001..=1003 {
        add_event(&redis, &values(user, 1, 50, 5).to_string());
    }
    let _: redis::Value = redis.ask(&[
        "XREADGROUP",
        "GROUP",
        "balance-cache",
        "dead",
        "COUNT",
        "2",
        "STREAMS",
        STREAM,
        ">",
    ]);
    // The dead consumer's two are claimed later than this test lasts; the third is nobody's yet.
    let setup = short(&redis.url()).with("settlement.claim_idle_ms", 3_600_000);
    let service = Service::start_ready(setup).await;
    whole(&service).await;
    eventually_async(SOON, "two entries wait", async || {
        let taken = counted(&service, "notifications_total", &[r#"result="applied""#]).await;
        let waiting = counted(&service, "stream_lag_entries", &[]).await;
        ((taken, waiting) == (1, 2)).then_some(())
    })
    .await;
}
