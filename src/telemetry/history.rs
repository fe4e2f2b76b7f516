//! Meters of pages of trades and statements.

use std::time::Duration;

use metrics::Label;

use super::{
    Meters,
    counters::{PerLabel, make_each},
    histogram::Seconds,
    labels::{HistoryRoute, PageResult},
    prometheus_histograms::Families,
};

/// Time per page, by route and result.
pub(super) struct HistoryMeters(PerLabel<(HistoryRoute, PageResult), Seconds>);

impl HistoryMeters {
    pub(super) fn register_histories(families: &mut Families) -> Self {
        let series = HistoryRoute::ALL
            .iter()
            .flat_map(|route| PageResult::ALL.iter().map(move |result| (*route, *result)));
        Self(make_each(series, |(route, result)| {
            let labels = [
                Label::new("route", route.label_value()),
                Label::new("result", result.label_value()),
            ];
            families.add_seconds(
                "history_seconds",
                "Seconds per page of trades or of a statement",
                &labels,
            )
        }))
    }
}

impl Meters {
    /// A page ended so, after so long.
    pub fn record_page(&self, route: HistoryRoute, result: PageResult, took: Duration) {
        if let Some(seconds) = self.histories.0.get((route, result)) {
            seconds.record_duration(took);
        }
    }
}
