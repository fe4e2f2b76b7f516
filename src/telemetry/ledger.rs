//! Meters of transactions and trades.

use std::time::Duration;

use metrics::Label;

use super::{
    Meters,
    counters::{Count, Each, count, each},
    histogram::Seconds,
    labels::Settled,
    prometheus_histograms::Families,
};
use crate::domain::{AssetId, Catalogue};

/// The label of an asset that is not in the catalogue.
const OTHER: &str = "other";

/// Meters of settling: results, time, and amounts moved.
pub(super) struct Ledger {
    transactions: Each<Settled, Count>,
    seconds: Seconds,
    moved: Vec<(AssetId, Count)>,
    moved_other: Count,
    recovered: Count,
    append_retries: Count,
}

impl Ledger {
    pub(super) fn register(families: &mut Families, catalogue: &Catalogue) -> Self {
        let moved = |name: &str| {
            let labels = vec![Label::new("asset", name.to_owned())];
            count("ledger_moved_total", labels)
        };
        let named = catalogue
            .ids()
            .filter_map(|id| catalogue.get(id).map(|(name, _)| (id, moved(&name))));
        Self {
            transactions: each(Settled::ALL.iter().copied(), |result| {
                let labels = vec![Label::new("result", result.word())];
                count("ledger_transactions_total", labels)
            }),
            seconds: families.seconds(
                "ledger_seconds",
                "Seconds from a request of transactions until all of them took effect",
                &[],
            ),
            moved: named.collect(),
            moved_other: moved(OTHER),
            recovered: count("ledger_recovered_total", vec![]),
            append_retries: count("ledger_append_retries_total", vec![]),
        }
    }
}

impl Meters {
    /// Transactions or trades ended so.
    pub fn settled(&self, result: Settled, transactions: u64) {
        if let Some(count) = self.ledger.transactions.get(result) {
            count.increment(transactions);
        }
    }

    /// From a request of transactions until all of them took effect.
    pub fn ledger_took(&self, took: Duration) {
        self.ledger.seconds.record(took);
    }

    /// Lightweight transactions of the journal that were made again, since the start: another instance was faster, or no answer came.
    pub fn ledger_append_retries(&self, total: u64) {
        self.ledger.append_retries.raise_to(total);
    }

    /// A transaction that a request or a killed instance left unfinished was finished later.
    pub fn ledger_recovered(&self) {
        self.ledger.recovered.increment(1);
    }

    /// A transaction credited or debited so many raw units of the asset, whichever is more.
    pub fn ledger_moved(&self, asset: AssetId, raw_units: u64) {
        let named = self.ledger.moved.iter().find(|(id, _)| *id == asset);
        named
            .map_or(&self.ledger.moved_other, |(_, count)| count)
            .increment(raw_units);
    }
}
