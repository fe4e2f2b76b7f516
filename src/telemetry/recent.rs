//! The last quarter of an hour, second by second, for the operators' page.
//!
//! **Invariants.** Filled by one task, once a second, from what is counted anyhow: nothing here is on the way of a read.
//!
//! **Limits.** [`SECONDS`] entries of numbers (about 0.6 MB), and the histograms of the last [`WINDOW`] of them.

use std::{collections::VecDeque, time::Duration};

use super::{histogram::HistogramTally, snapshot_counters::CounterTotals};
use crate::{cache_status::ReadOutcome, domain::UnixMillis};

/// How many seconds are kept.
pub const SECONDS: usize = 900;
/// Seconds over which the quantiles of the page's table are taken.
pub const WINDOW: usize = 60;
/// All outcomes, and all of them together.
pub const GROUPS: usize = ReadOutcome::ALL.len() + 1;

/// p50, p99 and p99.9, where there was anything.
pub type Quantiles = [Option<Duration>; 3];

/// The events between two looks, about a second apart.
#[derive(Debug, Clone, Default)]
pub struct SecondCounts {
    /// Counted from 0 since the start.
    pub number: u64,
    /// When it ended.
    pub at: UnixMillis,
    /// How long it was.
    pub lasted: Duration,
    /// Reads by outcome, in the order of `ReadOutcome::ALL`.
    pub reads: [u64; ReadOutcome::ALL.len()],
    /// Their quantiles, in the same order; then those of all reads.
    pub quantiles: [Quantiles; GROUPS],
    /// Loads from the source, and those that failed.
    pub loads: u64,
    /// See `loads`.
    pub load_failures: u64,
    pub notifications: u64,
    /// Notifications that could not be given their promise.
    pub notification_failures: u64,
    /// From `created_at` to the effect.
    pub notification_delay: Quantiles,
    /// From the feed's entry to the effect here.
    pub bus_delay: Quantiles,
    /// How far the view was behind.
    pub view_lag: Quantiles,
}

#[derive(Debug)]
struct SecondHistograms {
    reads: [HistogramTally; ReadOutcome::ALL.len()],
    others: [HistogramTally; 3],
    lasted: Duration,
}

/// Quantiles over the window.
#[derive(Debug, Clone)]
pub struct RecentWindow {
    /// How long it is by now.
    pub lasted: Duration,
    /// Reads in it and their quantiles: each outcome, then all together.
    pub reads: [(u64, Quantiles); GROUPS],
    /// How often, and quantiles: notification delay, bus delay, view lag.
    pub delays: [(u64, Quantiles); 3],
}

/// Counters second by second.
#[derive(Debug)]
pub struct RecentSeconds {
    before: Option<CounterTotals>,
    seconds: VecDeque<SecondCounts>,
    tallies: VecDeque<SecondHistograms>,
    next: u64,
}

impl RecentSeconds {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        // Written to now: the process is not to grow for a quarter of an hour.
        let mut seconds = VecDeque::with_capacity(SECONDS);
        seconds.resize_with(SECONDS, SecondCounts::default);
        seconds.clear();
        Self {
            before: None,
            seconds,
            tallies: VecDeque::with_capacity(WINDOW),
            next: 0,
        }
    }

    /// A second is over. The first look is what the next is compared with.
    pub(super) fn close_second(&mut self, at: UnixMillis, lasted: Duration, now: CounterTotals) {
        if let Some(before) = self.before.take() {
            let second = self.second_since(at, lasted, &before, &now);
            push_bounded(&mut self.seconds, second, SECONDS);
            self.next = self.next.saturating_add(1);
        }
        self.before = Some(now);
    }

    fn second_since(
        &mut self,
        at: UnixMillis,
        lasted: Duration,
        before: &CounterTotals,
        now: &CounterTotals,
    ) -> SecondCounts {
        let mut earlier = before.reads.iter();
        let reads = now
            .reads
            .each_ref()
            .map(|tally| tally.tally_since(earlier.next().unwrap_or(&HistogramTally::NONE)));
        let others = [
            now.notification_delay
                .tally_since(&before.notification_delay),
            now.bus_delay.tally_since(&before.bus_delay),
            now.view_lag.tally_since(&before.view_lag),
        ];
        let [notification_delay, bus_delay, view_lag] = others.each_ref().map(tally_quantiles);
        let second = SecondCounts {
            number: self.next,
            at,
            lasted,
            reads: reads.each_ref().map(HistogramTally::count_values),
            quantiles: with_all(&reads, tally_quantiles),
            loads: now.loads.saturating_sub(before.loads),
            load_failures: now.load_failures.saturating_sub(before.load_failures),
            notifications: now
                .effective_notifications()
                .saturating_sub(before.effective_notifications()),
            notification_failures: now
                .refused_notifications()
                .saturating_sub(before.refused_notifications()),
            notification_delay,
            bus_delay,
            view_lag,
        };
        let tallies = SecondHistograms {
            reads,
            others,
            lasted,
        };
        push_bounded(&mut self.tallies, tallies, WINDOW);
        second
    }

    /// The seconds after that one, or all that are kept.
    pub fn seconds_after(&self, number: Option<u64>) -> Vec<SecondCounts> {
        let new = |second: &&SecondCounts| number.is_none_or(|number| second.number > number);
        self.seconds.iter().filter(new).cloned().collect()
    }

    /// The last [`WINDOW`] seconds together.
    pub fn last_window(&self) -> RecentWindow {
        let mut reads = [HistogramTally::NONE; ReadOutcome::ALL.len()];
        let mut others = [HistogramTally::NONE; 3];
        let mut lasted = Duration::ZERO;
        for second in &self.tallies {
            let added = reads.iter_mut().zip(&second.reads);
            added.for_each(|(sum, tally)| sum.add_tally(tally));
            let added = others.iter_mut().zip(&second.others);
            added.for_each(|(sum, tally)| sum.add_tally(tally));
            lasted = lasted.saturating_add(second.lasted);
        }
        RecentWindow {
            lasted,
            reads: with_all(&reads, |tally| {
                (tally.count_values(), tally_quantiles(tally))
            }),
            delays: others.map(|tally| (tally.count_values(), tally_quantiles(&tally))),
        }
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Maps the tally of each outcome, then that of all reads.
fn with_all<T>(
    reads: &[HistogramTally; ReadOutcome::ALL.len()],
    told: impl Fn(&HistogramTally) -> T,
) -> [T; GROUPS] {
    let mut all = HistogramTally::NONE;
    for tally in reads {
        all.add_tally(tally);
    }
    let mut each = reads.iter();
    std::array::from_fn(|_| told(each.next().unwrap_or(&all)))
}

fn tally_quantiles(tally: &HistogramTally) -> Quantiles {
    [500, 990, 999].map(|permille| tally.quantile_duration(permille))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Meters;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_second_holds_what_happened_in_it() {
        let meters = Meters::new();
        meters.record_read(ReadOutcome::Memory, Duration::from_micros(9));
        meters.close_second(UnixMillis(1_000), SECOND);
        for micros in 1..=1_000 {
            meters.record_read(ReadOutcome::Memory, Duration::from_micros(micros));
        }
        meters.record_read(ReadOutcome::Source, Duration::from_micros(64));
        meters.close_second(UnixMillis(2_000), SECOND);
        meters.close_second(UnixMillis(3_000), SECOND);
        let seconds = meters.recent_seconds().seconds_after(None);
        assert_eq!(seconds.len(), 2);
        assert_eq!((seconds[0].number, seconds[0].at), (0, UnixMillis(2_000)));
        assert_eq!(seconds[0].reads, [1_000, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(seconds[1].reads, [0; 8]);
        assert_eq!(
            seconds[0].quantiles[2],
            [Some(Duration::from_micros(64)); 3]
        );
        assert_eq!(seconds[0].quantiles[1], [None; 3]);
        let p50 = seconds[0].quantiles[0][0].unwrap();
        assert!((500..=563).contains(&p50.as_micros()), "{p50:?}");
        assert_eq!(meters.recent_seconds().seconds_after(Some(0)).len(), 1);
        assert_eq!(meters.recent_seconds().last_window().reads[8].0, 1_001);
    }

    #[test]
    fn no_more_is_kept_than_a_quarter_of_an_hour() {
        let meters = Meters::new();
        for at in 0..2_000 {
            meters.record_read(ReadOutcome::Memory, Duration::from_micros(1));
            meters.close_second(UnixMillis(at * 1_000), SECOND);
        }
        let recent = meters.recent_seconds();
        assert_eq!(recent.seconds_after(None).len(), SECONDS);
        assert_eq!(recent.seconds_after(Some(1_997)).len(), 1);
        let window = recent.last_window();
        assert_eq!(
            (window.lasted, window.reads[0].0),
            (Duration::from_mins(1), 60)
        );
    }
}
