//! Whether the ledger takes writes, as metrics.

use metrics::{Gauge, Label};

use super::{
    LedgerFault, Meters,
    counters::{Count, register_count, register_gauge},
};

/// The gauges and counters.
pub(super) struct LedgerDisk {
    failing: Vec<(LedgerFault, Gauge)>,
    failures: Count,
    reopened: Count,
}

impl LedgerDisk {
    pub(super) fn register_ledger_disk() -> Self {
        let of = |cause: &LedgerFault| {
            let labels = vec![Label::new("cause", cause.label_value())];
            (*cause, register_gauge("ledger_writes_failing", labels))
        };
        Self {
            failing: LedgerFault::ALL.iter().map(of).collect(),
            failures: register_count("ledger_write_failures_total", vec![]),
            reopened: register_count("ledger_reopened_total", vec![]),
        }
    }
}

impl Meters {
    /// Shows why the ledger cannot be written now, if it cannot, and the totals since the start.
    pub fn ledger_writes(&self, failing: Option<LedgerFault>, failures: u64, reopened: u64) {
        for (cause, gauge) in &self.ledger_disk.failing {
            gauge.set(f64::from(u8::from(failing == Some(*cause))));
        }
        self.ledger_disk.failures.raise_to(failures);
        self.ledger_disk.reopened.raise_to(reopened);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_one_and_totals_never_fall() {
        let meters = Meters::new();
        meters.assert_shows(&[
            "ledger_writes_failing{cause=\"full\"} 0",
            "ledger_write_failures_total 0",
        ]);
        meters.ledger_writes(Some(LedgerFault::Full), 3, 1);
        meters.ledger_writes(Some(LedgerFault::Full), 2, 1);
        meters.assert_shows(&[
            "ledger_writes_failing{cause=\"full\"} 1",
            "ledger_write_failures_total 3",
            "ledger_reopened_total 1",
        ]);
        meters.ledger_writes(None, 3, 1);
        meters.assert_shows(&["ledger_writes_failing{cause=\"full\"} 0"]);
    }
}
