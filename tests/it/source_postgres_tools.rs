//! The command line and the whole service on PostgreSQL: schema, doctor, verify, trace; histories, totals and warming of rows that
//! another program writes.

use serde_json::{Value, json};

use crate::support::{
    eventually::eventually_async,
    pg_place::PgPlace,
    postgres::shared,
    service::{Service, Setup},
    stage::{Database, SOON, Stage, are, in_order, shown},
};

fn over(place: &PgPlace) -> Setup {
    Setup::default()
        .with("source.kind", "postgres")
        .with("postgres.url", &place.settings.url)
}

/// Both outputs of a command that ends with this code.
#[track_caller]
fn said(setup: &Setup, words: &[&str], code: i32) -> String {
    let (ended, output, errors) = setup.run(words);
    let text = format!("{output}{errors}");
    assert_eq!(ended, code, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_made_looked_at_and_rolled_back_from_the_command_line() {
    let place = PgPlace::create(shared()).await;
    let setup = over(&place);
    let schema = |words: &[&str], code| said(&setup, &[&["schema"], words].concat(), code);
    assert!(schema(&["status"], 1).contains("not ready: there is no schema trading"));
    assert!(schema(&["apply"], 0).contains("004 user_trades: created"));
    assert!(schema(&["apply"], 0).contains("004 user_trades: already there"));
    let status = schema(&["status"], 0);
    assert!(
        status.contains("\nmigration ") && status.contains("\nready"),
        "{status}"
    );
    // Lost in a restore, with its line of the record.
    place.execute("DROP TABLE trading.user_trades").await;
    let writer = setup.clone().with("ledger.writer", "service");
    let doctor = said(&writer, &["doctor", "--before-start"], 1);
    assert!(doctor.contains("user_trades is missing"), "{doctor}");
    assert!(schema(&["apply"], 0).contains("004 user_trades: created"));
    let refused = schema(&["rollback", "--to", "0"], 2);
    assert!(
        refused.contains("005 ledger_transactions, 004 user_trades, 003 settled_trades")
            && refused.contains("--yes"),
        "{refused}"
    );
    assert!(schema(&["rollback", "--yes"], 0).contains(": rolled back"));
    assert!(
        schema(&["rollback", "--to", "0", "--yes"], 0).contains("001 balance_ledger: rolled back")
    );
    assert!(schema(&["rollback", "--yes"], 0).contains("nothing to roll back"));
    assert!(schema(&["drop-view", "--yes"], 2).contains("there is no view"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_find_what_differs_and_say_what_stands() {
    let place = PgPlace::create(shared()).await.applied().await;
    let setup = over(&place);
    let doctor = said(&setup, &["doctor", "--before-start"], 0);
    assert!(doctor.contains("the ledger is empty"), "{doctor}");
    for user in 1..=30 {
        place.put_row(user, 1, 1, 100).await;
        place.put_row(user, 77, 1, 5).await;
    }
    let doctor = said(&setup, &["doctor", "--before-start"], 0);
    assert!(
        doctor.contains("PostgreSQL 1") && doctor.contains("a read of the ledger"),
        "{doctor}"
    );
    for words in [
        &["verify", "--all"][..],
        &["verify"],
        &["verify", "--conservation"],
    ] {
        let text = said(&setup, words, 0);
        assert!(text.contains("30 users") || text.contains("30"), "{text}");
    }
    let damage = "UPDATE trading.user_balances SET avail = 1 WHERE user_id = 7 AND asset_id = 1; \
                  DELETE FROM trading.user_balances WHERE user_id = 8 AND asset_id = 77; \
                  INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, frozen, delta_avail) VALUES (9, 1, 2, 100, 1, 3); \
                  UPDATE trading.user_balances SET version = 2 WHERE user_id = 9 AND asset_id = 1";
    place.execute(damage).await;
    let (code, output, _) = setup.run(&["verify", "--conservation", "--grace-ms", "50", "--json"]);
    let found: Value = serde_json::from_str(&output).unwrap();
    let counts =
        ["users", "table_amounts", "table_behind", "rows_broken"].map(|key| found[key].as_u64());
    assert_eq!(
        (code, counts),
        (1, [Some(30), Some(1), Some(1), Some(1)]),
        "{found}"
    );
    let trace = said(&setup, &["get", "7", "--trace", "--no-service"], 0);
    assert!(
        trace.contains("user_balances") && trace.contains("the ledger"),
        "{trace}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_pair_that_can_be_is_compared_too() {
    let place = PgPlace::create(shared()).await.applied().await;
    let setup = over(&place);
    let last = format!("{}, {}, {}", i64::MAX, i32::MAX, i64::MAX);
    let rows = format!(
        "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, frozen) VALUES ({last}, 5, 0); \
         INSERT INTO trading.user_balances (user_id, asset_id, version, avail, frozen) VALUES ({last}, 5, 0)"
    );
    place.execute(&rows).await;
    let same = said(&setup, &["verify", "--all"], 0);
    assert!(
        same.contains("1 users, 1 assets, 2 rows compared"),
        "{same}"
    );
    let sums = said(&setup, &["verify", "--conservation"], 0);
    assert!(sums.contains("2147483647: 5 in the ledger"), "{sums}");
    place
        .execute("UPDATE trading.user_balances SET avail = 6")
        .await;
    for words in [
        &["verify", "--all", "--grace-ms", "0"][..],
        &["verify", "--grace-ms", "0"],
    ] {
        let text = said(&setup, words, 1);
        assert!(text.contains("table amounts differ"), "{text}");
    }
}

/// All rows of a query, page by page.
async fn page_through(service: &Service, query: &str) -> Vec<String> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = service.get(&format!("{query}&limit=77{cursor}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        seen.extend(
            answer["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(ToString::to_string),
        );
        let Some(next) = answer["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_program_are_pages_and_totals_and_wrong_ones_are_errors() {
    let place = PgPlace::create(shared()).await.applied().await;
    let rows = "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, created_at) \
                SELECT 1001, 1, seq, seq, CASE WHEN seq % 3 = 0 THEN NULL ELSE seq * 10 END FROM generate_series(1, 2500) seq; \
                INSERT INTO trading.user_balances (user_id, asset_id, version, avail) \
                SELECT u, 1, 1, 3 FROM generate_series(2001, 4500) u; \
                INSERT INTO trading.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost) \
                SELECT 1001, 1, id / 4, id, side, 5, 6, 7 FROM generate_series(1, 300) id, generate_series(0, 1) side";
    place.execute(rows).await;
    let service = Service::start_ready(over(&place).with("totals.interval_ms", 300)).await;
    for (query, count) in [
        ("/api/v1/order/trades?user_id=1001&symbol=BTC_USDT", 600),
        (
            "/api/v1/order/trades?user_id=1001&symbol=BTC_USDT&order=asc",
            600,
        ),
        ("/api/v1/user/ledger?user_id=1001&asset=BTC", 2_500),
        (
            "/api/v1/user/ledger?user_id=1001&asset=BTC&order=asc",
            2_500,
        ),
    ] {
        let mut seen = page_through(&service, query).await;
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!((all, seen.len()), (count, count), "{query}");
    }
    let at = service
        .get("/api/v1/user/ledger?user_id=1001&asset=BTC&at=12005&limit=1")
        .await;
    assert_eq!(
        at.data()[0]["seq"],
        1_199,
        "1200 and 1201 say no time, or a later one"
    );
    let nothing = service.get("/api/v1/user/ledger?user_id=5&asset=BTC").await;
    assert_eq!((nothing.status, nothing.data()), (200, json!([])));
    let total = eventually_async(SOON, "the total is made", async || {
        let answer = service.get("/api/v1/totals").await;
        answer.json()["data"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(
        (&total["asset"], &total["avail"], &total["users"]),
        (&json!("BTC"), &json!("0.000075"), &json!(2_500))
    );
    place
        .execute("UPDATE trading.user_trades SET role = 9 WHERE trade_id = 300 AND role = 1")
        .await;
    let wrong = service
        .get("/api/v1/order/trades?user_id=1001&symbol=BTC_USDT")
        .await;
    assert_eq!(
        (wrong.status, &wrong.json()["status"]),
        (503, &json!(5031)),
        "no side has role 9"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_ahead_of_its_row_and_the_row_itself_are_shown() {
    let stage = Stage::on(Database::Postgres).await;
    stage.has(1, &[(1, 300_000_000)]).await;
    let service = Service::start_ready(stage.setup()).await;
    in_order(&service).await;
    assert_eq!(shown(&service.balances(1).await), are(&[("BTC", "3", 3)]));
    let ahead = json!({"user_id": 1, "asset_id": 1, "seq": 4, "avail": 400_000_000, "frozen": 0});
    assert_eq!(
        service.post("/api/v1/settlements", &ahead).await.status,
        200
    );
    assert_eq!(shown(&service.balances(1).await), are(&[("BTC", "4", 4)]));
    stage.row(1, 1, 5, 500_000_000).await;
    let told = json!({"user_id": 1, "asset_id": 1, "seq": 5});
    assert_eq!(service.post("/api/v1/settlements", &told).await.status, 200);
    assert_eq!(shown(&service.balances(1).await), are(&[("BTC", "5", 5)]));
}
