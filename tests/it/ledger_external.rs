//! Trades whose seqs an external writer assigned, on a real Cassandra and a real PostgreSQL.

use std::time::Duration;

use balance_cache::{
    config::ReadFrom,
    domain::{Conflict, Reference, SettleOutcome, SettleState, Trade, TradeId, Transaction},
    ledger::{Source, scylla::schema},
};
use serde_json::{Value, json};

use crate::{
    ledger_settle::TRADES,
    settlement_support::{SOON, short},
    support::{
        cassandra::shared,
        cql::{Place, asset, entry, told, user},
        eventually::eventually_async,
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
    source
        .source
        .write_entries(&[entry(2, 2, 9, 1)])
        .await
        .unwrap();
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
        let one = reader
            .scylla
            .load_latest(user(1), &[asset(1)])
            .await
            .unwrap();
        assert_eq!(told(&one), [(1, 6, 101)]);
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
    let answer = service.post(TRADES, &trade(7, 5, 100)).await;
    assert_eq!(
        (answer.status, &answer.data()["result"]),
        (200, &json!("written")),
        "{}",
        answer.body
    );
    let read = service
        .get("/api/user/balance?user_id=1&min_seq=BTC:5,USDT:5")
        .await;
    assert_eq!(read.status, 200, "{}", read.body);
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_trade_that_broke_off_is_finished_without_being_sent_again() {
    let ground = Ground::cassandra().await;
    // The first trade is held up for longer than its request may take, right after its record was appended.
    let service = service(
        &ground,
        Some(("FAILPOINTS", "record-appended=1*sleep(4000)".to_owned())),
        2_000,
    )
    .await;
    let answer = service.try_send(
        service
            .request(reqwest::Method::POST, TRADES)
            .json(&trade(7, 5, 100)),
    );
    let answer = answer.await;
    assert!(answer.is_none_or(|answer| answer.status >= 500));
    eventually_async(SOON, "the trade is done", async || {
        let answer = service.get(&format!("{TRADES}/7")).await;
        (answer.status == 200 && answer.data()["state"] == "done").then_some(())
    })
    .await;
    eventually_async(SOON, "it is counted", async || {
        let page = service.get_ops("/metrics").await.body;
        let line = "balance_cache_ledger_recovered_total 1";
        page.lines().any(|at| at == line).then_some(())
    })
    .await;
    let read = service
        .get("/api/user/balance?user_id=1&min_seq=BTC:5,USDT:5")
        .await;
    assert_eq!(read.status, 200, "{}", read.body);
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_trade_killed_after_any_statement_is_completed_by_sending_it_again() {
    let ground = Ground::cassandra().await;
    let session = shared().session().await;
    let count = async |text: &str| {
        let Ground::Cassandra(place) = &ground else {
            unreachable!()
        };
        let text = text.replace("{ks}", &place.settings.keyspace);
        let result = session.query_unpaged(text, ()).await.unwrap();
        result.into_rows_result().unwrap().rows_num()
    };
    // Where it stops, and the rows that stand by then.
    let points = [
        (
            "record-appended",
            "ledger_journal WHERE journal = 0 AND position = {id}",
            1,
        ),
        (
            "record-rows-written",
            "user_balances WHERE user_id IN (1, 2) AND asset_id IN (1, 2) AND version = {id} ALLOW FILTERING",
            4,
        ),
        (
            "record-sellers-written",
            "user_trades WHERE user_id = 2 AND symbol_id = 1 AND settled_at = 77 AND trade_id = {id}",
            1,
        ),
    ];
    for ((point, rows, stand), id) in points.into_iter().zip(1_i64..) {
        let rows = format!("SELECT * FROM {{ks}}.{rows}").replace("{id}", &id.to_string());
        let pause = ("FAILPOINTS", format!("{point}=pause"));
        let mut victim = service(&ground, Some(pause), 30_000).await;
        let sent = trade(id, id, 100 + id);
        let request = victim.request(reqwest::Method::POST, TRADES).json(&sent);
        let unanswered = async {
            let answer = victim.try_send(request).await;
            assert!(answer.is_none_or(|answer| answer.status >= 500), "{point}");
            std::future::pending::<()>().await;
        };
        let reached = eventually_async(SOON, "it stopped there", async || {
            (count(&rows).await == stand).then_some(())
        });
        tokio::select! {
            () = unanswered => {}
            () = reached => {}
        }
        victim.kill9();
        let next = service(&ground, None, 30_000).await;
        let state = next.get(&format!("{TRADES}/{id}")).await.data();
        assert_eq!(state["state"], "pending", "{point}");
        let answer = next.post(TRADES, &sent).await;
        assert_eq!(answer.status, 200, "{point}: {}", answer.body);
        assert_eq!(answer.data()["result"], "repeated", "{point}");
        let state = next.get(&format!("{TRADES}/{id}")).await.data();
        assert_eq!(state["state"], "done", "{point}");
        assert_eq!(next.balances(1).await.data()[0]["seq"], id);
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_trade_of_a_killed_instance_is_finished_by_the_next_one_without_being_sent_again() {
    let ground = Ground::cassandra().await;
    let pause = ("FAILPOINTS", "record-appended=pause".to_owned());
    let mut victim = service(&ground, Some(pause), 30_000).await;
    let next = service(&ground, None, 1_000).await;
    let request = victim
        .request(reqwest::Method::POST, TRADES)
        .json(&trade(7, 5, 100));
    let unanswered = async {
        let answer = victim.try_send(request).await;
        assert!(answer.is_none_or(|answer| answer.status >= 500));
        std::future::pending::<()>().await;
    };
    let stands = eventually_async(SOON, "it stands", async || {
        let found = next.get(&format!("{TRADES}/7")).await;
        (found.status == 200).then_some(())
    });
    tokio::select! {
        () = unanswered => {}
        () = stands => {}
    }
    victim.kill9();
    eventually_async(SOON, "it is done", async || {
        let found = next.get(&format!("{TRADES}/7")).await.data();
        (found["state"] == "done").then_some(())
    })
    .await;
    let read = next
        .get("/api/user/balance?user_id=1&min_seq=BTC:5,USDT:5")
        .await;
    assert_eq!(read.status, 200, "{}", read.body);
}
