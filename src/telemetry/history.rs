//! Meters of pages of trades and statements.

use std::time::Duration;

use metrics::Label;

use super::{
    Meters,
    counters::{Each, each},
    histogram::Seconds,
    labels::{HistoryRoute, PageResult},
    prometheus_histograms::Families,
};

/// Time per page, by route and result.
pub(super) struct Histories(Each<(HistoryRoute, PageResult), Seconds>);

impl Histories {
    pub(super) fn register(families: &mut Families) -> Self {
        let series = HistoryRoute::ALL
            .iter()
            .flat_map(|route| PageResult::ALL.iter().map(move |result| (*route, *result)));
        Self(each(series, |(route, result)| {
            let labels = [
                Label::new("route", route.word()),
                Label::new("result", result.word()),
            ];
            families.seconds(
                "history_seconds",
                "Seconds per page of trades or of a statement",
                &labels,
            )
        }))
    }
}

impl Meters {
    /// A page ended so, after so long.
    pub fn history(&self, route: HistoryRoute, result: PageResult, took: Duration) {
        if let Some(seconds) = self.histories.0.get((route, result)) {
            seconds.record(took);
        }
    }
}
