//! The CQL source on a real Cassandra: what a load shows, what it costs, what a write does.

use balance_cache::{
    config::ReadFrom,
    domain::{Amount, Entry, Seq},
    ledger::{Cost, LedgerError, Source, WriteError},
};

use crate::support::{
    cassandra::shared,
    cql::{Place, asset, catalogue, entry, told, until, user},
};

const WAYS: [ReadFrom; 3] = [ReadFrom::View, ReadFrom::Table, ReadFrom::Ledger];

/// `rows` entries of each asset, seq 1 …, the amount is the seq times the asset.
async fn history(place: &Place, user_id: i64, assets: &[i32], rows: i64) {
    let writer = place.open(ReadFrom::View, &catalogue([1])).await;
    for asset_id in assets {
        let amount = |seq| seq * i64::from(*asset_id);
        let entries: Vec<_> = (1..=rows)
            .map(|seq| entry(user_id, *asset_id, seq, amount(seq)))
            .collect();
        let done = writer.scylla.write_entries(&entries).await.unwrap();
        assert_eq!(done.written, entries.len() as u64);
    }
}

fn newest(assets: &[i32], rows: i64) -> Vec<(i32, i64, i64)> {
    let amount = |asset_id: &i32| (*asset_id, rows, rows * i64::from(*asset_id));
    assets.iter().map(amount).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_01_all_assets_are_shown_by_all_three_ways() {
    let place = Place::new(shared()).applied().await;
    let known = catalogue([1, 2, 3]);
    history(&place, 1001, &[1, 2, 3], 7).await;
    for way in WAYS {
        let source = place.open(way, &known).await;
        source.shows(1001, &newest(&[1, 2, 3], 7)).await;
        let nothing = source.scylla.load_snapshot(user(999_999)).await.unwrap();
        assert!(nothing.balances().is_empty(), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_10_assets_outside_the_catalogue_are_shown_however_long_the_history() {
    let place = Place::new(shared()).applied().await;
    let known = catalogue([2, 4, 2_000_000_000]);
    let assets = [1, 2, 3, 7, 8, 100, i32::MAX];
    history(&place, 1, &assets, 3).await;
    history(&place, 2, &assets, 40).await;
    for way in [ReadFrom::View, ReadFrom::Table] {
        let source = place.open(way, &known).await;
        source.shows(1, &newest(&assets, 3)).await;
        // Twice: without, and with the memory of which assets there are.
        source.shows(2, &newest(&assets, 40)).await;
        source.shows(2, &newest(&assets, 40)).await;
    }
    let ledger = place.open(ReadFrom::Ledger, &known).await;
    ledger.shows(2, &newest(&[2], 40)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_02_a_load_costs_assets_plus_one_statements_and_never_the_history() {
    let place = Place::new(shared()).applied().await;
    let ten: Vec<i32> = (1..=10).collect();
    history(&place, 1, &[1, 2, 3], 20).await;
    history(&place, 2, &ten, 10).await;
    history(&place, 3, &ten, 150).await;
    let view = place.open(ReadFrom::View, &catalogue(1..=10)).await;
    view.shows(1, &newest(&[1, 2, 3], 20)).await;
    assert_eq!(view.statements(1).await, 1, "the usual user");
    view.shows(2, &newest(&ten, 10)).await;
    view.shows(3, &newest(&ten, 150)).await;
    // The ledger's row of each known asset in one, a look below them and one beyond.
    assert_eq!(view.statements(2).await, 3);
    assert_eq!(view.statements(3).await, 3);
    let fresh = place.open(ReadFrom::View, &catalogue(1..=10)).await;
    assert_eq!(fresh.statements(3).await, 3, "also the first time");
    let strange = place.open(ReadFrom::View, &catalogue([1])).await;
    assert_eq!(
        strange.statements(3).await,
        11,
        "assets + 1 where none is known"
    );
    assert_eq!(strange.statements(3).await, 3, "and then they are");
    for way in [ReadFrom::Table, ReadFrom::Ledger] {
        let source = place.open(way, &catalogue(1..=10)).await;
        assert_eq!(source.statements(3).await, 1, "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_that_a_user_gets_later_is_found() {
    let place = Place::new(shared()).applied().await;
    history(&place, 1, &[2, 5], 80).await;
    let view = place.open(ReadFrom::View, &catalogue([2])).await;
    view.shows(1, &newest(&[2, 5], 80)).await;
    for (asset_id, expected) in [
        (1, vec![1, 2, 5]),
        (9, vec![1, 2, 5, 9]),
        (4, vec![1, 2, 4, 5, 9]),
    ] {
        let later = entry(1, asset_id, 80, 80 * i64::from(asset_id));
        view.scylla.write_entries(&[later]).await.unwrap();
        view.shows(1, &newest(&expected, 80)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_06_amounts_keep_their_sign_and_a_missing_amount_is_zero() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    for (asset_id, columns, values) in [
        (1, "avail, frozen", "-1, -9223372036854775808"),
        (2, "frozen", "5"),
        (3, "avail", "9223372036854775807"),
    ] {
        let insert = format!(
            "INSERT INTO {{ks}}.balance_ledger (user_id, asset_id, seq, {columns}) VALUES (1, {asset_id}, 1, {values})"
        );
        place.cql(&session, &insert).await;
        let insert = format!(
            "INSERT INTO {{ks}}.user_balances (user_id, asset_id, version, {columns}) VALUES (1, {asset_id}, 1, {values})"
        );
        place.cql(&session, &insert).await;
    }
    for way in WAYS {
        let source = place.open(way, &catalogue([1, 2, 3])).await;
        source
            .shows(1, &[(1, 1, -1), (2, 1, 0), (3, 1, i64::MAX)])
            .await;
        let snapshot = source.scylla.load_snapshot(user(1)).await.unwrap();
        let frozen: Vec<_> = snapshot.balances().iter().map(|b| b.frozen.raw()).collect();
        assert_eq!(frozen, [i64::MIN, 5, 0], "{way:?}");
        assert!(snapshot.balances().iter().all(|b| b.updated_at.is_none()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_a_balance_is_corrupt_and_never_left_out() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    history(&place, 2, &[1, 2], 60).await;
    let view = place.open(ReadFrom::View, &catalogue([1])).await;
    view.shows(2, &newest(&[1, 2], 60)).await;
    for (user_id, asset_id, seq) in [(1, 0, 1), (1, 1, 0), (2, i32::MIN, 7), (3, -4, 7)] {
        let insert = format!(
            "INSERT INTO {{ks}}.balance_ledger (user_id, asset_id, seq, avail, frozen) \
             VALUES ({user_id}, {asset_id}, {seq}, 1, 1)"
        );
        place.cql(&session, &insert).await;
        until("it is corrupt", async || {
            let answer = view.scylla.load_snapshot(user(user_id)).await;
            matches!(answer, Err(LedgerError::Corrupt(_)))
        })
        .await;
    }
    let insert =
        "INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen) VALUES (9, 1, 1, 1)";
    place.cql(&session, insert).await;
    let table = place.open(ReadFrom::Table, &catalogue([1])).await;
    let answer = table.scylla.load_snapshot(user(9)).await;
    assert!(matches!(answer, Err(LedgerError::Corrupt(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_takes_more_assets_than_one_statement_does_and_leaves_out_what_never_was() {
    let place = Place::new(shared()).applied().await;
    history(&place, 1, &[3, 250], 5).await;
    let source = place.open(ReadFrom::View, &catalogue([1])).await;
    let before = source.scylla.statements_sent();
    let latest = source.latest(1, 1..=250).await;
    assert_eq!(told(&latest), newest(&[3, 250], 5));
    assert_eq!(source.scylla.statements_sent() - before, 3);
    assert_eq!(told(&source.latest(1, [3]).await), newest(&[3], 5));
    let none = source.latest(1, [4]).await;
    assert!(none.balances().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_amounts_again_are_repeated_and_other_amounts_write_nothing() {
    let place = Place::new(shared()).applied().await;
    let table = place.open(ReadFrom::View, &catalogue([1])).await;
    let first = [
        entry(1, 1, 5, 100),
        entry(1, 2, 5, 200),
        entry(1, 1, 5, 100),
    ];
    let done = table.scylla.write_entries(&first).await.unwrap();
    assert_eq!((done.written, done.repeated), (2, 1));
    let again = table.scylla.write_entries(&first).await.unwrap();
    assert_eq!((again.written, again.repeated), (0, 3));

    let mixed = [entry(1, 1, 6, 1), entry(1, 2, 5, 201), entry(1, 3, 1, 1)];
    let refused = table.scylla.write_entries(&mixed).await;
    assert!(matches!(refused, Err(WriteError::Conflict { index: 1 })));
    let contradiction = [entry(1, 4, 1, 1), entry(1, 4, 1, 2)];
    let refused = table.scylla.write_entries(&contradiction).await;
    assert!(matches!(refused, Err(WriteError::Conflict { index: 1 })));
    assert_eq!(
        told(&table.latest(1, 1..=4).await),
        [(1, 5, 100), (2, 5, 200)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_04_the_current_state_is_the_highest_seq_in_whatever_order_it_is_written() {
    let place = Place::new(shared()).applied().await;
    let writer = place.open(ReadFrom::View, &catalogue([1])).await;
    let reordered = [entry(1, 1, 9, 90), entry(1, 1, 3, 30), entry(1, 1, 7, 70)];
    writer.scylla.write_entries(&reordered).await.unwrap();
    writer
        .scylla
        .write_entries(&[entry(1, 1, 4, 40)])
        .await
        .unwrap();
    writer.scylla.write_entries(&reordered[1..]).await.unwrap();
    for way in WAYS {
        let source = place.open(way, &catalogue([1])).await;
        source.shows(1, &[(1, 9, 90)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_05_a_self_trade_leaves_both_sides_right() {
    let place = Place::new(shared()).applied().await;
    let writer = place.open(ReadFrom::View, &catalogue([1, 2])).await;
    // Buyer and seller are one user: out and in again, of both assets, in one request.
    let trade = [
        entry(1, 1, 1, 1_000),
        entry(1, 2, 1, 50),
        entry(1, 1, 2, 900),
        entry(1, 2, 2, 60),
        entry(1, 1, 3, 1_000),
        entry(1, 2, 3, 50),
    ];
    writer.scylla.write_entries(&trade).await.unwrap();
    writer.scylla.write_entries(&trade).await.unwrap();
    for way in WAYS {
        let source = place.open(way, &catalogue([1, 2])).await;
        source.shows(1, &[(1, 3, 1_000), (2, 3, 50)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_completes_the_current_state_and_takes_nothing_from_it() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    let writer = place.open(ReadFrom::View, &catalogue([1])).await;
    let whole = entry(1, 1, 5, 100);
    writer
        .scylla
        .write_entries(std::slice::from_ref(&whole))
        .await
        .unwrap();
    let table = place.open(ReadFrom::Table, &catalogue([1])).await;
    let before = table.scylla.load_snapshot(user(1)).await.unwrap();

    // As after a write that broke off between the two tables.
    place.cql(&session, "TRUNCATE {ks}.user_balances").await;
    assert!(
        table
            .scylla
            .load_snapshot(user(1))
            .await
            .unwrap()
            .balances()
            .is_empty()
    );
    let without_time = Entry {
        created_at: None,
        ..whole
    };
    for _ in 0..2 {
        let done = writer
            .scylla
            .write_entries(std::slice::from_ref(&without_time));
        assert_eq!(done.await.unwrap().repeated, 1);
        let after = table.scylla.load_snapshot(user(1)).await.unwrap();
        assert_eq!(told(&after), told(&before));
        assert_eq!(
            after.balances()[0].updated_at,
            before.balances()[0].updated_at
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_entries_with_all_their_columns_are_written_in_one_request() {
    let place = Place::new(shared()).applied().await;
    let writer = place.open(ReadFrom::View, &catalogue([1])).await;
    let entries: Vec<_> = (1..=1_000)
        .map(|seq| Entry {
            delta_avail: Some(Amount::from_raw(1)),
            event_type: Some("deposit".to_owned()),
            ref_id: Some(seq),
            ..entry(seq % 10 + 1, 1, seq, -seq)
        })
        .collect();
    let done = writer.scylla.write_entries(&entries).await.unwrap();
    assert_eq!(done.written, 1_000);
    let newest = writer.latest(1, [1]).await;
    assert_eq!(newest.balances()[0].seq, Seq::new(1_000).unwrap());
    let session = shared().session().await;
    let text = format!(
        "SELECT delta_avail, delta_frozen, event_type, ref_id FROM \"{}\".balance_ledger \
         WHERE user_id = 1 AND asset_id = 1 AND seq = 1000",
        place.settings.keyspace
    );
    let rows = session.query_unpaged(text, ()).await.unwrap();
    let row: (Option<i64>, Option<i64>, Option<String>, Option<i64>) =
        rows.into_rows_result().unwrap().single_row().unwrap();
    assert_eq!(
        row,
        (Some(1), None, Some("deposit".to_owned()), Some(1_000))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_history_was_purged_is_read_asset_by_asset() {
    let rows = 700;
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    // One asset that the catalogue has, and one that it has not.
    history(&place, 1, &[1, 7], rows).await;
    let newest = newest(&[1, 7], rows);
    place
        .open(ReadFrom::View, &catalogue([1]))
        .await
        .shows(1, &newest)
        .await;
    for asset_id in [1, 7] {
        let purge = format!(
            "DELETE FROM {{ks}}.balance_ledger WHERE user_id = 1 AND asset_id = {asset_id} AND seq < {rows}"
        );
        place.cql(&session, &purge).await;
    }
    let page = format!(
        "SELECT seq FROM \"{}\".user_balances_by_user WHERE user_id = 1 LIMIT 64",
        place.settings.keyspace
    );
    until("what was deleted hides the rest of the page", async || {
        session.query_unpaged(page.as_str(), ()).await.is_err()
    })
    .await;
    let anew = place.open(ReadFrom::View, &catalogue([1])).await;
    for unreadable in [1, 0] {
        let cost = Cost::default();
        let loaded = anew.scylla.load_counting(user(1), &cost).await.unwrap();
        assert_eq!(told(&loaded), newest);
        assert_eq!(cost.detour_counts(), (0, unreadable), "then it is known");
    }
    // Neither way of the others needs the page.
    for way in [ReadFrom::Table, ReadFrom::Ledger] {
        let source = place.open(way, &catalogue([1, 7])).await;
        source.shows(1, &newest).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_current_state_that_was_mended_by_hand_is_read_from_the_ledger() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    history(&place, 1, &[1, 2], 3).await;
    let table = place.open(ReadFrom::Table, &catalogue([1])).await;
    let load = async || {
        let cost = Cost::default();
        let loaded = table.scylla.load_counting(user(1), &cost).await.unwrap();
        (told(&loaded), cost.detour_counts().0)
    };
    assert_eq!(load().await, (vec![(1, 3, 3), (2, 3, 6)], 0));
    for text in [
        "UPDATE {ks}.user_balances SET avail = 12345 WHERE user_id = 1 AND asset_id = 1",
        "INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen, version) VALUES (1, 2, 9, 9, 99)",
        "INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen, version) VALUES (1, 8, 8, 8, 8)",
    ] {
        place.cql(&session, text).await;
    }
    let of_nobody = (8, 8, 8);
    assert_eq!(
        load().await,
        (vec![(1, 3, 3), (2, 3, 6), of_nobody], 3),
        "the ledger has nothing of asset 8"
    );
    // Later writes lose against the hand, and are shown all the same.
    let later = [entry(1, 1, 4, 44), entry(1, 2, 4, 45)];
    table.scylla.write_entries(&later).await.unwrap();
    assert_eq!(load().await, (vec![(1, 4, 44), (2, 4, 45), of_nobody], 3));
    let cost = Cost::default();
    let latest = [asset(1), asset(2)];
    let ledger = table.scylla.latest_counting(user(1), &latest, &cost).await;
    assert_eq!(told(&ledger.unwrap()), [(1, 4, 44), (2, 4, 45)]);
}
