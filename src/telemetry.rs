//! Metrics and log lines of the process. The interface to the metrics crates is localized here.
//!
//! **Invariants.** Every series exists at zero from the start. Label values are enumerations: never a user, an asset or free
//! text. Handles are held, so that counting costs no look-up; a read is counted in memory that no other thread writes.

mod audit;
mod backfill;
mod change_log;
mod counters;
mod health;
mod help;
mod histogram;
mod history;
mod http;
mod labels;
mod ledger;
mod ledger_disk;
mod load_size;
pub mod log;
mod meters;
pub mod prometheus_histograms;
mod rate_limited_log;
pub mod recent;
mod reloads;
pub mod slowest;
pub mod snapshot_counters;
mod totals;
pub mod traces;
mod warm;

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::{Mutex, MutexGuard};

use self::{
    counters::{Count, PerLabel, gauge_value},
    prometheus_histograms::Families,
    recent::RecentSeconds,
    slowest::{SlowRead, Slowest},
};
use crate::{
    cache_status::{ReadOutcome, Tier},
    domain::{Catalogue, UnixMillis},
};

pub use backfill::ShownBackfill;
pub use histogram::{CountHistogram, HistogramTally, Seconds};
pub use labels::{
    AppliedLabel, BackfillTarget, CompareDelay, Degraded, Evicted, Fault, HistoryRoute, HttpStatus,
    LedgerFault, Op, PageResult, Refused, Reloaded, Remembered, Route, ScanResult, SettledLabel,
    Via,
};
pub use rate_limited_log::RateLimitedLog;

pub struct Meters {
    prometheus: PrometheusHandle,
    families: Families,
    reads: PerLabel<ReadOutcome, (Counter, Seconds)>,
    absent_reads: Count,
    negative_amounts: Count,
    seq_regressions: Count,
    tiers: PerLabel<(Tier, Op), Seconds>,
    failures: PerLabel<(Tier, Op, Fault), Count>,
    memory_entries: Gauge,
    memory_bytes: Gauge,
    loads_in_flight: Gauge,
    loads_limit: Gauge,
    turns_waiting: Gauge,
    evictions: PerLabel<Evicted, Count>,
    notifications: PerLabel<(Via, AppliedLabel), Count>,
    notification_delay: Seconds,
    bus_delay: Seconds,
    view_lag: Seconds,
    bus_resyncs: Count,
    refused_fills: PerLabel<Refused, Count>,
    audits: audit::Audits,
    ledger: ledger::LedgerMeters,
    histories: history::HistoryMeters,
    sizes: load_size::LoadSizes,
    slowest: Slowest,
    recent: Mutex<RecentSeconds>,
    health: health::HealthMeters,
    http: http::Http,
    reloads: reloads::Reloads,
    change_log: change_log::ChangeLogMeters,
    ledger_disk: ledger_disk::LedgerDisk,
    warm: warm::WarmMeters,
    backfills: backfill::BackfillMeters,
    totals: totals::TotalsMeters,
}

/// A longer delay is a backfill or a wrong clock, and would drown the delays in the histogram's sum.
const DELAY_MAX: Duration = Duration::from_hours(24);
/// How far a sender's clock may be ahead.
const CLOCKS_DIFFER_MILLIS: i64 = 60_000;

const TIERS: [Tier; 3] = [Tier::Memory, Tier::Redis, Tier::Source];

impl Meters {
    /// All series, at zero, without names of assets.
    pub fn new() -> Arc<Self> {
        Self::with_catalogue(&Catalogue::default())
    }

    /// All series, at zero, with these assets.
    pub fn with_catalogue(catalogue: &Catalogue) -> Arc<Self> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        let meters = metrics::with_local_recorder(&recorder, || {
            Self::register_meters(prometheus, catalogue)
        });
        Arc::new(meters)
    }

    pub fn prometheus_page(&self) -> String {
        for (outcome, (count, seconds)) in &self.reads.0 {
            let hits = match outcome {
                ReadOutcome::Memory => self.http.count_hits(),
                _ => 0,
            };
            count.absolute(seconds.count_values().saturating_add(hits));
        }
        self.http.update_counters();
        self.run_upkeep();
        let mut page = self.prometheus.render();
        self.families.render_families(&mut page);
        // Writing to a string cannot fail.
        let _ = self.ledger.render_moved(&mut page);
        page
    }

    /// Runs the exporter's upkeep; a task calls it every few seconds.
    pub fn run_upkeep(&self) {
        self.prometheus.run_upkeep();
    }

    /// A second is over, for [`Meters::recent_seconds`]. To be called by one task.
    pub fn close_second(&self, at: UnixMillis, lasted: Duration) {
        let totals = self.snapshot_totals();
        self.recent.lock().close_second(at, lasted, totals);
        self.slowest.forget_old(at);
    }

    /// The last quarter of an hour.
    pub fn recent_seconds(&self) -> MutexGuard<'_, RecentSeconds> {
        self.recent.lock()
    }

    /// The slowest reads of the last minutes.
    pub fn slowest_reads(&self) -> Vec<SlowRead> {
        self.slowest.all_reads()
    }

    /// A user's read was answered, or was not; but for hits of the fast path ([`Meters::memory_hit`]).
    pub fn record_read(&self, outcome: ReadOutcome, took: Duration) {
        if let Some((_, seconds)) = self.reads.get(outcome) {
            seconds.record_duration(took);
        }
    }

    /// The same read, for [`Meters::slowest_reads`]: `what` runs only if the read is one of them.
    pub fn offer_slow_read(&self, took: Duration, what: impl FnOnce() -> SlowRead) {
        self.slowest.offer_read(took, what);
    }

    /// Counts a read of a user without balances.
    pub fn absent_read(&self) {
        self.absent_reads.increment_by(1);
    }

    /// The source held amounts below zero.
    pub fn negative_amounts(&self, count: u64) {
        self.negative_amounts.increment_by(count);
    }

    /// A lower seq was about to be shown than was shown before.
    pub fn seq_regression(&self) {
        self.seq_regressions.increment_by(1);
    }

    /// Records the time that a tier took for an operation.
    pub fn record_tier(&self, tier: Tier, op: Op, took: Duration) {
        if let Some(seconds) = self.tiers.get((tier, op)) {
            seconds.record_duration(took);
        }
    }

    /// Counts an operation that failed in a tier.
    pub fn tier_failure(&self, tier: Tier, op: Op, fault: Fault) {
        if let Some(count) = self.failures.get((tier, op, fault)) {
            count.increment_by(1);
        }
    }

    /// Sets the number of entries and bytes in memory.
    pub fn set_memory_use(&self, entries: u64, bytes: u64) {
        self.memory_entries.set(gauge_value(entries));
        self.memory_bytes.set(gauge_value(bytes));
    }

    /// Counts a load that begins or ends.
    pub fn load_in_flight(&self, begins: bool) {
        if begins {
            self.loads_in_flight.increment(1.0);
        } else {
            self.loads_in_flight.decrement(1.0);
        }
    }

    /// Sets the limit of concurrent loads, and the number of callers that wait for a permit.
    pub fn set_load_limits(&self, loads: usize, waiting: usize) {
        let value = |count| gauge_value(u64::try_from(count).unwrap_or(u64::MAX));
        self.loads_limit.set(value(loads));
        self.turns_waiting.set(value(waiting));
    }

    /// Counts an entry that memory dropped.
    pub fn count_eviction(&self, cause: Evicted) {
        if let Some(count) = self.evictions.get(cause) {
            count.increment_by(1);
        }
    }

    /// Counts notifications by the way they came and their result.
    pub fn count_notifications(&self, via: Via, result: AppliedLabel, count: u64) {
        if let Some(counter) = self.notifications.get((via, result)) {
            counter.increment_by(count);
        }
    }

    /// A notification that was created at `created_at` has taken effect `now`. A time that is no delay (older than
    /// [`DELAY_MAX`], or still to come by more than the clocks may differ) is not recorded: it may be any number.
    pub fn notification_delay(&self, created_at: UnixMillis, now: UnixMillis) {
        let millis = now.0.saturating_sub(created_at.0);
        if millis >= CLOCKS_DIFFER_MILLIS.saturating_neg() {
            let delay = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
            record_plausible(&self.notification_delay, delay);
        }
    }

    /// From the feed's entry to the effect here; not recorded where it is longer than [`DELAY_MAX`].
    pub fn bus_delay(&self, delay: Duration) {
        record_plausible(&self.bus_delay, delay);
    }

    /// From a notification until a load without the ledger showed it.
    pub fn view_lag(&self, lag: Duration) {
        self.view_lag.record_duration(lag);
    }

    /// The feed could not be followed without a gap.
    pub fn bus_resync(&self) {
        self.bus_resyncs.increment_by(1);
    }

    pub fn refused_fill(&self, reason: Refused) {
        if let Some(count) = self.refused_fills.get(reason) {
            count.increment_by(1);
        }
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

fn record_plausible(histogram: &Seconds, delay: Duration) {
    if delay <= DELAY_MAX {
        histogram.record_duration(delay);
    }
}

fn metric_name(name: &str) -> String {
    format!("balance_cache_{name}")
}

#[cfg(test)]
impl Meters {
    /// Asserts that the page has these lines; all of them begin with the prefix of the service.
    #[track_caller]
    fn assert_shows(&self, lines: &[&str]) {
        let page = self.prometheus_page();
        for line in lines {
            let found = page.lines().any(|at| at == format!("balance_cache_{line}"));
            assert!(found, "{line} is not in\n{page}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_at_zero() {
        Meters::new().assert_shows(&[
            "reads_total{outcome=\"memory\"} 0",
            "reads_total{outcome=\"shed\"} 0",
            "seq_regressions_total 0",
            "tier_failures_total{tier=\"redis\",op=\"get\",kind=\"corrupt\"} 0",
            "memory_entries 0",
            "refused_fills_total{reason=\"incomplete\"} 0",
            "notifications_total{via=\"stream\",result=\"invalid\"} 0",
            "audit_stale_total{tier=\"redis\",window=\"0.1\"} 0",
            "bus_resyncs_total 0",
            "ledger_transactions_total{result=\"refused\"} 0",
            "ledger_seconds_count 0",
            "ledger_recovered_total 0",
            "ledger_append_retries_total 0",
            "ledger_moved_total{asset=\"other\"} 0",
            "read_seconds_count{outcome=\"memory\"} 0",
            "tier_seconds_count{tier=\"source\",op=\"load\"} 0",
            "view_lag_seconds_count 0",
        ]);
    }

    #[test]
    fn a_created_at_that_is_no_delay_does_not_spoil_the_histogram() {
        let meters = Meters::new();
        let now = UnixMillis(1_765_352_441_955);
        for created_at in [
            -5,
            0,
            i64::MIN,
            i64::MAX,
            now.0 + 600_000,
            now.0 - 90_000_000,
        ] {
            meters.notification_delay(UnixMillis(created_at), now);
        }
        meters.assert_shows(&["notification_delay_seconds_count 0"]);
        meters.notification_delay(UnixMillis(now.0 - 250), now);
        meters.notification_delay(UnixMillis(now.0 + 20), now);
        meters.assert_shows(&[
            "notification_delay_seconds_count 2",
            "notification_delay_seconds_sum 0.25",
        ]);
    }

    #[test]
    fn seed_fault_12_a_read_of_400_microseconds_does_not_count_as_zero() {
        let meters = Meters::new();
        meters.record_read(ReadOutcome::Source, Duration::from_micros(400));
        meters.assert_shows(&[
            "read_seconds_sum{outcome=\"source\"} 0.0004",
            "read_seconds_bucket{outcome=\"source\",le=\"0.000256\"} 0",
            "read_seconds_bucket{outcome=\"source\",le=\"0.000512\"} 1",
        ]);
    }
}
