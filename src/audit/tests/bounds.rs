//! The auditor keeps to its bounds.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_source_that_is_busy_or_silent_is_left_alone_and_nothing_is_counted() {
    let stage = Stage::new(|_| {});
    stage.ledger.put_row(1, 6, Some(60_000));
    stage.room.store(false, Relaxed);
    stage.serve_answer(Tier::Memory, 5);
    stage.pass_time(Duration::from_millis(500)).await;
    assert_eq!(stage.ledger.statements.load(Relaxed), 0, "readers need it");
    stage.room.store(true, Relaxed);
    stage.ledger.down.store(true, Relaxed);
    stage.pass_time(Duration::from_secs(1)).await;
    assert_eq!(stage.ledger.statements.load(Relaxed), 1);
    assert_eq!(stage.found_by_window(Tier::Memory), [(0, 0); 4]);
    stage.ledger.down.store(false, Relaxed);
    stage.pass_time(Duration::from_secs(10)).await;
    assert_eq!(
        stage.found_by_window(Tier::Memory)[..3],
        [(0, 0), (0, 0), (1, 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_statements_are_sent_than_allowed_and_what_comes_too_late_is_left_out() {
    let stage = Stage::new(|audit| audit.reads_per_second = 10);
    stage.ledger.put_row(1, 5, Some(60_000));
    for _ in 0..30 {
        stage.serve_answer(Tier::Memory, 5);
    }
    stage.pass_time(Duration::from_millis(900)).await;
    let sent = stage.ledger.statements.load(Relaxed);
    assert!((4..=10).contains(&sent), "{sent}");
    assert_eq!(stage.found_by_window(Tier::Memory)[0].0, sent);
    stage.pass_time(Duration::from_secs(5)).await;
    assert!(
        stage.found_by_window(Tier::Memory)[0].0 < 10,
        "{:?}",
        stage.found_by_window(Tier::Memory)
    );
}

#[tokio::test(start_paused = true)]
async fn only_so_many_answers_are_remembered() {
    let stage = Stage::new(|audit| audit.pending_max = 3);
    stage.ledger.put_row(1, 5, Some(60_000));
    for _ in 0..10 {
        stage.serve_answer(Tier::Memory, 5);
    }
    stage.pass_time(Duration::from_secs(2)).await;
    assert_eq!(stage.found_by_window(Tier::Memory)[0], (3, 0));
    assert!(
        !stage.sampler.wants_answer(Tier::Memory),
        "not armed while it is full"
    );
}

#[tokio::test(start_paused = true)]
async fn each_tier_is_armed_for_one_answer_at_a_time() {
    let stage = Stage::new(|audit| audit.samples_per_second = 30);
    let mut wanted = 0;
    for _ in 0..1_000 {
        stage.pass_time(Duration::from_millis(10)).await;
        wanted += u64::from(stage.sampler.wants_answer(Tier::Memory));
        assert!(!stage.sampler.wants_answer(Tier::Memory));
    }
    assert!((60..=130).contains(&wanted), "{wanted} of 10 seconds");
    stage.stop.cancel();
    stage.tasks.close();
    stage.tasks.wait().await;
    for tier in [Tier::Memory, Tier::Redis, Tier::Source] {
        assert!(!stage.sampler.wants_answer(tier), "stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn switched_off_nothing_is_ever_wanted() {
    let stage = Stage::new(|audit| audit.samples_per_second = 0);
    stage.pass_time(Duration::from_secs(3)).await;
    assert!(!stage.sampler.wants_answer(Tier::Memory));
    assert!(stage.tasks.is_empty());
}
