//! Many users at once: how their reads are counted, and how they are warmed.

use std::{sync::atomic::Ordering, time::Duration};

use super::house::{House, test_house, test_user};
use crate::{cache_status::ReadOutcome, read::*};

fn users_of(ids: &[i64]) -> Vec<UserId> {
    ids.iter().copied().map(test_user).collect()
}

/// The reads that were recorded, by outcome.
fn recorded_reads(house: &House) -> Vec<(ReadOutcome, u64)> {
    let totals = house.reader.recorder.meters.snapshot_totals();
    let by_outcome = ReadOutcome::ALL.into_iter().zip(&totals.reads);
    let counts = by_outcome.map(|(outcome, tally)| (outcome, tally.count_values()));
    counts.filter(|(_, count)| *count > 0).collect()
}

#[tokio::test(start_paused = true)]
async fn each_user_of_a_batch_is_a_read_whether_it_succeeds_or_fails() {
    for (fails, outcome) in [(true, ReadOutcome::Failed), (false, ReadOutcome::Source)] {
        let house = test_house(&[]);
        house.source.fails.store(fails, Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(10);
        let users = users_of(&[1, 2, 1, 3]);
        let result = house.reader.read_users(&users, deadline).await;
        assert_eq!(result.is_err(), fails);
        assert_eq!(recorded_reads(&house), [(outcome, 4)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_deadline_warms_users_and_none_counts_those_that_are_held() {
    let house = test_house(&[]);
    let soon = Instant::now() + Duration::from_millis(100);
    let warmed = house.reader.warm_users(&users_of(&[1, 2]), soon).await;
    assert_eq!(warmed, (2, 0));
    // No load begins at the deadline.
    let now = Instant::now();
    let late = house.reader.warm_users(&users_of(&[3, 1, 2]), now).await;
    assert_eq!(late, (2, 1));
}
