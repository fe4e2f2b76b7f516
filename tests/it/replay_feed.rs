//! The model's shortest counterexamples about the feed, and about who knows how fresh it is, played on the real code.
//! Each test names the rule without which it fails; `docs/MODEL.md` has the table.

use crate::settlement_support::SOON;
use crate::{
    replay_stage::{FEED, KEY, Stage, shown, with_seq, with_values},
    support::{
        databases::on_each_database, eventually::eventually_async, proxy::Mode, stage::Database,
    },
};

/// An entry of the feed is gone before the other instance, which holds an older balance, came to read it.
async fn lost_before_it_was_read(lose: impl FnOnce(&Stage)) {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    assert_eq!(other.read().await, 1, "memory holds it");
    stage.row().await;
    other.stop_following().await;
    let told = one.tell(&with_values()).await;
    lose(&stage);
    other.gates.open("feed-read");
    told.everywhere().await;
    other.whole().await;
    assert_eq!(other.read().await, 2);
}

/// Without `Chain`.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_was_trimmed_too_far_is_a_gap() {
    lost_before_it_was_read(Stage::trim).await;
}

/// Without `FeedGoneIsAGap`.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_gone_is_a_gap() {
    lost_before_it_was_read(|stage| {
        stage.delete(FEED);
        stage.delete(KEY);
    })
    .await;
}

/// Without `GapFirst`.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_not_forgotten_though_the_connection_breaks_after_it() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    assert_eq!(other.read().await, 1, "memory holds it");
    stage.row().await;
    other.stop_following().await;
    let told = one.tell(&with_values()).await;
    stage.trim();
    other.gates.pass("feed-read").await;
    stage.pair.wires[1].set(Mode::Cut);
    other.gates.open("feed-read");
    other.says("redis: ").await;
    stage.pair.wires[1].set(Mode::Pass);
    other.whole().await;
    told.everywhere().await;
    assert_eq!(other.read().await, 2);
}

/// Without `ProofForMemory`.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_answer_without_a_proof() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    assert_eq!(other.read().await, 1, "memory holds it");
    stage.row().await;
    other.stop_following().await;
    one.tell(&with_values()).await.everywhere().await;
    assert_eq!(other.read().await, 2);
}

/// Without `ProofDatedWhenSent`.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_as_old_as_the_question() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    assert_eq!(other.read().await, 1, "memory holds it");
    stage.row().await;
    other.stop_following().await;
    one.tell(&with_values()).await.everywhere().await;
    other.gates.pass("feed-read").await;
    assert_eq!(other.read().await, 2);
}

/// Without `ProofForView`.
async fn the_view_is_not_read_alone_without_a_proof(database: Database) {
    let stage = Stage::over(database).await;
    let (one, other) = stage.both().await;
    stage.row().await;
    other.stop_following().await;
    one.tell(&with_values()).await.everywhere().await;
    stage.delete(KEY);
    assert_eq!(other.read().await, 2);
}

/// Without `ProofForRedis`.
async fn redis_is_not_believed_without_a_proof(database: Database) {
    let stage = Stage::over(database).await;
    let (one, other) = stage.both().await;
    stage.row().await;
    other.stop_following().await;
    let told = one.tell(&with_values()).await;
    stage.delete(KEY);
    // It does not know yet, and fills the key without its floor.
    other.ask().await;
    told.everywhere().await;
    let late = other.ask().await;
    assert_eq!(shown(&late), 2, "{}", late.cache_status());
}

/// Without `SightForRedis`.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_gap_redis_is_not_believed() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    let before = other.resyncs().await;
    stage.row().await;
    other.stop_following().await;
    let told = one.tell(&with_values()).await;
    stage.delete(KEY);
    other.gates.shut("reached");
    let first = other.begin_read();
    other.gates.stopped("reached").await;
    stage.trim();
    other.gates.open("feed-read");
    eventually_async(SOON, "the gap is seen", async || {
        (other.resyncs().await > before).then_some(())
    })
    .await;
    other.gates.open("reached");
    first.answer().await;
    told.everywhere().await;
    other.whole().await;
    let next = other.ask().await;
    assert_eq!(shown(&next), 2, "{}", next.cache_status());
}

/// Without `Generation`.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_from_before_a_gap_is_not_kept() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    let before = other.resyncs().await;
    other.gates.shut("filled");
    let first = other.begin_read();
    other.gates.stopped("filled").await;
    stage.row().await;
    other.stop_following().await;
    let told = one.tell(&with_values()).await;
    stage.trim();
    other.gates.open("feed-read");
    eventually_async(SOON, "the gap is seen", async || {
        (other.resyncs().await > before).then_some(())
    })
    .await;
    other.gates.open("filled");
    first.answer().await;
    told.everywhere().await;
    other.whole().await;
    let next = other.ask().await;
    assert_eq!(shown(&next), 2, "{}", next.cache_status());
}

/// Without `NotBlind`.
async fn a_new_instance_that_cannot_read_the_feed_back_does_not_trust_the_view(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    stage.row().await;
    let told = one.tell(&with_values()).await;
    stage.trim();
    stage.delete(KEY);
    let other = stage.instance(1).await;
    told.everywhere().await;
    other.whole().await;
    assert_eq!(other.read().await, 2);
}

/// Without `RedisFloors`.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_prove_freshness_still_learns_of_a_floor_from_redis() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    other.stop_following().await;
    // Ahead of its row.
    one.tell(&with_seq()).await.everywhere().await;
    // An instance that a busy machine cuts off from Redis cannot know it, and holds for a while what it read.
    let read = eventually_async(SOON, "redis is asked", async || {
        let read = other.ask().await;
        let status = read.cache_status();
        let is_cut_off = status.contains("redis; fwd=bypass") || status.starts_with("memory; hit");
        (!is_cut_off).then_some(read)
    })
    .await;
    let status = read.cache_status();
    assert!(
        shown(&read) == 2 || status.contains("detail=behind"),
        "{status}"
    );
}

on_each_database! {
    the_view_is_not_read_alone_without_a_proof,
    redis_is_not_believed_without_a_proof,
    a_new_instance_that_cannot_read_the_feed_back_does_not_trust_the_view,
}
