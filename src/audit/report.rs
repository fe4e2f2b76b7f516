//! The log line of an answer that was too old: everything that may explain it, no amounts.

use tokio::time::Instant;

use super::sampler::AuditSample;
use crate::{
    domain::{AssetId, Seq, UnixMillis},
    ledger::RowAbove,
    protocol::ChangeLog,
    telemetry::CompareDelay,
};

/// A row that an answer did not show and should have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missed {
    pub(super) asset: AssetId,
    /// The lowest row above what was shown.
    pub(super) row: RowAbove,
    /// Since when it stood there.
    pub(super) since: UnixMillis,
    /// The newest row of the asset, when it was looked.
    pub(super) newest: Seq,
}

/// Logs one line about a stale answer.
pub(super) fn log_stale_answer(
    sample: &AuditSample,
    missed: &Missed,
    window: CompareDelay,
    change_log: &ChangeLog,
    left_out: u64,
) {
    let shown = sample.of_asset(missed.asset);
    let told = change_log.last_announced(sample.user, missed.asset);
    let before = |told: Instant| {
        let millis = sample.asked.saturating_duration_since(told).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    };
    let mark = change_log.changes_of(sample.user);
    tracing::warn!(
        user.id = sample.user.get(),
        asset.id = missed.asset.get(),
        tier = sample.tier.word(),
        window = window.label_value(),
        asked_at = sample.asked_at.0,
        behind.ms = sample.asked_at.0.saturating_sub(missed.since.0),
        shown.seq = shown.map(|shown| shown.seq.get()),
        shown.created_at = shown.and_then(|shown| shown.updated_at).map(|at| at.0),
        shown.said_at = shown.map(|shown| shown.said_at.0),
        ledger.missed_seq = missed.row.seq.get(),
        ledger.created_at = missed.row.created_at.map(|at| at.0),
        ledger.written_at = missed.row.written_at.map(|at| at.0),
        ledger.newest_seq = missed.newest.get(),
        floor.seq = mark.floors.floor_of(missed.asset).map(Seq::get),
        notified.seq = told.map(|(seq, _)| seq.get()),
        // 0: not before the read began.
        notified.before_ms = told.map(|(_, told)| before(told)),
        freshness.proven = sample.proven,
        read.joined = sample.joined,
        lines.left_out = left_out,
        "an answer was too old when it was served"
    );
}
