//! Meters of transactions and trades.
//!
//! **Invariants.** The sums of moved units are exact: they have 128 bits, stop at the end of them, and are written as decimals.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use metrics::Label;
use parking_lot::Mutex;

use super::{
    Meters,
    counters::{Count, PerLabel, make_each, register_count},
    histogram::Seconds,
    labels::SettledLabel,
    metric_name,
    prometheus_histograms::Families,
};
use crate::domain::{AssetId, Catalogue};

/// The label of an asset that is not in the catalogue.
const OTHER: &str = "other";
const MOVED: &str = "ledger_moved_total";
const MOVED_HELP: &str =
    "Raw units that transactions credited or debited, whichever is more, by asset";

/// Meters of settling: results, time, and amounts moved.
pub(super) struct LedgerMeters {
    transactions: PerLabel<SettledLabel, Count>,
    seconds: Seconds,
    /// With the name of each asset; the last one has no asset and takes the others.
    moved: Vec<(Option<AssetId>, String, Mutex<u128>)>,
    recovered: Count,
    append_retries: Count,
}

impl LedgerMeters {
    pub(super) fn register_ledger(families: &mut Families, catalogue: &Catalogue) -> Self {
        let of_catalogue = catalogue.asset_ids().filter_map(|id| {
            let (name, _) = catalogue.get_asset(id)?;
            Some((Some(id), name, Mutex::default()))
        });
        let others = (None, OTHER.to_owned(), Mutex::default());
        Self {
            transactions: make_each(SettledLabel::ALL.iter().copied(), |result| {
                let labels = vec![Label::new("result", result.label_value())];
                register_count("ledger_transactions_total", labels)
            }),
            seconds: families.add_seconds(
                "ledger_seconds",
                "Seconds from a request of transactions until all of them took effect",
                &[],
            ),
            moved: of_catalogue.chain([others]).collect(),
            recovered: register_count("ledger_recovered_total", vec![]),
            append_retries: register_count("ledger_append_retries_total", vec![]),
        }
    }

    /// Appends the sums of moved units in Prometheus' text format.
    pub(super) fn render_moved(&self, page: &mut String) -> fmt::Result {
        let name = metric_name(MOVED);
        writeln!(page, "# HELP {name} {MOVED_HELP}\n# TYPE {name} counter")?;
        for (_, asset, units) in &self.moved {
            writeln!(page, "{name}{{asset=\"{asset}\"}} {}", units.lock())?;
        }
        writeln!(page)
    }
}

impl Meters {
    /// Transactions or trades ended so.
    pub fn count_settled(&self, result: SettledLabel, transactions: u64) {
        if let Some(count) = self.ledger.transactions.get(result) {
            count.increment_by(transactions);
        }
    }

    /// From a request of transactions until all of them took effect.
    pub fn ledger_took(&self, took: Duration) {
        self.ledger.seconds.record_duration(took);
    }

    /// Lightweight transactions of the journal that were made again, since the start: another instance was faster, or no answer came.
    pub fn ledger_append_retries(&self, total: u64) {
        self.ledger.append_retries.raise_to(total);
    }

    /// A transaction that a request or a killed instance left unfinished was finished later.
    pub fn ledger_recovered(&self) {
        self.ledger.recovered.increment_by(1);
    }

    /// A transaction credited or debited so many raw units of the asset, whichever is more.
    pub fn ledger_moved(&self, asset: AssetId, raw_units: u128) {
        let mut sums = self.ledger.moved.iter();
        let sum = sums.find(|(id, ..)| id.is_none_or(|id| id == asset));
        if let Some((.., units)) = sum {
            let mut units = units.lock();
            *units = units.saturating_add(raw_units);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Asset;

    #[test]
    fn sums_of_moved_units_are_exact_beyond_64_bits_and_do_not_wrap() {
        let btc = Asset::new(1, "BTC", 8);
        let meters = Meters::with_catalogue(&Catalogue::new(&[btc], &[]).unwrap());
        let (known, unknown) = (AssetId::new(1).unwrap(), AssetId::new(9).unwrap());
        meters.assert_shows(&["ledger_moved_total{asset=\"BTC\"} 0"]);
        for _ in 0..3 {
            meters.ledger_moved(known, u128::from(u64::MAX));
        }
        meters.ledger_moved(unknown, u128::MAX);
        meters.ledger_moved(unknown, 7);
        meters.assert_shows(&[
            "ledger_moved_total{asset=\"BTC\"} 55340232221128654845",
            &format!("ledger_moved_total{{asset=\"other\"}} {}", u128::MAX),
        ]);
        let page = meters.prometheus_page();
        assert!(page.contains("# TYPE balance_cache_ledger_moved_total counter\n"));
    }
}
