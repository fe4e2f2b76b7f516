//! Totals over all users, on a clock of their own: never made by a request, never dropped by a write (seed fault 22).
//!
//! Each `totals.interval_ms` one instance scans all balances and publishes the sums in Redis, where the other instances read them.
//! Without a Redis this is the only instance, and it keeps them.
//!
//! **Invariants.** A request shows what is held here, with its age, and nothing else. What is held is replaced by a later scan
//! only, and a scan that fails leaves it. An instance that loses the scan lease, or cannot renew it in its time, stops, and
//! publishes nothing. Where the source says what the writer maintained, of the moment of the scan, each difference is shown and logged.
//!
//! **Cancellation.** A scan that is stopped gives the lease back; one that dies lets it end ([`LEASE`](crate::cache::redis::totals::LEASE)).
//!
//! **Limits.** One scan at a time over all instances, `totals.rows_per_second`. One question to Redis per [`POLL_MAX`] or less.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    cache::redis::{
        Redis,
        totals::{ScanEnd, ScanLease},
    },
    config,
    domain::{AssetId, AssetSum, Catalogue, Totals, UnixMillis},
    ledger::{self, ScannedTotals, Source, SourceReadiness, TotalsScan},
    telemetry::{Meters, RateLimitedLog, ScanResult},
};

/// The longest pause between two questions to Redis.
const POLL_MAX: Duration = Duration::from_secs(1);
/// The shortest pause between two looks at the clock.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The pause while the source is not ready.
const NOT_READY_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a scan that failed: a sixth of the interval, within these.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

pub struct TotalsKeeper {
    source: Arc<dyn Source>,
    redis: Option<Arc<Redis>>,
    catalogue: Arc<Catalogue>,
    meters: Arc<Meters>,
    interval: Duration,
    rows_per_second: u32,
    /// The random token of this instance.
    token: String,
    started: Instant,
    held: ArcSwapOption<CurrentTotals>,
    scan: ArcSwapOption<TotalsScan>,
    lease: Mutex<Option<ScanLease>>,
    log: RateLimitedLog,
}

#[derive(Debug)]
struct CurrentTotals {
    totals: Arc<Totals>,
    /// The fence of the scan; 0 without a Redis.
    fence: i64,
    /// Other instances can read them.
    is_published: bool,
}

/// How a scan ended.
enum ScanOutcome {
    Done(ScannedTotals),
    Failed(ledger::LedgerError),
    Lost,
}

impl TotalsKeeper {
    /// Over this source and Redis; scans begin with [`TotalsKeeper::run_scans`].
    pub fn new(
        source: Arc<dyn Source>,
        redis: Option<Arc<Redis>>,
        catalogue: Arc<Catalogue>,
        meters: Arc<Meters>,
        settings: &config::TotalsSettings,
    ) -> Self {
        Self {
            source,
            redis,
            catalogue,
            meters,
            interval: settings.interval_ms.0,
            rows_per_second: settings.rows_per_second,
            token: format!("{:032x}", rand::random::<u128>()),
            started: Instant::now(),
            held: ArcSwapOption::empty(),
            scan: ArcSwapOption::empty(),
            lease: Mutex::default(),
            log: RateLimitedLog::default(),
        }
    }

    /// Whether totals are made at all (`totals.interval_ms` above 0).
    pub const fn is_on(&self) -> bool {
        !self.interval.is_zero()
    }

    /// The age at which totals are late: three intervals.
    pub fn late_after(&self) -> Duration {
        self.interval.saturating_mul(3).max(Duration::from_secs(1))
    }

    /// The newest totals that this instance knows. None before the first.
    pub fn newest_totals(&self) -> Option<Arc<Totals>> {
        let held = self.held.load();
        held.as_ref().map(|held| Arc::clone(&held.totals))
    }

    /// The part of the scan under way here that is done, in thousandths, and the rows that it has read.
    pub fn scan_progress(&self) -> Option<(u32, u64)> {
        let scan = self.scan.load();
        scan.as_ref()
            .map(|scan| (scan.progress_permille(), scan.rows_read()))
    }

    /// Shows the age and the progress as gauges.
    pub fn show_gauges(&self, now: UnixMillis) {
        let age = if !self.is_on() {
            Duration::ZERO
        } else if let Some(totals) = self.newest_totals() {
            let millis = now.0.saturating_sub(totals.began.0);
            Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        } else {
            self.started.elapsed()
        };
        self.meters.totals_age(self.interval, age);
        let progress = self.scan_progress().map_or(0, |(permille, _)| permille);
        self.meters.totals_progress(progress);
    }

    /// Scans, or reads what others scanned, until `stop` is cancelled.
    pub async fn run_scans(self: Arc<Self>, stop: CancellationToken) {
        if !self.is_on() {
            return;
        }
        let keep = async {
            loop {
                let pause = match (self.source.readiness(), &self.redis) {
                    (SourceReadiness::NotReady(_), _) => NOT_READY_PAUSE,
                    (SourceReadiness::Ready | SourceReadiness::Failing(_), None) => {
                        self.scan_alone().await
                    }
                    (SourceReadiness::Ready | SourceReadiness::Failing(_), Some(redis)) => {
                        self.take_turn(redis).await
                    }
                };
                sleep(pause.max(PAUSE_MIN)).await;
            }
        };
        let _ = stop.run_until_cancelled(keep).await;
        let lease = self.lease.lock().take();
        if let (Some(redis), Some(lease)) = (&self.redis, lease) {
            // Another instance need not wait for the end of the lease.
            let _ = redis.release_scan(&lease, Duration::ZERO).await;
        }
    }

    async fn scan_alone(&self) -> Duration {
        let begun = Instant::now();
        match self.scan_source(None).await {
            ScanOutcome::Done(scanned) => {
                self.hold_totals(scanned.totals, 0, false);
                self.interval.saturating_sub(begun.elapsed())
            }
            ScanOutcome::Failed(_) | ScanOutcome::Lost => self.retry_pause(),
        }
    }

    /// Reads published totals if they are new, and scans if a scan is due and no instance runs one.
    async fn take_turn(&self, redis: &Redis) -> Duration {
        let poll = self.interval.min(POLL_MAX);
        let Ok(turn) = redis.lease_scan(&self.token, false).await else {
            return poll;
        };
        // Also where a scan is due: what it takes the place of is shown until it is over.
        let is_news = turn.published.is_some_and(|fence| self.is_news(fence));
        let is_whole = !is_news || self.read_published(redis).await;
        if let Some(lease) = turn.lease {
            return self.scan_for_all(redis, lease).await;
        }
        if is_whole {
            return turn.wait.min(poll);
        }
        // Some of it was lost, or is being written; then another instance has the right.
        match redis.lease_scan(&self.token, true).await {
            Ok(turn) => match turn.lease {
                Some(lease) => self.scan_for_all(redis, lease).await,
                None => PAUSE_MIN,
            },
            Err(_) => poll,
        }
    }

    /// Published totals that are held here give way to any other scan, unpublished ones to a later scan only.
    fn is_news(&self, published: i64) -> bool {
        let held = self.held.load();
        held.as_ref().is_none_or(|held| {
            published > held.fence || (held.is_published && published != held.fence)
        })
    }

    /// Holds what is published. False if it is not whole.
    async fn read_published(&self, redis: &Redis) -> bool {
        match redis.read_totals().await {
            Ok(Some((fence, totals))) => {
                self.hold_totals(totals, fence, true);
                // The instance that scanned tells what it found.
                self.meters.totals_difference(&[]);
                self.meters.totals_untrusted_rows(0);
                true
            }
            Ok(None) => false,
            // The next look tells more.
            Err(_) => true,
        }
    }

    /// Scans with the right to it, and publishes.
    async fn scan_for_all(&self, redis: &Redis, lease: ScanLease) -> Duration {
        let begun = Instant::now();
        *self.lease.lock() = Some(lease.clone());
        let pause = match self.scan_source(Some((redis, &lease))).await {
            ScanOutcome::Done(scanned) => {
                let due = self.interval.saturating_sub(begun.elapsed());
                let (totals, table) = (scanned.totals, self.catalogue.current_table());
                let published = redis.publish_totals(&lease, &totals, &table, due).await;
                match published {
                    Ok(ScanEnd::InTime) => self.hold_totals(totals, lease.fence(), true),
                    Ok(ScanEnd::Lost) => {
                        tracing::warn!("totals were not published: another instance scans since");
                    }
                    // They are right, also where no other instance can see them.
                    Err(_) => self.hold_totals(totals, lease.fence(), false),
                }
                PAUSE_MIN
            }
            ScanOutcome::Failed(_) => {
                let pause = self.retry_pause();
                let _ = redis.release_scan(&lease, pause).await;
                pause
            }
            ScanOutcome::Lost => PAUSE_MIN,
        };
        *self.lease.lock() = None;
        pause
    }

    async fn scan_source(&self, right: Option<(&Redis, &ScanLease)>) -> ScanOutcome {
        let scan = Arc::new(TotalsScan::begin_scan(self.rows_per_second));
        self.scan.store(Some(Arc::clone(&scan)));
        let begun = Instant::now();
        let lost = async {
            match right {
                None => std::future::pending().await,
                Some((redis, lease)) => redis.renew_until_lost(lease).await,
            }
        };
        let ended = tokio::select! {
            scanned = self.source.scan_totals(&scan) => match scanned {
                Ok(scanned) => ScanOutcome::Done(scanned),
                Err(error) => ScanOutcome::Failed(error),
            },
            () = lost => ScanOutcome::Lost,
        };
        self.scan.store(None);
        let result = match &ended {
            ScanOutcome::Done(scanned) => {
                self.compare_totals(scanned);
                ScanResult::Done
            }
            ScanOutcome::Failed(error) => {
                if let Some(left_out) = self.log.permit_line() {
                    tracing::warn!(%error, lines.left_out = left_out, "a scan for totals failed");
                }
                ScanResult::Failed
            }
            ScanOutcome::Lost => ScanResult::Lost,
        };
        self.meters
            .totals_scanned(result, scan.rows_read(), begun.elapsed());
        ended
    }

    /// Shows what is not as the writer maintained it.
    fn compare_totals(&self, scanned: &ScannedTotals) {
        self.meters.totals_untrusted_rows(scanned.untrusted_rows);
        let Some(maintained) = &scanned.maintained else {
            return;
        };
        let differences = differing_assets(&scanned.totals.assets, maintained);
        self.meters.totals_difference(&differences);
        for (asset, units) in &differences {
            tracing::error!(
                asset.id = asset.get(),
                difference.units = units,
                "balances do not add up to the total that the ledger maintains"
            );
        }
    }

    fn hold_totals(&self, totals: Totals, fence: i64, is_published: bool) {
        self.held.store(Some(Arc::new(CurrentTotals {
            totals: Arc::new(totals),
            fence,
            is_published,
        })));
    }

    fn retry_pause(&self) -> Duration {
        let sixth = self.interval.checked_div(6).unwrap_or_default();
        sixth.clamp(RETRY_MIN, RETRY_MAX).min(self.interval)
    }
}

/// The assets whose two totals differ, and by how many raw units (at most 2^64 − 1).
fn differing_assets(
    scanned: &BTreeMap<AssetId, AssetSum>,
    maintained: &BTreeMap<AssetId, AssetSum>,
) -> Vec<(AssetId, u64)> {
    let mut assets: Vec<AssetId> = scanned.keys().chain(maintained.keys()).copied().collect();
    assets.sort_unstable();
    assets.dedup();
    let none = AssetSum::default();
    let units = |asset: &AssetId| {
        let one = scanned.get(asset).unwrap_or(&none);
        let other = maintained.get(asset).unwrap_or(&none);
        u64::try_from(one.distance_to(other)).unwrap_or(u64::MAX)
    };
    assets
        .into_iter()
        .map(|asset| (asset, units(&asset)))
        .filter(|(_, units)| *units > 0)
        .collect()
}

impl std::fmt::Debug for TotalsKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TotalsKeeper")
            .field("interval", &self.interval)
            .field("rows_per_second", &self.rows_per_second)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_that_one_side_lacks_is_a_difference() {
        let id = |id| AssetId::new(id).unwrap();
        let total = |avail, users| AssetSum {
            avail,
            frozen: 0,
            users,
        };
        let scanned = BTreeMap::from([(id(1), total(5, 1)), (id(2), total(7, 1))]);
        let maintained = BTreeMap::from([(id(1), total(5, 1)), (id(3), total(0, 1))]);
        assert_eq!(
            differing_assets(&scanned, &maintained),
            [(id(2), 7), (id(3), 1)]
        );
        let most = BTreeMap::from([(id(1), total(i128::MAX, 1))]);
        let least = BTreeMap::from([(id(1), total(i128::MIN, 1))]);
        assert_eq!(differing_assets(&most, &least), [(id(1), u64::MAX)]);
        assert_eq!(differing_assets(&most, &most), []);
    }
}
