//! Meters of the totals: how old they are, the scan under way, and whether they are what the writer maintained.

use std::time::Duration;

use metrics::{Gauge, Label};

use super::{
    Meters, ScanResult,
    counters::{Count, PerLabel, make_each, register_count, register_gauge},
    gauge_value,
    histogram::Seconds,
    prometheus_histograms::Families,
};
use crate::domain::{AssetId, Catalogue};

/// The label of an asset that is not in the catalogue.
const OTHER: &str = "other";

/// The gauges, counters and the histogram.
pub(super) struct TotalsMeters {
    age: Gauge,
    interval: Gauge,
    progress: Gauge,
    rows: Count,
    scans: PerLabel<ScanResult, Count>,
    seconds: Seconds,
    difference: Vec<(AssetId, Gauge)>,
    difference_other: Gauge,
    untrusted_rows: Gauge,
}

impl TotalsMeters {
    pub(super) fn register_totals(families: &mut Families, catalogue: &Catalogue) -> Self {
        let difference = |name: &str| {
            let labels = vec![Label::new("asset", name.to_owned())];
            register_gauge("totals_difference_units", labels)
        };
        let by_name = catalogue.asset_ids().filter_map(|id| {
            catalogue
                .get_asset(id)
                .map(|(name, _)| (id, difference(&name)))
        });
        Self {
            age: register_gauge("totals_age_seconds", vec![]),
            interval: register_gauge("totals_interval_seconds", vec![]),
            progress: register_gauge("totals_scan_progress_ratio", vec![]),
            rows: register_count("totals_rows_total", vec![]),
            scans: make_each(ScanResult::ALL.iter().copied(), |result| {
                let labels = vec![Label::new("result", result.label_value())];
                register_count("totals_scans_total", labels)
            }),
            seconds: families.add_seconds(
                "totals_scan_seconds",
                "Seconds from the begin of a scan for totals to its end",
                &[],
            ),
            difference: by_name.collect(),
            difference_other: difference(OTHER),
            untrusted_rows: register_gauge("totals_untrusted_rows", vec![]),
        }
    }
}

impl Meters {
    /// `totals.interval_ms`, and how old what is shown is.
    pub fn totals_age(&self, interval: Duration, age: Duration) {
        self.totals.interval.set(interval.as_secs_f64());
        self.totals.age.set(age.as_secs_f64());
    }

    /// The part of the scan under way that is done, in thousandths; 0 where there is none.
    pub fn totals_progress(&self, permille: u32) {
        let ratio = Duration::from_millis(permille.into());
        self.totals.progress.set(ratio.as_secs_f64());
    }

    /// A scan ended after `took`, and read so many rows.
    pub fn totals_scanned(&self, result: ScanResult, rows: u64, took: Duration) {
        if let Some(count) = self.totals.scans.get(result) {
            count.increment_by(1);
        }
        self.totals.rows.increment_by(rows);
        self.totals.seconds.record_duration(took);
    }

    /// The differences of the last scan in raw units, by asset; those that are not named are 0.
    pub fn totals_difference(&self, differences: &[(AssetId, u64)]) {
        let of = |wanted: &dyn Fn(AssetId) -> bool| {
            let found = differences.iter().filter(|(asset, _)| wanted(*asset));
            gauge_value(found.fold(0, |sum, (_, units)| sum.saturating_add(*units)))
        };
        for (asset, gauge) in &self.totals.difference {
            gauge.set(of(&|found| found == *asset));
        }
        let known = |asset| self.totals.difference.iter().any(|(id, _)| *id == asset);
        self.totals.difference_other.set(of(&|found| !known(found)));
    }

    /// Rows of the last scan that were not written as the service writes them.
    pub fn totals_untrusted_rows(&self, rows: u64) {
        self.totals.untrusted_rows.set(gauge_value(rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Asset;

    #[test]
    fn a_difference_is_shown_by_asset_and_goes_away() {
        let asset = Asset::new(1, "BTC", 8);
        let meters = Meters::with_catalogue(&Catalogue::new(&[asset], &[]).unwrap());
        let id = |id| AssetId::new(id).unwrap();
        let (btc, other) = (
            "totals_difference_units{asset=\"BTC\"}",
            "totals_difference_units{asset=\"other\"}",
        );
        meters.assert_shows(&[&format!("{btc} 0")]);
        meters.totals_difference(&[(id(1), 7), (id(8), 2), (id(9), 3)]);
        meters.assert_shows(&[&format!("{btc} 7"), &format!("{other} 5")]);
        meters.totals_difference(&[]);
        meters.totals_progress(345);
        meters.assert_shows(&[&format!("{btc} 0"), "totals_scan_progress_ratio 0.345"]);
    }
}
