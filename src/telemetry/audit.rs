//! Metrics of the auditor.

use metrics::Label;

use super::{
    CompareDelay, Meters, TIERS,
    counters::{Count, PerLabel, make_each, register_count},
};
use crate::cache_status::Tier;

/// Answers that were checked, and those of them that were too old.
pub(super) struct Audits(pub(super) PerLabel<(Tier, CompareDelay), (Count, Count)>);

impl Audits {
    pub(super) fn register_audits() -> Self {
        let pairs = TIERS
            .iter()
            .flat_map(|tier| CompareDelay::ALL.iter().map(move |window| (*tier, *window)));
        Self(make_each(pairs, |(tier, window)| {
            let labels = || {
                vec![
                    Label::new("tier", tier.word()),
                    Label::new("window", window.label_value()),
                ]
            };
            (
                register_count("audit_checked_total", labels()),
                register_count("audit_stale_total", labels()),
            )
        }))
    }
}

impl Meters {
    /// An answer of this tier was compared with the ledger.
    pub fn record_audit(&self, tier: Tier, window: CompareDelay, stale: bool) {
        if let Some((checked, found)) = self.audits.0.get((tier, window)) {
            checked.increment_by(1);
            if stale {
                found.increment_by(1);
            }
        }
    }
}
