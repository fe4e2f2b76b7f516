//! Which answer is due when, and for which window.
//!
//! **Invariants.** An answer waits in one queue at a time; each queue ascends by time, but for what threads take to
//! hand in their notes, because answers come in their order and each queue adds the same to it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::sampler::Sample;
use crate::telemetry::Window;

/// An answer to be compared.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) window: Window,
    pub(super) sample: Box<Sample>,
    /// It was found to be too old, and that was told.
    pub(super) told: bool,
}

/// All answers that wait.
#[derive(Debug, Default)]
pub(super) struct Agenda([VecDeque<Due>; 4]);

/// How long after the answer.
pub(super) const fn after(window: Window) -> Duration {
    match window {
        Window::Tenth => Duration::from_millis(100),
        Window::One => Duration::from_secs(1),
        Window::Ten => Duration::from_secs(10),
        Window::FiveMinutes => Duration::from_mins(5),
    }
}

const fn next(window: Window) -> Option<Window> {
    match window {
        Window::Tenth => Some(Window::One),
        Window::One => Some(Window::Ten),
        Window::Ten => Some(Window::FiveMinutes),
        Window::FiveMinutes => None,
    }
}

impl Agenda {
    fn put(&mut self, due: Due) {
        let [tenth, one, ten, minutes] = &mut self.0;
        let queue = match due.window {
            Window::Tenth => tenth,
            Window::One => one,
            Window::Ten => ten,
            Window::FiveMinutes => minutes,
        };
        queue.push_back(due);
    }

    /// A new answer.
    pub(super) fn add(&mut self, sample: Box<Sample>) {
        let window = Window::Tenth;
        if let Some(at) = sample.served.checked_add(after(window)) {
            self.put(Due {
                at,
                window,
                sample,
                told: false,
            });
        }
    }

    /// It was looked at, or was not: its next window is waited for, if there is one.
    pub(super) fn again(&mut self, due: Due) {
        let later = next(due.window)
            .and_then(|window| Some((window, due.sample.served.checked_add(after(window))?)));
        if let Some((window, at)) = later {
            self.put(Due { at, window, ..due });
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0
            .iter()
            .filter_map(|queue| Some(queue.front()?.at))
            .min()
    }

    /// The sample that is due longest.
    pub(super) fn take(&mut self, now: Instant) -> Option<Due> {
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
