use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::*;

const LONG: Duration = Duration::from_secs(2);

/// The knowledge of a load or a reader that begins now.
fn start_now() -> LoadStart {
    LoadStart {
        at: Instant::now(),
        knowledge: Knowledge::default(),
        proven: true,
        class: LoadClass::Single,
        overtakes: false,
    }
}

/// The load of this user, just begun.
pub(in crate::read) fn begin_flight(slow: bool, user: i64) -> (SingleFlight, UserId, Arc<Flight>) {
    let (flights, user) = (SingleFlight::new(slow), UserId::new(user).unwrap());
    let start = start_now();
    let Some(LoadRole::Leader(flight)) =
        flights.join_or_lead(user, start, &Freshness::always_fresh())
    else {
        panic!("the first one leads");
    };
    (flights, user, flight)
}

/// Waits from now on; how it ended, and after how long.
fn spawn_waiter(
    flight: &Arc<Flight>,
) -> tokio::task::JoinHandle<(Result<LoadResult, ReadError>, Duration)> {
    let flight = Arc::clone(flight);
    TaskTracker::new().spawn(async move {
        let begun = Instant::now();
        let ended = flight
            .wait_for_result(begun + LONG, &mut Timings::default())
            .await;
        (ended, begun.elapsed())
    })
}

/// Everybody who can go on has.
async fn settle_tasks() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_let_go_by_the_landing_and_not_by_the_word_that_it_goes_on() {
    for slow in [false, true] {
        let (flights, user, flight) = begin_flight(slow, 1);
        let early = spawn_waiter(&flight);
        settle_tasks().await;
        flight.mark_slow();
        settle_tasks().await;
        let late = spawn_waiter(&flight);
        settle_tasks().await;
        assert!(!early.is_finished() && !late.is_finished(), "slow: {slow}");
        flights.finish_load(user, &flight, Err(ReadError::Shed), Timings::default());
        for waited in [early, late] {
            let (ended, _) = waited.await.unwrap();
            assert!(matches!(ended, Err(ReadError::Shed)), "slow: {slow}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_beyond_the_deadline_for_what_goes_on() {
    for slow in [false, true] {
        let (_flights, _, flight) = begin_flight(slow, 1);
        let waited = spawn_waiter(&flight);
        settle_tasks().await;
        flight.mark_slow();
        let (ended, took) = waited.await.unwrap();
        assert!(matches!(ended, Err(ReadError::Deadline)), "slow: {slow}");
        assert_eq!(took, LONG, "slow: {slow}");
    }
}

/// Whether a reader that begins like that joins a load that began like this; if not, whether it takes the lease over.
fn try_join(load: LoadStart, reader: LoadStart, freshness: &Freshness) -> Result<(), bool> {
    let (flights, user) = (SingleFlight::new(false), UserId::new(1).unwrap());
    let first = flights.join_or_lead(user, load, freshness);
    assert!(matches!(first, Some(LoadRole::Leader(_))));
    match flights.join_or_lead(user, reader, freshness).unwrap() {
        LoadRole::Follower(_) => Ok(()),
        LoadRole::Leader(flight) => Err(flight.start.overtakes),
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_is_joined_only_by_readers_who_know_no_more_than_it_does() {
    let freshness = Freshness::by_proof(LONG);
    let load = start_now();
    assert_eq!(try_join(load, start_now(), &freshness), Ok(()));
    let later = |change: fn(&mut Knowledge)| {
        let mut reader = start_now();
        change(&mut reader.knowledge);
        reader
    };
    for (what, reader) in [
        ("generation", later(|known| known.generation += 1)),
        (
            "notification without a seq",
            later(|known| known.reread += 1),
        ),
        ("changes given up", later(|known| known.given_up += 1)),
    ] {
        assert_eq!(try_join(load, reader, &freshness), Err(false), "{what}");
    }
    let unproven = LoadStart {
        proven: false,
        ..load
    };
    assert_eq!(try_join(load, unproven, &freshness), Err(false), "the view");
    assert_eq!(
        try_join(unproven, unproven, &freshness),
        Ok(()),
        "the ledger"
    );
    assert_eq!(
        try_join(unproven, load, &freshness),
        Ok(()),
        "it is compared"
    );
    tokio::time::advance(LONG * 2).await;
    let reader = LoadStart {
        at: Instant::now(),
        ..unproven
    };
    assert_eq!(
        try_join(unproven, reader, &freshness),
        Err(false),
        "too old"
    );
}

#[tokio::test(start_paused = true)]
async fn a_single_reader_does_not_wait_in_the_queue_of_batches() {
    let freshness = Freshness::always_fresh();
    let single = start_now();
    let batch = LoadStart {
        class: LoadClass::Batch,
        ..single
    };
    assert_eq!(try_join(batch, single, &freshness), Err(true));
    assert_eq!(try_join(single, batch, &freshness), Ok(()));
    assert_eq!(try_join(batch, batch, &freshness), Ok(()));
}
