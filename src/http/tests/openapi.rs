//! The description against the routes and what they answer.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::{
    apply::{ApplyError, EntriesError},
    config::{LedgerSide, Scope, TokenSettings},
    domain::{AssetId, Conflict, PostingRefusal, RefusalReason, SettleOutcome, UserId},
    http::{openapi, routes},
    settle,
};

mod bodies;
#[path = "../../../tests/it/support/described.rs"]
mod described;
use described::Described;

const BALANCE: &str = "/api/user/balance";
const TRANSACTION: &str =
    r#"{"transaction_id":9001,"entries":[{"user_id":1001,"asset_id":1,"delta_avail":5}]}"#;
const TRADE: &str = r#"[{"trade_id":7,"symbol":"BTC_USDT","buyer_user_id":1001,"seller_user_id":1002,"price":5000000000000,"quantity":1000000,"settled_at":1765352441955}]"#;

const RATES: &str =
    r#"{"quote":"USDT","rates":[{"asset":"BTC","rate":"50000.5","at":1765352441955}]}"#;

fn build_description(token: bool) -> Described {
    Described(openapi::build_document(
        &sample_catalogue(),
        LedgerSide::Service,
        token,
        false,
    ))
}

/// Asks, and holds the answer against the description. The status is what it was asked for.
pub(super) async fn check_described(asked: &TestApi, status: u16, question: Request<Full<Bytes>>) {
    let (method, path) = (
        question.method().to_string(),
        question.uri().path().to_owned(),
    );
    let told = asked.call_service(question).await;
    assert_eq!(told.status, status, "{method} {path}: {}", told.body);
    let described = build_description(true).closed();
    described.check(&method, &path, status, &told.headers, &told.body);
}

pub(super) async fn check_get(asked: &TestApi, status: u16, path: &str) {
    check_described(asked, status, build_request("GET", path, &[], "")).await;
}

pub(super) async fn check_post(asked: &TestApi, status: u16, path: &str, body: &str) {
    check_described(asked, status, build_request("POST", path, &[], body)).await;
}

fn get(query: &str) -> Request<Full<Bytes>> {
    build_request("GET", &format!("{BALANCE}{query}"), &[], "")
}

/// Every changing route with a body that is right.
fn post_samples() -> [(&'static str, &'static str); 8] {
    let users = r#"{"user_ids":[1001,7,1001]}"#;
    [
        (routes::BATCH, users),
        (
            routes::SETTLEMENTS,
            r#"{"user_id":1001,"asset_id":1,"seq":18}"#,
        ),
        (
            routes::ENTRIES,
            r#"[{"user_id":1001,"asset_id":1,"seq":18,"avail":5,"frozen":0}]"#,
        ),
        (routes::INVALIDATE, users),
        (routes::WARM, users),
        (routes::TRANSACTIONS, TRANSACTION),
        (routes::TRADES, TRADE),
        (routes::RATES, RATES),
    ]
}

#[tokio::test]
async fn every_route_is_described_with_its_methods_and_no_other() {
    let described = build_description(false);
    let table = routes::route_table::<Arc<FakeBackend>>();
    let routed: BTreeSet<&str> = table.iter().map(|(path, _)| *path).collect();
    let operations = described.operations();
    let paths: BTreeSet<&str> = operations
        .iter()
        .map(|(path, _, _)| path.as_str())
        .collect();
    assert_eq!(paths, routed);
    let asked = TestApi::new();
    for (path, method, _) in &operations {
        let told = asked.send("DELETE", path, &[], "").await;
        assert_eq!(told.status, 405);
        described.check_named("Method", &told.headers, &told.body);
        let allowed = told.header_value("allow").to_lowercase();
        let without_head: Vec<&str> = allowed.split(", ").filter(|one| *one != "head").collect();
        assert_eq!(without_head, [method.as_str()], "{path}");
    }
    let ids: BTreeSet<&str> = operations
        .iter()
        .filter_map(|(_, _, operation)| operation["operationId"].as_str())
        .collect();
    assert_eq!(ids.len(), operations.len(), "each has an id of its own");
}

#[test]
fn every_example_fits_its_schema() {
    for token in [true, false] {
        let (count, faults) = build_description(token).closed().bad_examples();
        assert!(count > 80, "{count}");
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

#[test]
fn no_text_is_meant_for_readers_of_the_source() {
    let text = build_description(true).0.to_string();
    for links in ["[`", "::", "crate"] {
        assert!(!text.contains(links), "{links}");
    }
}

#[test]
fn a_ledger_of_balances_only_says_where_nothing_is_written_and_nothing_else_is_read() {
    let described = |balances_only| {
        let catalogue = sample_catalogue();
        openapi::build_document(&catalogue, LedgerSide::External, false, balances_only)
    };
    let (own, mapped) = (described(false), described(true));
    let count_codes = |document: &serde_json::Value, path: &str, method: &str, status: &str| {
        let responses = &document["paths"][path][method]["responses"];
        let examples = &responses[status]["content"]["application/json"]["examples"];
        examples.as_object().map_or(0, serde_json::Map::len)
    };
    for (path, method, status) in [
        ("/api/v1/ledger/entries", "post", "409"),
        ("/api/v1/ledger/transactions", "post", "409"),
        ("/api/v1/ledger/trades", "post", "409"),
        ("/api/v1/order/trades", "get", "404"),
        ("/api/v1/user/ledger", "get", "404"),
    ] {
        let (before, after) = (
            count_codes(&own, path, method, status),
            count_codes(&mapped, path, method, status),
        );
        assert_eq!(after, before + 1, "{path}");
    }
    let (_, faults) = Described(mapped).closed().bad_examples();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_catalogue_without_names_is_described_too() {
    let none = Catalogue::new(&[], &[]).unwrap();
    let described = Described(openapi::build_document(
        &none,
        LedgerSide::Service,
        false,
        false,
    ))
    .closed();
    let (_, faults) = described.bad_examples();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let asset = &described.0["components"]["parameters"]["asset"]["schema"];
    assert!(described.faults(asset, &serde_json::json!(1)).is_empty());
}

#[tokio::test]
async fn balances_in_all_their_forms_are_as_described() {
    for asked in [TestApi::new(), TestApi::new().without_fast_path()] {
        for query in [
            "?user_id=1001",
            "?user_id=2",
            "?user_id=1001&asset=9",
            "?user_id=1001&min_seq=BTC:17,9:2",
        ] {
            check_described(&asked, 200, get(query)).await;
        }
        check_described(
            &asked,
            304,
            build_request(
                "GET",
                "/api/v1/user/balance?user_id=1001",
                &[("if-none-match", "*")],
                "",
            ),
        )
        .await;
        check_described(&asked, 400, get("?user_id=0")).await;
        for detail in [Detail::Stale, Detail::Behind] {
            *asked.fake.detail.lock() = Some(detail);
            check_described(&asked, 200, get("?user_id=1001")).await;
            check_post(&asked, 200, routes::BATCH, post_samples()[0].1).await;
        }
        *asked.fake.detail.lock() = None;
        check_described(&asked, 503, get("?user_id=1001&min_seq=BTC:18")).await;
    }
}

#[tokio::test]
async fn failures_of_every_route_are_as_described() {
    let small = TestApi::with_auth(&auth_settings(AuthMode::None, vec![]), 16);
    let asked = TestApi::new();
    for (path, body) in post_samples() {
        check_post(&asked, 200, path, body).await;
        check_post(
            &asked,
            200,
            path,
            &body.replace(|digit: char| digit.is_ascii_digit(), "1"),
        )
        .await;
        check_post(&asked, 400, path, "{").await;
        check_post(&small, 413, path, body).await;
        check_described(
            &asked,
            415,
            build_request("POST", path, &[("content-type", "text/plain")], body),
        )
        .await;
    }
    let source = || read::ReadError::Source(ledger::LedgerError::Timeout);
    for (error, status) in [
        (source(), 503),
        (read::ReadError::Shed, 429),
        (read::ReadError::Deadline, 504),
    ] {
        let asked = TestApi::with_trouble(FakeTrouble::Read(error));
        check_described(&asked, status, get("?user_id=1001")).await;
        check_post(&asked, status, routes::BATCH, post_samples()[0].1).await;
    }
    check_post(
        &TestApi::with_trouble(FakeTrouble::FewerAnswers),
        500,
        routes::BATCH,
        post_samples()[0].1,
    )
    .await;
    for (error, status) in [
        (ApplyError::Unavailable("gone".into()), 503),
        (ApplyError::Deadline, 504),
    ] {
        let asked = TestApi::with_trouble(FakeTrouble::Apply(error));
        for (path, body) in [post_samples()[1], post_samples()[3]] {
            check_post(&asked, status, path, body).await;
        }
    }
    for (error, status) in [
        (EntriesError::Conflict { index: 0 }, 409),
        (EntriesError::Source(ledger::LedgerError::Timeout), 503),
        (
            EntriesError::Apply(ApplyError::Unavailable("gone".into())),
            503,
        ),
        (EntriesError::Apply(ApplyError::Deadline), 504),
    ] {
        check_post(
            &TestApi::with_trouble(FakeTrouble::Write(error)),
            status,
            routes::ENTRIES,
            post_samples()[2].1,
        )
        .await;
    }
}

#[tokio::test]
async fn transactions_and_trades_are_as_described() {
    let asked = TestApi::new();
    let paths = [
        "/api/v1/ledger/transactions/9001",
        "/api/v1/ledger/trades/7",
    ];
    for path in paths {
        check_get(&asked, 404, path).await;
        let bad = path.replace(['9', '7'], "0");
        check_get(&asked, 400, &bad).await;
    }
    let list = format!("[{TRANSACTION}]");
    for (body, status) in [
        (TRANSACTION, 200),
        (list.as_str(), 200),
        ("[]", 200),
        ("[{}]", 400),
    ] {
        check_post(&asked, status, routes::TRANSACTIONS, body).await;
    }
    check_post(&asked, 200, routes::TRADES, TRADE).await;
    for path in paths {
        check_get(&asked, 200, path).await;
    }
    for (outcome, status) in [
        (SettleOutcome::Conflict(Conflict::OtherContent), 409),
        (
            SettleOutcome::Refused(PostingRefusal {
                user: UserId::new(1).unwrap(),
                asset: AssetId::new(1).unwrap(),
                reason: RefusalReason::AvailBelowZero,
            }),
            409,
        ),
    ] {
        let asked = TestApi::with_trouble(FakeTrouble::Settle(Ok(outcome)));
        check_post(&asked, status, routes::TRANSACTIONS, TRANSACTION).await;
        check_post(&asked, 200, routes::TRANSACTIONS, &list).await;
    }
    for (error, status) in [
        (
            settle::SettleError::Source(ledger::LedgerError::Timeout),
            503,
        ),
        (
            settle::SettleError::Apply(ApplyError::Unavailable("gone".into())),
            503,
        ),
        (settle::SettleError::Apply(ApplyError::Deadline), 504),
    ] {
        let asked = TestApi::with_trouble(FakeTrouble::Settle(Err(error)));
        check_post(&asked, status, routes::TRANSACTIONS, TRANSACTION).await;
        check_post(&asked, status, routes::TRADES, TRADE).await;
    }
}

#[tokio::test]
async fn pages_are_as_described() {
    let queries = [
        "/api/v1/order/trades?user_id=1001&symbol=BTC_USDT",
        "/api/v1/user/ledger?user_id=1001&asset=9",
    ];
    let asked = TestApi::new();
    for query in queries {
        check_get(&asked, 200, query).await;
        check_get(&asked, 400, &format!("{query}&x=1")).await;
        for (error, status) in [
            (read::ReadError::Source(ledger::LedgerError::Timeout), 503),
            (read::ReadError::Shed, 429),
            (read::ReadError::Deadline, 504),
        ] {
            let asked = TestApi::with_trouble(FakeTrouble::Read(error));
            check_get(&asked, status, query).await;
        }
    }
}

#[tokio::test]
async fn tokens_are_as_described_and_the_description_needs_none() {
    let token = TokenSettings {
        name: "nothing".to_owned(),
        // Of the empty text.
        sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(),
        scopes: vec![],
    };
    let asked = TestApi::with_auth(&auth_settings(AuthMode::Token, vec![token]), 1_024);
    check_described(&asked, 401, get("?user_id=1001")).await;
    for (path, body) in post_samples() {
        check_post(&asked, 401, path, body).await;
    }
    for path in ["/openapi.json", "/docs", "/docs/page.css", "/docs/page.js"] {
        check_get(&asked, 200, path).await;
    }
    let scopes = |described: &Described| -> Vec<Value> {
        let operations = described.operations().into_iter();
        operations
            .map(|(_, _, operation)| operation["security"].clone())
            .collect()
    };
    let needed = serde_json::json!([{"token": ["read"]}]);
    assert!(scopes(&build_description(true)).contains(&needed));
    let optional = serde_json::json!([{}, {"token": [Scope::Settle.as_str()]}]);
    assert!(scopes(&build_description(false)).contains(&optional));
    assert!(!scopes(&build_description(false)).contains(&needed));
}
