//! The model's shortest counterexamples between loads and notifications of one instance, played on the real code.
//! Each test names the rule without which it fails; `docs/MODEL.md` has the table.

use crate::{
    replay_stage::{KEY, Stage, shown, with_asset, with_values},
    settlement_support::SOON,
    support::{
        databases::on_each_database,
        eventually::eventually_async,
        proxy::Mode,
        redis::{Options, Redis},
        stage::Database,
    },
};

/// Without `LocalMarks` or `FollowersCompare`.
async fn who_follows_a_load_from_before_a_notification_sees_the_notification(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    one.gates.shut("filled");
    let first = one.begin_read();
    one.gates.stopped("filled").await;
    one.tell(&with_values()).await;
    let follower = one.begin_boarded().await;
    one.gates.open("filled");
    first.answer().await;
    assert_eq!(follower.seq().await, 2);
    assert_eq!(one.read().await, 2);
}

/// Without `GuardedKeep`.
async fn a_load_that_a_notification_overtook_is_not_kept(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    stage.row().await;
    one.gates.shut("filled");
    let first = one.begin_read();
    one.gates.stopped("filled").await;
    one.tell(&with_values()).await;
    one.gates.open("filled");
    first.answer().await;
    assert_eq!(one.read().await, 2);
}

/// Without `MarkBeforeMemory`.
async fn a_load_that_lands_between_the_mark_and_memory_is_not_kept(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    stage.row().await;
    one.gates.shut("filled");
    let first = one.begin_read();
    one.gates.stopped("filled").await;
    one.stop_following().await;
    one.gates.shut("marked");
    let told = one.begin_tell(&with_values());
    one.gates.stopped("marked").await;
    one.gates.open("filled");
    first.answer().await;
    one.gates.open("marked");
    told.settled().await;
    assert_eq!(one.read().await, 2);
}

/// Without `RereadCompared`.
async fn a_load_from_before_a_notification_without_a_seq_is_not_kept(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    one.gates.shut("filled");
    let first = one.begin_read();
    one.gates.stopped("filled").await;
    stage.row().await;
    one.stop_following().await;
    one.tell(&with_asset()).await;
    one.gates.open("filled");
    first.answer().await;
    assert_eq!(one.read().await, 2);
}

/// A load that began in the middle of an application fills a deleted key, which has forgotten what is to be read again.
async fn filled_in_the_middle_of_an_application(database: Database, redis: Redis) {
    let stage = Stage::on(database, redis).await;
    let one = stage.instance(0).await;
    stage.row().await;
    one.stop_following().await;
    one.gates.shut("redis-took");
    let told = one.begin_tell(&with_asset());
    one.gates.stopped("redis-took").await;
    stage.delete(KEY);
    one.gates.shut("reached");
    let first = one.begin_read();
    one.gates.stopped("reached").await;
    one.gates.open("redis-took");
    told.settled().await;
    one.gates.open("reached");
    first.answer().await;
    assert_eq!(one.read().await, 2);
}

/// Without `RereadForRedis`.
async fn after_a_notification_without_a_seq_the_ledger_is_read_before_redis_is_believed(
    database: Database,
) {
    filled_in_the_middle_of_an_application(database, Redis::start()).await;
}

/// And after that it is believed again.
async fn after_a_notification_without_a_seq_the_ledger_is_read_once(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.forgetful(0).await;
    stage.row().await;
    one.tell(&with_asset()).await;
    // The feed brings it here once more, to be read once more.
    one.follows().await;
    let way = async || {
        let read = one.ask().await;
        let status = read.cache_status();
        assert_eq!(shown(&read), 2, "{status}");
        status
    };
    let first = way().await;
    assert!(first.starts_with("source; hit"), "{first}");
    // A fill that comes too late on a busy machine is made up for by the next.
    eventually_async(SOON, "redis is believed", async || {
        way().await.starts_with("redis; hit").then_some(())
    })
    .await;
}

/// Without `AbsentIsUnknown` and `RereadForRedis`.
async fn where_redis_evicts_an_absent_key_is_no_word(database: Database) {
    let settings = vec![("maxmemory-policy", "allkeys-lru".to_owned())];
    let evicts = Redis::start_with(Options {
        settings,
        ..Options::default()
    });
    filled_in_the_middle_of_an_application(database, evicts).await;
}

/// Without `Lease` and `RereadForRedis`.
async fn a_load_of_the_ledger_from_before_its_row_does_not_fill_redis(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    one.stop_following().await;
    one.gates.shut("reached");
    let first = one.begin_fresh();
    one.gates.stopped("reached").await;
    stage.row().await;
    one.tell(&with_asset()).await;
    one.gates.open("reached");
    first.answer().await;
    assert_eq!(one.read().await, 2);
}

/// Without `RedisFirst` and `RereadForRedis`.
async fn a_load_that_began_in_the_middle_of_an_application_is_not_followed_after_it(
    database: Database,
) {
    let stage = Stage::over(database).await;
    let (one, other) = stage.both().await;
    assert_eq!(other.read().await, 1, "redis holds it");
    stage.row().await;
    one.stop_following().await;
    one.gates.shut("redis-took");
    let told = one.begin_tell(&with_asset());
    one.gates.stopped("redis-took").await;
    one.gates.shut("looked");
    let first = one.begin_read();
    one.gates.stopped("looked").await;
    one.gates.open("redis-took");
    told.settled().await;
    let before = one.gates.arrived("looked");
    let after = one.begin_boarded().await;
    // A reader that follows the first load asks Redis nothing of its own.
    eventually_async(SOON, "a load of its own looks at Redis", async || {
        (one.gates.arrived("looked") > before).then_some(())
    })
    .await;
    one.gates.open("looked");
    first.answer().await;
    assert_eq!(after.seq().await, 2);
}

/// Without `NotChangedLately`.
async fn who_was_told_of_a_change_lately_is_not_read_from_the_view_alone(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    stage.row().await;
    one.tell(&with_asset()).await;
    stage.delete(KEY);
    assert_eq!(one.read().await, 2);
}

/// Without `ShownRaises`.
async fn what_was_shown_is_a_floor_though_nobody_was_told_and_nothing_keeps_it(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    stage.row().await;
    one.gates.shut("reached");
    let first = one.begin_fresh();
    one.gates.stopped("reached").await;
    stage.delete(KEY);
    one.gates.open("reached");
    assert_eq!(first.seq().await, 2);
    assert_eq!(one.read().await, 2);
}

/// Without `ShownMovesMemory`.
async fn what_was_shown_and_not_kept_moves_memory_before_a_proof_comes_back(database: Database) {
    let stage = Stage::over(database).await;
    let one = stage.instance(0).await;
    assert_eq!(one.read().await, 1, "memory holds it");
    stage.row().await;
    one.gates.shut("reached");
    let first = one.begin_fresh();
    one.gates.stopped("reached").await;
    stage.pair.wires[0].set(Mode::Cut);
    one.gates.open("reached");
    assert_eq!(first.seq().await, 2);
    stage.pair.wires[0].set(Mode::Pass);
    one.whole().await;
    let next = one.ask().await;
    assert_eq!(shown(&next), 2, "{}", next.cache_status());
}

on_each_database! {
    who_follows_a_load_from_before_a_notification_sees_the_notification,
    a_load_that_a_notification_overtook_is_not_kept,
    a_load_that_lands_between_the_mark_and_memory_is_not_kept,
    a_load_from_before_a_notification_without_a_seq_is_not_kept,
    after_a_notification_without_a_seq_the_ledger_is_read_before_redis_is_believed,
    after_a_notification_without_a_seq_the_ledger_is_read_once,
    where_redis_evicts_an_absent_key_is_no_word,
    a_load_of_the_ledger_from_before_its_row_does_not_fill_redis,
    a_load_that_began_in_the_middle_of_an_application_is_not_followed_after_it,
    who_was_told_of_a_change_lately_is_not_read_from_the_view_alone,
    what_was_shown_is_a_floor_though_nobody_was_told_and_nothing_keeps_it,
    what_was_shown_and_not_kept_moves_memory_before_a_proof_comes_back,
}
