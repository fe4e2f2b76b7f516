//! The size of the change log, and whether it is complete, as gauges and a counter.

use metrics::{Counter, Gauge, Label};

use super::{Meters, gauge_value, labels::Remembered, metric_name};

/// The gauges, and a counter for each kind of knowledge.
pub(super) struct ChangeLogMeters {
    blind: Gauge,
    kinds: Vec<(Remembered, KindMeters)>,
}

struct KindMeters {
    users: Gauge,
    bytes: Gauge,
    given_up: Counter,
}

impl ChangeLogMeters {
    pub(super) fn register_change_log() -> Self {
        for (name, what) in [
            (
                "blind",
                "1 while changes may be unknown, so that each load asks the ledger beside the view",
            ),
            (
                "change_log_users",
                "Users whose changes, or reads, are remembered",
            ),
            (
                "change_log_bytes",
                "Bytes of that, at most settlement.change_log_max_bytes together",
            ),
        ] {
            metrics::describe_gauge!(metric_name(name), what);
        }
        metrics::describe_counter!(
            metric_name("change_log_given_up_total"),
            "Users forgotten for want of room, earlier than by settlement.floor_ttl_ms"
        );
        let blind = metrics::gauge!(metric_name("blind"));
        blind.set(0.0);
        let kind = |of: &Remembered| {
            let labels = || vec![Label::new("of", of.label_value())];
            let users = metrics::gauge!(metric_name("change_log_users"), labels());
            let bytes = metrics::gauge!(metric_name("change_log_bytes"), labels());
            let given_up = metrics::counter!(metric_name("change_log_given_up_total"), labels());
            users.set(0.0);
            bytes.set(0.0);
            given_up.absolute(0);
            let kind = KindMeters {
                users,
                bytes,
                given_up,
            };
            (*of, kind)
        };
        Self {
            blind,
            kinds: Remembered::ALL.iter().map(kind).collect(),
        }
    }
}

impl Meters {
    /// Whether changes may be unknown here.
    pub fn set_blind(&self, blind: bool) {
        self.change_log.blind.set(f64::from(u8::from(blind)));
    }

    /// Users that are remembered, the bytes that they take, and how many were ever given up.
    pub fn set_remembered(&self, of: Remembered, users: u64, bytes: u64, given_up: u64) {
        for (kind, meters) in &self.change_log.kinds {
            if *kind == of {
                meters.users.set(gauge_value(users));
                meters.bytes.set(gauge_value(bytes));
                meters.given_up.absolute(given_up);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_shown_by_its_kind() {
        let meters = Meters::new();
        let zero = meters.prometheus_page();
        for line in [
            "balance_cache_blind 0",
            "balance_cache_change_log_users{of=\"reads\"} 0",
            "balance_cache_change_log_given_up_total{of=\"changes\"} 0",
        ] {
            assert!(
                zero.lines().any(|at| at == line),
                "{line} is not in\n{zero}"
            );
        }
        meters.set_blind(true);
        meters.set_remembered(Remembered::Changes, 3, 900, 7);
        let page = meters.prometheus_page();
        for line in [
            "balance_cache_blind 1",
            "balance_cache_change_log_users{of=\"changes\"} 3",
            "balance_cache_change_log_bytes{of=\"changes\"} 900",
            "balance_cache_change_log_bytes{of=\"reads\"} 0",
            "balance_cache_change_log_given_up_total{of=\"changes\"} 7",
        ] {
            assert!(
                page.lines().any(|at| at == line),
                "{line} is not in\n{page}"
            );
        }
    }
}
