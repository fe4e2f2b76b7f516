use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::*;

const LONG: Duration = Duration::from_secs(2);

/// The load of this user, just begun.
pub(in crate::read) fn begun(slow: bool, user: i64) -> (Flights, UserId, Arc<Flight>) {
    let (flights, user) = (Flights::new(slow), UserId::new(user).unwrap());
    let start = Start {
        at: Instant::now(),
        generation: 1,
        reread: 0,
        proven: true,
        kind: Kind::Single,
    };
    let Some(Role::Leader(flight)) = flights.board(user, start, &Freshness::always()) else {
        panic!("the first one leads");
    };
    (flights, user, flight)
}

/// Waits from now on; how it ended, and after how long.
fn waits(flight: &Arc<Flight>) -> tokio::task::JoinHandle<(Result<Landed, Error>, Duration)> {
    let flight = Arc::clone(flight);
    TaskTracker::new().spawn(async move {
        let begun = Instant::now();
        let ended = flight.wait(begun + LONG, &mut Spent::default()).await;
        (ended, begun.elapsed())
    })
}

/// Everybody who can go on has.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_let_go_by_the_landing_and_not_by_the_word_that_it_goes_on() {
    for slow in [false, true] {
        let (flights, user, flight) = begun(slow, 1);
        let early = waits(&flight);
        settle().await;
        flight.goes_on();
        settle().await;
        let late = waits(&flight);
        settle().await;
        assert!(!early.is_finished() && !late.is_finished(), "slow: {slow}");
        flights.land(user, &flight, Err(Error::Shed), Spent::default());
        for waited in [early, late] {
            let (ended, _) = waited.await.unwrap();
            assert!(matches!(ended, Err(Error::Shed)), "slow: {slow}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_beyond_the_deadline_for_what_goes_on() {
    for slow in [false, true] {
        let (_flights, _, flight) = begun(slow, 1);
        let waited = waits(&flight);
        settle().await;
        flight.goes_on();
        let (ended, took) = waited.await.unwrap();
        assert!(matches!(ended, Err(Error::Deadline)), "slow: {slow}");
        assert_eq!(took, LONG, "slow: {slow}");
    }
}
