//! Waits between tries to connect, so that many instances that lost Redis in one moment do not come back in one moment.

use std::time::Duration;

/// The longest wait, as a multiple of the first.
const LONGEST: u32 = 5;

/// Waits that double with each failure in a row, up to [`LONGEST`] times the first; each is scattered by [`jittered_wait`].
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) const fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// Ends the row of failures.
    pub(super) const fn reset_row(&mut self) {
        self.next = self.first;
    }

    /// The wait before the next try.
    pub(super) fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        let longest = self.first.saturating_mul(LONGEST);
        self.next = self.next.saturating_mul(2).min(longest);
        jittered_wait(wait)
    }
}

/// A random time between half of `wait` and half as much again.
pub fn jittered_wait(wait: Duration) -> Duration {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    let half = micros.checked_div(2).unwrap_or(0);
    let extra = rand::random_range(0..=micros);
    Duration::from_micros(half.saturating_add(extra))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(200);

    #[test]
    fn waits_grow_to_five_times_the_first_and_are_scattered() {
        let mut backoff = Backoff::new(FIRST);
        let bounds = [1, 2, 4, 5, 5].map(|times| FIRST * times);
        for middle in bounds {
            let wait = backoff.next_wait();
            assert!(wait >= middle / 2 && wait <= middle * 3 / 2, "{wait:?}");
        }
        backoff.reset_row();
        assert!(backoff.next_wait() <= FIRST * 3 / 2);
        let mut waits: Vec<_> = (0..100).map(|_| jittered_wait(FIRST)).collect();
        waits.sort_unstable();
        let spread = waits[99].saturating_sub(waits[0]);
        assert!(spread > FIRST / 2, "a hundred waits lie within {spread:?}");
    }
}
