//! What the process says of itself: metrics and log lines. The interface to the metrics crates is localized here.
//!
//! **Invariants.** Every series exists at zero from the start. Label values are enumerations: never a user, an asset or free
//! text. Handles are held, so that counting costs no look-up.

mod health;
mod labels;
pub mod log;
mod sparing;

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, Label};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::trail::{Outcome, Tier};

pub use labels::{Applied, Degraded, Evicted, Fault, Op, Refused, Via, Window};
pub use sparing::Sparing;

/// Upper bounds of all latency histograms, in seconds: from 50 µs to 10 s.
const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_5, 0.003, 0.006, 0.012, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 10.0,
];

/// One handle per label value, in the order of `ALL`.
struct Each<L, H>(Vec<(L, H)>);

impl<L: PartialEq + Copy, H> Each<L, H> {
    fn get(&self, label: L) -> Option<&H> {
        self.0
            .iter()
            .find(|(at, _)| *at == label)
            .map(|(_, handle)| handle)
    }
}

/// All meters of one process.
pub struct Meters {
    prometheus: PrometheusHandle,
    reads: Each<Outcome, (Counter, Histogram)>,
    absent_reads: Counter,
    negative_amounts: Counter,
    seq_regressions: Counter,
    tiers: Each<(Tier, Op), Histogram>,
    failures: Each<(Tier, Op, Fault), Counter>,
    memory_entries: Gauge,
    memory_bytes: Gauge,
    loads_in_flight: Gauge,
    evictions: Each<Evicted, Counter>,
    notifications: Each<(Via, Applied), Counter>,
    notification_delay: Histogram,
    bus_delay: Histogram,
    view_lag: Histogram,
    bus_resyncs: Counter,
    refused_fills: Each<Refused, Counter>,
    health: health::Health,
}

const TIERS: [Tier; 3] = [Tier::Memory, Tier::Redis, Tier::Source];

impl Meters {
    /// All series, at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        // The bounds are not empty, which is all that can be wrong with them.
        let builder = PrometheusBuilder::new();
        let builder = match builder.set_buckets(&SECONDS) {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let prometheus = recorder.handle();
        let meters = metrics::with_local_recorder(&recorder, || Self::register(prometheus));
        Arc::new(meters)
    }

    fn register(prometheus: PrometheusHandle) -> Self {
        describe();
        build_info();
        audits();
        let pairs = |of: &'static [Op]| {
            TIERS
                .iter()
                .flat_map(move |tier| of.iter().map(move |op| (*tier, *op)))
        };
        Self {
            prometheus,
            reads: each(Outcome::ALL, |outcome| {
                let labels = || vec![Label::new("outcome", outcome.word())];
                (
                    counter("reads_total", labels()),
                    histogram("read_seconds", labels()),
                )
            }),
            absent_reads: counter("absent_reads_total", vec![]),
            negative_amounts: counter("negative_amounts_total", vec![]),
            seq_regressions: counter("seq_regressions_total", vec![]),
            tiers: each(pairs(Op::ALL), |(tier, op)| {
                histogram("tier_seconds", tier_labels(tier, op))
            }),
            failures: each(
                pairs(Op::ALL)
                    .flat_map(|(tier, op)| Fault::ALL.iter().map(move |fault| (tier, op, *fault))),
                |(tier, op, fault)| {
                    let mut labels = tier_labels(tier, op);
                    labels.push(Label::new("kind", fault.word()));
                    counter("tier_failures_total", labels)
                },
            ),
            memory_entries: gauge("memory_entries"),
            memory_bytes: gauge("memory_bytes"),
            loads_in_flight: gauge("loads_in_flight"),
            evictions: each(Evicted::ALL.iter().copied(), |cause| {
                counter("evictions_total", vec![Label::new("cause", cause.word())])
            }),
            notifications: each(
                Via::ALL
                    .iter()
                    .flat_map(|via| Applied::ALL.iter().map(move |result| (*via, *result))),
                |(via, result)| {
                    let labels = vec![
                        Label::new("via", via.word()),
                        Label::new("result", result.word()),
                    ];
                    counter("notifications_total", labels)
                },
            ),
            notification_delay: histogram("notification_delay_seconds", vec![]),
            bus_delay: histogram("bus_delay_seconds", vec![]),
            view_lag: histogram("view_lag_seconds", vec![]),
            bus_resyncs: counter("bus_resyncs_total", vec![]),
            refused_fills: each(Refused::ALL.iter().copied(), |reason| {
                counter(
                    "refused_fills_total",
                    vec![Label::new("reason", reason.word())],
                )
            }),
            health: health::Health::register(),
        }
    }

    /// The page that Prometheus reads.
    #[must_use]
    pub fn page(&self) -> String {
        self.prometheus.run_upkeep();
        self.prometheus.render()
    }

    /// Moves buffered samples into their buckets. To be called every few seconds: samples are kept raw until then.
    pub fn upkeep(&self) {
        self.prometheus.run_upkeep();
    }

    /// A user's read was answered, or was not.
    pub fn read(&self, outcome: Outcome, took: Duration) {
        if let Some((count, seconds)) = self.reads.get(outcome) {
            count.increment(1);
            seconds.record(took.as_secs_f64());
        }
    }

    /// A user with nothing was shown.
    pub fn absent_read(&self) {
        self.absent_reads.increment(1);
    }

    /// The source held amounts below zero.
    pub fn negative_amounts(&self, count: u64) {
        self.negative_amounts.increment(count);
    }

    /// A lower seq was about to be shown than was shown before.
    pub fn seq_regression(&self) {
        self.seq_regressions.increment(1);
    }

    /// A tier answered.
    pub fn tier(&self, tier: Tier, op: Op, took: Duration) {
        if let Some(seconds) = self.tiers.get((tier, op)) {
            seconds.record(took.as_secs_f64());
        }
    }

    /// A tier did not answer.
    pub fn tier_failure(&self, tier: Tier, op: Op, fault: Fault) {
        if let Some(count) = self.failures.get((tier, op, fault)) {
            count.increment(1);
        }
    }

    /// What memory holds.
    pub fn memory(&self, entries: u64, bytes: u64) {
        self.memory_entries.set(gauge_value(entries));
        self.memory_bytes.set(gauge_value(bytes));
    }

    /// One more (or less) load is under way.
    pub fn load_in_flight(&self, begins: bool) {
        if begins {
            self.loads_in_flight.increment(1.0);
        } else {
            self.loads_in_flight.decrement(1.0);
        }
    }

    /// Memory let go of something.
    pub fn evicted(&self, cause: Evicted) {
        if let Some(count) = self.evictions.get(cause) {
            count.increment(1);
        }
    }

    /// Notifications came.
    pub fn notifications(&self, via: Via, result: Applied, count: u64) {
        if let Some(counter) = self.notifications.get((via, result)) {
            counter.increment(count);
        }
    }

    /// From `created_at` to the effect.
    pub fn notification_delay(&self, delay: Duration) {
        self.notification_delay.record(delay.as_secs_f64());
    }

    /// From the feed's entry to the effect here.
    pub fn bus_delay(&self, delay: Duration) {
        self.bus_delay.record(delay.as_secs_f64());
    }

    /// How far the view was behind a notification, where that was seen.
    pub fn view_lag(&self, lag: Duration) {
        self.view_lag.record(lag.as_secs_f64());
    }

    /// The feed could not be followed without a gap.
    pub fn bus_resync(&self) {
        self.bus_resyncs.increment(1);
    }

    /// Redis refused a fill.
    pub fn refused_fill(&self, reason: Refused) {
        if let Some(count) = self.refused_fills.get(reason) {
            count.increment(1);
        }
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

fn each<L: Copy, H>(labels: impl IntoIterator<Item = L>, make: impl Fn(L) -> H) -> Each<L, H> {
    Each(
        labels
            .into_iter()
            .map(|label| (label, make(label)))
            .collect(),
    )
}

fn tier_labels(tier: Tier, op: Op) -> Vec<Label> {
    vec![Label::new("tier", tier.word()), Label::new("op", op.word())]
}

fn named(name: &str) -> String {
    format!("balance_cache_{name}")
}

fn counter(name: &str, labels: Vec<Label>) -> Counter {
    let counter = metrics::counter!(named(name), labels);
    counter.increment(0);
    counter
}

fn histogram(name: &str, labels: Vec<Label>) -> Histogram {
    metrics::histogram!(named(name), labels)
}

fn gauge(name: &str) -> Gauge {
    let gauge = metrics::gauge!(named(name));
    gauge.set(0.0);
    gauge
}

/// A gauge is a float: exact up to 2^53.
fn gauge_value(number: u64) -> f64 {
    u32::try_from(number).map_or_else(
        |_| {
            Duration::from_micros(number)
                .as_secs_f64()
                .mul_add(1e6, 0.0)
        },
        f64::from,
    )
}

fn build_info() {
    metrics::gauge!(
        named("build_info"),
        vec![Label::new("version", env!("CARGO_PKG_VERSION"))]
    )
    .set(1.0);
}

fn audits() {
    for tier in TIERS {
        for window in Window::ALL {
            let labels = || {
                vec![
                    Label::new("tier", tier.word()),
                    Label::new("window", window.word()),
                ]
            };
            for name in ["audit_checked_total", "audit_stale_total"] {
                drop(counter(name, labels()));
            }
        }
    }
}

fn describe() {
    for (name, what) in [
        ("reads_total", "Users' reads by who answered"),
        (
            "absent_reads_total",
            "Reads that showed a user with nothing",
        ),
        (
            "negative_amounts_total",
            "Amounts below zero that the source held",
        ),
        (
            "seq_regressions_total",
            "Answers held back because a higher seq was shown before; must stay 0",
        ),
        (
            "tier_failures_total",
            "Times that a tier could not do what it was asked",
        ),
        ("evictions_total", "Snapshots that memory let go of"),
        (
            "notifications_total",
            "Settlement notifications by way and result",
        ),
        (
            "bus_resyncs_total",
            "Times that the feed could not be followed without a gap",
        ),
        ("refused_fills_total", "Loads that Redis refused to keep"),
        (
            "audit_checked_total",
            "Answers compared with the ledger afterwards",
        ),
        (
            "audit_stale_total",
            "Answers that were too old when they were given",
        ),
    ] {
        metrics::describe_counter!(named(name), what);
    }
    for (name, what) in [
        ("read_seconds", "Seconds per read by who answered"),
        ("tier_seconds", "Seconds that a tier took"),
        (
            "notification_delay_seconds",
            "From created_at to the effect",
        ),
        (
            "bus_delay_seconds",
            "From the feed's entry to the effect here",
        ),
        (
            "view_lag_seconds",
            "How far the view was behind a notification",
        ),
    ] {
        metrics::describe_histogram!(named(name), what);
    }
    for (name, what) in [
        ("memory_entries", "Snapshots held in memory"),
        ("memory_bytes", "Bytes held in memory, as weighed"),
        ("loads_in_flight", "Loads from the source under way"),
        ("build_info", "The version that runs"),
    ] {
        metrics::describe_gauge!(named(name), what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_there_at_zero() {
        let page = Meters::new().page();
        for line in [
            "balance_cache_reads_total{outcome=\"memory\"} 0",
            "balance_cache_reads_total{outcome=\"shed\"} 0",
            "balance_cache_seq_regressions_total 0",
            "balance_cache_tier_failures_total{tier=\"redis\",op=\"get\",kind=\"corrupt\"} 0",
            "balance_cache_memory_entries 0",
            "balance_cache_refused_fills_total{reason=\"incomplete\"} 0",
            "balance_cache_notifications_total{via=\"stream\",result=\"invalid\"} 0",
            "balance_cache_audit_stale_total{tier=\"redis\",window=\"0.1\"} 0",
            "balance_cache_bus_resyncs_total 0",
            "balance_cache_read_seconds_count{outcome=\"memory\"} 0",
            "balance_cache_tier_seconds_count{tier=\"source\",op=\"load\"} 0",
            "balance_cache_view_lag_seconds_count 0",
        ] {
            assert!(
                page.lines().any(|at| at == line),
                "{line} is not in\n{page}"
            );
        }
    }

    #[test]
    fn seed_fault_12_a_read_of_400_microseconds_does_not_count_as_zero() {
        let meters = Meters::new();
        meters.read(Outcome::Source, Duration::from_micros(400));
        let page = meters.page();
        assert!(
            page.contains("balance_cache_read_seconds_sum{outcome=\"source\"} 0.0004"),
            "{page}"
        );
        assert!(
            page.contains("balance_cache_read_seconds_bucket{outcome=\"source\",le=\"0.0002\"} 0")
        );
        assert!(
            page.contains("balance_cache_read_seconds_bucket{outcome=\"source\",le=\"0.0004\"} 1")
        );
    }

    #[test]
    fn gauges_are_exact() {
        for number in [0, 1, 4_294_967_295, 4_294_967_296, 123_456_789_012] {
            assert_eq!(format!("{:.0}", gauge_value(number)), number.to_string());
        }
    }
}
