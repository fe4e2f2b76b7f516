//! How much the source had to look at, and how much that came to.

use metrics::Histogram;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use super::{Meters, histogram, named};

const ROWS: &str = "source_rows";
const ASSETS: &str = "source_assets";

/// Upper bounds, in rows and in assets.
const COUNTS: [f64; 17] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0, 8_192.0,
    16_384.0, 32_768.0, 65_536.0,
];

/// Rows and assets of each load.
pub(super) struct Sizes {
    rows: Histogram,
    assets: Histogram,
}

/// With these bounds for these histograms. They are not empty, which is all that can be wrong with them.
pub(super) fn bounded(builder: PrometheusBuilder) -> PrometheusBuilder {
    [ROWS, ASSETS].into_iter().fold(builder, |builder, name| {
        builder
            .set_buckets_for_metric(Matcher::Full(named(name)), &COUNTS)
            .unwrap_or_default()
    })
}

impl Sizes {
    pub(super) fn register() -> Self {
        for (name, what) in [
            (ROWS, "Rows that a load from the source read"),
            (ASSETS, "Assets that a load from the source brought"),
        ] {
            metrics::describe_histogram!(named(name), what);
        }
        Self {
            rows: histogram(ROWS, vec![]),
            assets: histogram(ASSETS, vec![]),
        }
    }
}

impl Meters {
    /// A load read that many rows for that many assets.
    pub fn source_read(&self, rows: u64, assets: usize) {
        let number = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.sizes.rows.record(number(rows));
        self.sizes
            .assets
            .record(number(u64::try_from(assets).unwrap_or(u64::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_in_rows_and_not_in_seconds() {
        let meters = Meters::new();
        meters.source_read(300, 3);
        let page = meters.page();
        for line in [
            "balance_cache_source_rows_bucket{le=\"256\"} 0",
            "balance_cache_source_rows_bucket{le=\"512\"} 1",
            "balance_cache_source_assets_bucket{le=\"4\"} 1",
            "balance_cache_source_assets_count 1",
        ] {
            assert!(
                page.lines().any(|at| at == line),
                "{line} is not in\n{page}"
            );
        }
    }
}
