//! Totals of the databases: what a scan counts, what every instance shows, and what of it is found to be wrong.

use std::collections::BTreeMap;

use balance_cache::{
    config::ReadFrom,
    domain::AssetSum,
    ledger::{Source as _, TotalsScan},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::{
    ledger_service::setup,
    ledger_settle::TRANSACTIONS,
    settlement_support::{ENTRIES, SETTLEMENTS, SOON, settled, short, values, whole},
    support::{
        cassandra::shared,
        cql::{Place, asset, catalogue, entry},
        eventually::eventually_async,
        ground::{Ground, on_each_ground},
        redis::Redis,
        service::Service,
    },
    totals::{TOTALS, metric, total},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_of_user_balances_counts_the_ledger_in_place_of_rows_mended_by_hand() {
    let place = Place::new(shared()).applied().await;
    let known = catalogue([1, 2]);
    let source = place.open(ReadFrom::Table, &known).await;
    let scan = async || {
        source
            .scylla
            .scan_totals(&TotalsScan::begin_scan(100_000))
            .await
    };
    let none = scan().await.unwrap();
    assert_eq!((none.totals.assets.len(), none.untrusted_rows), (0, 0));
    // More than a page of one user, and many users.
    let mut rows: Vec<_> = (1..=1_200)
        .map(|id| entry(1, id, 3, i64::from(id)))
        .collect();
    rows.extend((2..=300).map(|user| entry(user, 1, 2, i64::MAX)));
    for some in rows.chunks(500) {
        source.writes(some).await;
    }
    let scanned = scan().await.unwrap();
    let total = |avail, frozen, users| AssetSum {
        avail,
        frozen,
        users,
    };
    let many = i128::from(i64::MAX) * 299 + 1;
    assert_eq!(
        scanned.totals.assets[&asset(1)],
        total(many, 299 * 2 + 3, 300)
    );
    assert_eq!(scanned.totals.assets[&asset(1_200)], total(1_200, 3, 1));
    assert_eq!(
        (scanned.totals.assets.len(), scanned.untrusted_rows),
        (1_200, 0)
    );
    assert_eq!(scanned.maintained, None);
    // A million for user 1, by hand; and a row that is no balance.
    let session = shared().session().await;
    for cql in [
        "UPDATE {ks}.user_balances SET avail = 1000000 WHERE user_id = 1 AND asset_id = 7",
        "INSERT INTO {ks}.user_balances (user_id, asset_id, avail) VALUES (1, 9999, 5)",
    ] {
        place.cql(&session, cql).await;
    }
    let mended = scan().await.unwrap();
    assert_eq!(mended.totals.assets, scanned.totals.assets);
    assert_eq!(mended.untrusted_rows, 2);
    place.cql(&session, "TRUNCATE {ks}.user_balances").await;
    let empty = scan().await.unwrap_err().to_string();
    assert!(empty.contains("user_balances is empty"), "{empty}");
}

on_each_ground! {
    totals_of_a_database_are_shown_by_every_instance_and_survive_a_source_that_is_down,
    totals_are_the_sum_of_random_transactions_and_a_row_that_was_changed_is_found,
}

async fn totals_of_a_database_are_shown_by_every_instance_and_survive_a_source_that_is_down(
    ground: Ground,
) {
    let source = ground.open(ReadFrom::Table).await;
    let rows: Vec<_> = (1..=20)
        .map(|user| entry(user, 1, 1, 300_000_000))
        .collect();
    source.writes(&rows).await;
    let redis = Redis::start();
    let of_instance = || {
        ground
            .name_in(short(&redis.url()))
            .with("source.read_from", "table")
            .with("totals.interval_ms", 300)
    };
    let (one, two) = tokio::join!(
        Service::start_ready(of_instance()),
        Service::start_ready(of_instance())
    );
    for service in [&one, &two] {
        whole(service).await;
        let btc = total(service, "BTC", |_| true).await;
        assert_eq!((&btc["avail"], &btc["users"]), (&json!("60"), &json!(20)));
    }
    let more = json!({"user_id": 21, "asset_id": 1, "seq": 1, "avail": 500_000_000, "frozen": 0});
    assert_eq!(one.post_until_taken(ENTRIES, &more).await.status, 200);
    for service in [&one, &two] {
        let btc = total(service, "BTC", |one| one["users"] == 21).await;
        assert_eq!(btc["avail"], "65");
    }
    settled(&two.post_until_taken(SETTLEMENTS, &values(1, 1, 2, 5)).await);
    assert_eq!(one.get(TOTALS).await.status, 200, "no write drops them");
    let keys: Vec<String> = redis.ask(&["KEYS", "balance:total*"]);
    assert_eq!(keys.len(), 2, "{keys:?}");
    ground.run("TRUNCATE {ks}.user_balances").await;
    let failures = async || {
        let mut failed = 0;
        for service in [&one, &two] {
            failed += metric(service, r#"totals_scans_total{result="failed"}"#)
                .await
                .parse::<u32>()
                .unwrap();
        }
        failed
    };
    // PostgreSQL is not ready any more, too, as soon as that is noticed; then nobody scans.
    let fails = async |more_than| {
        eventually_async(SOON, "a scan fails, or there is none", async || {
            for service in [&one, &two] {
                if metric(service, "totals_scan_progress_ratio").await != "0" {
                    return None;
                }
            }
            let is_over = one.get_ops("/readyz").await.status == 503;
            (failures().await > more_than || is_over).then_some(())
        })
        .await;
    };
    // A scan that was under way may have met the table half empty: it is not of one moment. Its total is the last one.
    fails(0).await;
    let published: (i64, i64) = redis.ask(&["HMGET", "balance:totals", "began", "ended"]);
    eventually_async(SOON, "the last total is read, or none is", async || {
        let is_over = one.get_ops("/readyz").await.status == 503;
        let shown = one.get(TOTALS).await.json()["as_of"].clone();
        (is_over || shown == json!([published.0, published.1])).then_some(())
    })
    .await;
    let last = total(&one, "BTC", |_| true).await;
    fails(failures().await).await;
    let still = total(&one, "BTC", |_| true).await;
    assert_eq!(still, last, "the last total stays, with its age");
}

/// Raw units at eight decimals, as an answer writes them.
fn units_text(raw: i64) -> String {
    let digits = format!("{raw:09}");
    let (whole, rest) = digits.split_at(digits.len() - 8);
    let text = format!("{whole}.{rest}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Raw units of the newest rows of the ledger, by asset.
async fn sums_of_newest_rows(ground: &Ground) -> BTreeMap<i32, i64> {
    let mut rows = ground.ledger_rows().await;
    rows.sort();
    let newest: BTreeMap<(i64, i32), i64> = rows
        .into_iter()
        .map(|(user, asset, _, _, avail, ..)| ((user, asset), avail))
        .collect();
    let mut sums = BTreeMap::new();
    for ((_, asset), avail) in newest {
        *sums.entry(asset).or_default() += avail;
    }
    sums
}

async fn totals_are_the_sum_of_random_transactions_and_a_row_that_was_changed_is_found(
    ground: Ground,
) {
    const USERS: i64 = 60;
    let of_database = setup(&ground, "").with("totals.interval_ms", 300);
    let service = Service::start_ready(of_database).await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut number = 0;
    let count = match &ground {
        Ground::Cassandra(_) => 2_000,
        Ground::Postgres(_) => 10_000,
    };
    let mut written = 0;
    while written < count {
        let mut next = || {
            number += 1;
            let mut entry = |user: i64, asset: i32, sign: i64| {
                let delta = sign * random.random_range(1..1_000);
                json!({"user_id": user, "asset_id": asset, "delta_avail": delta})
            };
            // No sum is zero, which would refuse the request.
            let (first, second) = (1 + number % USERS, 1 + number * 7 % USERS);
            let mut entries = vec![entry(first, 1, 1), entry(second, 2, 1)];
            if number % 3 > 0 {
                // Refused where that user has too little.
                entries.push(entry(1 + number * 13 % USERS, 2, -1));
            }
            json!({"transaction_id": number, "entries": entries})
        };
        let some: Vec<Value> = (0..200).map(|_| next()).collect();
        // A database that stood still is asked again: some of them may stand then.
        let answer = service.post_until_taken(TRANSACTIONS, &json!(some)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let results = answer.data();
        let results = results.as_array().unwrap().iter();
        let stands = |one: &&Value| one["result"] == "written" || one["result"] == "repeated";
        written += results.filter(stands).count();
    }
    println!("{written} of {number} stand");
    let sums = sums_of_newest_rows(&ground).await;
    let shown = async |what: &str| {
        for (asset, name) in [(1, "BTC"), (2, "USDT")] {
            let expected = units_text(sums[&asset]);
            eventually_async(SOON, &format!("{what}: {name} is {expected}"), async || {
                let answer = service.get(TOTALS).await;
                let data = answer.json()["data"].clone();
                let found = data.as_array()?.iter().find(|one| one["asset"] == name)?;
                (found["avail"] == expected).then_some(())
            })
            .await;
        }
    };
    shown("after the transactions").await;
    let untrusted = async || metric(&service, "totals_untrusted_rows").await;
    assert_eq!(untrusted().await, "0");
    // One that nobody assigned.
    ground
        .run("UPDATE {ks}.user_balances SET avail = 77777777 WHERE user_id = 7 AND asset_id = 1")
        .await;
    eventually_async(SOON, "the check finds it", async || {
        (untrusted().await == "1").then_some(())
    })
    .await;
    shown("the ledger's row is counted in its place").await;
}
