//! Records metrics and notes of a read that is over.
//!
//! **Invariants.** A hit in memory costs one record and two looks at an atomic; whatever else is done is done for few.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Error, Reader, timings::Spent};
use crate::{audit::Sample, cache_status::Outcome, clock, domain::UserId, telemetry::slowest};

impl Reader {
    /// Counts a read that took so long, and notes its answer if it is the auditor's turn. What it was.
    pub(super) fn count(
        &self,
        user: UserId,
        result: Result<Answer<&[u8]>, &Error>,
        begun: Instant,
        took: Duration,
        spent: &Spent,
    ) -> Outcome {
        let outcome = self.note_read(user, result, begun, took, spent);
        self.meters.read(outcome, took);
        outcome
    }

    /// The same of a read that is counted elsewhere.
    pub(super) fn note_read(
        &self,
        user: UserId,
        result: Result<Answer<&[u8]>, &Error>,
        begun: Instant,
        took: Duration,
        spent: &Spent,
    ) -> Outcome {
        let outcome = match result {
            Ok(answer) => {
                if answer.held.is_empty() {
                    self.meters.absent_read();
                }
                // An answer that says itself that it is old is not asked again.
                if answer.trail.detail.is_none() && self.sampler.wants(answer.trail.answered) {
                    self.note(user, answer, begun);
                }
                answer.trail.outcome()
            }
            Err(Error::Shed) => Outcome::Shed,
            Err(Error::Source(_) | Error::NotReached | Error::Deadline) => Outcome::Failed,
        };
        let some = |time: Duration| (!time.is_zero()).then_some(time);
        let loaded = spent.statements > 0;
        self.meters.slow(took, || slowest::Slow {
            at: clock::wall(),
            user,
            outcome,
            took,
            redis: some(spent.redis),
            source: some(spent.source),
            assets: result.ok().map(|answer| answer.held.assets()),
            rows: loaded.then_some(spent.rows),
        });
        outcome
    }

    #[cold]
    fn note(&self, user: UserId, answer: Answer<&[u8]>, begun: Instant) {
        let Answer { held, trail } = answer;
        self.sampler.answered(Sample {
            proven: self.freshness.proven(begun),
            joined: trail.collapsed,
            ..Sample::of(user, trail.answered, &held.snapshot(), begun)
        });
    }
}
