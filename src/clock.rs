//! The two clocks: one to show, one to measure with.
//!
//! The wall clock is read here and nowhere else. Decisions about freshness use the monotonic clock ([`tokio::time::Instant`]),
//! which tests can move.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::UnixMillis;

/// [`wall_now`] as of the system's last tick, at most a few milliseconds behind, for what is shown in whole seconds: it takes a
/// fraction of the time.
#[cfg(target_os = "linux")]
pub fn wall_at_last_tick() -> UnixMillis {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let millis = now.tv_nsec.checked_div(1_000_000).unwrap_or(0);
    UnixMillis(now.tv_sec.saturating_mul(1_000).saturating_add(millis))
}

/// [`wall_now`]: there are no ticks to be asked for.
#[cfg(not(target_os = "linux"))]
pub fn wall_at_last_tick() -> UnixMillis {
    wall()
}

/// Now, by the wall clock of this machine. For display and for messages between machines, never for a decision here.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall_now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
