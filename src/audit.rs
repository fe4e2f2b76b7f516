//! Live nines: answers are noted as they are served, and compared with the ledger 0.1, 1, 10 and 300 seconds later. What is
//! counted is how many were too old **when they were served**.
//!
//! A ledger row above the seq that was shown does not make an answer too old: it may have been written since. So the auditor
//! asks for the *lowest* row above (what the reader missed first) and for when that row stood in the ledger: the later of
//! its `created_at` and of the time at which the database took it (CQL's `WRITETIME`; the embedded ledger remembers it). The
//! answer was too old if the row had stood there for longer than `settlement.max_staleness_ms` + `audit.grace_ms` when the
//! *read began*. The promises speak of settlements that were acknowledged; this number does not: a row that nobody ever
//! told of makes answers too old, too. `grace_ms` is for what lies between the row and its notification, and for clocks.
//!
//! The windows ask the same question again, because a row may come to light late: on a replica that was behind, or with a time that
//! its writer set before the row was there. A finding of a longer window that a shorter one lacks is of that kind.
//!
//! **What it cannot see.** A difference of the clocks (the database's, the writers', this machine's) moves every verdict by
//! as much. A row that was written again stands since the last time. A row without any time, or with one that is still to
//! come, proves nothing: that check is not counted. Where the database does not say when it took a row, a `created_at` in other units, or
//! set long before the row is written, misleads. Assets outside of the catalogue that were not shown,
//! more than [`ASSETS_MAX`] assets of a user, and changes of more than [`LOOKS_MAX`] of them are not looked at. Amounts are not
//! compared: `verify` does that.
//!
//! Answers that say themselves that they are old (`detail=stale`, `detail=behind`) are not noted.
//!
//! `view_lag_seconds` comes from here too: a notification that is news is followed through loads without the ledger, until one
//! shows its seq ([`follow`]).
//!
//! **Invariants.** Amounts are not remembered. A read is never made to wait: what is noted goes into a bounded queue or nowhere,
//! and the auditor reads only while more than half of the permits for loads are free and the source is in order. Nothing is
//! decided by what is found: it is counted and told.
//!
//! **Cancellation.** [`Auditor::run`] ends with its token; what is noted then is forgotten.
//!
//! **Limits.** `audit.samples_per_second` answers are noted, `audit.pending_max` are remembered, `audit.reads_per_second`
//! statements are sent, one at a time. A check that would come more than [`LATE_MAX`] late is left out.

mod auditor;
mod report;
mod sampler;
mod schedule;
mod staleness;
mod view_lag;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use auditor::{Auditor, Parts};
pub use sampler::{Inbox, Sample, Sampler, Shown};

/// Assets of one answer that are compared.
pub const ASSETS_MAX: usize = 64;
/// Changed assets of one answer whose missed row is looked at.
pub const LOOKS_MAX: usize = 8;
/// How late a check may be to be one of its window still.
pub const LATE_MAX: Duration = Duration::from_millis(500);
