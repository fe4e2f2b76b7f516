//! The size of the change log, and whether it is complete, as gauges and a counter.

use metrics::{Gauge, Label};

use super::{
    Meters,
    counters::{Count, register_count, register_gauge},
    gauge_value,
    labels::Remembered,
};

/// The gauges, and a counter for each kind of knowledge.
pub(super) struct ChangeLogMeters {
    blind: Gauge,
    kinds: Vec<(Remembered, KindMeters)>,
}

struct KindMeters {
    users: Gauge,
    bytes: Gauge,
    given_up: Count,
}

impl ChangeLogMeters {
    pub(super) fn register_change_log() -> Self {
        let kind = |of: &Remembered| {
            let labels = || vec![Label::new("of", of.label_value())];
            let kind = KindMeters {
                users: register_gauge("change_log_users", labels()),
                bytes: register_gauge("change_log_bytes", labels()),
                given_up: register_count("change_log_given_up_total", labels()),
            };
            (*of, kind)
        };
        Self {
            blind: register_gauge("blind", vec![]),
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
                meters.given_up.raise_to(given_up);
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
        meters.assert_shows(&[
            "blind 0",
            "change_log_users{of=\"reads\"} 0",
            "change_log_given_up_total{of=\"changes\"} 0",
        ]);
        meters.set_blind(true);
        meters.set_remembered(Remembered::Changes, 3, 900, 7);
        meters.assert_shows(&[
            "blind 1",
            "change_log_users{of=\"changes\"} 3",
            "change_log_bytes{of=\"changes\"} 900",
            "change_log_bytes{of=\"reads\"} 0",
            "change_log_given_up_total{of=\"changes\"} 7",
        ]);
    }
}
