//! The dashboard's data, as JSON. Times are in milliseconds since 1970, durations in nanoseconds unless the name says
//! otherwise; a quantile without values is null.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    cache_status::ReadOutcome,
    domain::UnixMillis,
    ops::{OperatorFacts, ReadinessReasons},
    telemetry::{
        AppliedLabel, Meters,
        recent::{Quantiles, RecentWindow, SecondCounts},
        slowest,
        snapshot_counters::{Audited, CounterTotals},
    },
};

/// The name of all outcomes together.
const ALL: &str = "all";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// The part works.
    Good,
    /// The part works with restrictions.
    Warn,
    /// The part does not work.
    Bad,
    /// There is none.
    Off,
}

/// A part of the service, in words for the operator.
#[derive(Debug, Clone, Serialize)]
pub struct ServicePart {
    pub name: &'static str,
    pub state: PartState,
    /// The state in one or two words.
    pub word: String,
    /// More, where there is more to say.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct MemoryUse {
    /// Snapshots.
    pub entries: u64,
    /// Bytes in use, as memory weighs its entries.
    pub bytes: u64,
    /// The limit in bytes.
    pub bytes_max: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct DashboardParts {
    pub started: UnixMillis,
    pub now: UnixMillis,
    /// Where clients ask.
    pub api_port: u16,
    /// Whether the page may look up a user (`ops.user_lookup`).
    pub user_lookup: bool,
    pub memory: MemoryUse,
    /// In the order to be shown.
    pub parts: Vec<ServicePart>,
}

type ByOutcome<T> = BTreeMap<&'static str, T>;

/// The whole answer.
#[derive(Serialize)]
pub(super) struct DashboardData {
    version: &'static str,
    status: &'static str,
    reasons: Reasons,
    #[serde(flatten)]
    parts: DashboardParts,
    totals: StartSums,
    window: Recently,
    audits: Vec<Nines>,
    slowest: Vec<SlowReads>,
    history: History,
}

#[derive(Serialize)]
struct Reasons {
    not_ready: Vec<String>,
    degraded: Vec<String>,
}

/// Since the start.
#[derive(Serialize)]
struct StartSums {
    reads: ByOutcome<u64>,
    loads: u64,
    load_failures: u64,
    redis_failures: u64,
    notifications: BTreeMap<&'static str, u64>,
    resyncs: u64,
    regressions: u64,
}

#[derive(Serialize)]
struct Recently {
    lasted_ms: u64,
    reads: ByOutcome<Measured>,
    notification_delay: Measured,
    bus_delay: Measured,
    view_lag: Measured,
}

#[derive(Serialize)]
struct Measured {
    count: u64,
    /// p50, p99, p99.9.
    quantiles: [Option<u64>; 3],
}

#[derive(Serialize)]
struct Nines {
    tier: &'static str,
    window: &'static str,
    checked: u64,
    stale: u64,
}

#[derive(Serialize)]
struct SlowReads {
    at: UnixMillis,
    user: String,
    outcome: &'static str,
    took: u64,
    redis: Option<u64>,
    source: Option<u64>,
    assets: Option<usize>,
    rows: Option<u64>,
}

/// Column by column, one element a second.
#[derive(Serialize, Default)]
struct History {
    numbers: Vec<u64>,
    at: Vec<i64>,
    lasted_ms: Vec<u64>,
    reads: ByOutcome<Vec<u64>>,
    quantiles: ByOutcome<[Vec<Option<u64>>; 3]>,
    loads: Vec<u64>,
    load_failures: Vec<u64>,
    notifications: Vec<u64>,
    notification_failures: Vec<u64>,
    notification_delay: [Vec<Option<u64>>; 3],
    bus_delay: [Vec<Option<u64>>; 3],
    view_lag: [Vec<Option<u64>>; 3],
}

/// The data to be shown; of the seconds only those after that one.
pub(super) fn dashboard_data(facts: &dyn OperatorFacts, after: Option<u64>) -> DashboardData {
    let (readiness, meters) = (facts.current_readiness(), facts.shared_meters());
    let (seconds, window) = {
        let recent = meters.recent_seconds();
        (recent.seconds_after(after), recent.last_window())
    };
    let totals = meters.snapshot_totals();
    DashboardData {
        version: env!("CARGO_PKG_VERSION"),
        status: status_word(&readiness),
        reasons: Reasons {
            not_ready: readiness.not_ready,
            degraded: readiness.degraded,
        },
        parts: facts.parts_state(),
        window: summarise_window(&window),
        audits: totals.audits.iter().map(describe_staleness).collect(),
        totals: sum_totals(&totals),
        slowest: slowest_reads(meters),
        history: history_columns(&seconds),
    }
}

const fn status_word(readiness: &ReadinessReasons) -> &'static str {
    match (
        readiness.not_ready.is_empty(),
        readiness.degraded.is_empty(),
    ) {
        (true, true) => "ready",
        (true, false) => "degraded",
        (false, _) => "not_ready",
    }
}

/// The outcomes' names, then that of all together.
fn outcome_names() -> impl Iterator<Item = &'static str> {
    let outcomes = ReadOutcome::ALL.into_iter().map(ReadOutcome::word);
    outcomes.chain([ALL])
}

fn sum_totals(totals: &CounterTotals) -> StartSums {
    let reads = totals
        .reads
        .iter()
        .map(crate::telemetry::HistogramTally::count_values);
    let results = totals.notifications.iter();
    StartSums {
        reads: outcome_names().zip(reads).collect(),
        loads: totals.loads,
        load_failures: totals.load_failures,
        redis_failures: totals.redis_failures,
        notifications: results
            .map(|(result, count): &(AppliedLabel, u64)| (result.label_value(), *count))
            .collect(),
        resyncs: totals.resyncs,
        regressions: totals.regressions,
    }
}

fn summarise_window(window: &RecentWindow) -> Recently {
    let measured = |(count, quantiles): &(u64, Quantiles)| Measured {
        count: *count,
        quantiles: quantiles.map(|quantile| quantile.map(whole_nanos)),
    };
    let [notification_delay, bus_delay, view_lag] = window.delays.each_ref().map(measured);
    Recently {
        lasted_ms: whole_millis(window.lasted),
        reads: outcome_names()
            .zip(window.reads.iter().map(measured))
            .collect(),
        notification_delay,
        bus_delay,
        view_lag,
    }
}

fn describe_staleness(audited: &Audited) -> Nines {
    Nines {
        tier: audited.tier.word(),
        window: audited.window.label_value(),
        checked: audited.checked,
        stale: audited.stale,
    }
}

fn slowest_reads(meters: &Meters) -> Vec<SlowReads> {
    let told = |slow: slowest::SlowRead| SlowReads {
        at: slow.at,
        // Beyond 2^53 a number would be another user's in a browser.
        user: slow.user.get().to_string(),
        outcome: slow.outcome.word(),
        took: whole_nanos(slow.took),
        redis: slow.redis.map(whole_nanos),
        source: slow.source.map(whole_nanos),
        assets: slow.assets,
        rows: slow.rows,
    };
    meters.slowest_reads().into_iter().map(told).collect()
}

fn history_columns(seconds: &[SecondCounts]) -> History {
    let mut history = History::default();
    for second in seconds {
        history.numbers.push(second.number);
        history.at.push(second.at.0);
        history.lasted_ms.push(whole_millis(second.lasted));
        for (name, count) in outcome_names().zip(second.reads) {
            history.reads.entry(name).or_default().push(count);
        }
        for (name, quantiles) in outcome_names().zip(&second.quantiles) {
            push_quantiles(history.quantiles.entry(name).or_default(), quantiles);
        }
        history.loads.push(second.loads);
        history.load_failures.push(second.load_failures);
        history.notifications.push(second.notifications);
        history
            .notification_failures
            .push(second.notification_failures);
        push_quantiles(&mut history.notification_delay, &second.notification_delay);
        push_quantiles(&mut history.bus_delay, &second.bus_delay);
        push_quantiles(&mut history.view_lag, &second.view_lag);
    }
    history
}

fn push_quantiles(columns: &mut [Vec<Option<u64>>; 3], quantiles: &Quantiles) {
    for (column, quantile) in columns.iter_mut().zip(quantiles) {
        column.push(quantile.map(whole_nanos));
    }
}

fn whole_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
