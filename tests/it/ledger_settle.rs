//! Transactions and trades through the real service over its embedded ledger: exactly once, whole, and told everywhere.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli_support::Said,
    settlement_support::{ENTRIES, embedded, seq_of, whole},
    support::{
        redis::Redis,
        service::{Answer, Service, Setup},
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
        "balance_cache_ledger_transactions_total{result=\"repeated\"} 1",
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
    entries_keep_their_seqs(&service).await;
}

/// Users 1001 and 1002 can pay for the trade.
pub async fn what_was_sent_is_found_again(service: &Service) {
    let answer = service.post(TRADES, &trade(7)).await;
    assert_eq!(result(&answer), "written");
    let data = answer.data();
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
    let again = service.post(TRADES, &trade(7)).await;
    assert_eq!(result(&again), "repeated");
    assert_eq!(again.data()["balances"], data["balances"]);
    let mut other = trade(7);
    other["quantity"] = json!(2_000_000);
    assert_eq!(code(&service.post(TRADES, &other).await), (409, 4091));
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
    for (written, repeated) in [(2, 1), (0, 3)] {
        let answer = service.post(ENTRIES, &both).await;
        let counts = json!({"written": written, "repeated": repeated});
        assert_eq!((answer.status, answer.data()), (200, counts));
    }
    let taken = json!([entry(10, 1, 1), entry(9, 4, 8)]);
    assert_eq!(code(&service.post(ENTRIES, &taken).await), (409, 4091));
    assert_eq!(held(service, &[9, 10]).await, [7, 0]);
    let next = service
        .post(TRANSACTIONS, &transaction(901, &[(9, -7)]))
        .await;
    assert_eq!(result(&next), "written");
    assert_eq!(next.data()["balances"][0]["seq"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing_and_each_of_an_array_stands_for_itself() {
    let service = Service::start_ready(Setup::default()).await;
    what_is_refused_leaves_nothing(&service).await;
}

/// Users 7 and 8 have nothing before.
pub async fn what_is_refused_leaves_nothing(service: &Service) {
    assert_eq!(
        result(
            &service
                .post(TRANSACTIONS, &transaction(1, &[(7, 100)]))
                .await
        ),
        "written"
    );
    let refused = service
        .post(TRANSACTIONS, &transaction(2, &[(8, 101), (7, -101)]))
        .await;
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
    let answer = service.post(TRANSACTIONS, &array).await;
    let results: Vec<_> = answer
        .data()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["result"].clone())
        .collect();
    assert_eq!(results, ["written", "refused", "written", "repeated"]);
    let mut expects = transaction(6, &[(7, 1)]);
    expects["entries"][0]["expect_seq"] = json!(2);
    assert_eq!(
        code(&service.post(TRANSACTIONS, &expects).await),
        (409, 4092)
    );
    expects["entries"][0]["expect_seq"] = json!(3);
    assert_eq!(
        result(&service.post(TRANSACTIONS, &expects).await),
        "written"
    );
    let mut overdrawn = transaction(7, &[(7, -100)]);
    overdrawn["overdraft"] = json!(true);
    assert_eq!(
        result(&service.post(TRANSACTIONS, &overdrawn).await),
        "written"
    );
    assert_eq!(service.balances(7).await.data()[0]["avail"], "-0.00000099");
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_reads_beside_transfers_show_each_transfer_whole() {
    let service = Service::start_ready(Setup::default().with("source.timeout_ms", 2_000)).await;
    let deposits = json!([transaction(1, &[(7, 1_000)]), transaction(2, &[(8, 1_000)])]);
    assert_eq!(service.post(TRANSACTIONS, &deposits).await.status, 200);
    let transfers = async |first: i64, from: u64, to: u64| {
        for id in first..first + 60 {
            let answer = service
                .post(TRANSACTIONS, &transaction(id, &[(from, -3), (to, 3)]))
                .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    };
    let writes = async {
        tokio::join!(
            transfers(100, 7, 8),
            transfers(200, 8, 7),
            transfers(300, 7, 8)
        )
    };
    let mut writes = std::pin::pin!(writes);
    let mut reads = 0;
    loop {
        tokio::select! {
            biased;
            _ = &mut writes => break,
            shown = held(&service, &[7, 8]) => {
                assert_eq!(shown.iter().sum::<i64>(), 2_000, "read {reads}");
                reads += 1;
            }
        }
    }
    assert!(reads > 0);
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
