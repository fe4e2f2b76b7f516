//! The model's shortest counterexamples about what Redis holds, forgets and brings back, played on the real code.
//! Each test names the rule without which it fails; `docs/MODEL.md` has the table.

use balance_cache::config;
use tokio::time::Instant;

use crate::{
    replay_stage::{KEY, MAX_STALENESS, Stage, shown, with_values},
    settlement_support::SOON,
    support::{
        databases::on_each_database, eventually::eventually_async, proxy::Mode, stage::Database,
    },
};

/// Without `ValuesAreNoSnapshot` or `Whole`: what an instance shows has the other asset too.
#[tokio::test(flavor = "multi_thread")]
async fn a_balance_that_came_alone_is_no_snapshot() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    one.tell(&with_values()).await.everywhere().await;
    other.whole().await;
    assert_eq!((one.read().await, other.read().await), (2, 2));
}

/// Without `AnnouncedBySeq`.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_redis_had_by_a_load_is_told_to_the_others_all_the_same() {
    let stage = Stage::new().await;
    let (one, other) = stage.both().await;
    assert_eq!(other.read().await, 1, "memory holds it");
    stage.delete(KEY);
    stage.row().await;
    stage.pair.view(1, 1, 2).await;
    assert_eq!(one.read().await, 2, "redis is filled with it");
    one.tell(&with_values()).await.everywhere().await;
    other.whole().await;
    assert_eq!(other.read().await, 2);
}

/// Without `EpochCompared`.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_came_back_older_is_another_redis() {
    let mut stage = Stage::new().await;
    let (one, other) = stage.both().await;
    assert_eq!(other.read().await, 1, "memory holds it");
    let _: String = stage.pair.redis.ask(&["SAVE"]);
    other.stop_following().await;
    stage.row().await;
    let told = one.tell(&with_values()).await;
    stage.pair.redis.kill9();
    stage.pair.redis.launch();
    other.gates.open("feed-read");
    told.everywhere().await;
    other.whole().await;
    assert_eq!(other.read().await, 2);
}

/// Without `TapIsTheSessions`.
#[tokio::test(flavor = "multi_thread")]
async fn the_feed_of_a_redis_that_came_back_older_proves_nothing_for_the_old_session() {
    let mut stage = Stage::new().await;
    let (one, other) = stage.both().await;
    assert_eq!(other.read().await, 1, "memory holds it");
    let _: String = stage.pair.redis.ask(&["SAVE"]);
    other.stop_following().await;
    // The session's own look is late.
    other.stop("keeper-looks").await;
    stage.row().await;
    let told = one.tell(&with_values()).await;
    stage.pair.wires[0].set(Mode::Cut);
    stage.pair.redis.kill9();
    stage.pair.redis.launch();
    told.everywhere().await;
    other.says("feed: ").await;
    other.gates.open("feed-read");
    eventually_async(SOON, "it is proven, or the session is over", async || {
        let said = other.readiness().await?.body;
        (!said.contains("feed: ") || said.contains("redis: ")).then_some(())
    })
    .await;
    assert_eq!(other.read().await, 2);
}

/// Without `YoungSession`.
async fn a_load_that_comes_into_a_new_epoch_before_the_follower_reads_the_ledger(
    database: Database,
) {
    let stage = Stage::over(database).await;
    let (one, other) = stage.both().await;
    stage.row().await;
    other.stop_following().await;
    let told = one.tell(&with_values()).await;
    stage.delete(KEY);
    other.gates.shut("looked");
    let first = other.begin_read();
    other.gates.stopped("looked").await;
    stage.pair.wires[0].set(Mode::Cut);
    stage.pair.redis.ask::<()>(&["FLUSHALL"]);
    eventually_async(SOON, "another epoch", async || {
        let epoch: Option<String> = stage.pair.redis.ask(&["HGET", "balance:epoch", "id"]);
        let said = other.readiness().await?.body;
        (epoch.is_some() && !said.contains("redis: ")).then_some(())
    })
    .await;
    other.gates.open("looked");
    first.answer().await;
    other.gates.open("feed-read");
    told.everywhere().await;
    other.whole().await;
    let begun = Instant::now();
    while begun.elapsed() < MAX_STALENESS {
        let read = other.ask().await;
        assert_eq!(shown(&read), 2, "{}", read.cache_status());
    }
}

/// Without `FirstSessionTurns`.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_instance_held_before_its_first_session_counts_for_nothing() {
    let stage = Stage::new().await;
    let one = stage.instance(0).await;
    stage.pair.wires[1].set(Mode::Cut);
    let other = stage.newborn(1).await;
    assert_eq!(other.read().await, 1, "memory holds it, from the ledger");
    stage.row().await;
    let told = one.tell(&with_values()).await;
    stage.pair.wires[0].set(Mode::Cut);
    stage.pair.redis.ask::<()>(&["FLUSHALL"]);
    stage.pair.wires[1].set(Mode::Pass);
    other.whole().await;
    told.everywhere().await;
    other.whole().await;
    assert_eq!(other.read().await, 2);
}

/// Without `FloorsOutlive`: such an instance does not start.
#[test]
fn floors_that_end_before_what_is_held_are_refused() {
    let key = |name: &str| format!("BALANCE_CACHE__{name}");
    let with = |floor_ttl: &str| {
        config::load_settings(
            None,
            [
                (key("SETTLEMENT__FLOOR_TTL_MS"), floor_ttl.to_owned()),
                (key("SETTLEMENT__MAX_STALENESS_MS"), "100".to_owned()),
                (key("SETTLEMENT__LAG_BUDGET_MS"), "100".to_owned()),
                (key("MEMORY__TTL_MS"), "1000".to_owned()),
                (key("REDIS__SNAPSHOT_TTL_MS"), "1000".to_owned()),
                (key("LIMITS__DEADLINE_MS"), "1000".to_owned()),
            ],
        )
    };
    let refused = with("3100").unwrap_err().to_string();
    assert!(refused.contains("settlement.floor_ttl_ms"), "{refused}");
    with("3101").unwrap();
}

on_each_database! {
    a_load_that_comes_into_a_new_epoch_before_the_follower_reads_the_ledger,
}
