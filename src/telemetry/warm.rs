//! How far an instance is with loading the users that were read most.

use metrics::{Gauge, Label};

use super::{
    Meters,
    counters::{Count, count},
    gauge_value, named,
};

/// The counters and gauges.
pub(super) struct Warm {
    loaded: Count,
    failed: Count,
    users: Gauge,
    under_way: Gauge,
}

impl Warm {
    pub(super) fn register() -> Self {
        metrics::describe_counter!(
            named("warmed_users_total"),
            "Users loaded after the start because they were read most, by result"
        );
        metrics::describe_gauge!(
            named("warm_users"),
            "Users that are to be loaded after the start"
        );
        metrics::describe_gauge!(
            named("warm_under_way"),
            "1 while users are loaded after the start"
        );
        let counted =
            |result: &'static str| count("warmed_users_total", vec![Label::new("result", result)]);
        let users = metrics::gauge!(named("warm_users"));
        let under_way = metrics::gauge!(named("warm_under_way"));
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
    /// So many users are to be loaded.
    pub fn warm_begins(&self, users: u64) {
        self.warm.users.set(gauge_value(users));
        self.warm.under_way.set(1.0);
    }

    /// Some of them were, or could not be.
    pub fn warmed(&self, loaded: u64, failed: u64) {
        self.warm.loaded.increment(loaded);
        self.warm.failed.increment(failed);
    }

    /// It is over.
    pub fn warm_ends(&self) {
        self.warm.under_way.set(0.0);
    }
}
