//! Histograms with fixed buckets of atomics, sharded over threads.
//!
//! The buckets are log-linear: eight to each power of two, so that a quantile is at most 12.5% above the truth. What Prometheus
//! is shown are the powers of two among their bounds, for which the counts are exact; `_sum` and `_count` are exact too.
//!
//! **Invariants.** Recording takes no lock, allocates nothing and is two relaxed additions to memory that, up to [`SHARDS`]
//! threads, no other thread writes. Values are never removed: a window is the difference of two tallies.
//!
//! **Limits.** 12 KiB a histogram. Seconds from 125 ns to 8.4 s, counts from 1 to 65,536; what is above is counted beyond the
//! last bound. The number of a thread's shard is the one global here: a thread has to find its shard without a lookup.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Threads that write to memory of their own.
const SHARDS: usize = 8;
/// Buckets to a power of two.
const PARTS: usize = 8;
/// Powers of two among the bounds.
const OCTAVES: usize = 24;
/// All buckets, and one for what is beyond them.
const BUCKETS: usize = OCTAVES * PARTS + 1;
/// Nanoseconds in an eighth of a microsecond.
const TICK_NANOS: u64 = 125;

/// One thread's counts, on cache lines of their own.
#[repr(align(128))]
struct HistogramShard {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// The buckets of one histogram, sharded over threads.
pub(super) struct Histogram {
    shards: [HistogramShard; SHARDS],
}

/// A histogram of durations; its bounds are 1 µs, 2 µs, 4 µs … 8.4 s.
#[derive(Clone, Default)]
pub struct Seconds(pub(super) Arc<Histogram>);

/// A histogram of numbers; its bounds are 1, 2, 4 … 65,536.
#[derive(Clone)]
pub struct CountHistogram(pub(super) Arc<Histogram>);

/// The values of a histogram at one moment, or those added between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramTally {
    /// Buckets with something in them, ascending.
    buckets: Vec<(usize, u64)>,
    /// The sum of all values: nanoseconds, or numbers.
    pub sum: u64,
}

// === impl Histogram ===

impl Default for Histogram {
    fn default() -> Self {
        let shard = |_| HistogramShard {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
        };
        Self {
            shards: std::array::from_fn(shard),
        }
    }
}

impl Histogram {
    /// `ticks` are eighths of the first bound, counted from 0.
    fn record_ticks(&self, ticks: u64, value: u64) {
        let shard = self.shards.get(thread_shard());
        let bucket =
            shard.and_then(|shard| Some((shard.buckets.get(bucket_index(ticks))?, &shard.sum)));
        if let Some((bucket, sum)) = bucket {
            bucket.fetch_add(1, Ordering::Relaxed);
            sum.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// How many values there were.
    pub(super) fn count_values(&self) -> u64 {
        let buckets = self.shards.iter().flat_map(|shard| shard.buckets.iter());
        buckets.fold(0, |sum, bucket| {
            sum.wrapping_add(bucket.load(Ordering::Relaxed))
        })
    }

    pub(super) fn tally_values(&self) -> HistogramTally {
        let mut all = [0_u64; BUCKETS];
        let mut sum = 0_u64;
        for shard in &self.shards {
            for (all, bucket) in all.iter_mut().zip(&shard.buckets) {
                *all = all.wrapping_add(bucket.load(Ordering::Relaxed));
            }
            sum = sum.wrapping_add(shard.sum.load(Ordering::Relaxed));
        }
        let filled = all.into_iter().enumerate().filter(|(_, count)| *count > 0);
        HistogramTally {
            buckets: filled.collect(),
            sum,
        }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count_values())
            .finish_non_exhaustive()
    }
}

// === impl Seconds ===

impl Seconds {
    pub fn record_duration(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0
            .record_ticks(nanos.saturating_sub(1) / TICK_NANOS, nanos);
    }

    /// How often.
    pub fn count_values(&self) -> u64 {
        self.0.count_values()
    }

    /// All that was recorded.
    pub fn tally_values(&self) -> HistogramTally {
        self.0.tally_values()
    }
}

impl std::fmt::Debug for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Counts ===

impl CountHistogram {
    /// Records a number. Zero is counted below the first bound.
    pub fn record_number(&self, number: u64) {
        let ticks = number.saturating_mul(8).saturating_sub(1);
        self.0.record_ticks(ticks, number);
    }

    /// How often.
    pub fn count_values(&self) -> u64 {
        self.0.count_values()
    }
}

impl std::fmt::Debug for CountHistogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Tally ===

impl HistogramTally {
    /// Nothing.
    pub const NONE: Self = Self {
        buckets: Vec::new(),
        sum: 0,
    };

    pub fn count_values(&self) -> u64 {
        self.up_to(BUCKETS)
    }

    /// How many values are at most 2^`octave` times the first bound.
    pub(super) fn count_below(&self, octave: usize) -> u64 {
        self.up_to(octave.saturating_add(1).saturating_mul(PARTS))
    }

    fn up_to(&self, end: usize) -> u64 {
        let within = self.buckets.iter().take_while(|(at, _)| *at < end);
        within.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The values added since an earlier one of the same histogram.
    #[must_use]
    pub fn tally_since(&self, earlier: &Self) -> Self {
        let mut before = earlier.buckets.iter().peekable();
        let mut buckets = Vec::new();
        for (at, count) in &self.buckets {
            while before.next_if(|(there, _)| there < at).is_some() {}
            let had = before
                .next_if(|(there, _)| there == at)
                .map_or(0, |(_, had)| *had);
            let more = count.saturating_sub(had);
            if more > 0 {
                buckets.push((*at, more));
            }
        }
        Self {
            buckets,
            sum: self.sum.wrapping_sub(earlier.sum),
        }
    }

    /// Adds the values of another tally.
    pub fn add_tally(&mut self, other: &Self) {
        for (at, count) in &other.buckets {
            match self.buckets.binary_search_by_key(at, |(at, _)| *at) {
                Ok(index) => {
                    if let Some((_, there)) = self.buckets.get_mut(index) {
                        *there = there.saturating_add(*count);
                    }
                }
                Err(index) => self.buckets.insert(index, (*at, *count)),
            }
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The duration that so many of a thousand values do not exceed, at most 12.5% too long; none without values. For
    /// [`Seconds`] only.
    pub fn quantile_duration(&self, permille: u64) -> Option<Duration> {
        let count = self.count_values();
        let rank = count.saturating_mul(permille).div_ceil(1_000).max(1);
        let mut seen = 0_u64;
        let reached = self.buckets.iter().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        reached.map(|(at, _)| Duration::from_nanos(bucket_bound(*at).saturating_mul(TICK_NANOS)))
    }
}

/// The bucket of a value: the first sixteen are one tick wide, every further eight twice as wide as the eight before.
fn bucket_index(ticks: u64) -> usize {
    let shift = ticks.checked_ilog2().unwrap_or(0).saturating_sub(3);
    let within = usize::try_from(ticks.checked_shr(shift).unwrap_or(0)).unwrap_or(BUCKETS);
    let before = usize::try_from(shift)
        .unwrap_or(BUCKETS)
        .saturating_mul(PARTS);
    before.saturating_add(within).min(BUCKETS - 1)
}

/// The upper bound of a bucket, in ticks.
fn bucket_bound(place: usize) -> u64 {
    let shift = (place / PARTS).saturating_sub(1);
    let within = place.saturating_sub(shift.saturating_mul(PARTS));
    let end = u64::try_from(within).unwrap_or(0).saturating_add(1);
    end.checked_shl(u32::try_from(shift).unwrap_or(0))
        .unwrap_or(u64::MAX)
}

/// Which shard this thread writes to.
fn thread_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    let mine = |mine: &Cell<usize>| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        mine.get()
    };
    MINE.try_with(mine).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn new_seconds() -> Seconds {
        Seconds(Arc::default())
    }

    fn duration_of_micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_value_on_a_bound_is_within_it_and_the_next_is_not() {
        for octave in 0..OCTAVES {
            let (on, beyond) = (new_seconds(), new_seconds());
            on.record_duration(duration_of_micros(1 << octave));
            beyond.record_duration(duration_of_micros(1 << octave) + Duration::from_nanos(1));
            assert_eq!(on.tally_values().count_below(octave), 1, "{octave}");
            assert_eq!(beyond.tally_values().count_below(octave), 0, "{octave}");
            assert_eq!(beyond.tally_values().count_values(), 1);
            let counts = CountHistogram(Arc::default());
            counts.record_number(1 << octave);
            counts.record_number((1 << octave) + 1);
            assert_eq!(counts.0.tally_values().count_below(octave), 1, "{octave}");
        }
    }

    #[test]
    fn sum_and_count_are_exact_over_threads() {
        let histogram = new_seconds();
        std::thread::scope(|scope| {
            for thread in 0..20_u64 {
                let histogram = &histogram;
                scope.spawn(move || {
                    for nanos in 0..1_000 {
                        histogram.record_duration(Duration::from_nanos(thread * 1_000 + nanos));
                    }
                });
            }
        });
        assert_eq!(histogram.count_values(), 20_000);
        assert_eq!(histogram.tally_values().sum, (0..20_000).sum::<u64>());
    }

    #[test]
    fn what_is_beyond_the_last_bound_is_counted_all_the_same() {
        let histogram = new_seconds();
        histogram.record_duration(Duration::MAX);
        histogram.record_duration(Duration::ZERO);
        assert_eq!(histogram.count_values(), 2);
        assert_eq!(histogram.tally_values().count_below(OCTAVES - 1), 1);
        assert_eq!(HistogramTally::NONE.quantile_duration(500), None);
    }

    proptest! {
        #[test]
        fn a_quantile_is_never_below_the_truth_and_at_most_an_eighth_above(mut nanos in prop::collection::vec(125_u64..8_000_000_000, 1..200), permille in 1_u64..=1_000) {
            let histogram = new_seconds();
            for nanos in &nanos {
                histogram.record_duration(Duration::from_nanos(*nanos));
            }
            nanos.sort_unstable();
            let rank = (nanos.len() * usize::try_from(permille).unwrap()).div_ceil(1_000).max(1);
            let truth = nanos[rank - 1];
            let told = u64::try_from(histogram.tally_values().quantile_duration(permille).unwrap().as_nanos()).unwrap();
            prop_assert!(told >= truth && told <= truth + truth / 8 + TICK_NANOS, "{told} for {truth}");
        }

        #[test]
        fn what_is_between_two_tallies_is_what_was_added(first in prop::collection::vec(0_u64..10_000_000, 0..50), second in prop::collection::vec(0_u64..10_000_000, 0..50)) {
            let (both, alone) = (new_seconds(), new_seconds());
            for nanos in &first {
                both.record_duration(Duration::from_nanos(*nanos));
            }
            let before = both.tally_values();
            for nanos in &second {
                both.record_duration(Duration::from_nanos(*nanos));
                alone.record_duration(Duration::from_nanos(*nanos));
            }
            prop_assert_eq!(both.tally_values().tally_since(&before), alone.tally_values());
            let mut sum = before;
            sum.add_tally(&alone.tally_values());
            prop_assert_eq!(sum, both.tally_values());
        }
    }
}
