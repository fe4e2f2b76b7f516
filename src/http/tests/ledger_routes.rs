//! Transactions and trades over the fake backend: forms, codes and answers.

use serde_json::{Value, json};

use super::*;
use crate::{
    config::LedgerSide,
    domain::{Conflict, SettleOutcome},
    http::routes::{TRADES, TRANSACTIONS},
};

const TRADE: &str = r#"{"trade_id":7,"symbol":"BTC_USDT","buyer_user_id":1001,"seller_user_id":1002,"price":5000000000000,"quantity":1000000,"settled_at":1765352441955}"#;

fn transaction_json(id: i64) -> String {
    format!(
        r#"{{"transaction_id":{id},"entries":[{{"user_id":1001,"asset_id":1,"delta_avail":5}},{{"user_id":2,"asset_id":9,"delta_frozen":1}}]}}"#
    )
}

async fn post_path(asked: &TestApi, path: &str, body: &str) -> (TestResponse, Value) {
    let told = asked.send("POST", path, &[], body).await;
    let body: Value = serde_json::from_str(&told.body).unwrap();
    (told, body)
}

#[tokio::test]
async fn one_transaction_is_told_with_balances_and_a_min_seq_that_a_read_takes() {
    let asked = TestApi::new();
    let (told, body) = post_path(&asked, TRANSACTIONS, &transaction_json(9_001)).await;
    assert_eq!(told.status, 200);
    assert_eq!(
        body["data"],
        json!({
            "transaction_id": 9_001, "result": "written",
            "balances": [
                {"user_id": 2, "asset_id": 9, "seq": 1, "avail": 0, "frozen": 1},
                {"user_id": 1001, "asset_id": 1, "seq": 1, "avail": 5, "frozen": 0},
            ],
            "min_seq": {"2": "9:1", "1001": "BTC:1"},
        })
    );
    let (_, body) = post_path(&asked, TRANSACTIONS, &transaction_json(9_001)).await;
    assert_eq!(body["data"]["result"], "repeated");
}

#[tokio::test]
async fn a_trade_is_told_by_its_id_with_both_assets_of_both_users() {
    let asked = TestApi::new();
    let (_, body) = post_path(&asked, TRADES, TRADE).await;
    assert_eq!(body["data"]["trade_id"], 7);
    assert_eq!(
        body["data"]["min_seq"],
        json!({"1001": "BTC:1,USDT:1", "1002": "BTC:1,USDT:1"})
    );
    let told = asked.send("GET", "/api/v1/ledger/trades/7", &[], "").await;
    let body: Value = serde_json::from_str(&told.body).unwrap();
    let data = &body["data"];
    assert_eq!(
        (&data["state"], &data["cost"]),
        (&json!("done"), &json!(50_000_000_000_i64))
    );
    assert_eq!(data["balances"].as_array().unwrap().len(), 4);
    assert_eq!(data["fees"], json!([]));
}

#[tokio::test]
async fn an_array_is_checked_whole_and_each_stands_for_itself() {
    let asked = TestApi::new();
    let bad = format!(
        "[{},{}]",
        transaction_json(1),
        transaction_json(2).replace("1001", "0")
    );
    let (told, body) = post_path(&asked, TRANSACTIONS, &bad).await;
    told.assert_failure(400, 1001, ());
    let msg = body["msg"].as_str().unwrap();
    assert!(msg.starts_with("element 1: entries[0]: user_id"), "{msg}");
    assert!(asked.fake.asked.lock().is_empty(), "nothing was done");
    let (told, body) = post_path(&asked, TRANSACTIONS, "[]").await;
    assert_eq!((told.status, &body["data"]), (200, &json!([])));
    let many = format!("[{}]", vec![transaction_json(1); 1_001].join(","));
    let (told, _) = post_path(&asked, TRANSACTIONS, &many).await;
    told.assert_failure(400, 1001, ());
    let two = format!("[{},{}]", transaction_json(1), transaction_json(1));
    let (_, body) = post_path(&asked, TRANSACTIONS, &two).await;
    let results: Vec<_> = body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["result"])
        .collect();
    assert_eq!(results, ["written", "repeated"]);
    let troubled = TestApi::with_trouble(FakeTrouble::Settle(Ok(SettleOutcome::Conflict(
        Conflict::OtherContent,
    ))));
    let (told, _) = post_path(&troubled, TRANSACTIONS, &transaction_json(1)).await;
    told.assert_failure(409, 4091, ());
    let (told, body) = post_path(
        &troubled,
        TRANSACTIONS,
        &format!("[{}]", transaction_json(1)),
    )
    .await;
    assert_eq!(told.status, 200);
    assert_eq!(
        body["data"],
        json!([{"transaction_id": 1, "result": "conflict", "msg": "the id stands with other content"}])
    );
}

#[tokio::test]
async fn who_assigns_seqs_decides_which_form_is_taken() {
    let asked = TestApi::new();
    let balances: Vec<String> = [(1001, 1), (1001, 2), (1002, 1), (1002, 2)]
        .map(|(user, asset)| {
            format!(r#"{{"user_id":{user},"asset_id":{asset},"seq":5,"avail":1,"frozen":0}}"#)
        })
        .to_vec();
    let with = format!(
        r#"{},"balances":[{}]}}"#,
        TRADE.trim_end_matches('}'),
        balances.join(",")
    );
    let (told, _) = post_path(&asked, TRADES, &with).await;
    told.assert_failure(400, 1001, ());
    *asked.fake.writer.lock() = LedgerSide::External;
    let (told, _) = post_path(&asked, TRADES, &with).await;
    assert_eq!(told.status, 200);
    for (path, body) in [
        (TRADES, TRADE.to_owned()),
        (TRADES, format!("[{with},{TRADE}]")),
        (TRANSACTIONS, transaction_json(1)),
    ] {
        let (told, _) = post_path(&asked, path, &body).await;
        told.assert_failure(409, 4093, body);
    }
    let (told, _) = post_path(&asked, TRANSACTIONS, "[{}]").await;
    assert_eq!(told.status, 400, "form comes first");
    let (told, _) = post_path(
        &asked,
        TRADES,
        &format!("[{}]", with.replace("1002", "1003")),
    )
    .await;
    assert_eq!(told.status, 200, "another seller, everywhere");
    let (told, _) = post_path(&asked, TRADES, &with.replacen("1002", "1003", 1)).await;
    assert_eq!(told.status, 400, "balances of other users");
}

#[tokio::test]
async fn an_id_in_a_path_has_its_one_spelling() {
    let asked = TestApi::new();
    for id in [
        "0",
        "01",
        "-1",
        "x",
        "1.0",
        "%31",
        "%ff",
        "9223372036854775808",
    ] {
        let path = format!("/api/v1/ledger/transactions/{id}");
        let told = asked.send("GET", &path, &[], "").await;
        told.assert_failure(400, 1001, id);
    }
    let told = asked
        .send("GET", "/api/v1/ledger/transactions/1", &[], "")
        .await;
    told.assert_failure(404, 4042, ());
    let told = asked
        .send("GET", "/api/v1/ledger/trades/1?x=1", &[], "")
        .await;
    told.assert_failure(400, 1001, ());
}
