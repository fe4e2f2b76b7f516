//! Counters since the start, as plain numbers.

use super::{AppliedLabel, CompareDelay, Fault, Meters, Op, TIERS, Via, histogram::HistogramTally};
use crate::cache_status::{ReadOutcome, Tier};

/// One answer's tier and window, how many were compared with the ledger, and how many were too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audited {
    pub tier: Tier,
    /// How long after the answer the ledger was read.
    pub window: CompareDelay,
    /// Answers compared.
    pub checked: u64,
    /// Answers that were too old when they were given.
    pub stale: u64,
}

/// Since the start.
#[derive(Debug, Clone)]
pub struct CounterTotals {
    /// Reads by outcome, in the order of `ReadOutcome::ALL`.
    pub reads: [HistogramTally; ReadOutcome::ALL.len()],
    /// Loads from the source that succeeded.
    pub loads: u64,
    /// Loads from the source that failed.
    pub load_failures: u64,
    /// Faults of Redis, of all kinds but an open breaker.
    pub redis_failures: u64,
    /// Notifications by result, over all ways.
    pub notifications: [(AppliedLabel, u64); 4],
    /// From `created_at` to the effect.
    pub notification_delay: HistogramTally,
    /// From the feed's entry to the effect here.
    pub bus_delay: HistogramTally,
    /// How far the view was behind.
    pub view_lag: HistogramTally,
    /// Times that the feed could not be followed.
    pub resyncs: u64,
    /// Answers held back; must stay 0.
    pub regressions: u64,
    /// Every tier and window.
    pub audits: Vec<Audited>,
}

impl CounterTotals {
    /// Notifications that took effect, as news or as known.
    pub fn effective_notifications(&self) -> u64 {
        self.sum_notifications(|result| matches!(result, AppliedLabel::News | AppliedLabel::Old))
    }

    /// Notifications that could not be given their promise.
    pub fn refused_notifications(&self) -> u64 {
        self.sum_notifications(|result| result == AppliedLabel::Failed)
    }

    fn sum_notifications(&self, which: impl Fn(AppliedLabel) -> bool) -> u64 {
        let these = self
            .notifications
            .iter()
            .filter(|(result, _)| which(*result));
        these.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

impl Meters {
    /// Everything that the operators' page shows.
    pub fn snapshot_totals(&self) -> CounterTotals {
        let read = |outcome| {
            let mut tally = self.reads.get(outcome)?.1.tally_values();
            if outcome == ReadOutcome::Memory {
                tally.add_tally(&self.http.hits_tally());
            }
            Some(tally)
        };
        let by_result = |result| {
            let ways = Via::ALL.iter();
            let each = ways.filter_map(|via| self.notifications.get((*via, result)));
            (
                result,
                each.map(super::Count::get).fold(0, u64::saturating_add),
            )
        };
        let audits = TIERS
            .into_iter()
            .flat_map(|tier| CompareDelay::ALL.iter().map(move |window| (tier, *window)));
        let audits = audits.filter_map(|(tier, window)| {
            let (checked, stale) = self.audits.0.get((tier, window))?;
            Some(Audited {
                tier,
                window,
                checked: checked.get(),
                stale: stale.get(),
            })
        });
        let loads = self.tiers.get((Tier::Source, Op::Load));
        CounterTotals {
            reads: ReadOutcome::ALL.map(|outcome| read(outcome).unwrap_or(HistogramTally::NONE)),
            loads: loads.map_or(0, super::Seconds::count_values),
            load_failures: self.sum_faults(|tier, op, _| tier == Tier::Source && op == Op::Load),
            redis_failures: self
                .sum_faults(|tier, _, fault| tier == Tier::Redis && fault != Fault::Open),
            notifications: [
                AppliedLabel::News,
                AppliedLabel::Old,
                AppliedLabel::Invalid,
                AppliedLabel::Failed,
            ]
            .map(by_result),
            notification_delay: self.notification_delay.tally_values(),
            bus_delay: self.bus_delay.tally_values(),
            view_lag: self.view_lag.tally_values(),
            resyncs: self.bus_resyncs.get(),
            regressions: self.seq_regressions.get(),
            audits: audits.collect(),
        }
    }

    fn sum_faults(&self, which: impl Fn(Tier, Op, Fault) -> bool) -> u64 {
        let all = self.failures.0.iter();
        let these = all.filter(|((tier, op, fault), _)| which(*tier, *op, *fault));
        these.fold(0, |sum, (_, count)| sum.saturating_add(count.get()))
    }
}
