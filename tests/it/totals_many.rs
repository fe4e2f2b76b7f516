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
    telemetry::{Fault, Meters},
    totals::TotalsKeeper,
};
use futures::future::BoxFuture;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    settlement_support::SOON,
    support::{
        cql::{asset, catalogue, entry},
        eventually::{eventually_async, pause},
        ground::{Ground, OpenSource, on_each_ground},
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
    settings.redis.timeout_ms = Millis(Duration::from_secs(20));
    settings.redis.connect_timeout_ms = Millis(Duration::from_secs(20));
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

/// How often instances may begin anew in a test: what cannot be published, because Redis stands still for a second, is scanned again.
const ATTEMPTS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_make_one_scan_and_all_of_them_show_it() {
    let mut made: Vec<(u32, u32)> = Vec::new();
    while made.last() != Some(&(1, 2)) {
        assert!(made.len() < ATTEMPTS, "more scans each time: {made:?}");
        made.push(scans_of_ten_instances().await);
    }
}

/// Scans that were made when all ten instances showed the first total, and those when they showed the second.
async fn scans_of_ten_instances() -> (u32, u32) {
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
    // The number of the scan that all ten show, if it is the last one and a later one than this.
    let shown_after = |before: u32| {
        let last = source.scans.load(Ordering::SeqCst);
        let shown = |keeper: &Arc<TotalsKeeper>| {
            let totals = keeper.newest_totals();
            totals.is_some_and(|totals| *totals == found(i128::from(last)))
        };
        (last > before && keepers.iter().all(shown)).then_some(last)
    };
    let first = eventually_async(SOON, "all ten show it", async || shown_after(0)).await;
    // What was lost in part is made again, by one of them.
    let _: i64 = redis.ask(&["DEL", "balance:total:A1"]);
    let _: i64 = redis.ask(&["HSET", "balance:totals", "published", "9000000000000000"]);
    let second =
        eventually_async(SOON, "all ten show the second", async || shown_after(first)).await;
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
    let (avail, frozen) = (second.to_string(), format!("-{second}"));
    assert_eq!(held, [avail.as_str(), frozen.as_str(), "3", "1"]);
    assert_eq!(
        redis.ask::<i64>(&["PTTL", "balance:total:77"]),
        -1,
        "they last"
    );
    (first, second)
}

on_each_ground! {
    ten_instances_make_one_scan_of_a_database,
}

async fn ten_instances_make_one_scan_of_a_database(ground: Ground) {
    let opened = ground.open(ReadFrom::Table).await;
    let rows: Vec<_> = (1..=50).map(|user| entry(user, 1, 1, user)).collect();
    opened.writes(&rows).await;
    let mut made: Vec<(u64, u64)> = Vec::new();
    while made.last() != Some(&(1, 50)) {
        assert!(made.len() < ATTEMPTS, "more scans each time: {made:?}");
        made.push(scans_of_a_database(&opened).await);
    }
}

/// Scans that ten instances made, and the rows that they read.
async fn scans_of_a_database(opened: &OpenSource) -> (u64, u64) {
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
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let all_count = |series: &str| -> u64 {
        let counted = instances.iter().map(|(_, meters)| {
            let page = meters.prometheus_page();
            let mut lines = page.lines();
            let line = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap().parse::<u64>().unwrap()
        });
        counted.sum()
    };
    let scans = all_count(r#"balance_cache_totals_scans_total{result="done"}"#);
    (scans, all_count("balance_cache_totals_rows_total"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_holder_that_was_paused_overwrites_no_newer_total() {
    let redis = Redis::start();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let tier = tier(&redis, &tasks, &stop).await;
    let other = eventually_async(SOON, "redis answers each time", async || {
        paused_holder_is_refused(&redis, &tier).await.ok()
    })
    .await;
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

/// Gives the lease that was published last. Fails where Redis stands still.
async fn paused_holder_is_refused(redis: &Redis, tier: &Tier) -> Result<ScanLease, Fault> {
    let table = catalogue([1]).current_table();
    let soon = Duration::ZERO;
    let _: i64 = redis.ask(&[
        "DEL",
        "balance:totals",
        "balance:total:A1",
        "balance:total:77",
    ]);
    let lease = async |token: &str| -> Result<Option<ScanLease>, Fault> {
        Ok(tier.lease_scan(token, false).await?.lease)
    };
    let paused = lease("paused").await?.unwrap();
    let () = redis.ask(&["HSET", "balance:totals", "until", "9000000000000000"]);
    assert_eq!(lease("other").await?, None, "one at a time");
    // Its time is over, as after a pause longer than it.
    let () = redis.ask(&["HSET", "balance:totals", "until", "1"]);
    let other = lease("other").await?.unwrap();
    assert!(other.fence() > paused.fence());
    // Before the other has written anything, and after.
    for published in [false, true] {
        if published {
            let done = tier.publish_totals(&other, &found(5), &table, soon).await?;
            assert_eq!(done, ScanEnd::InTime);
        }
        let late = tier
            .publish_totals(&paused, &found(4), &table, soon)
            .await?;
        assert_eq!(late, ScanEnd::Lost);
        assert_eq!(tier.renew_scan(&paused).await?, ScanEnd::Lost);
        let shown = tier.read_totals().await?;
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
    let shown = tier.read_totals().await?;
    assert_eq!(shown, Some((other.fence(), found(5))));
    Ok(other)
}
