//! A speed limit for commands that do the same thing many times.
//!
//! **Limits.** Turns come one after the other, without bursts.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Turns, so many in a second.
#[derive(Debug)]
pub(crate) struct Pace {
    each: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    /// Makes a rate limit per second; 0 sets no limit.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            each: Duration::from_secs(1).checked_div(rate).unwrap_or_default(),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until the rate allows the next request.
    pub(crate) async fn wait_turn(&self) {
        if self.each.is_zero() {
            return;
        }
        let at = {
            let mut next = self.next.lock();
            let at = (*next).max(Instant::now());
            *next = at.checked_add(self.each).unwrap_or(at);
            at
        };
        sleep_until(at).await;
    }
}
