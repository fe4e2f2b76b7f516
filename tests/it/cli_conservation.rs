//! `verify --conservation`: rows that do not add up, planted in real ledgers.

use balance_cache::{config::ReadFrom, domain::Trade};
use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use crate::{
    cli_support::{Apart, Said},
    ledger_service::setup,
    ledger_settle::{TRADES, TRANSACTIONS},
    support::{
        eventually::eventually_async,
        ground::{Ground, btc_and_usdt, on_each_ground},
        service::{Service, Setup},
        stage::SOON,
    },
};

/// `balance_ledger` and `user_balances` as the embedded ledger keeps them.
type Ledger = TableDefinition<
    'static,
    (i64, i32, i64),
    (
        i64,
        i64,
        Option<i64>,
        Option<i64>,
        Option<&'static str>,
        Option<i64>,
        Option<i64>,
    ),
>;
type CurrentBalance = TableDefinition<'static, (i64, i32), (i64, i64, i64, Option<i64>)>;

const LEDGER: Ledger = TableDefinition::new("balance_ledger");
const CURRENT: CurrentBalance = TableDefinition::new("user_balances");
const VERIFY: [&str; 4] = ["verify", "--conservation", "--grace-ms", "0"];

fn trade(id: i64, seq: Option<i64>) -> Value {
    let mut trade = json!({"trade_id": id, "symbol": "BTC_USDT", "buyer_user_id": 11, "seller_user_id": 12, "price": 200_000_000,
        "quantity": 10, "settled_at": 77});
    if let Some(seq) = seq {
        let amounts = [(11, 1, 10), (11, 2, 80), (12, 1, 90), (12, 2, 20)];
        let row = |(user, asset, avail): (i64, i32, i64)| json!({"user_id": user, "asset_id": asset, "seq": seq, "avail": avail, "frozen": 0});
        trade["balances"] = amounts.map(row).to_vec().into();
    }
    trade
}

fn path_of(service: &Service) -> String {
    let environment = service.setup().environment;
    let path = environment
        .into_iter()
        .rfind(|(key, _)| key.ends_with("EMBEDDED__PATH"));
    path.unwrap().1
}

/// Changes the file of a service that has ended.
fn plant(path: &str, change: impl FnOnce(&redb::WriteTransaction)) {
    let file = Database::open(path).unwrap();
    let transaction = file.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_adds_up_until_a_row_is_changed_lost_or_doubled() {
    let mut service =
        Service::start_ready(Setup::default().with("embedded.sample_data", false)).await;
    let deposits = json!({"transaction_id": 1, "event_type": "deposit", "entries": [
        {"user_id": 11, "asset_id": 2, "delta_avail": 100}, {"user_id": 12, "asset_id": 1, "delta_avail": 100}]});
    for (path, body) in [(TRANSACTIONS, deposits), (TRADES, trade(7, None))] {
        let answer = service.post(path, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let sums = [
        "BTC: 0.000001 in the ledger = 0 at the beginning + 0 by trades + 0.000001 by transactions + 0 by everything else; 0.000001 in user_balances",
        "USDT: 0.000001 in the ledger = 0 at the beginning + 0 by trades + 0.000001 by transactions + 0 by everything else; 0.000001 in user_balances",
        "2 transactions and trades",
        "the same: 2 users, 4 assets, 8 rows compared, 0 differences",
    ];
    // The instance that has the file open is asked, then the file.
    Said::of(service.run(&VERIFY)).has(0, &sums);
    assert_eq!(service.terminate(), 0);
    Said::of(service.run(&VERIFY)).has(0, &sums);
    let path = path_of(&service);
    // One more unit for the buyer, in ledger and current state alike.
    plant(&path, |transaction| {
        let mut ledger = transaction.open_table(LEDGER).unwrap();
        let row = (11, 0, Some(10), Some(0), Some("trade"), Some(7), Some(77));
        ledger.insert((11, 1, 1), row).unwrap();
        let mut current = transaction.open_table(CURRENT).unwrap();
        current.insert((11, 1), (11, 0, 1, Some(77))).unwrap();
    });
    Said::of(service.run(&VERIFY)).has(
        1,
        &[
            "row differs from its record  user 11: trade 7: seq 1 of BTC has avail 0.00000011, frozen 0, and had avail 0.0000001, frozen 0",
            "BTC: 0.00000101 in the ledger = 0.00000001 at the beginning + 0 by trades",
            "DIFFERENT",
            "1 differences, row differs from its record: 1",
        ],
    );
    // The trade once more for the seller's base, and its row of quote is lost.
    plant(&path, |transaction| {
        let mut ledger = transaction.open_table(LEDGER).unwrap();
        let right = (10, 0, Some(10), Some(0), Some("trade"), Some(7), Some(77));
        ledger.insert((11, 1, 1), right).unwrap();
        let again = (80, 0, Some(-10), Some(0), Some("trade"), Some(7), Some(77));
        ledger.insert((12, 1, 3), again).unwrap();
        ledger
            .insert(
                (12, 1, 4),
                (99, 0, Some(20), None, Some("deposit"), None, None),
            )
            .unwrap();
        ledger.remove((12, 2, 1)).unwrap();
    });
    let said = Said::of(service.run(&[VERIFY.as_slice(), &["--json"]].concat()));
    assert_eq!(said.code, 1, "{said}");
    let page: Value = serde_json::from_str(&said.out).unwrap();
    let kinds = |kind: &str| {
        let shown = page["shown"].as_array().unwrap().iter();
        shown
            .filter(|one| one["kind"] == kind)
            .map(|one| one["said"].to_string())
            .collect::<Vec<_>>()
    };
    assert!(
        kinds("row_stray")[0].contains("seq 3 of BTC is of trade 7, which does not have it"),
        "{page}"
    );
    assert!(
        kinds("record_incomplete")[0].contains("trade 7: there is no row seq 1 of USDT"),
        "{page}"
    );
    assert!(
        kinds("row_broken")[0].contains("seq 4 of BTC has avail 0.00000099, frozen 0; seq 3 and its deltas make avail 0.000001, frozen 0"),
        "{page}"
    );
    let btc = &page["conservation"]["assets"][0];
    assert_eq!(
        (&btc["by_transactions"], &btc["by_others"]),
        (&json!("100"), &json!("10")),
        "{page}"
    );
}

on_each_ground! {
    a_database_adds_up_until_a_row_is_changed_lost_or_doubled,
    a_transaction_is_compared_with_its_record,
}

async fn a_database_adds_up_until_a_row_is_changed_lost_or_doubled(ground: Ground) {
    let source = ground.open(ReadFrom::Table).await;
    for (user, asset) in [(11, 2), (12, 1)] {
        let text = format!(
            "INSERT INTO {{ks}}.balance_ledger (user_id, asset_id, seq, avail, frozen) VALUES ({user}, {asset}, 1, 100, 0)"
        );
        ground.run(&text).await;
    }
    let parsed = Trade::parse_trade(&trade(7, Some(2)).to_string(), &btc_and_usdt()).unwrap();
    source.source.settle_transactions(&[parsed]).await.unwrap();
    let apart = Apart::new(
        ground
            .name_in(Setup::default())
            .with("source.read_from", "table"),
    );
    let compared = match &ground {
        Ground::Cassandra(_) => "the same: 2 users, 4 assets, 12 rows compared, 0 differences",
        Ground::Postgres(_) => "the same: 2 users, 4 assets, 8 rows compared, 0 differences",
    };
    // The view is filled in the background.
    let quiet = ["verify", "--conservation", "--grace-ms", "3000"];
    apart.run(&quiet).has(
        0,
        &[
            "BTC: 0.000001 in the ledger = 0.000001 at the beginning + 0 by trades + 0 by transactions + 0 by everything else; 0.000001 in user_balances",
            "1 of 3 rows have no deltas",
            "1 transactions and trades",
            compared,
        ],
    );
    for text in [
        "UPDATE {ks}.balance_ledger SET avail = 91 WHERE user_id = 12 AND asset_id = 1 AND seq = 2",
        "DELETE FROM {ks}.balance_ledger WHERE user_id = 12 AND asset_id = 2 AND seq = 2",
        "INSERT INTO {ks}.balance_ledger (user_id, asset_id, seq, avail, frozen, delta_avail, event_type, ref_id) \
         VALUES (11, 1, 3, 20, 0, 10, 'trade', 7)",
    ] {
        ground.run(text).await;
    }
    let said = apart.run(&VERIFY);
    said.has(
        1,
        &[
            "row does not add up  user 12: seq 2 of BTC has avail 0.00000091, frozen 0; seq 1 and its deltas make avail 0.0000009, frozen 0",
            "row differs from its record  user 12: trade 7: seq 2 of BTC has avail 0.00000091",
            "row missing  user 12: trade 7: there is no row seq 2 of USDT",
            "row of no trade  user 11: seq 3 of BTC is of trade 7, which does not have it",
        ],
    );
}

/// One entry of a deposit.
fn entry(user: i64, asset: i32, units: i64) -> Value {
    json!({"user_id": user, "asset_id": asset, "delta_avail": units})
}

async fn a_transaction_is_compared_with_its_record(ground: Ground) {
    // PostgreSQL keeps no time of a write.
    let timestamped = |text: &str| match &ground {
        Ground::Cassandra(_) => text.to_owned(),
        Ground::Postgres(_) => text
            .replace(" USING TIMESTAMP 2", "")
            .replace(" USING TIMESTAMP 1", ""),
    };
    let service = Service::start_ready(setup(&ground, "")).await;
    let deposit = |id: i64, entries: &[Value]| json!({"transaction_id": id, "event_type": "deposit", "entries": entries});
    for (path, body) in [
        (
            TRANSACTIONS,
            deposit(1, &[entry(11, 2, 100), entry(12, 1, 100)]),
        ),
        (TRANSACTIONS, deposit(2, &[entry(13, 1, 5)])),
        (TRANSACTIONS, deposit(3, &[entry(15, 2, 9)])),
        (TRADES, trade(7, None)),
    ] {
        // A database that paused is asked again: what stands already is only repeated.
        eventually_async(SOON, "it is settled", async || {
            let answer = service.post(path, &body).await;
            assert!(
                answer.status == 200 || answer.status >= 500,
                "{}",
                answer.body
            );
            (answer.status == 200).then_some(())
        })
        .await;
    }
    // The view is filled in the background.
    let quiet = ["verify", "--conservation", "--grace-ms", "3000"];
    Said::of(service.run(&quiet)).has(
        0,
        &[
            "BTC: 0.00000105 in the ledger = 0 at the beginning + 0 by trades + 0.00000105 by transactions + 0 by everything else; 0.00000105 in user_balances",
            "USDT: 0.00000109 in the ledger = 0 at the beginning + 0 by trades + 0.00000109 by transactions + 0 by everything else; 0.00000109 in user_balances",
            "4 transactions and trades",
            "the same",
        ],
    );
    // One unit more in all columns alike, a deposit that no transaction made, and one whose row is lost.
    for text in [
        "UPDATE {ks}.balance_ledger SET avail = 6, delta_avail = 6 WHERE user_id = 13 AND asset_id = 1 AND seq = 1",
        "UPDATE {ks}.user_balances USING TIMESTAMP 2 SET avail = 6 WHERE user_id = 13 AND asset_id = 1",
        "INSERT INTO {ks}.balance_ledger (user_id, asset_id, seq, avail, frozen, delta_avail, event_type, ref_id) \
         VALUES (14, 1, 1, 7, 0, 7, 'deposit', 99)",
        "INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen, version) VALUES (14, 1, 7, 0, 1) USING TIMESTAMP 1",
        "DELETE FROM {ks}.balance_ledger WHERE user_id = 15 AND asset_id = 2 AND seq = 1",
        "DELETE FROM {ks}.user_balances USING TIMESTAMP 2 WHERE user_id = 15 AND asset_id = 2",
    ] {
        ground.run(&timestamped(text)).await;
    }
    Said::of(service.run(&quiet)).has(
        1,
        &[
            "row differs from its record  user 13: transaction 2: seq 1 of BTC has avail 0.00000006, frozen 0, and had avail 0.00000005, frozen 0",
            "row missing  user 15: transaction 3: there is no row seq 1 of USDT",
            "BTC: 0.00000113 in the ledger = 0 at the beginning + 0 by trades + 0.00000105 by transactions + 0.00000008 by everything else",
            "2 differences",
        ],
    );
}
