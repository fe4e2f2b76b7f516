//! An adaptive concurrency limit, by the gradient algorithm of Netflix' concurrency-limits and Envoy's adaptive concurrency filter.
//!
//! The median time of questions in a short window is compared with a baseline measured at low concurrency. While both are nearly equal
//! the limit grows; the longer questions take, the more it shrinks. Where concurrency never falls of itself, the limit is lowered for
//! a moment every [`PROBE_EVERY`] to renew the baseline. A timeout counts with its time; other failures do not count. Local scheduling
//! delay is subtracted, so a busy host does not shrink the limit.
//!
//! **Invariants.** `floor <= limit <= ceiling`, but for a probe, which goes down to a [`PROBE_PART`]th, and to 1. An unused limit does
//! not change. A failure is never the baseline.
//!
//! **Limits.** [`SAMPLES_MAX`] samples are kept; a decision costs sorting them. Queueing is not here ([`super::queue`]).

use std::time::Duration;

use tokio::time::Instant;

/// A window lasts as long as this at least, and ends when it has [`SAMPLES_MIN`], or after [`WINDOW_MAX`] with what it has.
const WINDOW: Duration = Duration::from_millis(50);
const WINDOW_MAX: Duration = Duration::from_millis(500);
const SAMPLES_MIN: usize = 8;
/// More than these in a window are not looked at.
const SAMPLES_MAX: usize = 64;
/// The tolerated time: so many times the baseline, and [`LimitRange::slack`].
const TOLERANCE: u32 = 2;
/// How often a question waits for a thread: to be sent, to be read, to go on.
const HOPS: u32 = 4;
/// The limit grows by this part of itself while questions are tolerably slow, by half while they are quick; by
/// [`STEP_MIN`] at least.
const STEP_PART: usize = 8;
const STEP_MIN: usize = 2;
/// The most that one window takes away: so much of the whole is left.
const LEFT_MIN: u64 = 500;
const WHOLE: u64 = 1_000;
/// How long the baseline may rest on the past while the limit is in use, and the part of the limit that is used to
/// measure it again: below what the tolerance lets in, or an overload would raise its own measure.
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBE_GAP: Duration = Duration::from_millis(500);
const PROBE_PART: usize = 4;
/// The limit at first; it begins with a probe, because a first crowd would be the baseline of all that follow.
const FIRST: usize = 16;

#[derive(Debug, Clone, Copy)]
pub struct LimitRange {
    /// It never falls below this.
    pub floor: usize,
    /// Nor rises above this.
    pub ceiling: usize,
    /// Slowness that no reader minds.
    pub slack: Duration,
    /// The time that a question may take for whatever reason, if it can take less: well below its timeout.
    pub longest: Duration,
}

/// One question that is over.
#[derive(Debug, Clone, Copy)]
pub struct LoadSample {
    /// When it began.
    pub begun: Instant,
    pub took: Duration,
    /// It got no answer in its time.
    pub timed_out: bool,
    /// How long a task of this process waited for a thread then.
    pub lag: Duration,
}

/// A limit that follows its samples.
#[derive(Debug)]
pub struct AdaptiveLimit {
    bounds: LimitRange,
    limit: usize,
    probing: bool,
    /// None while a probe waits until few enough are under way.
    window: Option<SampleWindow>,
    typical: Duration,
    baseline: Option<Duration>,
    /// When that was, and the limit then.
    baseline_at: Instant,
    limit_at_baseline: usize,
}

#[derive(Debug)]
struct SampleWindow {
    begun: Instant,
    samples: Vec<(Duration, bool)>,
    /// The scheduling lag of all samples together.
    lag: Duration,
    busiest: usize,
}

impl SampleWindow {
    fn new(begun: Instant, busy: usize) -> Self {
        Self {
            begun,
            samples: Vec::with_capacity(SAMPLES_MAX),
            lag: Duration::ZERO,
            busiest: busy,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(self.begun);
        let count = self.samples.len();
        (lasted >= WINDOW && count >= SAMPLES_MIN) || (lasted >= WINDOW_MAX && count > 0)
    }

    fn mean_lag(&self) -> Duration {
        let count = u32::try_from(self.samples.len()).unwrap_or(u32::MAX);
        self.lag.checked_div(count).unwrap_or_default()
    }

    /// The median, and whether it is one of those that timed out.
    fn take_median(&mut self) -> (Duration, bool) {
        self.samples.sort_unstable();
        let middle = self.samples.len() / 2;
        self.samples.get(middle).copied().unwrap_or_default()
    }
}

impl AdaptiveLimit {
    /// Nothing is known yet. A floor above the ceiling is the ceiling.
    pub fn new(bounds: LimitRange, now: Instant) -> Self {
        let ceiling = bounds.ceiling.max(1);
        let floor = bounds.floor.clamp(1, ceiling);
        let limit = FIRST.clamp(floor, ceiling);
        Self {
            bounds: LimitRange {
                floor,
                ceiling,
                ..bounds
            },
            limit,
            probing: floor < ceiling,
            window: Some(SampleWindow::new(now, 0)),
            typical: Duration::ZERO,
            baseline: None,
            baseline_at: now,
            limit_at_baseline: limit,
        }
    }

    /// One that does not move.
    #[cfg(test)]
    pub fn fixed_at(limit: usize, now: Instant) -> Self {
        let bounds = LimitRange {
            floor: limit,
            ceiling: limit,
            slack: Duration::ZERO,
            longest: Duration::MAX,
        };
        Self::new(bounds, now)
    }

    pub fn current_limit(&self) -> usize {
        if self.probing {
            self.probe_limit()
        } else {
            self.limit
        }
    }

    /// The time that most questions took lately; zero before the first.
    pub const fn typical_latency(&self) -> Duration {
        self.typical
    }

    /// Notes that a load begins; `busy` are under way with it.
    pub fn note_begin(&mut self, busy: usize) {
        if let Some(window) = &mut self.window {
            window.busiest = window.busiest.max(busy);
        }
    }

    /// One is over, and so many are left.
    pub fn note_end(&mut self, busy: usize, now: Instant) {
        if self.window.is_none() && busy <= self.probe_limit() {
            self.window = Some(SampleWindow::new(now, busy));
        }
    }

    /// The time of one that is over.
    pub fn record_sample(&mut self, sample: LoadSample, busy: usize, now: Instant) {
        let Some(window) = &mut self.window else {
            return;
        };
        if sample.begun < window.begun {
            return;
        }
        if window.samples.len() < SAMPLES_MAX {
            window.samples.push((sample.took, sample.timed_out));
            window.lag = window.lag.saturating_add(sample.lag);
        }
        if !window.is_over(now) {
            return;
        }
        let ended = window.take_median();
        let (lag, busiest) = (window.mean_lag(), window.busiest);
        self.window = Some(SampleWindow::new(now, busy));
        self.typical = ended.0;
        self.decide_limit(ended, lag, busiest, now);
    }

    fn decide_limit(
        &mut self,
        (median, timed_out): (Duration, bool),
        lag: Duration,
        busiest: usize,
        now: Instant,
    ) {
        let few = self.probing || busiest <= self.probe_limit();
        if !timed_out {
            let baseline = match self.baseline {
                Some(before) if median > before && !few => before,
                // A time measured at ease is believed by and by; a probe is believed at once.
                Some(before) if median > before && !self.probing => {
                    let more = median.saturating_sub(before).checked_div(8);
                    before.saturating_add(more.unwrap_or_default())
                }
                Some(_) | None => median,
            };
            self.baseline = Some(baseline);
        }
        if self.probing || (few && !timed_out) {
            (self.baseline_at, self.limit_at_baseline) = (now, self.limit);
        }
        if self.probing {
            self.probing = false;
            return;
        }
        if busiest.saturating_mul(2) < self.limit {
            return;
        }
        let LimitRange { floor, ceiling, .. } = self.bounds;
        self.limit = self.next_limit(median, lag).clamp(floor, ceiling);
        let age = now.saturating_duration_since(self.baseline_at);
        let fell = self.limit.saturating_mul(2) <= self.limit_at_baseline && age >= PROBE_GAP;
        if floor < ceiling && (fell || age >= PROBE_EVERY) {
            self.probing = true;
            self.window = None;
        }
    }

    /// The limit after a window with this median, in which it was used.
    fn next_limit(&self, median: Duration, lag: Duration) -> usize {
        let LimitRange { slack, longest, .. } = self.bounds;
        let baseline = self.baseline.unwrap_or_default();
        let most = longest.max(baseline.saturating_add(slack));
        let doubled = baseline.saturating_mul(TOLERANCE).saturating_add(slack);
        let tolerated = doubled.min(most);
        let excused = tolerated.saturating_add(lag.saturating_mul(HOPS)).min(most);
        let step = |part| self.limit.checked_div(part).unwrap_or(0).max(STEP_MIN);
        if median.saturating_mul(2) <= baseline.saturating_add(tolerated) {
            self.limit.saturating_add(step(2))
        } else if median <= tolerated {
            self.limit.saturating_add(step(STEP_PART))
        } else if median <= excused {
            self.limit
        } else {
            self.left_of(excused, median)
        }
    }

    /// The rest of it when questions take `median` instead of `excused`.
    fn left_of(&self, excused: Duration, median: Duration) -> usize {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let gradient = nanos(excused)
            .saturating_mul(WHOLE)
            .checked_div(nanos(median))
            .unwrap_or(WHOLE)
            .clamp(LEFT_MIN, WHOLE);
        let left = u64::try_from(self.limit)
            .unwrap_or(u64::MAX)
            .saturating_mul(gradient)
            .checked_div(WHOLE)
            .unwrap_or(0);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// The limit of a probe: a concurrency that counts as low.
    fn probe_limit(&self) -> usize {
        self.limit.checked_div(PROBE_PART).unwrap_or(0).max(1)
    }
}

#[cfg(test)]
mod tests;
