//! Many instances and one scan: the keepers of ten instances in this process, each with its own way to one real Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use balance_cache::{
    cache::redis::{
        Redis as Tier, RedisLink,
        totals::{ScanEnd, ScanLease},
    },
    config::{self, Millis, ReadFrom},
    domain::{AssetId, AssetSum, Snapshot, Totals, UnixMillis, UserId},
    ledger::{Cost, LedgerError, ScannedTotals, Source, SourceReadiness, TotalsScan},
    protocol::Freshness,
    telemetry::Meters,
    totals::TotalsKeeper,
};
use futures::future::BoxFuture;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    settlement_support::SOON,
    support::{
        cql::{asset, catalogue, entry},
        eventually::{eventually_async, pause},
        ground::{Ground, on_each_ground},
        redis::Redis,
    },
};

/// Counts scans, and how many there are at once.
#[derive(Debug, Default)]
struct Counted {
    scans: AtomicU32,
    under_way: AtomicU32,
    most: AtomicU32,
}

impl Source for Counted {
    fn identity(&self) -> Option<Arc<str>> {
        Some("counted".into())
    }

    fn readiness(&self) -> SourceReadiness {
        SourceReadiness::Ready
    }

    fn load_counting<'a>(
        &'a self,
        _: UserId,
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async { Ok(Snapshot::default()) })
    }

    fn latest_counting<'a>(
        &'a self,
        _: UserId,
        _: &'a [AssetId],
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async { Ok(Snapshot::default()) })
    }

    fn scan_totals<'a>(
        &'a self,
        _: &'a TotalsScan,
    ) -> BoxFuture<'a, Result<ScannedTotals, LedgerError>> {
        Box::pin(async {
            let scan = self.scans.fetch_add(1, Ordering::SeqCst) + 1;
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            // Long enough for the others to come.
            for _ in 0..5 {
                pause().await;
            }
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            Ok(ScannedTotals {
                totals: found(i128::from(scan)),
                ..ScannedTotals::default()
            })
        })
    }
}

fn found(avail: i128) -> Totals {
    let total = AssetSum {
        avail,
        frozen: -avail,
        users: 3,
    };
    Totals {
        assets: [(asset(1), total), (asset(77), total)].into(),
        began: UnixMillis(1),
        ended: UnixMillis(2),
    }
}

/// A Redis tier of its own, as each instance has one.
async fn tier(redis: &Redis, tasks: &TaskTracker, stop: &CancellationToken) -> Arc<Tier> {
    let mut settings = config::default_settings().unwrap();
    settings.redis.url = redis.url();
    let identity = Arc::new(|| Some(Arc::from("counted")));
    let meters = Meters::new();
    let link = RedisLink::new(
        &settings.redis,
        identity,
        Arc::new(Freshness::always_fresh()),
        Arc::clone(&meters),
    );
    let second = Duration::from_secs(1);
    let tier = Arc::new(Tier::new(
        link.unwrap(),
        &settings.redis,
        second,
        second,
        meters,
    ));
    let (keeper, stop) = (Arc::clone(&tier), stop.clone());
    tasks.spawn(async move { keeper.link.run_keeper(stop).await });
    eventually_async(SOON, "a session with redis", async || {
        tier.link.open_session().map(drop)
    })
    .await;
    tier
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_make_one_scan_and_all_of_them_show_it() {
    let redis = Redis::start();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let source = Arc::new(Counted::default());
    let settings = config::TotalsSettings {
        interval_ms: Millis(Duration::from_hours(1)),
        rows_per_second: 1,
    };
    let mut keepers = Vec::new();
    for _ in 0..10 {
        let tier = tier(&redis, &tasks, &stop).await;
        let keeper = TotalsKeeper::new(
            Arc::clone(&source) as Arc<dyn Source>,
            Some(tier),
            catalogue([1]),
            Meters::new(),
            &settings,
        );
        keepers.push(Arc::new(keeper));
    }
    for keeper in &keepers {
        tasks.spawn(Arc::clone(keeper).run_scans(stop.clone()));
    }
    eventually_async(SOON, "all ten show it", async || {
        let shown = |keeper: &Arc<TotalsKeeper>| {
            keeper
                .newest_totals()
                .is_some_and(|totals| *totals == found(1))
        };
        keepers.iter().all(shown).then_some(())
    })
    .await;
    assert_eq!(source.scans.load(Ordering::SeqCst), 1);
    // What was lost in part is made again, by one of them.
    let _: i64 = redis.ask(&["DEL", "balance:total:A1"]);
    let _: i64 = redis.ask(&["HSET", "balance:totals", "published", "9000000000000000"]);
    eventually_async(SOON, "all ten show the second scan", async || {
        let shown = |keeper: &Arc<TotalsKeeper>| {
            keeper
                .newest_totals()
                .is_some_and(|totals| *totals == found(2))
        };
        keepers.iter().all(shown).then_some(())
    })
    .await;
    assert_eq!(source.scans.load(Ordering::SeqCst), 2);
    assert_eq!(source.most.load(Ordering::SeqCst), 1, "one at a time");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let held: Vec<String> = redis.ask(&[
        "HMGET",
        "balance:total:A1",
        "avail",
        "frozen",
        "users",
        "asset_id",
    ]);
    assert_eq!(held, ["2", "-2", "3", "1"]);
    assert_eq!(
        redis.ask::<i64>(&["PTTL", "balance:total:77"]),
        -1,
        "they last"
    );
}

on_each_ground! {
    ten_instances_make_one_scan_of_a_database,
}

async fn ten_instances_make_one_scan_of_a_database(ground: Ground) {
    let opened = ground.open(ReadFrom::Table).await;
    let rows: Vec<_> = (1..=50).map(|user| entry(user, 1, 1, user)).collect();
    opened.source.write_entries(&rows).await.unwrap();
    let redis = Redis::start();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let settings = config::TotalsSettings {
        interval_ms: Millis(Duration::from_hours(1)),
        rows_per_second: 10_000,
    };
    let mut instances = Vec::new();
    for _ in 0..10 {
        let (tier, meters) = (tier(&redis, &tasks, &stop).await, Meters::new());
        let source = Arc::clone(&opened.source);
        let (known, metered) = (catalogue([1]), Arc::clone(&meters));
        let keeper = TotalsKeeper::new(source, Some(tier), known, metered, &settings);
        instances.push((Arc::new(keeper), meters));
    }
    for (keeper, _) in &instances {
        tasks.spawn(Arc::clone(keeper).run_scans(stop.clone()));
    }
    eventually_async(SOON, "all ten show it", async || {
        let shown = |(keeper, _): &(Arc<TotalsKeeper>, Arc<Meters>)| {
            keeper.newest_totals().is_some_and(|totals| {
                let sum = &totals.assets[&asset(1)];
                (sum.avail, sum.users) == (1_275, 50)
            })
        };
        instances.iter().all(shown).then_some(())
    })
    .await;
    let done = "balance_cache_totals_scans_total{result=\"done\"} 1";
    let scanned = instances
        .iter()
        .filter(|(_, meters)| meters.prometheus_page().lines().any(|line| line == done));
    assert_eq!(scanned.count(), 1);
    let rows = instances.iter().map(|(_, meters)| {
        let page = meters.prometheus_page();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("balance_cache_totals_rows_total "));
        line.unwrap().parse::<u64>().unwrap()
    });
    assert_eq!(rows.sum::<u64>(), 50, "each row was read once");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_holder_that_was_paused_overwrites_no_newer_total() {
    let redis = Redis::start();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let tier = tier(&redis, &tasks, &stop).await;
    let table = catalogue([1]).current_table();
    let soon = Duration::ZERO;
    let lease = async |token: &str| -> Option<ScanLease> {
        tier.lease_scan(token, false).await.unwrap().lease
    };
    let paused = lease("paused").await.unwrap();
    assert_eq!(lease("other").await, None, "one at a time");
    // Its time is over, as after a pause longer than it.
    let () = redis.ask(&["HSET", "balance:totals", "until", "1"]);
    let other = lease("other").await.unwrap();
    assert!(other.fence() > paused.fence());
    // Before the other has written anything, and after.
    for published in [false, true] {
        if published {
            let done = tier.publish_totals(&other, &found(5), &table, soon).await;
            assert_eq!(done, Ok(ScanEnd::InTime));
        }
        let late = tier.publish_totals(&paused, &found(4), &table, soon).await;
        assert_eq!(late, Ok(ScanEnd::Lost));
        assert_eq!(tier.renew_scan(&paused).await, Ok(ScanEnd::Lost));
        let shown = tier.read_totals().await.unwrap();
        assert_eq!(shown, published.then(|| (other.fence(), found(5))));
    }
    // A hash by itself refuses it, too: the moment between the look at the lease and the write.
    let script = include_str!("../../src/cache/redis/scripts/total.lua");
    let fence = paused.fence().to_string();
    let written: i64 = redis.ask(&[
        "EVAL",
        script,
        "1",
        "balance:total:A1",
        &fence,
        "avail",
        "4",
    ]);
    assert_eq!(written, 0);
    assert_eq!(
        tier.read_totals().await.unwrap(),
        Some((other.fence(), found(5)))
    );
    // After Redis has forgotten everything fences go on rising.
    let _: String = redis.ask(&["FLUSHALL"]);
    eventually_async(SOON, "a new session", async || {
        let again = tier.lease_scan("third", false).await.ok()?.lease?;
        (again.fence() > other.fence()).then_some(())
    })
    .await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
