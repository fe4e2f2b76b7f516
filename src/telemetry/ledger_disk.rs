//! Whether the ledger takes writes, as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Label};

use super::{LedgerFault, Meters, metric_name};

/// The gauges and counters.
pub(super) struct LedgerDisk {
    failing: Vec<(LedgerFault, Gauge)>,
    failures: Total,
    reopened: Total,
}

/// A counter of something that is counted elsewhere.
struct Total {
    shown: Counter,
    highest: AtomicU64,
}

impl Total {
    fn register_total(name: &'static str) -> Self {
        let shown = metrics::counter!(metric_name(name));
        shown.increment(0);
        Self {
            shown,
            highest: AtomicU64::new(0),
        }
    }

    fn raise_total(&self, total: u64) {
        let before = self.highest.fetch_max(total, Ordering::Relaxed);
        self.shown.increment(total.saturating_sub(before));
    }
}

impl LedgerDisk {
    pub(super) fn register_ledger_disk() -> Self {
        metrics::describe_gauge!(
            metric_name("ledger_writes_failing"),
            "1 while the embedded ledger cannot be written for this cause"
        );
        for (name, what) in [
            (
                "ledger_write_failures_total",
                "Write transactions of the embedded ledger that failed or were not begun",
            ),
            (
                "ledger_reopened_total",
                "Times that the embedded ledger was opened again after a failure of its disk",
            ),
        ] {
            metrics::describe_counter!(metric_name(name), what);
        }
        let of = |cause: &LedgerFault| {
            let labels = vec![Label::new("cause", cause.label_value())];
            let gauge = metrics::gauge!(metric_name("ledger_writes_failing"), labels);
            gauge.set(0.0);
            (*cause, gauge)
        };
        Self {
            failing: LedgerFault::ALL.iter().map(of).collect(),
            failures: Total::register_total("ledger_write_failures_total"),
            reopened: Total::register_total("ledger_reopened_total"),
        }
    }
}

impl Meters {
    /// Shows why the ledger cannot be written now, if it cannot, and the totals since the start.
    pub fn ledger_writes(&self, failing: Option<LedgerFault>, failures: u64, reopened: u64) {
        for (cause, gauge) in &self.ledger_disk.failing {
            gauge.set(f64::from(u8::from(failing == Some(*cause))));
        }
        self.ledger_disk.failures.raise_total(failures);
        self.ledger_disk.reopened.raise_total(reopened);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_one_and_totals_never_fall() {
        let meters = Meters::new();
        let has = |line: &str| meters.prometheus_page().lines().any(|at| at == line);
        assert!(has("balance_cache_ledger_writes_failing{cause=\"full\"} 0"));
        assert!(has("balance_cache_ledger_write_failures_total 0"));
        meters.ledger_writes(Some(LedgerFault::Full), 3, 1);
        meters.ledger_writes(Some(LedgerFault::Full), 2, 1);
        assert!(has("balance_cache_ledger_writes_failing{cause=\"full\"} 1"));
        assert!(has("balance_cache_ledger_write_failures_total 3"));
        assert!(has("balance_cache_ledger_reopened_total 1"));
        meters.ledger_writes(None, 3, 1);
        assert!(has("balance_cache_ledger_writes_failing{cause=\"full\"} 0"));
    }
}
