//! The two clocks: one to show, one to measure with.
//!
//! The wall clock is read here and nowhere else. Whatever decides over freshness uses the monotonic clock
//! ([`tokio::time::Instant`]), which tests can move.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::UnixMillis;

/// Now, by the wall clock of this machine. For display and for messages between machines, never for a decision here.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn wall() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
