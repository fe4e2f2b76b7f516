//! Metrics of the auditor.

use metrics::Label;

use super::{
    Meters, TIERS, Window,
    counters::{Count, Each, count, each},
    named,
};
use crate::cache_status::Tier;

/// Answers that were checked, and those of them that were too old.
pub(super) struct Audits(pub(super) Each<(Tier, Window), (Count, Count)>);

impl Audits {
    pub(super) fn register() -> Self {
        for (name, what) in [
            (
                "audit_checked_total",
                "Answers compared with the ledger afterwards",
            ),
            (
                "audit_stale_total",
                "Answers that were too old when they were given",
            ),
        ] {
            metrics::describe_counter!(named(name), what);
        }
        let pairs = TIERS
            .iter()
            .flat_map(|tier| Window::ALL.iter().map(move |window| (*tier, *window)));
        Self(each(pairs, |(tier, window)| {
            let labels = || {
                vec![
                    Label::new("tier", tier.word()),
                    Label::new("window", window.word()),
                ]
            };
            (
                count("audit_checked_total", labels()),
                count("audit_stale_total", labels()),
            )
        }))
    }
}

impl Meters {
    /// An answer of this tier was compared with the ledger.
    pub fn audited(&self, tier: Tier, window: Window, stale: bool) {
        if let Some((checked, found)) = self.audits.0.get((tier, window)) {
            checked.increment(1);
            if stale {
                found.increment(1);
            }
        }
    }
}
