//! How long the view lags behind a notification.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_lag_of_the_view_is_measured_from_the_notification_to_the_load_that_shows_it() {
    let stage = Stage::new(|_| {});
    stage.pass_time(Duration::from_millis(100)).await;
    stage
        .sampler
        .note_change(sample_user(), asset_id(1), seq_of(6));
    stage
        .sampler
        .note_change(sample_user(), asset_id(2), seq_of(6));
    stage.pass_time(Duration::from_secs(2)).await;
    assert_eq!(stage.read_lags().0, 0);
    *stage.ledger.viewed.lock() = Snapshot::new(vec![sample_balance(1, 7)]);
    stage.pass_time(Duration::from_secs(1)).await;
    let (count, sum) = stage.read_lags();
    assert_eq!(count, 1, "one is followed at a time of arming");
    assert!((2.0..2.6).contains(&sum), "{sum}");
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_the_ledger_never_gets_says_nothing_of_the_view() {
    let stage = Stage::new(|_| {});
    stage.pass_time(Duration::from_millis(100)).await;
    stage
        .sampler
        .note_change(sample_user(), asset_id(1), seq_of(6));
    stage.pass_time(MINUTE * 2).await;
    assert_eq!(stage.read_lags().0, 0);
    stage.ledger.put_row(1, 6, Some(0));
    stage
        .sampler
        .note_change(sample_user(), asset_id(1), seq_of(6));
    stage.pass_time(MINUTE * 2).await;
    let (count, sum) = stage.read_lags();
    assert_eq!(
        count, 1,
        "the row is there, and does not come into the view"
    );
    assert!((60.0..80.0).contains(&sum), "{sum}");
}
