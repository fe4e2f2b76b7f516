//! Places, queues and the door, on a clock that the tests move.

use std::sync::Arc;

use tokio::{task::JoinSet, time};

use super::*;

const PATIENCE: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

fn turns(floor: usize, ceiling: usize) -> Arc<Turns> {
    let places = Places {
        bounds: Bounds {
            floor,
            ceiling,
            slack: Duration::from_millis(2),
            longest: SECOND / 2,
        },
        bulk: usize::MAX,
    };
    Arc::new(Turns::new(places, PATIENCE, Instant::now()))
}

fn set(turns: &Turns, limit: usize) {
    let mut state = turns.state.lock();
    state.limit = Limit::fixed(limit, Instant::now());
    turns.resize(&mut state);
}

/// The clock comes there.
async fn until(when: Instant) {
    let _ = time::timeout_at(when, std::future::pending::<()>()).await;
}

fn soon() -> Instant {
    Instant::now() + SECOND
}

/// A source: so many at once, each this long; the others wait in it.
#[derive(Clone)]
struct Source {
    places: Arc<Semaphore>,
    takes: Duration,
}

impl Source {
    fn new(places: usize, takes: Duration) -> Self {
        let places = Arc::new(Semaphore::new(places));
        Self { places, takes }
    }

    /// Whether it answered within a second.
    async fn ask(&self) -> bool {
        let answered = async {
            let _place = self.places.acquire().await.unwrap();
            until(Instant::now() + self.takes).await;
        };
        time::timeout(SECOND, answered).await.is_ok()
    }
}

/// The outcomes of reads.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    answered: u32,
    shed: u32,
    failed: u32,
    /// Of who was shed, those who heard it at once, and the longest wait.
    soon: u32,
    longest: Duration,
}

async fn read(turns: Arc<Turns>, source: Source, kind: Kind) -> Tally {
    let begun = Instant::now();
    let Some(place) = turns.take(kind, begun + SECOND).await else {
        let longest = begun.elapsed();
        return Tally {
            shed: 1,
            soon: u32::from(longest.is_zero()),
            longest,
            ..Tally::default()
        };
    };
    let asked = Instant::now();
    let answered = source.ask().await;
    place.told(asked.elapsed(), !answered).await;
    Tally {
        answered: u32::from(answered),
        failed: u32::from(!answered),
        ..Tally::default()
    }
}

/// `rate` reads a second for `seconds`, all of them waited for.
async fn load(turns: &Arc<Turns>, source: &Source, kind: Kind, rate: u32, seconds: u32) -> Tally {
    let mut reads = JoinSet::new();
    let begun = Instant::now();
    for number in 0..rate * seconds {
        until(begun + SECOND * number / rate).await;
        reads.spawn(read(Arc::clone(turns), source.clone(), kind));
    }
    let mut all = Tally::default();
    while let Some(one) = reads.join_next().await {
        let one = one.unwrap();
        all.answered += one.answered;
        all.shed += one.shed;
        all.failed += one.failed;
        all.soon += one.soon;
        all.longest = all.longest.max(one.longest);
    }
    all
}

fn nothing_is_left(turns: &Turns) {
    let state = turns.state.lock();
    assert_eq!(
        (state.busy, state.room.waiting, state.share.waiting),
        (0, 0, 0)
    );
    assert_eq!((state.room.owed, state.share.owed), (0, 0));
    assert_eq!(turns.room.available_permits(), state.room.size);
    assert_eq!(turns.share.available_permits(), state.share.size);
}

#[tokio::test(start_paused = true)]
async fn at_ten_times_the_load_as_much_is_answered_as_at_its_peak_and_the_rest_hears_soon() {
    // 16 at once, 8 ms each: 2,000 a second.
    let source = Source::new(16, Duration::from_millis(8));
    let turns = turns(4, 256);
    load(&turns, &source, Kind::Single, 1_000, 2).await;
    let peak = load(&turns, &source, Kind::Single, 2_000, 4).await;
    let crowd = load(&turns, &source, Kind::Single, 20_000, 4).await;
    assert!(
        crowd.answered * 10 >= peak.answered * 9,
        "{peak:?} {crowd:?}"
    );
    assert_eq!(crowd.failed, 0, "{crowd:?}");
    assert!(crowd.longest <= PATIENCE, "{crowd:?}");
    nothing_is_left(&turns);

    // And nobody is shed once it is over.
    load(&turns, &source, Kind::Single, 1_000, 1).await;
    let after = load(&turns, &source, Kind::Single, 1_500, 1).await;
    assert_eq!((after.shed, after.failed), (0, 0), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn while_a_source_is_silent_who_comes_is_sent_away_soon_and_it_is_used_again_within_two_seconds()
 {
    let quick = Source::new(64, Duration::from_millis(10));
    let turns = turns(4, 256);
    load(&turns, &quick, Kind::Single, 3_000, 3).await;
    let silent = Source::new(0, Duration::ZERO);
    load(&turns, &silent, Kind::Single, 3_000, 2).await;
    let later = load(&turns, &silent, Kind::Single, 3_000, 4).await;
    assert_eq!(later.answered, 0);
    assert!(later.longest <= PATIENCE, "{later:?}");
    assert!(later.soon * 10 >= later.shed * 9, "{later:?}");
    assert!(later.shed >= 20 * later.failed, "{later:?}");
    load(&turns, &quick, Kind::Single, 3_000, 2).await;
    let again = load(&turns, &quick, Kind::Single, 3_000, 2).await;
    assert_eq!((again.shed, again.failed), (0, 0), "{again:?}");
    nothing_is_left(&turns);
}

#[tokio::test(start_paused = true)]
async fn batches_have_half_of_the_places_and_singles_the_rest() {
    let turns = turns(8, 8);
    let mut batches = Vec::new();
    for _ in 0..4 {
        batches.push(turns.take(Kind::Bulk, soon()).await.unwrap());
    }
    let mut fifth = Box::pin(turns.take(Kind::Bulk, soon()));
    assert!(futures::poll!(&mut fifth).is_pending());
    let mut singles = Vec::new();
    for _ in 0..4 {
        singles.push(turns.take(Kind::Single, soon()).await.unwrap());
    }
    let mut ninth = Box::pin(turns.take(Kind::Single, soon()));
    assert!(futures::poll!(&mut ninth).is_pending());
    drop(batches.pop());
    // The single one waited for any place, the batch for one of its own.
    assert!(ninth.await.is_some());
    drop(singles);
    assert!(fifth.await.is_some());
    drop(batches);
    nothing_is_left(&turns);
}

#[tokio::test(start_paused = true)]
async fn single_reads_beside_ten_times_as_many_batch_loads_are_answered() {
    let source = Source::new(16, Duration::from_millis(8));
    let turns = turns(4, 256);
    load(&turns, &source, Kind::Single, 1_000, 2).await;
    let (bulk, single) = tokio::join!(
        load(&turns, &source, Kind::Bulk, 20_000, 3),
        load(&turns, &source, Kind::Single, 500, 3),
    );
    assert_eq!(single.failed, 0);
    assert!(single.shed * 20 <= single.answered, "{single:?}");
    assert!(bulk.answered > single.answered, "{bulk:?}");
    nothing_is_left(&turns);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_falls_takes_places_back_as_they_come_free() {
    let turns = turns(2, 2);
    set(&turns, 16);
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(turns.take(Kind::Single, soon()).await.unwrap());
    }
    set(&turns, 2);
    while held.len() > 1 {
        let shut = futures::poll!(Box::pin(turns.take(Kind::Single, soon()))).is_pending();
        assert_eq!(shut, held.len() >= 2, "{}", held.len());
        held.pop();
    }
    held.clear();
    nothing_is_left(&turns);
}

#[tokio::test(start_paused = true)]
async fn who_is_dropped_while_it_waits_leaves_nothing_behind() {
    let turns = turns(1, 1);
    let place = turns.take(Kind::Single, soon()).await.unwrap();
    let mut waits: Vec<_> = [Kind::Single, Kind::Bulk, Kind::Single, Kind::Bulk]
        .map(|kind| Box::pin(turns.take(kind, soon())))
        .into();
    for wait in &mut waits {
        assert!(futures::poll!(wait).is_pending());
    }
    assert_eq!(turns.now().1, 4);
    // One of them was given the place and never looked.
    drop(place);
    drop(waits);
    nothing_is_left(&turns);
    assert!(turns.take(Kind::Bulk, soon()).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn of_those_who_come_together_no_more_are_expected_than_find_a_place() {
    let turns = turns(2, 2);
    // Nothing was measured yet: two places take 100 ms each, as nothing has moved for so long.
    let places = [
        turns.take(Kind::Single, soon()).await.unwrap(),
        turns.take(Kind::Single, soon()).await.unwrap(),
    ];
    until(Instant::now() + SECOND / 10).await;
    let mut expected: Vec<_> = (0..100).map_while(|_| turns.expect()).collect();
    assert_eq!(expected.len(), 10, "that many in 500 ms");
    assert!(turns.take(Kind::Single, soon()).await.is_none());
    assert_eq!(turns.now().1, 10);
    expected.pop();
    expected.push(turns.expect().expect("somebody does not come after all"));

    drop(places);
    let mut seated = Vec::new();
    for one in expected.drain(..2) {
        seated.push(turns.take_expected(one, soon()).await.unwrap());
    }
    let late = turns.take_expected(expected.remove(0), soon());
    let begun = Instant::now();
    assert!(late.await.is_none());
    assert_eq!(begun.elapsed(), PATIENCE);
    drop((seated, expected));
    nothing_is_left(&turns);
}

#[tokio::test(start_paused = true)]
async fn places_that_are_free_are_not_waited_for() {
    let turns = turns(2, 2);
    until(Instant::now() + SECOND + SECOND / 10).await;
    let first = turns.expect().unwrap();
    let second = turns.expect().unwrap();
    assert!(turns.expect().is_none(), "it would wait for a second");
    assert!(turns.take_expected(first, soon()).await.is_some());
    drop(second);
    nothing_is_left(&turns);
}
