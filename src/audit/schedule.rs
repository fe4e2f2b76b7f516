//! Which answer is due when, and for which window.
//!
//! **Invariants.** An answer waits in one queue at a time; each queue ascends by time, but for what threads take to
//! hand in their notes, because answers come in their order and each queue adds the same to it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::sampler::AuditSample;
use crate::telemetry::CompareDelay;

/// An answer to be compared.
#[derive(Debug)]
pub(super) struct ScheduledCheck {
    pub(super) at: Instant,
    pub(super) window: CompareDelay,
    pub(super) sample: Box<AuditSample>,
    /// It was found to be too old, and that was told.
    pub(super) told: bool,
}

/// All answers that wait.
#[derive(Debug, Default)]
pub(super) struct AuditSchedule([VecDeque<ScheduledCheck>; 4]);

/// The delay of this check after the answer.
pub(super) const fn delay_of(window: CompareDelay) -> Duration {
    match window {
        CompareDelay::Tenth => Duration::from_millis(100),
        CompareDelay::One => Duration::from_secs(1),
        CompareDelay::Ten => Duration::from_secs(10),
        CompareDelay::FiveMinutes => Duration::from_mins(5),
    }
}

const fn next_window(window: CompareDelay) -> Option<CompareDelay> {
    match window {
        CompareDelay::Tenth => Some(CompareDelay::One),
        CompareDelay::One => Some(CompareDelay::Ten),
        CompareDelay::Ten => Some(CompareDelay::FiveMinutes),
        CompareDelay::FiveMinutes => None,
    }
}

impl AuditSchedule {
    fn put_due(&mut self, due: ScheduledCheck) {
        let [tenth, one, ten, minutes] = &mut self.0;
        let queue = match due.window {
            CompareDelay::Tenth => tenth,
            CompareDelay::One => one,
            CompareDelay::Ten => ten,
            CompareDelay::FiveMinutes => minutes,
        };
        queue.push_back(due);
    }

    pub(super) fn add_answer(&mut self, sample: Box<AuditSample>) {
        let window = CompareDelay::Tenth;
        if let Some(at) = sample.served.checked_add(delay_of(window)) {
            self.put_due(ScheduledCheck {
                at,
                window,
                sample,
                told: false,
            });
        }
    }

    /// Schedules the next check of this answer, if one is left.
    pub(super) fn schedule_next_window(&mut self, due: ScheduledCheck) {
        let later = next_window(due.window)
            .and_then(|window| Some((window, due.sample.served.checked_add(delay_of(window))?)));
        if let Some((window, at)) = later {
            self.put_due(ScheduledCheck { at, window, ..due });
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0
            .iter()
            .filter_map(|queue| Some(queue.front()?.at))
            .min()
    }

    /// The sample that is due longest.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<ScheduledCheck> {
        let queue = self
            .0
            .iter_mut()
            .filter(|queue| queue.front().is_some_and(|due| due.at <= now))
            .min_by_key(|queue| queue.front().map(|due| due.at));
        queue?.pop_front()
    }

    /// How many answers wait.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(VecDeque::len).sum()
    }
}
