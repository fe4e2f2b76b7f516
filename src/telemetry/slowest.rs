//! The slowest reads of the last minutes, for the operators' page.
//!
//! **Invariants.** A read that is not slow costs one look at an atomic. Never amounts.
//!
//! **Limits.** [`KEPT`] reads, none older than [`LASTS_MS`].

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    cache_status::ReadOutcome,
    domain::{UnixMillis, UserId},
};

/// How many are kept.
pub const KEPT: usize = 20;
/// How long one is of interest.
const LASTS_MS: i64 = 15 * 60 * 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowRead {
    /// When it was answered.
    pub at: UnixMillis,
    /// Whose balances.
    pub user: UserId,
    /// The tier that answered.
    pub outcome: ReadOutcome,
    pub took: Duration,
    /// The part of the time that Redis took, if known.
    pub redis: Option<Duration>,
    /// The part of the time that the source took, if known.
    pub source: Option<Duration>,
    /// Assets shown; none where nothing was.
    pub assets: Option<usize>,
    /// Rows that the source gave, where it is known.
    pub rows: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Slowest {
    /// Microseconds that a read must take longer than; 0 while there is room.
    least: AtomicU64,
    kept: Mutex<Vec<SlowRead>>,
}

impl Slowest {
    /// Offers a read that took that long; `what` runs only if it is among the slowest.
    pub fn offer_read(&self, took: Duration, what: impl FnOnce() -> SlowRead) {
        if whole_micros(took) < self.least.load(Ordering::Relaxed) {
            return;
        }
        let slow = what();
        let mut kept = self.kept.lock();
        let at = kept.partition_point(|there| there.took >= slow.took);
        kept.insert(at, slow);
        kept.truncate(KEPT);
        self.set_least(&kept);
    }

    pub fn forget_old(&self, now: UnixMillis) {
        let mut kept = self.kept.lock();
        kept.retain(|slow| now.0.saturating_sub(slow.at.0) < LASTS_MS);
        self.set_least(&kept);
    }

    /// The slowest first.
    pub fn all_reads(&self) -> Vec<SlowRead> {
        self.kept.lock().clone()
    }

    fn set_least(&self, kept: &[SlowRead]) {
        let least = kept.get(KEPT.saturating_sub(1));
        let least = least.map_or(0, |slow| whole_micros(slow.took).saturating_add(1));
        self.least.store(least, Ordering::Relaxed);
    }
}

fn whole_micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_slow(at: i64, took: u64) -> SlowRead {
        SlowRead {
            at: UnixMillis(at),
            user: UserId::MAX,
            outcome: ReadOutcome::Source,
            took: Duration::from_micros(took),
            redis: None,
            source: None,
            assets: Some(3),
            rows: None,
        }
    }

    #[test]
    fn the_slowest_are_kept_in_order_and_the_rest_is_not_even_asked() {
        let slowest = Slowest::default();
        for took in 1..=100 {
            slowest.offer_read(Duration::from_micros(took), || sample_slow(0, took));
        }
        let took: Vec<_> = slowest
            .all_reads()
            .iter()
            .map(|slow| whole_micros(slow.took))
            .collect();
        assert_eq!(took, (81..=100).rev().collect::<Vec<_>>());
        slowest.offer_read(Duration::from_micros(81), || panic!("it is not slow"));
    }

    #[test]
    fn what_is_old_makes_room() {
        let slowest = Slowest::default();
        for took in 1..=20 {
            slowest.offer_read(Duration::from_micros(took), || sample_slow(0, took));
        }
        slowest.forget_old(UnixMillis(LASTS_MS));
        assert_eq!(slowest.all_reads(), []);
        slowest.offer_read(Duration::ZERO, || sample_slow(LASTS_MS, 0));
        assert_eq!(slowest.all_reads().len(), 1);
    }
}
