//! How much the source had to look at, and how much that came to.

use super::{Counts, Meters, families::Families};

/// Rows and assets of each load.
pub(super) struct Sizes {
    rows: Counts,
    assets: Counts,
}

impl Sizes {
    pub(super) fn register(families: &mut Families) -> Self {
        let rows = "Rows that a load from the source read";
        let assets = "Assets that a load from the source brought";
        Self {
            rows: families.counts("source_rows", rows, &[]),
            assets: families.counts("source_assets", assets, &[]),
        }
    }
}

impl Meters {
    /// A load read that many rows for that many assets.
    pub fn source_read(&self, rows: u64, assets: usize) {
        self.sizes.rows.record(rows);
        let assets = u64::try_from(assets).unwrap_or(u64::MAX);
        self.sizes.assets.record(assets);
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
