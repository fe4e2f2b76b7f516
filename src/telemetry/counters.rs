//! Counters and gauges by name, and handles by label.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use metrics::{Counter, Gauge, Label};

use super::metric_name;

/// One handle per label value, in the order of `ALL`.
pub(super) struct PerLabel<L, H>(pub(super) Vec<(L, H)>);

impl<L: PartialEq + Copy, H> PerLabel<L, H> {
    pub(super) fn get(&self, label: L) -> Option<&H> {
        self.0
            .iter()
            .find(|(at, _)| *at == label)
            .map(|(_, handle)| handle)
    }
}

/// A counter that can be read again: for what happens seldom enough to share a cache line.
pub(super) struct Count {
    shown: Counter,
    held: AtomicU64,
}

impl Count {
    pub(super) fn increment_by(&self, more: u64) {
        self.shown.increment(more);
        self.held.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Raises it to a total that is counted elsewhere.
    pub(super) fn raise_to(&self, total: u64) {
        self.shown.absolute(total);
        self.held.fetch_max(total, Ordering::Relaxed);
    }
}

pub(super) fn make_each<L: Copy, H>(
    labels: impl IntoIterator<Item = L>,
    mut make: impl FnMut(L) -> H,
) -> PerLabel<L, H> {
    let labels = labels.into_iter();
    PerLabel(labels.map(|label| (label, make(label))).collect())
}

pub(super) fn register_counter(name: &str, labels: Vec<Label>) -> Counter {
    let counter = metrics::counter!(metric_name(name), labels);
    counter.increment(0);
    counter
}

pub(super) fn register_count(name: &str, labels: Vec<Label>) -> Count {
    Count {
        shown: register_counter(name, labels),
        held: AtomicU64::new(0),
    }
}

pub(super) fn register_gauge(name: &str, labels: Vec<Label>) -> Gauge {
    let gauge = metrics::gauge!(metric_name(name), labels);
    gauge.set(0.0);
    gauge
}

/// A gauge is a float: exact up to 2^53.
pub(super) fn gauge_value(number: u64) -> f64 {
    u32::try_from(number).map_or_else(
        |_| {
            Duration::from_micros(number)
                .as_secs_f64()
                .mul_add(1e6, 0.0)
        },
        f64::from,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_exact() {
        for number in [0, 1, 4_294_967_295, 4_294_967_296, 123_456_789_012] {
            assert_eq!(format!("{:.0}", gauge_value(number)), number.to_string());
        }
    }
}
