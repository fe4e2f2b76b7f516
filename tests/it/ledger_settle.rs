//! Transactions and trades through the real service over its embedded ledger: exactly once, whole, and told everywhere.

use std::{cell::Cell, fs};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli_support::Said,
    settlement_support::{ENTRIES, embedded, seq_of, whole},
    support::{
        redis::Redis,
        service::{Answer, Service, Setup},
        stage::counted,
    },
};

pub const TRANSACTIONS: &str = "/api/v1/ledger/transactions";
pub const TRADES: &str = "/api/v1/ledger/trades";
const BATCH: &str = "/api/v1/user/balances";

/// (user, `delta_avail`) of each entry, all in BTC.
fn transaction(id: i64, entries: &[(u64, i64)]) -> Value {
    let entry =
        |(user, delta): &(u64, i64)| json!({"user_id": user, "asset_id": 1, "delta_avail": delta});
    json!({"transaction_id": id, "entries": entries.iter().map(entry).collect::<Vec<_>>()})
}

fn trade(id: i64) -> Value {
    json!({"trade_id": id, "symbol": "BTC_USDT", "buyer_user_id": 1001, "seller_user_id": 1002, "price": 5_000_000_000_000_i64,
        "quantity": 1_000_000, "settled_at": 1_765_352_441_999_i64,
        "fees": [{"user_id": 1001, "asset_id": 1, "amount": 1_000, "to_user_id": 1}]})
}

#[track_caller]
pub fn result(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.data()["result"].as_str().unwrap().to_owned()
}

#[track_caller]
pub fn code(answer: &Answer) -> (u16, u64) {
    (answer.status, answer.json()["status"].as_u64().unwrap())
}

/// Sends what is new until it stands.
pub async fn written(service: &Service, path: &str, body: &Value) -> Answer {
    let (answer, again) = service.post_in_time(path, body).await;
    let word = result(&answer);
    let is_new = word == "written" || (again && word == "repeated");
    assert!(is_new, "{word}: {}", answer.body);
    answer
}

/// BTC in hundred-millionths by user, as a batch read shows it.
pub async fn held(service: &Service, users: &[u64]) -> Vec<i64> {
    let answer = service.post(BATCH, &json!({"user_ids": users})).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let raw = |of: &Value| {
        let balances = of["balances"].as_array().unwrap();
        let btc = balances.iter().find(|balance| balance["asset"] == "BTC");
        let text = btc.map_or("0", |balance| balance["avail"].as_str().unwrap());
        let (units, rest) = text.split_once('.').unwrap_or((text, ""));
        format!("{units}{rest:0<8}").parse::<i64>().unwrap()
    };
    answer.data().as_array().unwrap().iter().map(raw).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_is_read_back_with_the_min_seq_of_its_answer_and_moves_what_it_says() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    // Held in memory before.
    assert_eq!(seq_of(&service.balances(1001).await, "BTC"), 17);
    what_was_sent_is_found_again(&service).await;
    let of_1001 = service.balances(1001).await.data();
    assert_eq!(of_1001[0]["avail"], "9100.00999");
    assert_eq!(of_1001[0]["seq"], 18);
    assert_eq!(of_1001[0]["updated_at"], 1_765_352_441_999_i64);
    let page = service.get_ops("/metrics").await.body;
    for line in [
        "balance_cache_ledger_transactions_total{result=\"written\"} 1",
        "balance_cache_ledger_transactions_total{result=\"conflict\"} 1",
        "balance_cache_ledger_moved_total{asset=\"BTC\"} 1000000",
        "balance_cache_ledger_moved_total{asset=\"USDT\"} 50000000000",
        "balance_cache_ledger_moved_total{asset=\"other\"} 0",
    ] {
        assert!(
            page.lines().any(|at| at == line),
            "{line} is not in\n{page}"
        );
    }
    let repeated = ["result=\"repeated\""];
    assert!(counted(&service, "ledger_transactions_total", &repeated).await > 0);
    entries_keep_their_seqs(&service).await;
}

/// Users 1001 and 1002 can pay for the trade.
pub async fn what_was_sent_is_found_again(service: &Service) {
    let data = written(service, TRADES, &trade(7)).await.data();
    assert_eq!(data["balances"].as_array().unwrap().len(), 5);
    for user in ["1", "1001", "1002"] {
        let min_seq = data["min_seq"][user].as_str().unwrap();
        let read = service
            .get(&format!(
                "/api/user/balance?user_id={user}&min_seq={min_seq}"
            ))
            .await;
        assert_eq!(read.status, 200, "{}", read.body);
    }
    let again = service.post_until_taken(TRADES, &trade(7)).await;
    assert_eq!(result(&again), "repeated");
    assert_eq!(again.data()["balances"], data["balances"]);
    let mut other = trade(7);
    other["quantity"] = json!(2_000_000);
    assert_eq!(
        code(&service.post_until_taken(TRADES, &other).await),
        (409, 4091)
    );
    let stands = service.get(&format!("{TRADES}/7")).await.data();
    assert_eq!(
        (&stands["state"], &stands["fees"]),
        (&json!("done"), &trade(7)["fees"])
    );
    assert_eq!(stands["balances"], data["balances"]);
    assert_eq!(
        code(&service.get(&format!("{TRADES}/8")).await),
        (404, 4042)
    );
}

/// Users 9 and 10 have nothing before.
pub async fn entries_keep_their_seqs(service: &Service) {
    let entry = |user: u64, seq: i64, avail: i64| json!({"user_id": user, "asset_id": 1, "seq": seq, "avail": avail, "frozen": 0});
    let both = json!([entry(9, 3, 5), entry(9, 4, 7), entry(9, 3, 5)]);
    let all_stood = json!({"written": 0, "repeated": 3});
    let (first, again) = service.post_in_time(ENTRIES, &both).await;
    let is_new = first.data() == json!({"written": 2, "repeated": 1});
    assert!(
        is_new || (again && first.data() == all_stood),
        "{}",
        first.body
    );
    let second = service.post_until_taken(ENTRIES, &both).await;
    assert_eq!((second.status, second.data()), (200, all_stood));
    let taken = json!([entry(10, 1, 1), entry(9, 4, 8)]);
    assert_eq!(
        code(&service.post_until_taken(ENTRIES, &taken).await),
        (409, 4091)
    );
    assert_eq!(held(service, &[9, 10]).await, [7, 0]);
    let next = written(service, TRANSACTIONS, &transaction(901, &[(9, -7)])).await;
    assert_eq!(next.data()["balances"][0]["seq"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing_and_each_of_an_array_stands_for_itself() {
    let service = Service::start_ready(Setup::default()).await;
    what_is_refused_leaves_nothing(&service).await;
}

/// Users 7 and 8 have nothing before.
pub async fn what_is_refused_leaves_nothing(service: &Service) {
    written(service, TRANSACTIONS, &transaction(1, &[(7, 100)])).await;
    let overdraws = transaction(2, &[(8, 101), (7, -101)]);
    let refused = service.post_until_taken(TRANSACTIONS, &overdraws).await;
    assert_eq!(code(&refused), (409, 4092));
    assert!(
        refused
            .body
            .contains("user 7, asset 1: avail would be below 0"),
        "{}",
        refused.body
    );
    assert_eq!(held(service, &[7, 8]).await, [100, 0]);
    assert_eq!(
        code(&service.get(&format!("{TRANSACTIONS}/2")).await),
        (404, 4042)
    );
    let array = json!([
        transaction(3, &[(7, -60)]),
        transaction(4, &[(7, -60)]),
        transaction(5, &[(7, -40)]),
        transaction(3, &[(7, -60)])
    ]);
    let (answer, again) = service.post_in_time(TRANSACTIONS, &array).await;
    let results: Vec<_> = answer
        .data()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["result"].clone())
        .collect();
    let new = |result: &Value| result == "written" || (again && result == "repeated");
    assert!(new(&results[0]) && new(&results[2]), "{results:?}");
    assert_eq!(
        (&results[1], &results[3]),
        (&json!("refused"), &json!("repeated"))
    );
    let mut expects = transaction(6, &[(7, 1)]);
    expects["entries"][0]["expect_seq"] = json!(2);
    let refused = service.post_until_taken(TRANSACTIONS, &expects).await;
    assert_eq!(code(&refused), (409, 4092));
    expects["entries"][0]["expect_seq"] = json!(3);
    written(service, TRANSACTIONS, &expects).await;
    let mut too_much = transaction(7, &[(7, -100)]);
    too_much["overdraft"] = json!(true);
    written(service, TRANSACTIONS, &too_much).await;
    assert_eq!(service.balances(7).await.data()[0]["avail"], "-0.00000099");
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_reads_beside_transfers_show_each_transfer_whole() {
    let service = Service::start_ready(Setup::default()).await;
    let deposits = json!([transaction(1, &[(7, 1_000)]), transaction(2, &[(8, 1_000)])]);
    assert_eq!(
        service
            .post_until_taken(TRANSACTIONS, &deposits)
            .await
            .status,
        200
    );
    let transfers = async |first: i64, count: i64, from: u64, to: u64| {
        for id in first..first + count {
            let one = transaction(id, &[(from, -3), (to, 3)]);
            let answer = service.post_until_taken(TRANSACTIONS, &one).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    };
    let reads = Cell::new(0);
    let writes = async {
        tokio::join!(
            transfers(100, 60, 7, 8),
            transfers(200, 60, 8, 7),
            transfers(300, 60, 7, 8)
        );
        // There and back, until a slow read had its time beside them.
        let mut id = 1_000;
        while reads.get() == 0 {
            transfers(id, 1, 7, 8).await;
            transfers(id + 1, 1, 8, 7).await;
            id += 2;
        }
    };
    let mut writes = std::pin::pin!(writes);
    loop {
        tokio::select! {
            biased;
            () = &mut writes => break,
            shown = held(&service, &[7, 8]) => {
                assert_eq!(shown.iter().sum::<i64>(), 2_000, "read {}", reads.get());
                reads.set(reads.get() + 1);
            }
        }
    }
    assert_eq!(held(&service, &[7, 8]).await, [820, 1_180]);
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_of_a_file_are_settled_once_and_what_does_not_stand_is_told_by_its_line() {
    let service = Service::start_ready(Setup::default()).await;
    trades_of_a_file_are_settled_once(&service);
}

/// Users 1001 and 1002 can pay for both trades, and 555 has nothing.
pub fn trades_of_a_file_are_settled_once(service: &Service) {
    let folder = TempDir::with_prefix("trades-").unwrap();
    let file = folder.path().join("trades.ndjson");
    let mut poor = trade(3);
    poor["buyer_user_id"] = json!(555);
    let lines = [
        trade(1).to_string(),
        String::new(),
        trade(2).to_string(),
        poor.to_string(),
        "{\"trade_id\":4}".to_owned(),
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    let command = [
        "ledger",
        "settle",
        "--file",
        file.to_str().unwrap(),
        "--batch",
        "2",
    ];
    let first = Said::of(service.run(&command));
    first.has(1, &["2 written, 0 repeated, 2 not settled"]);
    assert!(
        first
            .err
            .contains("trades.ndjson:4: trade 3 refused: user 555"),
        "{first}"
    );
    assert!(first.err.contains("trades.ndjson:5: malformed"), "{first}");
    let again = Said::of(service.run(&[command.as_slice(), &["--json"]].concat()));
    assert_eq!(again.code, 1, "{again}");
    let summary: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(
        (&summary["written"], &summary["repeated"]),
        (&json!(0), &json!(2))
    );
    fs::write(&file, trade(1).to_string()).unwrap();
    Said::of(service.run(&command)).has(0, &["0 written, 1 repeated, 0 not settled"]);
}

#[cfg(feature = "failpoints")]
mod killed;
