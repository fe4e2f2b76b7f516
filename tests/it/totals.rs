//! Totals, rates and values by the real service: a clock of their own, one scan of all instances, and what a write leaves of them.

use redb::TableDefinition;
use serde_json::{Value, json};

use crate::{
    settlement_support::{MAX_STALENESS, SOON, embedded, settled},
    support::{
        eventually::{eventually, eventually_async},
        redis::Redis,
        service::{Answer, Service, Setup},
    },
};

/// A balance as the file holds it: avail, frozen, seq, when.
type FileBalance = (i64, i64, i64, Option<i64>);
const USER_BALANCES: TableDefinition<(i64, i32), FileBalance> =
    TableDefinition::new("user_balances");

pub const TOTALS: &str = "/api/v1/totals";
const RATES: &str = "/api/v1/rates";
const TRANSACTIONS: &str = "/api/v1/ledger/transactions";

#[track_caller]
fn code(answer: &Answer) -> (u16, u64) {
    (answer.status, answer.json()["status"].as_u64().unwrap())
}

/// The total of an asset, once totals are shown that `wanted` likes.
pub async fn total(service: &Service, asset: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually_async(SOON, "the total is as wanted", async || {
        let answer = service.get(TOTALS).await;
        let data = answer.json()["data"].clone();
        let found = data.as_array()?.iter().find(|one| one["asset"] == asset);
        found.filter(|one| wanted(one)).cloned()
    })
    .await
}

/// A metric's value as it stands on the page.
pub async fn metric(service: &Service, line: &str) -> String {
    let page = service.get_ops("/metrics").await.body;
    let line = format!("balance_cache_{line} ");
    let found = page.lines().find_map(|at| at.strip_prefix(&line));
    found
        .unwrap_or_else(|| panic!("{line} is not in\n{page}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_follow_their_clock_and_no_write_drops_them() {
    let mut service = Service::start_ready(Setup::default().with("totals.interval_ms", 300)).await;
    let before = total(&service, "BTC", |_| true).await;
    assert_eq!(
        (&before["avail"], &before["users"]),
        (&json!("50050"), &json!(10))
    );
    let deposit = json!({"transaction_id": 1, "entries": [{"user_id": 7, "asset_id": 1, "delta_avail": 150_000_000, "delta_frozen": 5},
        {"user_id": 7, "asset_id": 77, "delta_avail": 12}]});
    assert_eq!(service.post(TRANSACTIONS, &deposit).await.status, 200);
    let at_once = service.get(TOTALS).await;
    assert_eq!(at_once.status, 200, "a write drops nothing");
    let age: u64 = at_once.header("age").parse().unwrap();
    assert!(age < 20, "{age}");
    let after = total(&service, "BTC", |one| one["users"] == 11).await;
    assert_eq!(
        (&after["avail"], &after["frozen"]),
        (&json!("50051.5"), &json!("0.00000005"))
    );
    let raw = total(&service, "77", |_| true).await;
    assert_eq!((&raw["avail"], &raw["unit"]), (&json!("12"), &json!("raw")));
    let as_of = service.get(TOTALS).await.json()["as_of"].clone();
    assert!(as_of[0].as_i64() <= as_of[1].as_i64() && as_of[0].as_i64() > Some(0));
    assert_eq!(
        metric(&service, r#"totals_difference_units{asset="BTC"}"#).await,
        "0"
    );

    // A wrong row: one more BTC for nobody, in the file behind the service's back.
    service.terminate();
    let path = service
        .setup()
        .environment
        .iter()
        .rev()
        .find(|(key, _)| key.ends_with("EMBEDDED__PATH"))
        .unwrap()
        .1
        .clone();
    let file = redb::Database::open(path).unwrap();
    let write = file.begin_write().unwrap();
    {
        let mut balances = write.open_table(USER_BALANCES).unwrap();
        balances.insert((7, 1), (250_000_000, 5, 1, None)).unwrap();
    }
    write.commit().unwrap();
    drop(file);
    service.restart().await;
    service.ready().await;
    eventually_async(SOON, "the check finds it", async || {
        let units = metric(&service, r#"totals_difference_units{asset="BTC"}"#).await;
        (units == "100000000").then_some(())
    })
    .await;
    assert_eq!(
        metric(&service, r#"totals_difference_units{asset="ETH"}"#).await,
        "0"
    );
    eventually(SOON, "the log says it", || {
        let logs = service.process().logs();
        logs.contains("balances do not add up").then_some(())
    });
}

#[tokio::test]
async fn totals_that_are_off_are_not_found_and_those_that_are_not_made_yet_are_not_there() {
    let off = Service::start_ready(Setup::default().with("totals.interval_ms", 0)).await;
    assert_eq!(code(&off.get(TOTALS).await), (404, 4041));
    // Thirty rows of samples, one a second.
    let slow = Service::start_ready(Setup::default().with("totals.rows_per_second", 1)).await;
    let pending = slow.get(TOTALS).await;
    assert_eq!(code(&pending), (503, 5034));
    assert_ne!(pending.header("retry-after"), "");
    let (exit, _, said) = Setup::default()
        .with("totals.interval_ms", 99)
        .run(&["config", "check"]);
    assert!(exit == 2 && said.contains("totals.interval_ms"), "{said}");
}

// === Rates ===

fn rate(rate: &str, at: i64) -> Value {
    json!({"quote": "USDT", "rates": [{"asset": "BTC", "rate": rate, "at": at}]})
}

/// The value of a user, or why there is none; asked for again where Redis stood still.
async fn value_answer(service: &Service) -> Answer {
    eventually_async(SOON, "redis tells the rates", async || {
        let path = "/api/v1/user/total?user_id=1001&quote=USDT";
        let answer = service.get(path).await;
        (answer.status != 503).then_some(answer)
    })
    .await
}

async fn valued(service: &Service) -> Value {
    value_answer(service).await.data()
}

/// Posts rates until Redis takes them: the same ones once more are counted alike. Applied and old.
async fn post_rates(service: &Service, rates: &Value) -> (u64, u64) {
    settled(&service.post_until_taken(RATES, rates).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_kept_in_redis_and_the_newest_wins() {
    let mut redis = Redis::start();
    let service = embedded(&redis).await;
    assert_eq!(code(&value_answer(&service).await), (404, 4042));
    for (sent, taken) in [
        (rate("2", 10), (1, 0)),
        (rate("3", 9), (0, 1)),
        (rate("4.50", 10), (1, 0)),
    ] {
        assert_eq!(post_rates(&service, &sent).await, taken, "{sent}");
    }
    let held: String = redis.ask(&["HGET", "balance:rates:USDT", "BTC"]);
    assert_eq!(held, "4.5 10");
    // 1001 has 9100 BTC, and USDT of its own.
    let value = valued(&service).await;
    let btc =
        json!({"asset": "BTC", "amount": "9100", "rate": "4.5", "value": "40950", "rate_at": 10});
    assert_eq!(value["priced"][0], btc);
    assert_eq!(value["unpriced"], json!(["ETH"]));
    // Another program tells a newer one: this instance uses it within max_staleness.
    let () = redis.ask(&["HSET", "balance:rates:USDT", "BTC", "5 11"]);
    let heard = tokio::time::Instant::now();
    eventually_async(SOON, "the other rate is used", async || {
        (valued(&service).await["priced"][0]["rate"] == "5").then_some(())
    })
    .await;
    println!("after {:?}, promised {MAX_STALENESS:?}", heard.elapsed());
    // A key of another kind, or a field that is no rate, is replaced by the next one.
    let () = redis.ask(&["HSET", "balance:rates:USDT", "BTC", "much"]);
    assert_eq!(post_rates(&service, &rate("6", 1)).await, (1, 0));
    let _: i64 = redis.ask(&["DEL", "balance:rates:USDT"]);
    let () = redis.ask(&["SET", "balance:rates:USDT", "text"]);
    eventually_async(SOON, "there are no rates in a text", async || {
        (code(&value_answer(&service).await) == (404, 4042)).then_some(())
    })
    .await;
    let corrupt = r#"tier_failures_total{tier="redis",op="get",kind="corrupt"}"#;
    assert_ne!(metric(&service, corrupt).await, "0");
    assert_eq!(post_rates(&service, &rate("7", 1)).await, (1, 0));
    let write = r"return redis.call('HSET', KEYS[1], '\255', '1 1')";
    let _: i64 = redis.ask(&["EVAL", write, "1", "balance:rates:USDT"]);
    assert_eq!(valued(&service).await["priced"][0]["rate"], "7");

    redis.stop();
    assert_eq!(
        code(&service.post(RATES, &rate("8", 20)).await),
        (503, 5033)
    );
    let value = service
        .get("/api/v1/user/total?user_id=1001&quote=USDT")
        .await;
    assert_eq!(code(&value), (503, 5033));
    assert_eq!(value.json()["msg"], "rates cannot be read now");
}
