//! Reloads of the settings, counted.

use metrics::{Gauge, Label};

use super::{
    Meters, Reloaded,
    counters::{Count, Each, make_each, register_count},
    gauge_value, metric_name,
};
use crate::domain::UnixMillis;

/// The counters, and the time of the last one.
pub(super) struct Reloads {
    results: Each<Reloaded, Count>,
    last: Gauge,
}

impl Reloads {
    pub(super) fn register_reloads() -> Self {
        metrics::describe_counter!(
            metric_name("config_reloads_total"),
            "Reloads of the settings (SIGHUP) by result"
        );
        let last = metric_name("config_last_reload_timestamp_seconds");
        metrics::describe_gauge!(
            last.clone(),
            "When settings were taken last after the start, in seconds since 1970; 0: never"
        );
        let last = metrics::gauge!(last);
        last.set(0.0);
        Self {
            results: make_each(Reloaded::ALL.iter().copied(), |result| {
                let labels = vec![Label::new("result", result.label_value())];
                register_count("config_reloads_total", labels)
            }),
            last,
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
