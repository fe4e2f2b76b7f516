//! PostgreSQL as the source, on a real server: what a load shows, what it costs, and what stands in the way of one.

use balance_cache::{
    config::ReadFrom,
    ledger::{Cost, LedgerError, Source, SourceReadiness, postgres::schema, totals::TotalsScan},
};

use crate::support::{
    cql::{asset, told, until, user},
    pg_place::PgPlace,
    postgres::shared,
};

const WAYS: [ReadFrom; 3] = [ReadFrom::View, ReadFrom::Table, ReadFrom::Ledger];

/// `rows` rows of each asset as another program writes them, seq 1 …; the amount is the seq times the asset.
async fn fill(place: &PgPlace, user_id: i64, assets: &[i32], rows: i64) {
    let text = format!(
        "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, created_at) \
         SELECT {user_id}, asset, seq, seq::int8 * asset, 1765352441000 + seq FROM unnest(ARRAY{assets:?}) asset, generate_series(1, {rows}) seq; \
         INSERT INTO trading.user_balances (user_id, asset_id, version, avail, updated_at) \
         SELECT {user_id}, asset, {rows}, {rows} * asset::int8, 1765352441000 + {rows} FROM unnest(ARRAY{assets:?}) asset"
    );
    shared().execute(&place.database, &text).await;
}

fn newest(assets: &[i32], rows: i64) -> Vec<(i32, i64, i64)> {
    let amount = |asset_id: &i32| (*asset_id, rows, rows * i64::from(*asset_id));
    assets.iter().map(amount).collect()
}

#[tokio::test]
async fn all_three_ways_show_the_newest_row_of_every_asset() {
    let place = PgPlace::create(shared()).await.applied().await;
    let assets = [1, 2, 3, 77, i32::MAX];
    fill(&place, 7, &assets, 5).await;
    for from in WAYS {
        let running = place.open(from).await;
        let snapshot = running.source.load_snapshot(user(7)).await.unwrap();
        assert_eq!(told(&snapshot), newest(&assets, 5), "{from:?}");
        let first = snapshot.balances()[0];
        assert_eq!(
            (first.frozen.raw(), first.updated_at.unwrap().0),
            (0, 1_765_352_441_005)
        );
        let nothing = running.source.load_snapshot(user(8)).await.unwrap();
        assert!(nothing.balances().is_empty());
        let latest = running
            .source
            .load_latest(user(7), &[asset(2), asset(9)])
            .await;
        assert_eq!(told(&latest.unwrap()), [(2, 5, 10)]);
        assert!(
            running
                .source
                .load_latest(user(7), &[])
                .await
                .unwrap()
                .balances()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_load_costs_by_the_number_of_assets_and_no_statement_scans_a_table() {
    let place = PgPlace::create(shared()).await.applied().await;
    let assets: Vec<i32> = (1..=10).collect();
    fill(&place, 1, &assets, 10).await;
    fill(&place, 2, &assets, 5_000).await;
    let running = place.open(ReadFrom::View).await;
    for user_id in [1, 2] {
        let cost = Cost::default();
        let snapshot = running.source.load_counting(user(user_id), &cost).await;
        assert_eq!(snapshot.unwrap().balances().len(), 10);
        assert_eq!(
            (cost.statement_count(), cost.row_count()),
            (1, 10),
            "{user_id}"
        );
    }
    let above = running.source.row_above(user(2), asset(3), None).await;
    assert_eq!(above.unwrap().unwrap().seq.get(), 1);
    let totals = running
        .source
        .scan_totals(&TotalsScan::begin_scan(100_000))
        .await;
    assert_eq!(totals.unwrap().totals.assets.len(), 10);
    let client = shared().client(&place.database).await;
    let text = "SELECT coalesce(sum(idx_scan), 0)::int8, coalesce(sum(seq_tup_read), 0)::int8 FROM pg_stat_user_tables \
                WHERE schemaname = 'trading' AND relname IN ('balance_ledger', 'user_balances')";
    // The index of an empty table is built by a scan of no rows; the server counts up to a second late.
    until("the scans are counted", async || {
        let row = client.query_one(text, &[]).await.unwrap();
        let (by_index, whole): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(whole, 0, "a table was scanned");
        by_index >= 4
    })
    .await;
}

#[tokio::test]
async fn a_row_says_when_it_was_committed() {
    let place = PgPlace::create(shared()).await.applied().await;
    fill(&place, 1, &[1], 3).await;
    let running = place.open(ReadFrom::Ledger).await;
    let seq = running
        .source
        .load_snapshot(user(1))
        .await
        .unwrap()
        .balances()[0]
        .seq;
    let before = balance_cache::clock::wall_now();
    shared()
        .execute(
            &place.database,
            "INSERT INTO trading.balance_ledger (user_id, asset_id, seq) VALUES (1, 1, 9)",
        )
        .await;
    let row = running.source.row_above(user(1), asset(1), Some(seq)).await;
    let row = row.unwrap().unwrap();
    assert_eq!((row.seq.get(), row.created_at), (9, None));
    let written = row.written_at.unwrap();
    assert!(
        written >= before && written.0 <= balance_cache::clock::wall_now().0 + 1,
        "{written:?}"
    );
    let none = running
        .source
        .row_above(user(1), asset(1), Some(row.seq))
        .await;
    assert_eq!(none.unwrap(), None);
}

#[tokio::test]
async fn a_row_that_cannot_be_a_balance_is_an_error_and_no_part_is_shown() {
    let place = PgPlace::create(shared()).await.applied().await;
    fill(&place, 1, &[1, 2], 3).await;
    fill(&place, 2, &[0], 3).await;
    shared()
        .execute(
            &place.database,
            "INSERT INTO trading.balance_ledger (user_id, asset_id, seq) VALUES (1, 3, -4)",
        )
        .await;
    let running = place.open(ReadFrom::View).await;
    for user_id in [1, 2] {
        let loaded = running.source.load_snapshot(user(user_id)).await;
        assert!(matches!(loaded, Err(LedgerError::Corrupt(_))), "{loaded:?}");
    }
}

#[tokio::test]
async fn what_is_missing_or_unlike_is_said_with_what_to_do_and_nothing_is_shown() {
    let place = PgPlace::create(shared()).await;
    let running = place.begin(ReadFrom::Table);
    let reason = running.not_ready("there is no schema trading").await;
    assert!(reason.contains("schema apply"), "{reason}");
    assert!(running.source.load_snapshot(user(7)).await.is_err());
    let place = place.applied().await;
    running.ready().await;
    let execute = async |text: &str| shared().execute(&place.database, text).await;
    for (damage, said, repair) in [
        (
            "ALTER TABLE trading.user_balances RENAME TO elsewhere",
            "user_balances is missing",
            "ALTER TABLE trading.elsewhere RENAME TO user_balances",
        ),
        (
            "ALTER TABLE trading.balance_ledger RENAME avail TO available",
            "it has no column avail",
            "ALTER TABLE trading.balance_ledger RENAME available TO avail",
        ),
        (
            "ALTER TABLE trading.balance_ledger ALTER seq TYPE numeric",
            "its column seq is numeric and not bigint",
            "ALTER TABLE trading.balance_ledger ALTER seq TYPE bigint",
        ),
        (
            "ALTER TABLE trading.balance_ledger DROP CONSTRAINT balance_ledger_pkey",
            "it has no unique index over (user_id, asset_id, seq)",
            "ALTER TABLE trading.balance_ledger ADD PRIMARY KEY (user_id, asset_id, seq)",
        ),
        (
            "INSERT INTO trading.balance_ledger (user_id, asset_id, seq) VALUES (1, 1, 1)",
            "user_balances is empty and balance_ledger is not",
            "INSERT INTO trading.user_balances (user_id, asset_id, version) VALUES (1, 1, 1)",
        ),
    ] {
        execute(damage).await;
        running.not_ready(said).await;
        let refused = running.source.load_snapshot(user(1)).await;
        assert!(
            matches!(refused, Err(LedgerError::Unavailable(_))),
            "{said}: {refused:?}"
        );
        execute(repair).await;
        running.ready().await;
    }
}

#[tokio::test]
async fn another_ledger_at_the_same_address_is_refused() {
    let place = PgPlace::create(shared()).await.applied().await;
    let running = place.open(ReadFrom::View).await;
    let identity = running.source.identity().unwrap();
    assert!(identity.starts_with("postgres/trading/"), "{identity}");
    let other =
        "DELETE FROM trading.ledger_identity; INSERT INTO trading.ledger_identity DEFAULT VALUES";
    shared().execute(&place.database, other).await;
    running.not_ready("another ledger than at the start").await;
    assert!(
        running
            .source
            .load_latest(user(1), &[asset(1)])
            .await
            .is_err()
    );
    assert_eq!(running.source.identity().unwrap(), identity);
}

#[tokio::test]
async fn migrations_go_up_one_by_one_and_down_again() {
    let place = PgPlace::create(shared())
        .await
        .with(|settings| settings.schema = "money".to_owned());
    let source = place.source(ReadFrom::View);
    let apply = async || {
        schema::apply_migrations(&place.settings, &source)
            .await
            .unwrap()
            .to_string()
    };
    let status = async || schema::read_status(&place.settings, &source).await.unwrap();
    assert!(
        status()
            .await
            .find_problem()
            .unwrap()
            .contains("schema money")
    );
    // Two at once: one waits for the other.
    let (one, other) = tokio::join!(apply(), apply());
    let both = format!("{one}{other}");
    assert_eq!(
        both.matches("001 balance_ledger: created").count(),
        1,
        "{both}"
    );
    assert_eq!(
        both.matches("005 ledger_transactions: already there")
            .count(),
        1,
        "{both}"
    );
    assert_eq!(status().await.find_problem(), None);
    let identity = status().await.found.identity;
    let down = schema::roll_back(&place.settings, &source, Some(3))
        .await
        .unwrap()
        .to_string();
    let last = "005 ledger_transactions: rolled back\n004 user_trades: rolled back\n";
    assert!(down.ends_with(last), "{down}");
    assert_eq!(status().await.found.migrations, [1, 2, 3]);
    assert!(
        status()
            .await
            .find_problem()
            .unwrap()
            .contains("user_trades is missing")
    );
    let running = place.open(ReadFrom::View).await;
    assert_eq!(
        running.source.readiness(),
        SourceReadiness::Ready,
        "balances can be read"
    );
    assert!(apply().await.contains("004 user_trades: created"));
    assert_eq!(status().await.found.identity, identity);
    let text = "DROP TABLE money.user_trades; CREATE TABLE money.user_trades (user_id int)";
    shared().execute(&place.database, text).await;
    let unlike = schema::apply_migrations(&place.settings, &source)
        .await
        .unwrap_err();
    assert!(
        unlike
            .to_string()
            .contains("user_trades is not as it should be"),
        "{unlike}"
    );
}
