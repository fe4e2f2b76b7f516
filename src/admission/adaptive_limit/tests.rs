//! The limit on simulated sources, without a clock: a source answers so many at once, the others wait in it.

use std::collections::VecDeque;

use super::*;

const FLOOR: usize = 4;
const CEILING: usize = 256;
const BOUNDS: LimitRange = LimitRange {
    floor: FLOOR,
    ceiling: CEILING,
    slack: Duration::from_millis(2),
    longest: Duration::from_millis(500),
};
const TICK: Duration = Duration::from_micros(250);

/// A source with so many places; what is asked beyond them waits in it. Always more is asked than is let in.
struct World {
    limit: AdaptiveLimit,
    now: Instant,
    /// When each began, and how much of its time is left, in the order asked.
    under_way: VecDeque<(Instant, Duration)>,
    places: usize,
    takes: Duration,
    timeout: Duration,
    answered: u64,
    /// Questions that want to be asked at the same time.
    wanted: usize,
}

impl World {
    fn new(places: usize, takes: Duration) -> Self {
        let now = Instant::now();
        Self {
            limit: AdaptiveLimit::new(BOUNDS, now),
            now,
            under_way: VecDeque::new(),
            places,
            takes,
            timeout: Duration::from_secs(1),
            answered: 0,
            wanted: usize::MAX,
        }
    }

    /// One tick: the first `places` are worked at; whoever is over makes room.
    fn tick_once(&mut self) {
        self.now += TICK;
        for (_, left) in self.under_way.iter_mut().take(self.places) {
            *left = left.saturating_sub(TICK);
        }
        let mut at = 0;
        while let Some((begun, left)) = self.under_way.get(at).copied() {
            let took = self.now - begun;
            let timed_out = took >= self.timeout;
            if !left.is_zero() && !timed_out {
                at += 1;
                continue;
            }
            self.under_way.remove(at);
            self.answered += u64::from(!timed_out);
            let busy = self.under_way.len();
            let sample = LoadSample {
                begun,
                took,
                timed_out,
                lag: Duration::ZERO,
            };
            self.limit.record_sample(sample, busy, self.now);
            self.limit.note_end(busy, self.now);
        }
        while self.under_way.len() < self.limit.current_limit().min(self.wanted) {
            self.under_way.push_back((self.now, self.takes));
            self.limit.note_begin(self.under_way.len());
        }
    }

    /// For so long; what was answered in it.
    fn run_for(&mut self, time: Duration) -> u64 {
        let (before, end) = (self.answered, self.now + time);
        while self.now < end {
            self.tick_once();
        }
        self.answered - before
    }

    /// The loads that the source can do in a second.
    fn best_rate(&self) -> u64 {
        let each = self.takes.as_micros();
        u64::try_from(1_000_000 * self.places as u128 / each).unwrap()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn it_finds_the_knee_of_a_source_and_keeps_its_throughput() {
    for places in [1, 2, 8, 32] {
        for takes in [5, 20, 60].map(Duration::from_millis) {
            let mut world = World::new(places, takes);
            world.run_for(3 * SECOND);
            let answered = world.run_for(10 * SECOND);
            let best = 10 * world.best_rate();
            assert!(
                answered * 100 >= best * 93,
                "{places} × {takes:?}: {answered} of {best}"
            );
            let (limit, few) = (world.limit.limit, 4 * places + 6);
            assert!(
                (places.min(CEILING)..=few).contains(&limit),
                "{places} × {takes:?}: {limit}"
            );
        }
    }
}

#[test]
fn an_overload_that_lasts_does_not_become_the_measure_of_itself() {
    let mut world = World::new(8, Duration::from_millis(10));
    world.run_for(5 * SECOND);
    let first = world.limit.limit;
    world.run_for(180 * SECOND);
    let last = world.limit.limit;
    assert!(last <= first + first / 2, "from {first} to {last}");
    assert!(world.limit.baseline.unwrap() <= Duration::from_millis(15));
}

#[test]
fn a_silent_source_is_asked_by_few_and_a_quick_one_by_many_within_two_seconds() {
    let mut world = World::new(64, Duration::from_millis(10));
    world.run_for(3 * SECOND);
    assert!(world.limit.limit >= 64, "{}", world.limit.limit);
    world.places = 0;
    world.run_for(20 * SECOND);
    assert!(world.limit.limit <= 2 * FLOOR, "{}", world.limit.limit);
    world.places = 64;
    world.run_for(2 * SECOND);
    let answered = world.run_for(SECOND);
    assert!(answered * 10 >= world.best_rate() * 9, "{answered}");
}

#[test]
fn a_source_that_becomes_slow_in_itself_is_soon_asked_as_much_as_before() {
    let mut world = World::new(64, Duration::from_millis(4));
    world.run_for(3 * SECOND);
    world.takes = Duration::from_millis(40);
    world.run_for(2 * SECOND);
    let answered = world.run_for(5 * SECOND);
    assert!(answered * 10 >= 5 * world.best_rate() * 8, "{answered}");
    world.takes = Duration::from_millis(4);
    world.run_for(SECOND);
    let answered = world.run_for(SECOND);
    assert!(answered * 10 >= world.best_rate() * 8, "{answered}");
}

#[test]
fn a_limit_that_is_not_used_does_not_change() {
    let mut world = World::new(64, Duration::from_millis(10));
    world.wanted = 3;
    world.run_for(5 * SECOND);
    assert_eq!(world.limit.limit, FIRST);
    world.takes = Duration::from_millis(300);
    world.run_for(5 * SECOND);
    assert_eq!(world.limit.limit, FIRST);
}

#[test]
fn some_users_who_always_time_out_do_not_lower_it() {
    let now = Instant::now();
    let mut limit = AdaptiveLimit::new(BOUNDS, now);
    let mut at = now;
    for number in 0..4_000_u32 {
        at += Duration::from_millis(1);
        limit.note_begin(limit.current_limit());
        let timed_out = number % 4 == 0;
        let took = if timed_out { SECOND } else { TICK };
        let sample = LoadSample {
            begun: at,
            took,
            timed_out,
            lag: Duration::ZERO,
        };
        limit.record_sample(sample, 1, at);
    }
    assert_eq!(limit.current_limit(), CEILING);
}

#[test]
fn it_does_not_fall_because_this_machine_is_busy_unless_questions_come_near_their_timeout() {
    let mut at = Instant::now();
    let mut limit = AdaptiveLimit::new(BOUNDS, at);
    let mut run = |limit: &mut AdaptiveLimit, lag: Duration| {
        for _ in 0..4_000 {
            at += Duration::from_millis(1);
            limit.note_begin(limit.current_limit());
            let sample = LoadSample {
                begun: at,
                took: Duration::from_millis(2) + 4 * lag,
                timed_out: false,
                lag,
            };
            limit.record_sample(sample, 1, at);
        }
    };
    run(&mut limit, Duration::ZERO);
    assert_eq!(limit.limit, CEILING);
    run(&mut limit, Duration::from_millis(40));
    assert_eq!(limit.limit, CEILING);
    run(&mut limit, Duration::from_millis(200));
    assert!(limit.limit < CEILING / 2, "{}", limit.limit);
}

#[test]
fn floor_and_ceiling_hold_for_any_settings() {
    for (floor, ceiling) in [(4, 1), (4, 4), (1, 1), (4, 1_000_000), (0, 0)] {
        let bounds = LimitRange {
            floor,
            ceiling,
            ..BOUNDS
        };
        let limit = AdaptiveLimit::new(bounds, Instant::now());
        let allowed = 1..=ceiling.max(1);
        assert!(
            allowed.contains(&limit.current_limit()),
            "{floor} {ceiling}"
        );
        assert!(allowed.contains(&limit.probe_limit()));
    }
}
