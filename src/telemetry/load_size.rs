//! How much the source had to look at, and how much that came to.

use metrics::Label;

use super::{
    CountHistogram, Meters,
    counters::{Count, register_count},
    prometheus_histograms::Families,
};

/// Rows and assets of each load.
pub(super) struct LoadSizes {
    rows: CountHistogram,
    assets: CountHistogram,
    untrusted: Count,
    unreadable: Count,
}

impl LoadSizes {
    pub(super) fn register_sizes(families: &mut Families) -> Self {
        let rows = "Rows that a load from the source read";
        let assets = "Assets that a load from the source brought";
        let detours =
            |cause| register_count("source_detours_total", vec![Label::new("cause", cause)]);
        Self {
            untrusted: detours("untrusted_row"),
            unreadable: detours("unreadable_page"),
            rows: families.add_counts("source_rows", rows, &[]),
            assets: families.add_counts("source_assets", assets, &[]),
        }
    }
}

impl Meters {
    /// A load read that many rows for that many assets.
    pub fn source_read(&self, rows: u64, assets: usize) {
        self.sizes.rows.record_number(rows);
        let assets = u64::try_from(assets).unwrap_or(u64::MAX);
        self.sizes.assets.record_number(assets);
    }

    /// A load could not use so many rows, and the first page of so many.
    pub fn source_detours(&self, untrusted_rows: u64, unreadable_pages: u64) {
        for (counter, number) in [
            (&self.sizes.untrusted, untrusted_rows),
            (&self.sizes.unreadable, unreadable_pages),
        ] {
            if number > 0 {
                counter.increment_by(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_in_rows_and_not_in_seconds() {
        let meters = Meters::new();
        meters.source_read(300, 3);
        meters.assert_shows(&[
            "source_rows_bucket{le=\"256\"} 0",
            "source_rows_bucket{le=\"512\"} 1",
            "source_assets_bucket{le=\"4\"} 1",
            "source_assets_count 1",
        ]);
    }
}
