//! Pages over the fake backend: questions, codes and answers.

use serde_json::{Value, json};

use super::*;
use crate::domain::{Amount, Seq, StatementRow, TradeId, TradePlace, TradeSideRole, UserTrade};

const TRADES: &str = "/api/v1/order/trades";
const STATEMENT: &str = "/api/v1/user/ledger";

fn sample_user_trade(id: i64, role: TradeSideRole) -> UserTrade {
    UserTrade {
        place: TradePlace {
            settled_at: UnixMillis(1_765_352_441_955),
            trade_id: TradeId::new(id).unwrap(),
            role,
        },
        price: Some(Amount::from_raw(5_000_000_000_000)),
        quantity: Some(Amount::from_raw(1_000_000)),
        cost: Some(Amount::from_raw(50_000_000_000)),
        order_id: (id > 7).then_some(-3),
    }
}

fn sample_statement_row(seq: i64) -> StatementRow {
    StatementRow {
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(910_000_000_000),
        frozen: Amount::from_raw(-1),
        delta_avail: Some(Amount::from_raw(100_000_000)),
        delta_frozen: None,
        event_type: Some("\"x\"".to_owned()),
        ref_id: None,
        created_at: None,
    }
}

fn api_with_history() -> TestApi {
    let asked = TestApi::new();
    *asked.fake.sides.lock() = vec![
        sample_user_trade(9, TradeSideRole::Seller),
        sample_user_trade(8, TradeSideRole::Buyer),
        sample_user_trade(8, TradeSideRole::Seller),
        sample_user_trade(7, TradeSideRole::Buyer),
    ];
    *asked.fake.rows.lock() = [17, 9, 4].map(sample_statement_row).to_vec();
    asked
}

fn json_body(told: &TestResponse) -> Value {
    serde_json::from_str(&told.body).unwrap()
}

#[tokio::test]
async fn a_trade_and_a_row_are_shown_as_the_contract_has_them() {
    let asked = api_with_history();
    let told = asked
        .get(&format!("{TRADES}?user_id=1001&symbol=BTC_USDT"))
        .await;
    assert_eq!(told.status, 200);
    assert_eq!(told.header_value("cache-control"), "private, no-store");
    assert_ne!(told.header_value("x-request-id"), "");
    let told = json_body(&told);
    assert_eq!(
        told["data"][3],
        json!({"trade_id": 7, "symbol": "BTC_USDT", "role": "BUYER", "price": "50000", "quantity": "0.01",
            "cost": "500", "order_id": null, "settled_at": 1_765_352_441_955_i64})
    );
    assert_eq!(
        (&told["status"], &told["msg"], &told["next"]),
        (&json!(0), &json!("ok"), &Value::Null)
    );
    let told = asked
        .get(&format!("{STATEMENT}?asset=BTC&user_id=1001"))
        .await;
    assert_eq!(told.header_value("cache-control"), "private, no-store");
    assert_eq!(
        json_body(&told)["data"][0],
        json!({"seq": 17, "avail": "9100", "frozen": "-0.00000001", "delta_avail": "1", "delta_frozen": null,
            "event_type": "\"x\"", "ref_id": null, "created_at": null})
    );
    let told = asked
        .get(&format!("{STATEMENT}?asset=9&user_id=1001"))
        .await;
    let raw = &json_body(&told)["data"][0];
    assert_eq!(
        (&raw["avail"], &raw["unit"]),
        (&json!("910000000000"), &json!("raw"))
    );
}

#[tokio::test]
async fn cursors_lead_through_all_pages_and_belong_to_their_query() {
    let asked = api_with_history();
    for (path, all) in [
        (format!("{TRADES}?user_id=1001&symbol=BTC_USDT"), 4),
        (format!("{STATEMENT}?user_id=1001&asset=BTC"), 3),
    ] {
        let (mut seen, mut cursor, mut limit) = (Vec::new(), String::new(), 1);
        loop {
            let told = asked.get(&format!("{path}&limit={limit}{cursor}")).await;
            assert_eq!(told.status, 200, "{}", told.body);
            let page = json_body(&told);
            seen.extend(page["data"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
            limit = 2;
        }
        assert_eq!(seen.len(), all);
        let first = json_body(&asked.get(&path).await);
        assert_eq!(Value::Array(seen), first["data"], "each row once, in order");
        for other in [
            path.replace("1001", "1002"),
            path.replace("BTC_USDT", "BTC_USDT&order=asc"),
            path.replace("=BTC", "=ETH")
                .replace("ETH_USDT", "BTC_USDT&to=5"),
        ] {
            let other = if other == path {
                format!("{path}&order=asc")
            } else {
                other
            };
            let told = asked.get(&format!("{other}{cursor}")).await;
            told.assert_failure(400, 1001, other);
        }
    }
}

#[tokio::test]
async fn what_is_malformed_missing_unknown_or_repeated_is_refused() {
    let asked = api_with_history();
    for query in [
        "",
        "?user_id=1001",
        "?symbol=BTC_USDT",
        "?user_id=0&symbol=BTC_USDT",
        "?user_id=1&symbol=btc_usdt",
        "?user_id=1&symbol=1",
        "?user_id=1&symbol=",
        "?user_id=1&symbol=BTC_USDT&limit=0",
        "?user_id=1&symbol=BTC_USDT&limit=1001",
        "?user_id=1&symbol=BTC_USDT&limit=01",
        "?user_id=1&symbol=BTC_USDT&limit=",
        "?user_id=1&symbol=BTC_USDT&cursor=",
        "?user_id=1&symbol=BTC_USDT&cursor=01",
        "?user_id=1&symbol=BTC_USDT&from=-1",
        "?user_id=1&symbol=BTC_USDT&to=9223372036854775808",
        "?user_id=1&symbol=BTC_USDT&to=01",
        "?user_id=1&symbol=BTC_USDT&order=up",
        "?user_id=1&symbol=BTC_USDT&order=ASC",
        "?user_id=1&symbol=BTC_USDT&at=1",
        "?user_id=1&user_id=1&symbol=BTC_USDT",
        "?user_id=1&symbol=BTC_USDT&page=2",
        "?user_id=1&symbol=BTC_USDT&limit=1&limit=1",
        "?user_id=1&symbol=%ff",
    ] {
        let told = asked.get(&format!("{TRADES}{query}")).await;
        told.assert_failure(400, 1001, query);
    }
    for query in [
        "",
        "?user_id=1",
        "?asset=BTC",
        "?user_id=1&asset=btc",
        "?user_id=1&asset=1",
        "?user_id=1&asset=0",
        "?user_id=1&asset=BTC&at=x",
        "?user_id=1&asset=BTC&at=",
        "?user_id=1&asset=BTC&from=1",
        "?user_id=1&asset=BTC&symbol=BTC_USDT",
        "?user_id=1&asset=BTC&at=1&at=1",
        "?user_id=1&asset=BTC&limit=1.0",
    ] {
        let told = asked.get(&format!("{STATEMENT}{query}")).await;
        told.assert_failure(400, 1001, query);
    }
    for query in [
        "limit=1000&from=0&to=9223372036854775807&order=desc",
        "to=5&from=7",
        "order=asc&limit=1",
    ] {
        let told = asked
            .get(&format!("{TRADES}?user_id=1&symbol=BTC%5FUSDT&{query}"))
            .await;
        assert_eq!(told.status, 200, "{query}");
    }
}

#[tokio::test]
async fn other_methods_tokens_and_troubles_are_told_as_elsewhere() {
    let paths = [
        format!("{TRADES}?user_id=1001&symbol=BTC_USDT"),
        format!("{STATEMENT}?user_id=1001&asset=BTC"),
    ];
    let asked = api_with_history();
    for path in &paths {
        let told = asked.send("POST", path, &[], "").await;
        assert_eq!(
            (
                told.status,
                told.envelope_code(),
                told.header_value("allow")
            ),
            (405, 4051, "GET, HEAD")
        );
        let (get, head) = (
            asked.get(path).await,
            asked.send("HEAD", path, &[], "").await,
        );
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert_eq!(
            head.header_value("content-length"),
            get.body.len().to_string()
        );
        let locked = TestApi::with_auth(&auth_settings(AuthMode::Token, vec![]), 16);
        assert_eq!(locked.get(path).await.status, 401);
    }
    for (error, status, code) in [
        (source_down("words of a driver"), 503, 5031),
        (
            read::ReadError::Source(ledger::LedgerError::Corrupt("words of a row".into())),
            503,
            5031,
        ),
        (read::ReadError::Shed, 429, 4291),
        (read::ReadError::Deadline, 504, 5041),
    ] {
        let asked = TestApi::with_trouble(FakeTrouble::Read(error));
        for path in &paths {
            let told = asked.get(path).await;
            told.assert_failure(status, code, ());
            assert!(!told.body.contains("words"), "{}", told.body);
            assert_eq!(told.headers.contains_key("retry-after"), status != 504);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_does_not_come_ends_with_the_deadline() {
    let asked = TestApi::with_trouble(FakeTrouble::Silence);
    let told = asked
        .get(&format!("{STATEMENT}?user_id=1001&asset=BTC"))
        .await;
    told.assert_failure(504, 5041, ());
}
