//! Redis' clock, by ours.
//!
//! **Invariants.** Redis' clock decides how long floors and snapshots live, so a step of it is noticed: between two readings it
//! must have run as long as the monotonic clock of this process, within [`STEP_MIN_MS`] and a hundredth.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// A step below this is not told from a late answer, in ms.
const STEP_MIN_MS: i64 = 500;
/// A clock that is slewed runs faster or slower by less than one part in this.
const SLEW_PARTS: i64 = 100;
/// Readings are compared with one that is at least this old at times, so that many small steps are noticed too.
const ANCHOR_AGE: Duration = Duration::from_mins(1);

/// The clocks of all masters as they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// When they were asked, by our clock.
    pub asked: Instant,
    /// When the answer was here.
    pub answered: Instant,
    /// The earliest of what they said, in ms.
    pub earliest_ms: i64,
    /// The latest of what they said, in ms.
    pub latest_ms: i64,
}

/// The clock of the Redis that was seen last, to compare later readings with.
#[derive(Debug, Clone)]
pub(super) struct ClockReference {
    pub(super) reading: ClockReading,
    pub(super) fingerprint: String,
    pub(super) epoch: String,
}

impl ClockReading {
    /// Redis was asked at a moment, and said this just now.
    pub fn just_now(asked: Instant, redis_ms: i64) -> Self {
        Self::of_all(asked, [redis_ms].into_iter()).unwrap_or(Self {
            asked,
            answered: asked,
            earliest_ms: redis_ms,
            latest_ms: redis_ms,
        })
    }

    /// Masters were asked at a moment, and said these just now; none where none of them said anything.
    pub fn of_all(asked: Instant, clocks_ms: impl Iterator<Item = i64> + Clone) -> Option<Self> {
        Some(Self {
            asked,
            answered: Instant::now(),
            earliest_ms: clocks_ms.clone().min()?,
            latest_ms: clocks_ms.max()?,
        })
    }

    /// When the answer was here.
    pub fn time_then(&self) -> RedisTime {
        // Fractions lost from times in whole ms: of the reading, of this one, and of the two in `Clock`.
        let took =
            whole_millis(self.answered.saturating_duration_since(self.asked)).saturating_add(3);
        RedisTime {
            earliest: self.earliest_ms,
            latest: self.latest_ms.saturating_add(took),
        }
    }

    /// How far a clock was set between the reading `before` and this one, in ms, beyond what late answers and slewing explain;
    /// 0 where none was.
    pub fn step_since(&self, before: &Self) -> i64 {
        let least = whole_millis(self.asked.saturating_duration_since(before.answered));
        let most =
            whole_millis(self.answered.saturating_duration_since(before.asked)).saturating_add(1);
        let slack = STEP_MIN_MS.saturating_add(most.checked_div(SLEW_PARTS).unwrap_or(0));
        let beyond = |ran: i64| {
            if ran < least.saturating_sub(slack) {
                ran.saturating_sub(least)
            } else if ran > most.saturating_add(slack) {
                ran.saturating_sub(most)
            } else {
                0
            }
        };
        let of_earliest = beyond(self.earliest_ms.saturating_sub(before.earliest_ms));
        let of_latest = beyond(self.latest_ms.saturating_sub(before.latest_ms));
        if of_earliest == 0 {
            of_latest
        } else {
            of_earliest
        }
    }

    /// The reading that later ones are compared with: this one once `before` is old.
    pub fn anchor_after(self, before: Self) -> Self {
        let age = self.asked.saturating_duration_since(before.asked);
        if age >= ANCHOR_AGE { self } else { before }
    }
}

fn whole_millis(time: Duration) -> i64 {
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
    pub fn new(first: ClockReading) -> Self {
        let clock = Self {
            base: first.asked,
            earliest: AtomicI64::new(0),
            latest: AtomicI64::new(0),
        };
        clock.set_reading(first);
        clock
    }

    /// Time since the first reading, in ms.
    pub fn elapsed_ms(&self) -> i64 {
        whole_millis(self.base.elapsed())
    }

    pub fn set_reading(&self, reading: ClockReading) {
        let elapsed = whole_millis(reading.answered.saturating_duration_since(self.base));
        let RedisTime { earliest, latest } = reading.time_then();
        self.earliest
            .store(earliest.saturating_sub(elapsed), Ordering::Relaxed);
        self.latest
            .store(latest.saturating_sub(elapsed), Ordering::Relaxed);
    }

    pub fn now(&self) -> RedisTime {
        let elapsed = self.elapsed_ms();
        let by = |offset: &AtomicI64| offset.load(Ordering::Relaxed).saturating_add(elapsed);
        RedisTime {
            earliest: by(&self.earliest),
            latest: by(&self.latest),
        }
    }
}

/// Redis' clock in ms, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisTime {
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
        let clock = Clock::new(ClockReading::just_now(asked, 1_000));
        let within = |now: RedisTime, time: i64, known_to: i64| {
            assert_eq!(now.earliest, time);
            assert!(
                (time + known_to..=time + known_to + 3).contains(&now.latest),
                "{now:?}"
            );
        };
        within(clock.now(), 1_000, 40);
        tokio::time::advance(Duration::from_millis(100)).await;
        within(clock.now(), 1_100, 40);
        assert_eq!(clock.elapsed_ms(), 140);

        // Nearer, and another time: Redis' clock was set.
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        clock.set_reading(ClockReading::just_now(asked, 500));
        within(clock.now(), 500, 1);
        tokio::time::advance(Duration::from_millis(7)).await;
        within(clock.now(), 507, 1);
    }

    fn test_reading(base: Instant, asked_ms: u64, took_ms: u64, redis_ms: i64) -> ClockReading {
        let at = |ms| base + Duration::from_millis(ms);
        ClockReading {
            asked: at(asked_ms),
            answered: at(asked_ms + took_ms),
            earliest_ms: redis_ms,
            latest_ms: redis_ms,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_of_redis_clock_is_told_from_late_answers_and_slewing() {
        let base = Instant::now();
        let before = test_reading(base, 0, 1, 1_000_000);
        let after =
            |asked, took, redis_ms| test_reading(base, asked, took, redis_ms).step_since(&before);
        assert_eq!(after(250, 1, 1_000_250), 0);
        assert_eq!(after(250, 900, 1_001_100), 0, "the answer was late");
        assert_eq!(after(250, 900, 1_000_260), 0, "the answer was late");
        assert_eq!(after(50_000, 1, 1_050_400), 0, "slewed by less than 1 %");
        assert_eq!(after(250, 1, 1_000_250 - 3_600_000), -3_599_999);
        assert_eq!(after(250, 1, 1_000_251 + 3_600_000), 3_599_999);
        assert_eq!(after(250, 1, 1_000_900), 648);
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_steps_are_a_step() {
        let base = Instant::now();
        let mut anchor = test_reading(base, 0, 1, 0);
        let mut found = 0;
        for look in 1..400_u64 {
            // Each look finds the clock 20 ms further than it should be.
            let now = test_reading(base, look * 250, 1, i64::try_from(look * 270).unwrap());
            found = now.step_since(&anchor);
            if found != 0 {
                break;
            }
            anchor = now.anchor_after(anchor);
        }
        assert!((500..2_000).contains(&found), "{found}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_master_whose_clock_is_set_is_noticed_among_others() {
        let asked = Instant::now();
        let before = ClockReading::of_all(asked, [1_000, 1_002, 1_004].into_iter()).unwrap();
        let after = ClockReading::of_all(asked, [1_000, 9_002, 1_004].into_iter()).unwrap();
        assert!(after.step_since(&before) > 5_000);
        assert_eq!(ClockReading::of_all(asked, [].into_iter()), None);
    }
}
