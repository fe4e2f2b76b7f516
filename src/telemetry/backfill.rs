//! How far backfills are, as the tool that runs them told.

use std::time::Duration;

use metrics::{Gauge, Label};

use super::{
    BackfillTarget, Meters,
    counters::{PerLabel, gauge_value, make_each, register_gauge},
};

const COPYING: &str = "copying";
const COMPARING: &str = "comparing";

struct TableGauges {
    under_way: Gauge,
    copied: Gauge,
    compared: Gauge,
    rows: Gauge,
    remaining: Gauge,
}

pub(super) struct BackfillMeters(PerLabel<BackfillTarget, TableGauges>);

/// How far a backfill is; all zero where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShownBackfill {
    /// It goes on.
    pub is_running: bool,
    /// The part that is copied, in thousandths.
    pub copied_permille: u32,
    /// The part that is compared, in thousandths.
    pub compared_permille: u32,
    /// Rows of the source that were read.
    pub rows: u64,
    /// How long the rest of the copy will take.
    pub remaining: Duration,
}

impl BackfillMeters {
    pub(super) fn register_backfills() -> Self {
        Self(make_each(BackfillTarget::ALL.iter().copied(), |table| {
            let gauge = |name: &str, step: Option<&'static str>| {
                let mut labels = vec![Label::new("table", table.label_value())];
                labels.extend(step.map(|step| Label::new("step", step)));
                register_gauge(name, labels)
            };
            TableGauges {
                under_way: gauge("backfill_under_way", None),
                copied: gauge("backfill_progress_ratio", Some(COPYING)),
                compared: gauge("backfill_progress_ratio", Some(COMPARING)),
                rows: gauge("backfill_rows", None),
                remaining: gauge("backfill_remaining_seconds", None),
            }
        }))
    }
}

impl Meters {
    /// Shows how far the backfill of a table is.
    pub fn show_backfill(&self, table: BackfillTarget, shown: &ShownBackfill) {
        let Some(gauges) = self.backfills.0.get(table) else {
            return;
        };
        let ratio = |permille: u32| Duration::from_millis(permille.into()).as_secs_f64();
        gauges.under_way.set(f64::from(u8::from(shown.is_running)));
        gauges.copied.set(ratio(shown.copied_permille));
        gauges.compared.set(ratio(shown.compared_permille));
        gauges.rows.set(gauge_value(shown.rows));
        gauges.remaining.set(shown.remaining.as_secs_f64());
    }
}
