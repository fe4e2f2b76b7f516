//! Records a read that is over: metrics, the auditor's sample, the slow read log.
//!
//! **Invariants.** A hit in memory costs one record and two looks at an atomic.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ReadAnswer, ReadError,
    most_read::MostRead,
    timings::{SlowReadLog, Timings},
};
use crate::{
    audit::{AuditSample, Sampler},
    cache_status::ReadOutcome,
    clock,
    domain::UserId,
    protocol::Freshness,
    telemetry::{Meters, slowest},
};

#[derive(Debug)]
pub(super) struct ReadRecorder {
    pub(super) meters: Arc<Meters>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) sampler: Arc<Sampler>,
    pub(super) slow_log: SlowReadLog,
    pub(super) most_read: MostRead,
}

impl ReadRecorder {
    pub(super) fn record_read(
        &self,
        user: UserId,
        result: Result<ReadAnswer<&[u8]>, &ReadError>,
        begun: Instant,
        took: Duration,
        timings: &Timings,
    ) -> ReadOutcome {
        let outcome = self.sample_read(user, result, begun, took, timings);
        self.most_read.count_reads(user, 1);
        self.meters.record_read(outcome, took);
        outcome
    }

    /// Records all but the outcome and the latency.
    pub(super) fn sample_read(
        &self,
        user: UserId,
        result: Result<ReadAnswer<&[u8]>, &ReadError>,
        begun: Instant,
        took: Duration,
        timings: &Timings,
    ) -> ReadOutcome {
        let outcome = match result {
            Ok(answer) => {
                if answer.held.is_empty() {
                    self.meters.absent_read();
                }
                // An answer that says itself that it is old is not audited.
                if answer.cache_status.detail.is_none()
                    && self.sampler.wants_answer(answer.cache_status.answered)
                {
                    self.offer_sample(user, answer, begun);
                }
                answer.cache_status.read_outcome()
            }
            Err(ReadError::Shed) => ReadOutcome::Shed,
            Err(ReadError::Source(_) | ReadError::NotReached | ReadError::Deadline) => {
                ReadOutcome::Failed
            }
        };
        let some = |time: Duration| (!time.is_zero()).then_some(time);
        let loaded = timings.statements > 0;
        self.meters.offer_slow_read(took, || slowest::SlowRead {
            at: clock::wall_now(),
            user,
            outcome,
            took,
            redis: some(timings.redis),
            source: some(timings.source),
            assets: result.ok().map(|answer| answer.held.asset_count()),
            rows: loaded.then_some(timings.rows),
        });
        outcome
    }

    #[cold]
    fn offer_sample(&self, user: UserId, answer: ReadAnswer<&[u8]>, begun: Instant) {
        let ReadAnswer { held, cache_status } = answer;
        self.sampler.note_answer(AuditSample {
            proven: self.freshness.is_proven(begun),
            joined: cache_status.collapsed,
            ..AuditSample::from_answer(user, cache_status.answered, &held.read_snapshot(), begun)
        });
    }
}
