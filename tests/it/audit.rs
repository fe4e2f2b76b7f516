//! The auditor against real servers: it finds a wrong balance that somebody planted in Redis, and none where there is none.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use balance_cache::{
    clock,
    config::ReadFrom,
    domain::{Seq, UnixMillis},
    ledger::Source,
};
use reqwest::Method;
use serde_json::json;

use crate::{
    cli_support::fill_redis,
    support::{
        cassandra::shared,
        cql::{asset, catalogue, user},
        databases::on_each_database,
        eventually::eventually_async,
        redis::Redis,
        service::{Service, Setup},
        stage::{Database, SOON, Stage, counted, in_order, shown, way},
    },
};

/// With every answer noted, as good as, and no mercy.
fn audited(setup: Setup) -> Setup {
    setup
        .with("audit.samples_per_second", 1_000)
        .with("audit.reads_per_second", 10_000)
        .with("audit.grace_ms", 0)
}

/// An older balance in the snapshot that Redis holds, in the layout of the service.
fn plant(redis: &Redis, user: u64, asset: u32, seq: i64) {
    let (key, field) = (format!("balance:user:{user}"), format!("b:{asset}"));
    let held: String = redis.ask(&["HGET", &key, &field]);
    let (_, rest) = held.split_once(' ').unwrap();
    let planted = format!("{seq} {rest}");
    redis.ask::<i64>(&["HSET", &key, &field, &planted]);
}

async fn found(service: &Service, name: &str, tier: &str, window: &str) -> u64 {
    let (tier, window) = (format!("tier=\"{tier}\""), format!("window=\"{window}\""));
    counted(service, name, &[&tier, &window]).await
}

async fn stale(service: &Service) -> u64 {
    counted(service, "audit_stale_total", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_that_was_missed_first_comes_with_the_databases_own_time() {
    let stage = Stage::new(shared()).await;
    let before = clock::wall_now();
    stage.has(1, &[(1, 300_000_000)]).await;
    let source = stage.place().open(ReadFrom::View, &catalogue([1])).await;
    let above = async |seq: Option<i64>| {
        let seq = seq.map(|seq| Seq::new(seq).unwrap());
        let row = source.scylla.row_above(user(1), asset(1), seq).await;
        row.unwrap()
    };
    for seq in 0..3 {
        let row = above((seq > 0).then_some(seq)).await.unwrap();
        assert_eq!(row.seq.get(), seq + 1);
        assert_eq!(row.created_at, Some(UnixMillis(1_765_352_441_000)));
        let written = row.written_at.unwrap();
        assert!((before..=UnixMillis(clock::wall_now().0 + 1)).contains(&written));
    }
    assert_eq!(above(Some(3)).await, None);
}

/// Reads the user until an answer of this tier was checked for this window. The source answers where it is asked for.
async fn checked(service: &Service, user: u64, tier: &str, window: &str) {
    let what = format!("{tier} is checked after {window} s");
    let path = format!("/api/user/balance?user_id={user}");
    eventually_async(SOON, &what, async || {
        let mut request = service.request(Method::GET, &path);
        if tier == "source" {
            request = request.header("cache-control", "no-cache");
        }
        service.send(request).await;
        let count = found(service, "audit_checked_total", tier, window).await;
        (count > 0).then_some(())
    })
    .await;
}

/// Plants an older balance of a user of whom the second instance knows nothing, and asks it until that was found out in both tiers.
/// False where it showed the right balance: after a pause nothing is proven fresh, and the ledger is read.
async fn is_found_out(first: &Service, second: &Service, redis: &Redis, user: u64) -> bool {
    fill_redis(first, redis, "", user).await;
    plant(redis, user, 1, 2);
    let wrong = second.balances(user).await;
    if shown(&wrong)[0].2 == 3 {
        return false;
    }
    assert_eq!(
        (way(&wrong).as_str(), shown(&wrong)[0].2),
        ("redis; hit, memory; fwd=miss", 2)
    );
    for tier in ["redis", "memory"] {
        let what = format!("{tier} is found out");
        let is_found = eventually_async(SOON, &what, async || {
            if shown(&second.balances(user).await)[0].2 == 3 {
                return Some(false);
            }
            let count = found(second, "audit_stale_total", tier, "0.1").await;
            (count > 0).then_some(true)
        });
        if !is_found.await {
            return false;
        }
    }
    true
}

async fn a_planted_older_balance_is_found_within_its_window_and_told_without_amounts(
    database: Database,
) {
    const PLANTED: [u64; 3] = [1, 3, 4];

    let stage = Stage::on(database).await;
    for user in PLANTED {
        let user = i64::try_from(user).unwrap();
        stage.has(user, &[(1, 300_000_000), (2, 300_000_000)]).await;
    }
    stage.has(2, &[(1, 912_345_678)]).await;
    let redis = Redis::start();
    // What is loaded has to be in Redis, on a slow machine too.
    let setup = audited(stage.setup().and(&redis)).with("redis.timeout_ms", 1_900);
    let first = Service::start_ready(setup.clone()).await;
    let mut second = Service::start_ready(setup).await;
    in_order(&first).await;
    in_order(&second).await;
    // Right answers, of all tiers.
    checked(&first, 2, "memory", "0.1").await;
    checked(&first, 2, "source", "0.1").await;
    checked(&first, 2, "memory", "1").await;
    assert_eq!(shown(&second.balances(2).await)[0].2, 3);
    checked(&second, 2, "memory", "0.1").await;
    assert_eq!((stale(&first).await, stale(&second).await), (0, 0));

    let mut is_found = false;
    for user in PLANTED {
        is_found = is_found || is_found_out(&first, &second, &redis, user).await;
    }
    assert!(
        is_found,
        "a planted balance was never shown for long enough"
    );
    assert_eq!(
        found(&second, "audit_stale_total", "source", "0.1").await,
        0
    );
    assert_eq!(stale(&first).await, 0, "it has never shown it");
    let log = second.process().stderr();
    let line = log
        .lines()
        .find(|line| line.contains("too old when it was served"));
    let line = line.unwrap();
    let mut planted = PLANTED.iter();
    assert!(
        planted.any(|user| line.contains(&format!("user.id={user} "))),
        "{line}"
    );
    for part in [
        "asset.id=1 ",
        "shown.seq=2 ",
        "ledger.missed_seq=3 ",
        "ledger.created_at=1765352441000 ",
        "ledger.written_at=",
        "freshness.proven=true",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(
        !log.contains("300000000") && !log.contains("912345678"),
        "no amounts"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn before_an_embedded_ledger_it_is_found_too_and_a_late_row_is_none() {
    let redis = Redis::start();
    let mut service = Service::start_ready(audited(Setup::default().and(&redis))).await;
    in_order(&service).await;
    let right = shown(&service.balances(1001).await)[0].2;
    checked(&service, 1001, "memory", "0.1").await;
    // Of an event long ago, and written after the answers that lack it.
    let late = json!({"user_id": 1001, "asset_id": 1, "seq": right + 1, "avail": 1, "frozen": 0, "created_at": 1_000});
    eventually_async(SOON, "the late row is written", async || {
        let answer = service.post("/api/v1/ledger/entries", &late).await;
        (answer.status == 200).then_some(())
    })
    .await;
    checked(&service, 1001, "memory", "1").await;
    assert_eq!(stale(&service).await, 0);
    // Of other users: nobody was told of a floor of theirs.
    let mut planted = vec![];
    for user in [1002, 1003, 1004] {
        fill_redis(&service, &redis, "", user).await;
        planted.push((user, shown(&service.balances(user).await)[0].2));
    }
    assert_eq!(service.terminate(), 0);
    for (user, right) in &planted {
        plant(&redis, *user, 1, right - 1);
    }
    service.restart().await;
    in_order(&service).await;
    for (user, right) in planted {
        let is_found = eventually_async(SOON, "it is found out", async || {
            let seq = shown(&service.balances(user).await)[0].2;
            if seq == right {
                // After a pause nothing is proven fresh, and the ledger is read.
                return Some(false);
            }
            assert_eq!(seq, right - 1);
            (stale(&service).await > 0).then_some(true)
        });
        if is_found.await {
            return;
        }
    }
    panic!("a planted balance was never shown for long enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_the_view_is_measured_and_switched_off_nothing_is() {
    let stage = Stage::new(shared()).await;
    stage.has(1, &[(1, 300_000_000)]).await;
    let redis = Redis::start();
    let on = Service::start_ready(stage.setup().and(&redis)).await;
    let off = stage
        .setup()
        .and(&redis)
        .with("audit.samples_per_second", 0);
    let off = Service::start_ready(off).await;
    in_order(&on).await;
    in_order(&off).await;
    let seqs = AtomicI64::new(4);
    eventually_async(SOON, "a notification is followed", async || {
        let seq = seqs.fetch_add(1, Relaxed);
        stage.row(1, 1, seq, seq).await;
        let told = json!({"user_id": 1, "asset_id": 1, "seq": seq});
        on.post("/api/v1/settlements", &told).await;
        off.balances(1).await;
        let count = counted(&on, "view_lag_seconds_count", &[]).await;
        (count > 0).then_some(())
    })
    .await;
    assert_eq!(counted(&off, "view_lag_seconds_count", &[]).await, 0);
    assert_eq!(counted(&off, "audit_checked_total", &[]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_read_says_where_its_time_went_and_a_load_what_it_read() {
    let stage = Stage::new(shared()).await;
    stage.has(1, &[(1, 300_000_000), (2, 300_000_000)]).await;
    let setup = stage.setup().with("telemetry.slow_read_ms", 1);
    let mut service = Service::start_ready(setup).await;
    assert_eq!(shown(&service.balances(1).await).len(), 2);
    let log = service.process().stderr();
    let line = log.lines().find(|line| line.contains("slow read"));
    let line = line.unwrap();
    for part in [
        "user.id=1 ",
        "outcome=\"source\" ",
        "read.assets=2 ",
        "source.asked=\"view+ledger\" ",
        "source.statements=2 ",
        // Six of the history in the view, and the newest two of the ledger.
        "source.rows=8 ",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!log.contains("300000000"));
    for (name, count) in [
        ("source_rows_sum", 8),
        ("source_assets_sum", 2),
        ("source_rows_count", 1),
    ] {
        assert_eq!(counted(&service, name, &[]).await, count, "{name}");
    }
}

on_each_database! {
    a_planted_older_balance_is_found_within_its_window_and_told_without_amounts,
}
