//! How far an instance is with loading the users that were read most.

use metrics::{Gauge, Label};

use super::{
    Meters,
    counters::{Count, register_count},
    gauge_value, metric_name,
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
        metrics::describe_counter!(
            metric_name("warmed_users_total"),
            "Users loaded after the start because they were read most, by result"
        );
        metrics::describe_gauge!(
            metric_name("warm_users"),
            "Users that are to be loaded after the start"
        );
        metrics::describe_gauge!(
            metric_name("warm_under_way"),
            "1 while users are loaded after the start"
        );
        let counted = |result: &'static str| {
            register_count("warmed_users_total", vec![Label::new("result", result)])
        };
        let users = metrics::gauge!(metric_name("warm_users"));
        let under_way = metrics::gauge!(metric_name("warm_under_way"));
        users.set(0.0);
        under_way.set(0.0);
        Self {
            loaded: counted("loaded"),
            failed: counted("failed"),
            users,
            under_way,
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
