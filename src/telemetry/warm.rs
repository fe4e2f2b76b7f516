//! How far an instance is with loading the users that were read most.

use metrics::{Gauge, Label};

use super::{
    Meters,
    counters::{Count, register_count, register_gauge},
    gauge_value,
};

/// The counters and gauges.
pub(super) struct WarmMeters {
    loaded: Count,
    failed: Count,
    users: Gauge,
    under_way: Gauge,
}

impl WarmMeters {
    pub(super) fn register_warm() -> Self {
        let counted = |result: &'static str| {
            register_count("warmed_users_total", vec![Label::new("result", result)])
        };
        Self {
            loaded: counted("loaded"),
            failed: counted("failed"),
            users: register_gauge("warm_users", vec![]),
            under_way: register_gauge("warm_under_way", vec![]),
        }
    }
}

impl Meters {
    /// Sets the number of users that warming will load.
    pub fn warm_begins(&self, users: u64) {
        self.warm.users.set(gauge_value(users));
        self.warm.under_way.set(1.0);
    }

    /// Counts users that warming loaded, and those that it could not load.
    pub fn count_warmed(&self, loaded: u64, failed: u64) {
        self.warm.loaded.increment_by(loaded);
        self.warm.failed.increment_by(failed);
    }

    /// Notes that warming has ended.
    pub fn warm_ends(&self) {
        self.warm.under_way.set(0.0);
    }
}
