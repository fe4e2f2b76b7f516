//! The times that a read was made of, and the log line of slow reads.
//!
//! **Limits.** A few lines a second ([`RateLimitedLog`]); `telemetry.slow_read_ms` = 0 logs none. The lines carry no request id: times and
//! the user find the request in the log of the client.

use std::time::Duration;

use super::{ReadAnswer, ReadError};
use crate::{
    cache_status::{ReadOutcome, Tier},
    config::{ReadFrom, Settings, SourceKind},
    domain::UserId,
    ledger::Cost,
    telemetry::RateLimitedLog,
};

/// The times of a read; a follower has those of the load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Timings {
    pub(super) memory: Duration,
    /// Time with Redis: the lookup, the lease, the fill.
    pub(super) redis: Duration,
    /// Time waiting for a permit.
    pub(super) permit: Duration,
    /// Time with the source, waits for rows included.
    pub(super) source: Duration,
    /// The kind of statements that the load sent.
    pub(super) asked: &'static str,
    pub(super) statements: u64,
    pub(super) rows: u64,
}

/// The statements that a load can send, by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceStatements {
    /// The place that is read may lag behind the ledger.
    pub(super) lags: bool,
    /// The name of the statements that read the view or table alone.
    pub(super) alone: &'static str,
    /// The name of the statements that read the ledger too.
    pub(super) both: &'static str,
}

impl SourceStatements {
    pub(super) fn from_settings(settings: &Settings) -> Self {
        let lags = settings.source_lags();
        let (alone, both) = match (settings.source.kind, settings.source.read_from) {
            (SourceKind::Embedded, _) => ("embedded", "embedded"),
            (SourceKind::Postgres, ReadFrom::View) if !lags => ("ledger", "ledger"),
            (SourceKind::Postgres, ReadFrom::Table) if !lags => ("table", "table"),
            (_, ReadFrom::View) => ("view", "view+ledger"),
            (_, ReadFrom::Table) => ("table", "table+ledger"),
            (_, ReadFrom::Ledger) => ("ledger", "ledger"),
        };
        Self { lags, alone, both }
    }
}

impl Timings {
    pub(super) fn add_cost(&mut self, cost: &Cost) {
        self.statements = self.statements.saturating_add(cost.statement_count());
        self.rows = self.rows.saturating_add(cost.row_count());
    }

    /// Takes the times of a load, beside what memory took this reader.
    pub(super) fn adopt_load(&mut self, load: Self) {
        *self = Self {
            memory: self.memory,
            ..load
        };
    }
}

#[derive(Debug)]
pub(super) struct SlowReadLog {
    threshold: Option<Duration>,
    log: RateLimitedLog,
}

impl SlowReadLog {
    /// Makes a log of reads that take at least `threshold`; zero logs none.
    pub(super) fn new(threshold: Duration) -> Self {
        Self {
            threshold: (!threshold.is_zero()).then_some(threshold),
            log: RateLimitedLog::default(),
        }
    }

    fn take_line(&self, took: Duration) -> Option<u64> {
        let threshold = self.threshold?;
        (took >= threshold)
            .then(|| self.log.permit_line())
            .flatten()
    }

    /// Logs a read of one user, if it was slow.
    pub(super) fn log_read(
        &self,
        user: UserId,
        result: Result<ReadAnswer<&[u8]>, &ReadError>,
        outcome: ReadOutcome,
        took: Duration,
        timings: &Timings,
    ) {
        // A source that failed is in the request's own line: one line for each failed read.
        if matches!(result, Err(ReadError::Source(_))) {
            return;
        }
        let Some(left_out) = self.take_line(took) else {
            return;
        };
        let answer = result.ok();
        tracing::warn!(
            user.id = user.get(),
            outcome = outcome.word(),
            error = result.err().map(tracing::field::display),
            read.ms = whole_millis(took),
            read.joined = answer.map(|answer| answer.cache_status.collapsed),
            read.assets = answer.map(|answer| answer.held.asset_count()),
            memory.ms = whole_millis(timings.memory),
            redis.ms = whole_millis(timings.redis),
            permit.ms = whole_millis(timings.permit),
            source.ms = whole_millis(timings.source),
            source.asked = timings.asked,
            source.statements = timings.statements,
            source.rows = timings.rows,
            lines.left_out = left_out,
            "slow read"
        );
    }

    /// Logs a read of many users, if it was slow.
    pub(super) fn log_batch(&self, answers: &[ReadAnswer], took: Duration) {
        let Some(left_out) = self.take_line(took) else {
            return;
        };
        let by = |tier| {
            let of_tier = answers
                .iter()
                .filter(|answer| answer.cache_status.answered == tier);
            of_tier.count()
        };
        tracing::warn!(
            users = answers.len(),
            users.memory = by(Tier::Memory),
            users.redis = by(Tier::Redis),
            users.source = by(Tier::Source),
            read.ms = whole_millis(took),
            lines.left_out = left_out,
            "slow batch"
        );
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
