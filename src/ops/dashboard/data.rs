//! The data of the page, as JSON. Times are in milliseconds since 1970, durations in nanoseconds unless the name says
//! otherwise; a quantile without values is null.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    cache_status::Outcome,
    domain::UnixMillis,
    ops::{Facts, Readiness},
    telemetry::{
        Applied, Meters,
        recent::{Quantiles, Second, Window},
        slowest,
        snapshot_counters::{Audited, Totals},
    },
};

/// The name of all outcomes together.
const ALL: &str = "all";

/// How a part of the service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// It works less well.
    Warn,
    /// It does not work.
    Bad,
    /// There is none.
    Off,
}

/// A part of the service, in words for the operator.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// The same in a word or two.
    pub word: String,
    /// More, where there is more to say.
    pub detail: String,
}

/// The contents of memory.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MemoryUse {
    /// Snapshots.
    pub entries: u64,
    /// As weighed.
    pub bytes: u64,
    /// At most.
    pub bytes_max: u64,
}

/// The service in parts.
#[derive(Debug, Clone, Serialize)]
pub struct Parts {
    /// When the process started.
    pub started: UnixMillis,
    /// Now.
    pub now: UnixMillis,
    /// Where clients ask.
    pub api_port: u16,
    /// Whether the page may look up a user (`ops.user_lookup`).
    pub user_lookup: bool,
    /// The contents of memory.
    pub memory: MemoryUse,
    /// In the order to be shown.
    pub parts: Vec<Part>,
}

type ByOutcome<T> = BTreeMap<&'static str, T>;

/// The whole answer.
#[derive(Serialize)]
pub(super) struct Shown {
    version: &'static str,
    status: &'static str,
    reasons: Reasons,
    #[serde(flatten)]
    parts: Parts,
    totals: Sums,
    window: Recently,
    audits: Vec<Nines>,
    slowest: Vec<Slow>,
    history: History,
}

#[derive(Serialize)]
struct Reasons {
    not_ready: Vec<String>,
    degraded: Vec<String>,
}

/// Since the start.
#[derive(Serialize)]
struct Sums {
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
struct Slow {
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
pub(super) fn shown(facts: &dyn Facts, after: Option<u64>) -> Shown {
    let (readiness, meters) = (facts.readiness(), facts.meters());
    let (seconds, window) = {
        let recent = meters.recent();
        (recent.after(after), recent.window())
    };
    let totals = meters.totals();
    Shown {
        version: env!("CARGO_PKG_VERSION"),
        status: status(&readiness),
        reasons: Reasons {
            not_ready: readiness.not_ready,
            degraded: readiness.degraded,
        },
        parts: facts.parts(),
        window: recently(&window),
        audits: totals.audits.iter().map(nines).collect(),
        totals: sums(&totals),
        slowest: slowest(meters),
        history: history(&seconds),
    }
}

const fn status(readiness: &Readiness) -> &'static str {
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
fn groups() -> impl Iterator<Item = &'static str> {
    let outcomes = Outcome::ALL.into_iter().map(Outcome::word);
    outcomes.chain([ALL])
}

fn sums(totals: &Totals) -> Sums {
    let reads = totals.reads.iter().map(crate::telemetry::Tally::count);
    let results = totals.notifications.iter();
    Sums {
        reads: groups().zip(reads).collect(),
        loads: totals.loads,
        load_failures: totals.load_failures,
        redis_failures: totals.redis_failures,
        notifications: results
            .map(|(result, count): &(Applied, u64)| (result.word(), *count))
            .collect(),
        resyncs: totals.resyncs,
        regressions: totals.regressions,
    }
}

fn recently(window: &Window) -> Recently {
    let measured = |(count, quantiles): &(u64, Quantiles)| Measured {
        count: *count,
        quantiles: quantiles.map(|quantile| quantile.map(nanos)),
    };
    let [notification_delay, bus_delay, view_lag] = window.delays.each_ref().map(measured);
    Recently {
        lasted_ms: millis(window.lasted),
        reads: groups().zip(window.reads.iter().map(measured)).collect(),
        notification_delay,
        bus_delay,
        view_lag,
    }
}

fn nines(audited: &Audited) -> Nines {
    Nines {
        tier: audited.tier.word(),
        window: audited.window.word(),
        checked: audited.checked,
        stale: audited.stale,
    }
}

fn slowest(meters: &Meters) -> Vec<Slow> {
    let told = |slow: slowest::Slow| Slow {
        at: slow.at,
        // Beyond 2^53 a number would be another user's in a browser.
        user: slow.user.get().to_string(),
        outcome: slow.outcome.word(),
        took: nanos(slow.took),
        redis: slow.redis.map(nanos),
        source: slow.source.map(nanos),
        assets: slow.assets,
        rows: slow.rows,
    };
    meters.slowest().into_iter().map(told).collect()
}

fn history(seconds: &[Second]) -> History {
    let mut history = History::default();
    for second in seconds {
        history.numbers.push(second.number);
        history.at.push(second.at.0);
        history.lasted_ms.push(millis(second.lasted));
        for (name, count) in groups().zip(second.reads) {
            history.reads.entry(name).or_default().push(count);
        }
        for (name, quantiles) in groups().zip(&second.quantiles) {
            add(history.quantiles.entry(name).or_default(), quantiles);
        }
        history.loads.push(second.loads);
        history.load_failures.push(second.load_failures);
        history.notifications.push(second.notifications);
        history
            .notification_failures
            .push(second.notification_failures);
        add(&mut history.notification_delay, &second.notification_delay);
        add(&mut history.bus_delay, &second.bus_delay);
        add(&mut history.view_lag, &second.view_lag);
    }
    history
}

fn add(columns: &mut [Vec<Option<u64>>; 3], quantiles: &Quantiles) {
    for (column, quantile) in columns.iter_mut().zip(quantiles) {
        column.push(quantile.map(nanos));
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
