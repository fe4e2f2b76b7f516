//! Live audit: samples served answers and compares them with the ledger 0.1, 1, 10 and 300 seconds later.
//!
//! The auditor asks for the lowest ledger row above the seq that was shown. The answer was stale if that row had stood longer than
//! `settlement.max_staleness_ms` + `audit.grace_ms` when the read began. A row stands from the later of its `created_at` and the
//! time at which the database took it. Rows without a time are not counted; clock differences move every verdict by as much. Longer
//! windows find rows that come to light late (a lagging replica). `view_lag_seconds` is measured here too ([`view_lag`]).
//!
//! **Invariants.** Amounts are not remembered. A read never waits for the auditor: notes go into a bounded queue or are dropped, and the
//! auditor reads only while more than half of the load permits are free. Findings are counted and logged; nothing is decided by them.
//!
//! **Limits.** `audit.samples_per_second` notes, `audit.pending_max` remembered, `audit.reads_per_second` statements, one at a time;
//! [`ASSETS_MAX`] assets of a user, [`LOOKS_MAX`] changes of an answer. A check more than [`LATE_MAX`] late is left out.

mod auditor;
mod report;
mod sampler;
mod schedule;
mod staleness;
mod view_lag;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use auditor::{Auditor, AuditorParts};
pub use sampler::{AuditSample, SampleQueue, Sampler, ShownSeq};

/// Assets of one answer that are compared.
pub const ASSETS_MAX: usize = 64;
/// Changed assets of one answer whose missed row is looked at.
pub const LOOKS_MAX: usize = 8;
/// How late a check may be to be one of its window still.
pub const LATE_MAX: Duration = Duration::from_millis(500);
