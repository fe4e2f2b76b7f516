//! Times are part of the protocol (rule 15): each in its range, and in their order.

use std::time::Duration;

use super::SettingsCheck;
use crate::config::{Millis, Settings};

/// Nothing here waits or remembers longer.
const LONGEST: Duration = Duration::from_hours(24);

/// Below this a proof of freshness would have to be made more often than Redis can be asked.
const STALENESS_MIN: Duration = Duration::from_millis(50);

/// How many times `max_staleness` fits into what it must be small against.
const STALENESS_PARTS: u32 = 4;

/// A shorter interval has no use.
const TOTALS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How many times the wait for a row fits into the time of the request that waits.
const LAG_PARTS: u32 = 2;

pub(super) fn check_times(check: &mut SettingsCheck<'_>) {
    let settings = check.settings;
    for (key, Millis(time), min) in all_times(settings) {
        check.require_that(
            &[key],
            (min..=LONGEST).contains(&time),
            &format!(
                "must be from {} to {} milliseconds",
                min.as_millis(),
                LONGEST.as_millis()
            ),
        );
    }
    let interval = settings.totals.interval_ms.0;
    check.require_that(
        &["totals.interval_ms"],
        interval.is_zero() || interval >= TOTALS_INTERVAL_MIN,
        "must be 0 (off), or at least 100 milliseconds",
    );
    check_floor_times(check, settings);
    check_staleness(check, settings);
    check.require_that(
        &["source.timeout_ms", "limits.deadline_ms"],
        settings.source.timeout_ms <= settings.limits.deadline_ms,
        "must not be longer than limits.deadline_ms",
    );
    let budget = settings.settlement.lag_budget_ms.0;
    check.require_that(
        &["settlement.lag_budget_ms", "limits.deadline_ms"],
        budget.saturating_mul(LAG_PARTS) <= settings.limits.deadline_ms.0,
        "must be at most half of limits.deadline_ms: a read that is behind has to answer in time",
    );
}

/// Every time with the least that it may be.
fn all_times(settings: &Settings) -> [(&'static str, Millis, Duration); 21] {
    let Settings {
        memory,
        redis,
        source,
        scylla,
        settlement,
        ledger,
        totals,
        stale,
        limits,
        audit,
        telemetry,
        ..
    } = settings;
    let (one, none) = (Duration::from_millis(1), Duration::ZERO);
    [
        ("memory.ttl_ms", memory.ttl_ms, one),
        ("memory.warm_max_ms", memory.warm_max_ms, one),
        ("redis.snapshot_ttl_ms", redis.snapshot_ttl_ms, one),
        ("redis.timeout_ms", redis.timeout_ms, one),
        ("redis.connect_timeout_ms", redis.connect_timeout_ms, one),
        ("redis.breaker_probe_ms", redis.breaker_probe_ms, one),
        ("redis.lease_wait_ms", redis.lease_wait_ms, none),
        ("source.timeout_ms", source.timeout_ms, one),
        ("scylla.connect_timeout_ms", scylla.connect_timeout_ms, one),
        (
            "settlement.max_staleness_ms",
            settlement.max_staleness_ms,
            STALENESS_MIN,
        ),
        ("settlement.floor_ttl_ms", settlement.floor_ttl_ms, one),
        ("settlement.lag_budget_ms", settlement.lag_budget_ms, none),
        ("settlement.claim_idle_ms", settlement.claim_idle_ms, one),
        ("ledger.recovery_ms", ledger.recovery_ms, one),
        ("totals.interval_ms", totals.interval_ms, none),
        ("stale.max_age_ms", stale.max_age_ms, one),
        ("limits.deadline_ms", limits.deadline_ms, one),
        ("limits.header_timeout_ms", limits.header_timeout_ms, one),
        ("limits.drain_ms", limits.drain_ms, none),
        ("audit.grace_ms", audit.grace_ms, none),
        ("telemetry.slow_read_ms", telemetry.slow_read_ms, none),
    ]
}

/// A floor that is forgotten while a value from before it is held, or a load from before it runs, brings the old balance back.
/// Times that are wrong themselves are left out of the sum.
fn check_floor_times(check: &mut SettingsCheck<'_>, settings: &Settings) {
    let held: Vec<_> = [
        ("redis.snapshot_ttl_ms", settings.redis.snapshot_ttl_ms),
        ("memory.ttl_ms", settings.memory.ttl_ms),
        ("limits.deadline_ms", settings.limits.deadline_ms),
        (
            "settlement.lag_budget_ms",
            settings.settlement.lag_budget_ms,
        ),
    ]
    .into_iter()
    .filter(|(key, _)| !check.is_bad(key))
    .collect();
    let sum = held
        .iter()
        .fold(Duration::ZERO, |sum, (_, time)| sum.saturating_add(time.0));
    let parts: Vec<_> = held.iter().map(|(key, _)| *key).collect();
    let keys: Vec<_> = std::iter::once("settlement.floor_ttl_ms")
        .chain(parts.iter().copied())
        .collect();
    check.require_that(
        &keys,
        settings.settlement.floor_ttl_ms.0 > sum,
        &format!(
            "must be longer than {} milliseconds: {}",
            sum.as_millis(),
            parts.join(" + ")
        ),
    );
}

fn check_staleness(check: &mut SettingsCheck<'_>, settings: &Settings) {
    let staleness = settings.settlement.max_staleness_ms.0;
    for (key, Millis(long)) in [
        ("redis.snapshot_ttl_ms", settings.redis.snapshot_ttl_ms),
        ("settlement.floor_ttl_ms", settings.settlement.floor_ttl_ms),
    ] {
        check.require_that(
            &["settlement.max_staleness_ms", key],
            staleness.saturating_mul(STALENESS_PARTS) <= long,
            &format!("must be at most a quarter of {key}"),
        );
    }
}
