//! Totals, rates, and the value of a user's balances.

use serde_json::{Value, json};

use super::{
    openapi::{check_described, check_get, check_post},
    *,
};
use crate::{
    domain::{AssetId, AssetSum, Totals},
    http::{HeldTotals, routes},
};

const RATES: &str = r#"{"quote":"USDT","rates":[{"asset":"BTC","rate":"50000.5","at":1765352441955},{"asset":"9","rate":"0.5","at":7}]}"#;

fn json_of(told: &TestResponse) -> Value {
    serde_json::from_str(&told.body).unwrap()
}

/// With a rate of BTC and one of the raw asset 9.
async fn api_with_rates() -> TestApi {
    let asked = TestApi::new();
    let told = asked.send("POST", routes::RATES, &[], RATES).await;
    assert_eq!(told.status, 200, "{}", told.body);
    assert_eq!(json_of(&told)["data"], json!({"applied": 2, "old": 0}));
    asked
}

#[tokio::test]
async fn totals_are_shown_with_their_moments_and_their_age() {
    let asked = TestApi::new();
    let pending = asked.get(routes::TOTALS).await;
    pending.assert_failure(503, 5034, ());
    assert_ne!(pending.header_value("retry-after"), "");
    *asked.fake.totals.lock() = HeldTotals::Off;
    let off = asked.get(routes::TOTALS).await;
    off.assert_failure(404, 4041, ());

    let total = |avail, frozen, users| AssetSum {
        avail,
        frozen,
        users,
    };
    let id = |id| AssetId::new(id).unwrap();
    let totals = Totals {
        assets: [
            (id(1), total(i128::from(i64::MAX) * 3, -1, 4)),
            (id(9), total(77, 0, 1)),
        ]
        .into(),
        began: UnixMillis(NOW - 12_345),
        ended: UnixMillis(NOW - 12_000),
    };
    *asked.fake.totals.lock() = HeldTotals::Held(Arc::new(totals));
    let told = asked.get(routes::TOTALS).await;
    assert_eq!(
        json_of(&told),
        json!({
            "status": 0,
            "msg": "ok",
            "data": [
                {"asset": "BTC", "avail": "276701161105.64327421", "frozen": "-0.00000001", "users": 4},
                {"asset": "9", "avail": "77", "frozen": "0", "users": 1, "unit": "raw"},
            ],
            "as_of": [NOW - 12_345, NOW - 12_000],
        })
    );
    assert_eq!(told.header_value("age"), "12");
    assert_eq!(told.header_value("cache-control"), "private, no-cache");
    let extra = asked.get("/api/v1/totals?asset=BTC").await;
    extra.assert_failure(400, 1001, ());
}

#[tokio::test]
async fn one_bad_rate_is_refused_with_its_index_and_none_is_taken() {
    let asked = TestApi::new();
    let post = async |body: &str| asked.send("POST", routes::RATES, &[], body).await;
    let good = r#"{"asset":"BTC","rate":"1","at":7}"#;
    for (bad, says) in [
        (r#"{"asset":"BTC","rate":"0","at":7}"#, "rates[1]: rate"),
        (r#"{"asset":"BTC","rate":"-1","at":7}"#, "rates[1]: rate"),
        (r#"{"asset":"BTC","rate":"1e3","at":7}"#, "rates[1]: rate"),
        (r#"{"asset":"BTC","rate":1,"at":7}"#, "rates[1]: rate"),
        (
            r#"{"asset":"XYZ","rate":"1","at":7}"#,
            "rates[1]: unknown asset",
        ),
        (
            r#"{"asset":"1","rate":"1","at":7}"#,
            "rates[1]: unknown asset",
        ),
        (r#"{"asset":"BTC","rate":"1"}"#, "rates[1]: at is missing"),
        (r#"{"asset":"BTC","rate":"1","at":-1}"#, "rates[1]: at"),
        (
            r#"{"asset":"BTC","rate":"1","at":1765352441955000}"#,
            "rates[1]: at",
        ),
        (
            r#"{"asset":"BTC","rate":"1","at":7,"source":"x"}"#,
            "rates[1]: source",
        ),
        (
            r#"{"asset":"USDT","rate":"2","at":7}"#,
            "rates[1]: the quote",
        ),
        ("[]", "rates[1]: must be a JSON object"),
    ] {
        let body = format!(r#"{{"quote":"USDT","rates":[{good},{bad}]}}"#);
        let told = post(&body).await;
        told.assert_failure(400, 1001, bad);
        assert!(told.body.contains(says), "{bad}: {}", told.body);
    }
    for body in [
        format!(r#"{{"quote":"EUR","rates":[{good}]}}"#),
        format!(r#"{{"quote":"9","rates":[{good}]}}"#),
        format!(r#"{{"rates":[{good}]}}"#),
        format!("[{good}]"),
        format!(
            r#"{{"quote":"USDT","rates":[{}]}}"#,
            vec![good; 1_001].join(",")
        ),
    ] {
        post(&body).await.assert_failure(400, 1001, body);
    }
    assert_eq!(asked.fake.asked.lock().as_slice(), [""; 0]);
    for (body, applied) in [
        (r#"{"quote":"USDT","rates":[]}"#, 0),
        (
            r#"{"quote":"USDT","rates":[{"asset":"USDT","rate":"1.0","at":7}]}"#,
            1,
        ),
    ] {
        let told = post(body).await;
        assert_eq!(
            json_of(&told)["data"],
            json!({"applied": applied, "old": 0})
        );
    }
}

#[tokio::test]
async fn a_rate_that_redis_does_not_take_is_not_acknowledged() {
    let gone = apply::ApplyError::Unavailable("gone".into());
    let asked = TestApi::with_trouble(FakeTrouble::Apply(gone));
    let told = asked.send("POST", routes::RATES, &[], RATES).await;
    told.assert_failure(503, 5033, ());
    assert_ne!(told.header_value("retry-after"), "");
    let told = asked
        .get("/api/v1/user/total?user_id=1001&quote=USDT")
        .await;
    told.assert_failure(503, 5033, ());
    assert_eq!(json_of(&told)["msg"], "rates cannot be read now");
}

#[tokio::test]
async fn a_value_has_the_promises_and_headers_of_a_balance_read() {
    let path = "/api/v1/user/total?user_id=1001&quote=USDT";
    let unpriced = TestApi::new().get(path).await;
    unpriced.assert_failure(404, 4042, ());
    let asked = api_with_rates().await;
    let told = asked.get(path).await;
    assert_eq!(
        json_of(&told)["data"],
        json!({
            "quote": "USDT",
            "total": "455004588.5",
            "priced": [
                {"asset": "BTC", "amount": "9100", "rate": "50000.5", "value": "455004550", "rate_at": 1_765_352_441_955_i64},
                {"asset": "9", "amount": "77", "rate": "0.5", "value": "38.5", "rate_at": 7, "unit": "raw"},
            ],
            "unpriced": ["ETH"],
        })
    );
    let balances = asked.get("/api/v1/user/balance?user_id=1001").await;
    for header in ["age", "cache-control", "cache-status"] {
        assert_eq!(
            told.header_value(header),
            balances.header_value(header),
            "{header}"
        );
    }
    let tag = told.header_value("etag").to_owned();
    let same = build_request("GET", path, &[("if-none-match", &tag)], "");
    let same = asked.call_service(same).await;
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    assert_eq!(same.header_value("etag"), tag);
    let newer = RATES.replace("50000.5", "50001").replace("955", "956");
    let taken = asked.send("POST", routes::RATES, &[], &newer).await;
    assert_eq!(json_of(&taken)["data"], json!({"applied": 2, "old": 0}));
    let again = build_request("GET", path, &[("if-none-match", &tag)], "");
    assert_eq!(
        asked.call_service(again).await.status,
        200,
        "the rate changed"
    );

    let fresh = build_request(
        "GET",
        &format!("{path}&min_seq=BTC:17"),
        &[("cache-control", "no-cache")],
        "",
    );
    assert_eq!(asked.call_service(fresh).await.status, 200);
    let ask = asked.fake.last.lock().clone().unwrap();
    assert!(ask.no_cache && !ask.min_seq.is_empty());
    let early = asked.get(&format!("{path}&min_seq=BTC:18")).await;
    early.assert_failure(503, 5032, ());
    let nobody = asked.get("/api/v1/user/total?user_id=5&quote=USDT").await;
    assert_eq!(
        json_of(&nobody)["data"],
        json!({"quote": "USDT", "total": "0", "priced": [], "unpriced": []})
    );
}

#[tokio::test]
async fn a_question_for_a_value_that_is_not_right_is_refused() {
    let asked = api_with_rates().await;
    for query in [
        "",
        "user_id=1001",
        "quote=USDT",
        "user_id=1001&quote=EUR",
        "user_id=1001&quote=usdt",
        "user_id=1001&quote=2",
        "user_id=1001&quote=9",
        "user_id=0&quote=USDT",
        "user_id=1001&quote=USDT&quote=USDT",
        "user_id=1001&quote=USDT&asset=BTC",
        "user_id=1001&quote=USDT&min_seq=BTC",
    ] {
        let told = asked.get(&format!("/api/v1/user/total?{query}")).await;
        told.assert_failure(400, 1001, query);
    }
}

#[tokio::test]
async fn totals_and_values_are_as_described() {
    let value = |query: &str| format!("{}{query}", routes::USER_TOTAL);
    let asked = TestApi::new();
    check_get(&asked, 503, routes::TOTALS).await;
    *asked.fake.totals.lock() = HeldTotals::Off;
    check_get(&asked, 404, routes::TOTALS).await;
    let total = AssetSum {
        avail: i128::MAX,
        frozen: i128::MIN,
        users: u64::MAX,
    };
    let assets = [1, 9].map(|id| (AssetId::new(id).unwrap(), total));
    *asked.fake.totals.lock() = HeldTotals::Held(Arc::new(Totals {
        assets: assets.into(),
        ..Totals::default()
    }));
    check_get(&asked, 200, routes::TOTALS).await;

    let good = "?user_id=1001&quote=USDT";
    check_get(&asked, 404, &value(good)).await;
    check_get(&asked, 400, &value("?user_id=1001")).await;
    check_post(&asked, 200, routes::RATES, RATES).await;
    check_get(&asked, 200, &value(good)).await;
    check_get(&asked, 200, &value("?user_id=5&quote=USDT")).await;
    let whole = build_request("GET", &value(good), &[("if-none-match", "*")], "");
    check_described(&asked, 304, whole).await;
    check_get(&asked, 503, &value(&format!("{good}&min_seq=BTC:18"))).await;
    let gone = apply::ApplyError::Unavailable("gone".into());
    let asked = TestApi::with_trouble(FakeTrouble::Apply(gone));
    check_post(&asked, 503, routes::RATES, RATES).await;
    check_get(&asked, 503, &value(good)).await;
}
