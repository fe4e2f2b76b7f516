//! Reloads of the settings, counted.

use metrics::{Gauge, Label};

use super::{
    Meters, Reloaded,
    counters::{Count, PerLabel, make_each, register_count, register_gauge},
    gauge_value,
};
use crate::domain::UnixMillis;

/// The counters, and the time of the last one.
pub(super) struct Reloads {
    results: PerLabel<Reloaded, Count>,
    last: Gauge,
}

impl Reloads {
    pub(super) fn register_reloads() -> Self {
        Self {
            results: make_each(Reloaded::ALL.iter().copied(), |result| {
                let labels = vec![Label::new("result", result.label_value())];
                register_count("config_reloads_total", labels)
            }),
            last: register_gauge("config_last_reload_timestamp_seconds", vec![]),
        }
    }
}

impl Meters {
    /// Settings were read again at `at`.
    pub fn record_reload(&self, result: Reloaded, at: UnixMillis) {
        if let Some(count) = self.reloads.results.get(result) {
            count.increment_by(1);
        }
        if result != Reloaded::Failed {
            let seconds = u64::try_from(at.0).unwrap_or(0) / 1000;
            self.reloads.last.set(gauge_value(seconds));
        }
    }
}
