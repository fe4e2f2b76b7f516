//! Records a read that is over: metrics, the auditor's sample, the slow read log.
//!
//! **Invariants.** A hit in memory costs one record and two looks at an atomic.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Answer, Error,
    most_read::MostRead,
    timings::{SlowReadLog, Timings},
};
use crate::{
    audit::{Sample, Sampler},
    cache_status::Outcome,
    clock,
    domain::UserId,
    protocol::Freshness,
    telemetry::{Meters, slowest},
};

/// Records reads.
#[derive(Debug)]
pub(super) struct ReadRecorder {
    pub(super) meters: Arc<Meters>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) sampler: Arc<Sampler>,
    pub(super) slow_log: SlowReadLog,
    pub(super) most_read: MostRead,
}

impl ReadRecorder {
    /// Records a read of one user that took so long.
    pub(super) fn record_read(
        &self,
        user: UserId,
        result: Result<Answer<&[u8]>, &Error>,
        begun: Instant,
        took: Duration,
        timings: &Timings,
    ) -> Outcome {
        let outcome = self.sample_read(user, result, begun, took, timings);
        self.most_read.add(user, 1);
        self.meters.read(outcome, took);
        outcome
    }

    /// Records all but the outcome and the latency.
    pub(super) fn sample_read(
        &self,
        user: UserId,
        result: Result<Answer<&[u8]>, &Error>,
        begun: Instant,
        took: Duration,
        timings: &Timings,
    ) -> Outcome {
        let outcome = match result {
            Ok(answer) => {
                if answer.held.is_empty() {
                    self.meters.absent_read();
                }
                // An answer that says itself that it is old is not audited.
                if answer.trail.detail.is_none() && self.sampler.wants(answer.trail.answered) {
                    self.offer_sample(user, answer, begun);
                }
                answer.trail.outcome()
            }
            Err(Error::Shed) => Outcome::Shed,
            Err(Error::Source(_) | Error::NotReached | Error::Deadline) => Outcome::Failed,
        };
        let some = |time: Duration| (!time.is_zero()).then_some(time);
        let loaded = timings.statements > 0;
        self.meters.slow(took, || slowest::Slow {
            at: clock::wall(),
            user,
            outcome,
            took,
            redis: some(timings.redis),
            source: some(timings.source),
            assets: result.ok().map(|answer| answer.held.assets()),
            rows: loaded.then_some(timings.rows),
        });
        outcome
    }

    #[cold]
    fn offer_sample(&self, user: UserId, answer: Answer<&[u8]>, begun: Instant) {
        let Answer { held, trail } = answer;
        self.sampler.answered(Sample {
            proven: self.freshness.proven(begun),
            joined: trail.collapsed,
            ..Sample::of(user, trail.answered, &held.snapshot(), begun)
        });
    }
}
