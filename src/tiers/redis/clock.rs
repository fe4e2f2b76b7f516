//! Redis' clock, by ours.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Redis' clock as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// When it was asked, by our clock.
    pub asked: Instant,
    /// When the answer was here.
    pub answered: Instant,
    /// What it said, in ms.
    pub redis_ms: i64,
}

impl Reading {
    /// Redis was asked at a moment, and said this just now.
    pub fn just_now(asked: Instant, redis_ms: i64) -> Self {
        Self {
            asked,
            answered: Instant::now(),
            redis_ms,
        }
    }

    /// When the answer was here.
    pub fn now(&self) -> Now {
        // What is cut off of times in whole ms: of the reading, of this one, and of the two in `Clock`.
        let took = millis(self.answered.saturating_duration_since(self.asked)).saturating_add(3);
        Now {
            earliest: self.redis_ms,
            latest: self.redis_ms.saturating_add(took),
        }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Redis' clock, by ours: an answer takes time, so it is known within bounds, the last reading's.
pub struct Clock {
    base: Instant,
    earliest: AtomicI64,
    latest: AtomicI64,
}

impl Clock {
    /// From the first reading on.
    pub fn new(first: Reading) -> Self {
        let clock = Self {
            base: first.asked,
            earliest: AtomicI64::new(0),
            latest: AtomicI64::new(0),
        };
        clock.set(first);
        clock
    }

    /// Time since the first reading, in ms.
    pub fn elapsed(&self) -> i64 {
        millis(self.base.elapsed())
    }

    /// It was read again.
    pub fn set(&self, reading: Reading) {
        let elapsed = millis(reading.answered.saturating_duration_since(self.base));
        let Now { earliest, latest } = reading.now();
        self.earliest
            .store(earliest.saturating_sub(elapsed), Ordering::Relaxed);
        self.latest
            .store(latest.saturating_sub(elapsed), Ordering::Relaxed);
    }

    /// Now.
    pub fn now(&self) -> Now {
        let elapsed = self.elapsed();
        let by = |offset: &AtomicI64| offset.load(Ordering::Relaxed).saturating_add(elapsed);
        Now {
            earliest: by(&self.earliest),
            latest: by(&self.latest),
        }
    }
}

/// Redis' clock in ms, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// It is not earlier there: what must not end too soon (floors) goes by this.
    pub earliest: i64,
    /// It is not later there: what must not be held for too long (snapshots) goes by this.
    pub latest: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_long_leaves_the_clock_between_bounds() {
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(40)).await;
        let clock = Clock::new(Reading::just_now(asked, 1_000));
        let within = |now: Now, time: i64, known_to: i64| {
            assert_eq!(now.earliest, time);
            assert!(
                (time + known_to..=time + known_to + 3).contains(&now.latest),
                "{now:?}"
            );
        };
        within(clock.now(), 1_000, 40);
        tokio::time::advance(Duration::from_millis(100)).await;
        within(clock.now(), 1_100, 40);
        assert_eq!(clock.elapsed(), 140);

        // Nearer, and another time: Redis' clock was set.
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        clock.set(Reading::just_now(asked, 500));
        within(clock.now(), 500, 1);
        tokio::time::advance(Duration::from_millis(7)).await;
        within(clock.now(), 507, 1);
    }
}
