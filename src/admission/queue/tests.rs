//! Permits, queues and shedding, on a clock that the tests move.

use std::sync::Arc;

use tokio::{task::JoinSet, time};

use super::*;

const PATIENCE: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

fn test_queue(floor: usize, ceiling: usize) -> Arc<PermitQueue> {
    let limits = QueueLimits {
        bounds: LimitRange {
            floor,
            ceiling,
            slack: Duration::from_millis(2),
            longest: SECOND / 2,
        },
        bulk: usize::MAX,
    };
    Arc::new(PermitQueue::new(limits, PATIENCE, Instant::now()))
}

fn set_limit(queue: &PermitQueue, limit: usize) {
    let mut state = queue.state.lock();
    state.limit = AdaptiveLimit::fixed_at(limit, Instant::now());
    queue.resize_pools(&mut state);
}

/// The clock comes there.
async fn advance_to(when: Instant) {
    let _ = time::timeout_at(when, std::future::pending::<()>()).await;
}

fn deadline_soon() -> Instant {
    Instant::now() + SECOND
}

/// A source: so many at once, each this long; the others wait in it.
#[derive(Clone)]
struct SlowSource {
    limits: Arc<Semaphore>,
    takes: Duration,
}

impl SlowSource {
    fn new(limits: usize, takes: Duration) -> Self {
        let limits = Arc::new(Semaphore::new(limits));
        Self { limits, takes }
    }

    /// Whether it answered within a second.
    async fn ask_source(&self) -> bool {
        let answered = async {
            let _place = self.limits.acquire().await.unwrap();
            advance_to(Instant::now() + self.takes).await;
        };
        time::timeout(SECOND, answered).await.is_ok()
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct ReadTally {
    answered: u32,
    shed: u32,
    failed: u32,
    /// Of who was shed, those who heard it at once, and the longest wait.
    soon: u32,
    longest: Duration,
}

async fn read_once(queue: Arc<PermitQueue>, source: SlowSource, class: LoadClass) -> ReadTally {
    let begun = Instant::now();
    let Some(permit) = queue.acquire_permit(class, begun + SECOND).await else {
        let longest = begun.elapsed();
        return ReadTally {
            shed: 1,
            soon: u32::from(longest.is_zero()),
            longest,
            ..ReadTally::default()
        };
    };
    let asked = Instant::now();
    let answered = source.ask_source().await;
    permit.record_sample(asked.elapsed(), !answered).await;
    ReadTally {
        answered: u32::from(answered),
        failed: u32::from(!answered),
        ..ReadTally::default()
    }
}

/// `rate` reads a second for `seconds`, all of them waited for.
async fn load_steadily(
    queue: &Arc<PermitQueue>,
    source: &SlowSource,
    class: LoadClass,
    rate: u32,
    seconds: u32,
) -> ReadTally {
    let mut reads = JoinSet::new();
    let begun = Instant::now();
    for number in 0..rate * seconds {
        advance_to(begun + SECOND * number / rate).await;
        reads.spawn(read_once(Arc::clone(queue), source.clone(), class));
    }
    let mut all = ReadTally::default();
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

fn nothing_is_left(queue: &PermitQueue) {
    let state = queue.state.lock();
    assert_eq!(
        (state.busy, state.all.waiting, state.bulk.waiting),
        (0, 0, 0)
    );
    assert_eq!((state.all.owed, state.bulk.owed), (0, 0));
    assert_eq!(queue.all.available_permits(), state.all.size);
    assert_eq!(queue.bulk.available_permits(), state.bulk.size);
}

#[tokio::test(start_paused = true)]
async fn at_ten_times_the_load_as_much_is_answered_as_at_its_peak_and_the_rest_hears_soon() {
    // 16 at once, 8 ms each: 2,000 a second.
    let source = SlowSource::new(16, Duration::from_millis(8));
    let queue = test_queue(4, 256);
    load_steadily(&queue, &source, LoadClass::Single, 1_000, 2).await;
    let peak = load_steadily(&queue, &source, LoadClass::Single, 2_000, 4).await;
    let crowd = load_steadily(&queue, &source, LoadClass::Single, 20_000, 4).await;
    assert!(
        crowd.answered * 10 >= peak.answered * 9,
        "{peak:?} {crowd:?}"
    );
    assert_eq!(crowd.failed, 0, "{crowd:?}");
    assert!(crowd.longest <= PATIENCE, "{crowd:?}");
    nothing_is_left(&queue);

    // And nobody is shed once it is over.
    load_steadily(&queue, &source, LoadClass::Single, 1_000, 1).await;
    let after = load_steadily(&queue, &source, LoadClass::Single, 1_500, 1).await;
    assert_eq!((after.shed, after.failed), (0, 0), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn while_a_source_is_silent_who_comes_is_sent_away_soon_and_it_is_used_again_within_two_seconds()
 {
    let quick = SlowSource::new(64, Duration::from_millis(10));
    let queue = test_queue(4, 256);
    load_steadily(&queue, &quick, LoadClass::Single, 3_000, 3).await;
    let silent = SlowSource::new(0, Duration::ZERO);
    load_steadily(&queue, &silent, LoadClass::Single, 3_000, 2).await;
    let later = load_steadily(&queue, &silent, LoadClass::Single, 3_000, 4).await;
    assert_eq!(later.answered, 0);
    assert!(later.longest <= PATIENCE, "{later:?}");
    assert!(later.soon * 10 >= later.shed * 9, "{later:?}");
    assert!(later.shed >= 20 * later.failed, "{later:?}");
    load_steadily(&queue, &quick, LoadClass::Single, 3_000, 2).await;
    let again = load_steadily(&queue, &quick, LoadClass::Single, 3_000, 2).await;
    assert_eq!((again.shed, again.failed), (0, 0), "{again:?}");
    nothing_is_left(&queue);
}

#[tokio::test(start_paused = true)]
async fn batches_have_half_of_the_places_and_singles_the_rest() {
    let queue = test_queue(8, 8);
    let mut batches = Vec::new();
    for _ in 0..4 {
        batches.push(
            queue
                .acquire_permit(LoadClass::Batch, deadline_soon())
                .await
                .unwrap(),
        );
    }
    let mut fifth = Box::pin(queue.acquire_permit(LoadClass::Batch, deadline_soon()));
    assert!(futures::poll!(&mut fifth).is_pending());
    let mut singles = Vec::new();
    for _ in 0..4 {
        singles.push(
            queue
                .acquire_permit(LoadClass::Single, deadline_soon())
                .await
                .unwrap(),
        );
    }
    let mut ninth = Box::pin(queue.acquire_permit(LoadClass::Single, deadline_soon()));
    assert!(futures::poll!(&mut ninth).is_pending());
    drop(batches.pop());
    // The single one waited for any permit, the batch for one of its own.
    assert!(ninth.await.is_some());
    drop(singles);
    assert!(fifth.await.is_some());
    drop(batches);
    nothing_is_left(&queue);
}

#[tokio::test(start_paused = true)]
async fn single_reads_beside_ten_times_as_many_batch_loads_are_answered() {
    let source = SlowSource::new(16, Duration::from_millis(8));
    let queue = test_queue(4, 256);
    load_steadily(&queue, &source, LoadClass::Single, 1_000, 2).await;
    let (bulk, single) = tokio::join!(
        load_steadily(&queue, &source, LoadClass::Batch, 20_000, 3),
        load_steadily(&queue, &source, LoadClass::Single, 500, 3),
    );
    assert_eq!(single.failed, 0);
    assert!(single.shed * 20 <= single.answered, "{single:?}");
    assert!(bulk.answered > single.answered, "{bulk:?}");
    nothing_is_left(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_falls_takes_places_back_as_they_come_free() {
    let queue = test_queue(2, 2);
    set_limit(&queue, 16);
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(
            queue
                .acquire_permit(LoadClass::Single, deadline_soon())
                .await
                .unwrap(),
        );
    }
    set_limit(&queue, 2);
    while held.len() > 1 {
        let shut = futures::poll!(Box::pin(
            queue.acquire_permit(LoadClass::Single, deadline_soon())
        ))
        .is_pending();
        assert_eq!(shut, held.len() >= 2, "{}", held.len());
        held.pop();
    }
    held.clear();
    nothing_is_left(&queue);
}

#[tokio::test(start_paused = true)]
async fn who_is_dropped_while_it_waits_leaves_nothing_behind() {
    let queue = test_queue(1, 1);
    let permit = queue
        .acquire_permit(LoadClass::Single, deadline_soon())
        .await
        .unwrap();
    let mut waits: Vec<_> = [
        LoadClass::Single,
        LoadClass::Batch,
        LoadClass::Single,
        LoadClass::Batch,
    ]
    .map(|class| Box::pin(queue.acquire_permit(class, deadline_soon())))
    .into();
    for wait in &mut waits {
        assert!(futures::poll!(wait).is_pending());
    }
    assert_eq!(queue.current_usage().1, 4);
    // One of them was given the permit and never looked.
    drop(permit);
    drop(waits);
    nothing_is_left(&queue);
    assert!(
        queue
            .acquire_permit(LoadClass::Batch, deadline_soon())
            .await
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn of_those_who_come_together_no_more_are_expected_than_find_a_place() {
    let queue = test_queue(2, 2);
    // Nothing was measured yet: two permits take 100 ms each, as nothing has moved for so long.
    let permits = [
        queue
            .acquire_permit(LoadClass::Single, deadline_soon())
            .await
            .unwrap(),
        queue
            .acquire_permit(LoadClass::Single, deadline_soon())
            .await
            .unwrap(),
    ];
    advance_to(Instant::now() + SECOND / 10).await;
    let mut expected: Vec<_> = (0..100).map_while(|_| queue.reserve_place()).collect();
    assert_eq!(expected.len(), 10, "that many in 500 ms");
    assert!(
        queue
            .acquire_permit(LoadClass::Single, deadline_soon())
            .await
            .is_none()
    );
    assert_eq!(queue.current_usage().1, 10);
    expected.pop();
    expected.push(
        queue
            .reserve_place()
            .expect("somebody does not come after all"),
    );

    drop(permits);
    let mut seated = Vec::new();
    for one in expected.drain(..2) {
        seated.push(queue.take_reserved(one, deadline_soon()).await.unwrap());
    }
    let late = queue.take_reserved(expected.remove(0), deadline_soon());
    let begun = Instant::now();
    assert!(late.await.is_none());
    assert_eq!(begun.elapsed(), PATIENCE);
    drop((seated, expected));
    nothing_is_left(&queue);
}

#[tokio::test(start_paused = true)]
async fn places_that_are_free_are_not_waited_for() {
    let queue = test_queue(2, 2);
    advance_to(Instant::now() + SECOND + SECOND / 10).await;
    let first = queue.reserve_place().unwrap();
    let second = queue.reserve_place().unwrap();
    assert!(
        queue.reserve_place().is_none(),
        "it would wait for a second"
    );
    assert!(queue.take_reserved(first, deadline_soon()).await.is_some());
    drop(second);
    nothing_is_left(&queue);
}
