//! Pages of trades and statements: what was acknowledged is in them, rows of other writers, times, and how they are read.

use balance_cache::{
    config::{Consistency, ReadFrom},
    domain::{LedgerSlice, Order, TradeSlice, UnixMillis},
    ledger::{Cost, LedgerError, Source, history::find_seq_at},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    histories_support::{DEADLINE_MS, STATEMENT, TRADES, Tables, over, trade},
    ledger_service::setup,
    ledger_settle::TRANSACTIONS,
    support::{
        cassandra::shared,
        cql::{Place, asset, catalogue, entry, until, user},
        ground::{Ground, on_each_ground},
        service::{Service, Setup},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_next_page_and_counted() {
    let setup = Setup::default().with("limits.deadline_ms", DEADLINE_MS);
    acknowledged_rows_are_paged(&Service::start_ready(setup).await).await;
}

on_each_ground! {
    what_was_acknowledged_by_a_database_is_in_the_next_page_and_counted,
    rows_of_other_writers_are_shown_as_they_stand_and_at_finds_its_row_in_few_reads,
}

async fn what_was_acknowledged_by_a_database_is_in_the_next_page_and_counted(ground: Ground) {
    let service = Service::start_ready(setup(&ground, "")).await;
    let rich = json!({"transaction_id": 1, "entries": [{"user_id": 1001, "asset_id": 2, "delta_avail": 1_000},
        {"user_id": 1002, "asset_id": 1, "delta_avail": 1_000}]});
    let answer = service.post_until_taken(TRANSACTIONS, &rich).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    acknowledged_rows_are_paged(&service).await;
}

/// Users 1001 and 1002 can pay.
async fn acknowledged_rows_are_paged(service: &Service) {
    for id in 1..=20 {
        let trade = trade(id, 1_000 + id, 1002);
        let answer = service
            .post_until_taken("/api/v1/ledger/trades", &trade)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let page = service.get(&format!("{TRADES}&limit=1")).await.data();
        assert_eq!(page[0]["trade_id"], id);
        assert_eq!(
            (&page[0]["price"], &page[0]["quantity"], &page[0]["cost"]),
            (&json!("1"), &json!("0.0000001"), &json!("0.0000001"))
        );
        let page = service.get(&format!("{STATEMENT}&limit=1")).await.data();
        assert_eq!(
            (&page[0]["ref_id"], &page[0]["event_type"]),
            (&json!(id), &json!("trade"))
        );
        let other = "/api/v1/order/trades?user_id=1002&symbol=BTC_USDT&limit=1";
        assert_eq!(service.get(other).await.data()[0]["role"], "SELLER");
    }
    let between = service
        .get(&format!("{TRADES}&from=1005&to=1008&order=asc"))
        .await
        .json();
    let ids: Vec<_> = between["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["trade_id"].clone())
        .collect();
    assert_eq!(
        (ids, &between["next"]),
        (vec![json!(5), json!(6), json!(7)], &Value::Null)
    );
    for nothing in [
        format!("{TRADES}&from=1008&to=1008"),
        TRADES.replace("1001", "5"),
        TRADES.replace("BTC_USDT", "ETH_USDT"),
        STATEMENT.replace("1001", "5"),
        STATEMENT.replace("BTC", "77"),
        format!("{STATEMENT}&at=1"),
    ] {
        let answer = service.get(&nothing).await;
        assert_eq!(
            (answer.status, answer.data(), &answer.json()["next"]),
            (200, json!([]), &Value::Null),
            "{nothing}"
        );
    }
    let head = service.send(service.request(Method::HEAD, TRADES)).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let metrics = service.get_ops("/metrics").await.body;
    for line in [
        r#"balance_cache_history_seconds_count{route="/api/v1/order/trades",result="page"} 45"#,
        r#"balance_cache_history_seconds_count{route="/api/v1/user/ledger",result="failed"} 0"#,
        r#"balance_cache_http_requests_total{route="/api/v1/order/trades",status="200"} 45"#,
    ] {
        assert!(
            metrics.lines().any(|at| at == line),
            "{line} is not in\n{metrics}"
        );
    }
}

async fn rows_of_other_writers_are_shown_as_they_stand_and_at_finds_its_row_in_few_reads(
    ground: Ground,
) {
    let tables = Tables::of(&ground).await;
    let source = ground.open(ReadFrom::Ledger).await;
    let seqs = [1, 2, 40, 1 << 40, i64::MAX - 1, i64::MAX];
    for (seq, created_at) in
        seqs.into_iter()
            .zip([Some(10), None, Some(10), Some(20), None, Some(30)])
    {
        tables.row(seq, created_at).await;
    }
    for (at, seq) in [
        (9, None),
        (10, Some(40)),
        (19, Some(40)),
        (20, Some(1 << 40)),
        (29, Some(1 << 40)),
        (30, Some(i64::MAX)),
    ] {
        let (cost, before) = (Cost::default(), source.statements_sent());
        let found = find_seq_at(
            &*source.source,
            (user(1001), asset(1)),
            UnixMillis(at),
            &cost,
        );
        assert_eq!(
            found.await.unwrap().map(balance_cache::domain::Seq::get),
            seq,
            "at {at}"
        );
        let counted = cost.statement_count();
        assert!(counted <= 64, "{counted} point reads");
        if let (Some(before), Some(after)) = (before, source.statements_sent()) {
            assert_eq!(after - before, counted, "all of them are counted");
        }
    }
    pages_of_rows(&ground).await;
    tables.side(5, 7, 9).await;
    let service = Service::start_ready(over(&ground)).await;
    let answer = service.get(TRADES).await;
    let told = (answer.status, &answer.json()["status"]);
    assert_eq!(told, (503, &json!(5031)), "no side has role 9");
    assert!(!answer.body.contains("role"), "{}", answer.body);
}

/// The statement with those rows, as a service shows it.
async fn pages_of_rows(ground: &Ground) {
    let service = Service::start_ready(over(ground)).await;
    let answer = service
        .get(&format!("{STATEMENT}&at=29&limit=2"))
        .await
        .json();
    assert_eq!(
        answer["data"],
        json!([
            {"seq": 1_i64 << 40, "avail": "10995.11627776", "frozen": "0", "delta_avail": null, "delta_frozen": null,
                "event_type": null, "ref_id": null, "created_at": 20},
            {"seq": 40, "avail": "0.0000004", "frozen": "0", "delta_avail": null, "delta_frozen": null,
                "event_type": null, "ref_id": null, "created_at": 10},
        ])
    );
    let next = answer["next"].as_str().unwrap();
    let rest = service
        .get(&format!("{STATEMENT}&at=29&cursor={next}"))
        .await
        .json();
    let seqs: Vec<_> = rest["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["seq"].clone())
        .collect();
    assert_eq!(
        (seqs, &rest["next"]),
        (vec![json!(2), json!(1)], &Value::Null)
    );
    let answer = service.get(&format!("{STATEMENT}&cursor={next}")).await;
    assert_eq!(answer.status, 400, "a cursor of a query with a time");
    let up = service
        .get(&format!("{STATEMENT}&at=20&order=asc&limit=1"))
        .await
        .data();
    assert_eq!(up[0]["seq"], 1_i64 << 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_read_by_a_quorum_even_where_balances_are_read_from_one_node() {
    // Five replicas of which one is there: one answers, a quorum does not.
    let place = Place::new(shared())
        .with(|settings| {
            settings.replication_factor = 5;
            settings.consistency = Consistency::One;
        })
        .applied()
        .await;
    let source = place.open(ReadFrom::Ledger, &catalogue([1])).await;
    source
        .scylla
        .write_entries(&[entry(1, 1, 1, 5)])
        .await
        .unwrap();
    assert_eq!(
        source
            .scylla
            .load_snapshot(user(1))
            .await
            .unwrap()
            .balances()
            .len(),
        1
    );
    let statement = LedgerSlice {
        user: user(1),
        asset: asset(1),
        lowest: 1,
        highest: i64::MAX,
        order: Order::NewestFirst,
        rows_max: 10,
    };
    let trades = TradeSlice {
        user: user(1),
        symbol_id: 1,
        lowest: (0, 0),
        highest: (9, 9),
        order: Order::OldestFirst,
        rows_max: 10,
    };
    let cost = Cost::default();
    let refused = source.scylla.read_statement(statement, &cost).await;
    assert!(
        matches!(refused, Err(LedgerError::Unavailable(_))),
        "{refused:?}"
    );
    let refused = source.scylla.user_trades(trades, &cost).await;
    assert!(
        matches!(refused, Err(LedgerError::Unavailable(_))),
        "{refused:?}"
    );
    // Two are less than a quorum, too.
    let place = place.with(|settings| settings.consistency = Consistency::Two);
    let source = place.begin(ReadFrom::Ledger, &catalogue([1]));
    until("three replicas are asked for", async || {
        match source.scylla.read_statement(statement, &cost).await {
            Err(LedgerError::Unavailable(reason)) => reason.contains("1 of 3 replicas"),
            Err(_) => false,
            Ok(rows) => panic!("{rows:?}"),
        }
    })
    .await;
}
