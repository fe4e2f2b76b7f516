//! Trades whose seqs an external writer assigned, on a real Cassandra and a real PostgreSQL.

use std::time::Duration;

use balance_cache::{
    config::ReadFrom,
    domain::{Conflict, Reference, SettleOutcome, SettleState, Trade, TradeId, Transaction},
    ledger::{Source, scylla::schema},
};
use serde_json::{Value, json};

use crate::{
    ledger_settle::{TRADES, written},
    settlement_support::short,
    support::{
        cassandra::shared,
        cql::{Place, entry, told, user},
        ground::{Ground, btc_and_usdt, on_each_ground},
        service::Service,
    },
};

/// A trade of 10 raw BTC for 20 raw USDT, whose four rows have this seq and these amounts.
fn trade(id: i64, seq: i64, avail: i64) -> Value {
    let balances: Vec<Value> = [(1, 1), (1, 2), (2, 1), (2, 2)]
        .map(|(user, asset)| json!({"user_id": user, "asset_id": asset, "seq": seq, "avail": avail, "frozen": 0}))
        .to_vec();
    json!({"trade_id": id, "symbol": "BTC_USDT", "buyer_user_id": 1, "seller_user_id": 2, "price": 200_000_000,
        "quantity": 10, "settled_at": 77, "buyer_order_id": 5, "balances": balances})
}

fn parsed(trade: &Value) -> Transaction {
    Trade::parse_trade(&trade.to_string(), &btc_and_usdt()).unwrap()
}

async fn settle(source: &dyn Source, trades: &[Transaction]) -> Vec<SettleOutcome> {
    source.settle_transactions(trades).await.unwrap()
}

on_each_ground! {
    a_trade_writes_its_rows_both_sides_and_itself_and_is_repeated_harmlessly,
    other_content_under_an_id_and_a_seq_with_other_amounts_are_conflicts,
    transactions_and_trades_without_balances_need_another_writer,
    a_trade_of_two_writers_at_one_moment_stands_once,
}

async fn a_trade_writes_its_rows_both_sides_and_itself_and_is_repeated_harmlessly(ground: Ground) {
    let source = ground.open(ReadFrom::Table).await;
    let one = parsed(&trade(7, 5, 100));
    for word in ["written", "repeated"] {
        let outcome = settle(&*source.source, std::slice::from_ref(&one))
            .await
            .remove(0);
        let same = matches!(
            (&outcome, word),
            (SettleOutcome::Written(_), "written") | (SettleOutcome::Repeated(_), "repeated")
        );
        assert!(same, "{outcome:?}");
        assert_eq!(
            told(&source.source.load_snapshot(user(1)).await.unwrap()),
            [(1, 5, 100), (2, 5, 100)]
        );
    }
    let reference = Reference::Trade(TradeId::new(7).unwrap());
    let stands = source
        .source
        .find_transaction(reference)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (stands.state, &stands.content),
        (SettleState::Done, &one.content)
    );
    assert_eq!(Some(stands.receipt.balances), one.balances);
    let sides = ground.sides("1, 2").await;
    assert_eq!(sides, [(1, 0, Some(5), 20), (2, 1, None, 20)]);
}

async fn other_content_under_an_id_and_a_seq_with_other_amounts_are_conflicts(ground: Ground) {
    let source = ground.open(ReadFrom::Ledger).await;
    source.writes(&[entry(2, 2, 9, 1)]).await;
    let mut other = trade(7, 6, 100);
    other["quantity"] = json!(11);
    let all = [
        parsed(&trade(7, 5, 100)),
        parsed(&other),
        parsed(&trade(7, 6, 100)),
        parsed(&trade(8, 9, 100)),
        parsed(&trade(7, 5, 100)),
        parsed(&trade(9, 5, 101)),
    ];
    let outcomes = settle(&*source.source, &all).await;
    assert!(matches!(outcomes[0], SettleOutcome::Written(_)));
    for at in [1, 2] {
        assert_eq!(
            outcomes[at],
            SettleOutcome::Conflict(Conflict::OtherContent),
            "{at}"
        );
    }
    for at in [3, 5] {
        let taken = matches!(
            outcomes[at],
            SettleOutcome::Conflict(Conflict::SeqTaken { .. })
        );
        assert!(taken, "{at}: {:?}", outcomes[at]);
    }
    assert!(matches!(outcomes[4], SettleOutcome::Repeated(_)));
    let free = source
        .source
        .find_transaction(Reference::Trade(TradeId::new(8).unwrap()));
    assert_eq!(free.await.unwrap(), None, "a conflict leaves no claim");
}

async fn a_trade_of_two_writers_at_one_moment_stands_once(ground: Ground) {
    let (one, other) = (
        ground.open(ReadFrom::Ledger).await,
        ground.open(ReadFrom::Ledger).await,
    );
    for id in 1..=8 {
        // Another id with the same seqs and other amounts beside it: one of the two stands.
        let (first, second) = (
            parsed(&trade(id, id, 100)),
            parsed(&trade(100 + id, id, 200)),
        );
        let (first, second) = (
            std::slice::from_ref(&first).to_vec(),
            std::slice::from_ref(&second).to_vec(),
        );
        let (a, b) = tokio::join!(
            settle(&*one.source, &first),
            settle(&*other.source, &second)
        );
        let stands = |outcome: &SettleOutcome| matches!(outcome, SettleOutcome::Written(_));
        assert_eq!(
            u8::from(stands(&a[0])) + u8::from(stands(&b[0])),
            1,
            "{a:?} {b:?}"
        );
        let sides = ground.sides("1, 2").await;
        assert_eq!(sides.len(), 2 * usize::try_from(id).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_read_in_the_middle_of_a_trade_shows_both_of_its_balances() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    let writer = place.open(ReadFrom::Table, &btc_and_usdt()).await;
    let outcome = settle(&*writer.scylla, &[parsed(&trade(7, 5, 100))]).await;
    assert!(
        matches!(outcome[..], [SettleOutcome::Written(_)]),
        "{outcome:?}"
    );
    // The next trade has written the current state and one of its rows; and another program has written a row of its own.
    for text in [
        "INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen, version, updated_at) VALUES (1, 1, 101, 0, 6, 78) USING TIMESTAMP 6",
        "INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen, version, updated_at) VALUES (1, 2, 101, 0, 6, 78) USING TIMESTAMP 6",
        "INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen, version) VALUES (1, 3, 9, 0, 9)",
        "INSERT INTO {ks}.balance_ledger (user_id, asset_id, seq, avail, frozen) VALUES (1, 2, 6, 101, 0)",
    ] {
        place.cql(&session, text).await;
    }
    for way in [ReadFrom::View, ReadFrom::Ledger] {
        let reader = place.open(way, &btc_and_usdt()).await;
        reader.shows(1, &[(1, 5, 100), (2, 6, 101)]).await;
        // Every instance looks at the journal again and again.
        reader
            .scylla
            .recover_unfinished(Duration::MAX)
            .await
            .unwrap();
        reader.shows(1, &[(1, 6, 101), (2, 6, 101)]).await;
        assert_eq!(told(&reader.latest(1, [1]).await), [(1, 6, 101)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_keyspace_is_read_and_schema_apply_brings_it_up_to_date() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    for table in ["settled_trades", "user_trades"] {
        place
            .cql(&session, &format!("DROP TABLE {{ks}}.{table}"))
            .await;
    }
    let source = place.open(ReadFrom::Table, &btc_and_usdt()).await;
    assert!(
        source
            .scylla
            .settle_transactions(&[parsed(&trade(1, 1, 1))])
            .await
            .is_err()
    );
    assert!(source.scylla.load_snapshot(user(1)).await.is_ok());
    let settings = place.source(ReadFrom::Table);
    let status = schema::read_status(&place.settings, &settings)
        .await
        .unwrap();
    assert!(!status.is_ready());
    assert!(
        status.to_string().contains("settled_trades is missing"),
        "{status}"
    );
    schema::apply_schema(&place.settings, &settings)
        .await
        .unwrap();
    assert!(
        schema::read_status(&place.settings, &settings)
            .await
            .unwrap()
            .is_ready()
    );
    let outcome = settle(&*source.scylla, &[parsed(&trade(1, 1, 1))])
        .await
        .remove(0);
    assert!(matches!(outcome, SettleOutcome::Written(_)));
}

/// A service over it, with what more it is given.
async fn service(ground: &Ground, raw: Option<(&str, String)>, recovery_ms: u32) -> Service {
    let mut setup = ground
        .name_in(short(""))
        .with("source.read_from", "table")
        .with("ledger.recovery_ms", recovery_ms);
    if let Some((name, value)) = raw {
        setup = setup.raw(name, value);
    }
    Service::start_ready(setup).await
}

async fn transactions_and_trades_without_balances_need_another_writer(ground: Ground) {
    let service = service(&ground, None, 30_000).await;
    let mut without = trade(7, 5, 100);
    without.as_object_mut().unwrap().remove("balances");
    let deposit =
        json!({"transaction_id": 1, "entries": [{"user_id": 1, "asset_id": 1, "delta_avail": 1}]});
    for (path, body) in [
        (TRADES, &without),
        ("/api/v1/ledger/transactions", &deposit),
    ] {
        let answer = service.post(path, body).await;
        assert_eq!(
            (answer.status, &answer.json()["status"]),
            (409, &json!(4093)),
            "{}",
            answer.body
        );
    }
    written(&service, TRADES, &trade(7, 5, 100)).await;
    let read = service
        .get("/api/user/balance?user_id=1&min_seq=BTC:5,USDT:5")
        .await;
    assert_eq!(read.status, 200, "{}", read.body);
}

#[cfg(feature = "failpoints")]
mod killed;
