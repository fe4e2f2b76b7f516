//! The time that reads spent in each step, and the log line of the slow ones.
//!
//! **Limits.** A few lines a second ([`Sparing`]); `telemetry.slow_read_ms` = 0 says nothing.
//!
//! **Deliberately absent**: the request's id. It ends at the wire; times and the user find the request in the log of whoever
//! asked.

use std::time::Duration;

use super::{Answer, Error};
use crate::{
    cache_status::{Outcome, Tier},
    config::{self, ReadFrom, SourceKind},
    domain::UserId,
    ledger::Cost,
    telemetry::Sparing,
};

/// The time of a read; of a follower, the time of the load that it followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// In memory.
    pub(super) memory: Duration,
    /// With Redis: the question, the lease, the fill.
    pub(super) redis: Duration,
    /// Waiting for a permit.
    pub(super) permit: Duration,
    /// With the source, waits for rows included.
    pub(super) source: Duration,
    /// Which statements a load was made of.
    pub(super) asked: &'static str,
    pub(super) statements: u64,
    pub(super) rows: u64,
}

/// The sources that a load can ask, in words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ways {
    /// It may lag behind the ledger.
    pub(super) lags: bool,
    /// Without the ledger.
    pub(super) alone: &'static str,
    /// Beside the ledger.
    pub(super) both: &'static str,
}

impl Ways {
    pub(super) const fn of(settings: &config::Source) -> Self {
        let (lags, alone, both) = match (settings.kind, settings.read_from) {
            (SourceKind::Embedded, _) => (false, "embedded", "embedded"),
            (SourceKind::Scylla, ReadFrom::View) => (true, "view", "view+ledger"),
            (SourceKind::Scylla, ReadFrom::Table) => (true, "table", "table+ledger"),
            (SourceKind::Scylla, ReadFrom::Ledger) => (false, "ledger", "ledger"),
        };
        Self { lags, alone, both }
    }
}

impl Spent {
    /// More statements.
    pub(super) fn add(&mut self, cost: &Cost) {
        self.statements = self.statements.saturating_add(cost.statements());
        self.rows = self.rows.saturating_add(cost.rows());
    }

    /// The time of another reader's load, beside what memory took this reader.
    pub(super) fn follow(&mut self, load: Self) {
        *self = Self {
            memory: self.memory,
            ..load
        };
    }
}

/// The reads that are logged.
#[derive(Debug)]
pub(super) struct Slow {
    threshold: Option<Duration>,
    log: Sparing,
}

impl Slow {
    /// Reads of at least that long; none for zero.
    pub(super) fn new(threshold: Duration) -> Self {
        Self {
            threshold: (!threshold.is_zero()).then_some(threshold),
            log: Sparing::default(),
        }
    }

    fn line(&self, took: Duration) -> Option<u64> {
        let threshold = self.threshold?;
        (took >= threshold).then(|| self.log.line()).flatten()
    }

    /// A read of one user is over.
    pub(super) fn read(
        &self,
        user: UserId,
        result: Result<Answer<&[u8]>, &Error>,
        outcome: Outcome,
        took: Duration,
        spent: &Spent,
    ) {
        // The request's own line tells of a source that failed: one line for each failed read.
        if matches!(result, Err(Error::Source(_))) {
            return;
        }
        let Some(left_out) = self.line(took) else {
            return;
        };
        let answer = result.ok();
        tracing::warn!(
            user.id = user.get(),
            outcome = outcome.word(),
            error = result.err().map(tracing::field::display),
            read.ms = millis(took),
            read.joined = answer.map(|answer| answer.trail.collapsed),
            read.assets = answer.map(|answer| answer.held.assets()),
            memory.ms = millis(spent.memory),
            redis.ms = millis(spent.redis),
            permit.ms = millis(spent.permit),
            source.ms = millis(spent.source),
            source.asked = spent.asked,
            source.statements = spent.statements,
            source.rows = spent.rows,
            lines.left_out = left_out,
            "slow read"
        );
    }

    /// A read of many users is over.
    pub(super) fn batch(&self, answers: &[Answer], took: Duration) {
        let Some(left_out) = self.line(took) else {
            return;
        };
        let by = |tier| {
            let of_tier = answers
                .iter()
                .filter(|answer| answer.trail.answered == tier);
            of_tier.count()
        };
        tracing::warn!(
            users = answers.len(),
            users.memory = by(Tier::Memory),
            users.redis = by(Tier::Redis),
            users.source = by(Tier::Source),
            read.ms = millis(took),
            lines.left_out = left_out,
            "slow batch"
        );
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
