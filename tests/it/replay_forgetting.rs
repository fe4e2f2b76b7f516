//! The model's shortest counterexamples about floors that are forgotten, played on the real code. A notification ran ahead of
//! a row that never comes, as the seq of a row that was deleted.

use crate::{
    replay_stage::{Instance, KEY, Stage, USER, shown, with_values},
    settlement_support::SOON,
    support::{eventually::eventually_async, service::Answer},
};

/// It shows what the ledger has, and no floor says otherwise.
#[track_caller]
fn is_the_ledgers(answer: &Answer) {
    let status = answer.cache_status();
    assert_eq!(
        (shown(answer), status.contains("behind")),
        (1, false),
        "{status}"
    );
}

/// A load that knows the seq stops at the place; it is forgotten by an instance; the load ends.
async fn forgotten_beside_a_load(place: &'static str, one: &Instance, by: &Instance) {
    one.tell(&with_values()).await;
    one.gates.shut(place);
    let first = one.begin_fresh();
    one.gates.stopped(place).await;
    by.forget().await;
    for instance in [by, one] {
        instance.follows().await;
    }
    // A forgetting that the feed brought later would hide what the load leaves behind.
    one.stop_following().await;
    one.gates.open(place);
    assert_eq!(first.seq().await, 2, "it began before");
    is_the_ledgers(&one.ask().await);
    one.gates.open("feed-read");
    is_the_ledgers(&one.ask().await);
}

/// Without `ForgottenRaisesNothing`.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_from_before_a_forgetting_leaves_no_floor_behind() {
    let stage = Stage::new().await;
    let one = stage.instance(0).await;
    forgotten_beside_a_load("filled", &one, &one).await;
    forgotten_beside_a_load("reached", &one, &one).await;
}

/// Without `ForgottenRaisesNothing`, where the feed brings it.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_from_before_a_forgetting_elsewhere_leaves_no_floor_behind() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    forgotten_beside_a_load("filled", &one, &other).await;
    forgotten_beside_a_load("reached", &one, &other).await;
    is_the_ledgers(&other.ask().await);
}

/// Without `FillKnownElsewhere`.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_heard_of_a_forgetting_does_not_fill_redis_with_what_was_forgotten() {
    let stage = Stage::new().await;
    let (one, other) = (stage.forgetful(0).await, stage.forgetful(1).await);
    one.tell(&with_values()).await;
    other.follows().await;
    other.stop_following().await;
    one.forget().await;
    assert_eq!(other.read().await, 2, "it has not heard of it");
    let held: Option<String> = stage.pair.redis.ask(&["HGET", KEY, "b:1"]);
    assert!(
        held.as_ref().is_none_or(|held| held.starts_with("1 ")),
        "{held:?} of user {USER}"
    );
    other.gates.open("feed-read");
    for instance in [&one, &other] {
        // It may read the notification in the feed only now, and behind it that it is forgotten.
        instance.follows().await;
        eventually_async(SOON, "what the ledger has is shown", async || {
            (instance.read().await == 1).then_some(())
        })
        .await;
        is_the_ledgers(&instance.ask().await);
    }
}
