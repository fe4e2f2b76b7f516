//! Registers the meters: their names, labels and help texts.

use metrics::{Counter, Label};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;

use super::{
    AppliedLabel, Evicted, Fault, Meters, Op, Refused, TIERS, Via,
    audit::Audits,
    backfill::BackfillMeters,
    change_log::ChangeLogMeters,
    counters::{Count, make_each, register_count, register_counter, register_gauge},
    health::HealthMeters,
    help::describe_metrics,
    histogram::Seconds,
    history::HistoryMeters,
    http::Http,
    ledger::LedgerMeters,
    ledger_disk::LedgerDisk,
    load_size::LoadSizes,
    prometheus_histograms::Families,
    recent::RecentSeconds,
    reloads::Reloads,
    slowest::Slowest,
    totals::TotalsMeters,
    warm::WarmMeters,
};
use crate::{
    cache_status::{ReadOutcome, Tier},
    domain::Catalogue,
};

/// Histograms without labels: how late news came, and how late the view was.
const DELAYS: [(&str, &str); 3] = [
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
        "From a notification to the first load that showed it",
    ),
];

impl Meters {
    pub(super) fn register_meters(prometheus: PrometheusHandle, catalogue: &Catalogue) -> Self {
        describe_metrics();
        show_version();
        let mut families = Families::default();
        let ops = || {
            TIERS
                .iter()
                .flat_map(|tier| Op::ALL.iter().map(move |op| (*tier, *op)))
        };
        let faults =
            || ops().flat_map(|(tier, op)| Fault::ALL.iter().map(move |fault| (tier, op, *fault)));
        let mut seconds =
            |name, help, labels: Vec<Label>| families.add_seconds(name, help, &labels);
        let reads = make_each(ReadOutcome::ALL, |outcome| {
            read_series(outcome, &mut seconds)
        });
        let tiers = make_each(ops(), |(tier, op)| {
            seconds(
                "tier_seconds",
                "Seconds that a tier took",
                tier_labels(tier, op),
            )
        });
        let [notification_delay, bus_delay, view_lag] =
            DELAYS.map(|(name, help)| seconds(name, help, vec![]));
        let sizes = LoadSizes::register_sizes(&mut families);
        let ledger = LedgerMeters::register_ledger(&mut families, catalogue);
        let histories = HistoryMeters::register_histories(&mut families);
        let totals = TotalsMeters::register_totals(&mut families, catalogue);
        let http = Http::register_http(&mut families);
        http.include_hits(&mut families);
        Self {
            prometheus,
            http,
            reads,
            tiers,
            notification_delay,
            bus_delay,
            view_lag,
            families,
            absent_reads: register_count("absent_reads_total", vec![]),
            negative_amounts: register_count("negative_amounts_total", vec![]),
            seq_regressions: register_count("seq_regressions_total", vec![]),
            failures: make_each(faults(), failure_count),
            memory_entries: register_gauge("memory_entries", vec![]),
            memory_bytes: register_gauge("memory_bytes", vec![]),
            loads_in_flight: register_gauge("loads_in_flight", vec![]),
            loads_limit: register_gauge("loads_limit", vec![]),
            turns_waiting: register_gauge("turns_waiting", vec![]),
            evictions: make_each(Evicted::ALL.iter().copied(), eviction_count),
            notifications: make_each(
                Via::built_inlets()
                    .flat_map(|via| AppliedLabel::ALL.iter().map(move |result| (via, *result))),
                notification_count,
            ),
            bus_resyncs: register_count("bus_resyncs_total", vec![]),
            refused_fills: make_each(Refused::ALL.iter().copied(), refused_fill_count),
            audits: Audits::register_audits(),
            ledger,
            histories,
            sizes,
            slowest: Slowest::default(),
            recent: Mutex::new(RecentSeconds::new()),
            health: HealthMeters::register_health(),
            reloads: Reloads::register_reloads(),
            change_log: ChangeLogMeters::register_change_log(),
            ledger_disk: LedgerDisk::register_ledger_disk(),
            warm: WarmMeters::register_warm(),
            backfills: BackfillMeters::register_backfills(),
            totals,
        }
    }
}

fn show_version() {
    let version = vec![Label::new("version", env!("CARGO_PKG_VERSION"))];
    register_gauge("build_info", version).set(1.0);
}

fn eviction_count(cause: Evicted) -> Count {
    let labels = vec![Label::new("cause", cause.label_value())];
    register_count("evictions_total", labels)
}

fn refused_fill_count(reason: Refused) -> Count {
    let labels = vec![Label::new("reason", reason.label_value())];
    register_count("refused_fills_total", labels)
}

type MakeHistogram<'a> = dyn FnMut(&'static str, &'static str, Vec<Label>) -> Seconds + 'a;

/// The counter is shown from the histogram's count: one addition less for each read.
fn read_series(outcome: ReadOutcome, seconds: &mut MakeHistogram<'_>) -> (Counter, Seconds) {
    let labels = || vec![Label::new("outcome", outcome.word())];
    let help = "Seconds per read by who answered";
    (
        register_counter("reads_total", labels()),
        seconds("read_seconds", help, labels()),
    )
}

fn failure_count((tier, op, fault): (Tier, Op, Fault)) -> Count {
    let mut labels = tier_labels(tier, op);
    labels.push(Label::new("kind", fault.label_value()));
    register_count("tier_failures_total", labels)
}

fn notification_count((via, result): (Via, AppliedLabel)) -> Count {
    let labels = vec![
        Label::new("via", via.label_value()),
        Label::new("result", result.label_value()),
    ];
    register_count("notifications_total", labels)
}

fn tier_labels(tier: Tier, op: Op) -> Vec<Label> {
    vec![
        Label::new("tier", tier.word()),
        Label::new("op", op.label_value()),
    ]
}
