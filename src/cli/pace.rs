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
        self.wait_turns(1).await;
    }

    /// Waits until the rate allows the last of so many.
    pub(crate) async fn wait_turns(&self, count: usize) {
        if self.each.is_zero() {
            return;
        }
        if let Some(last) = self.take_turns(count, Instant::now()) {
            sleep_until(last).await;
        }
    }

    /// Takes the next turns. Returns when the last of them is.
    fn take_turns(&self, count: usize, now: Instant) -> Option<Instant> {
        let after_first = u32::try_from(count).unwrap_or(u32::MAX).checked_sub(1)?;
        let mut next = self.next.lock();
        let first = (*next).max(now);
        let last = first.checked_add(self.each.saturating_mul(after_first))?;
        *next = last.checked_add(self.each).unwrap_or(last);
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_turns_at_once_take_as_long_as_one_after_the_other() {
        let pace = Pace::new(10);
        let begun = *pace.next.lock();
        let at = |millis| Some(begun + Duration::from_millis(millis));
        assert_eq!(pace.take_turns(0, begun), None);
        assert_eq!(pace.take_turns(5, begun), at(400));
        assert_eq!(pace.take_turns(1, begun), at(500));
        // An idle time is not made up for.
        let later = begun + Duration::from_mins(1);
        assert_eq!(pace.take_turns(2, later), at(60_100));
    }
}
