//! Loads the users that were read most after a start, and keeps the list of them for the next one.
//!
//! **Invariants.** Users are loaded as a batch's are: under the limits of Redis and the source, no faster than
//! `memory.warm_users_per_second`. Readiness waits for `memory.warm_max_ms` at most.
//!
//! **Limits.** [`FLUSHED_MAX`] users are added to the list every [`FLUSH_EVERY`].

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::{
    assembled::Assembled,
    readiness,
    warm_state::{WarmProgress, WarmStart},
};
use crate::{cache::redis::Redis, clock};

const FLUSH_EVERY: Duration = Duration::from_secs(1);
const FLUSHED_MAX: usize = 2_000;
/// How often warming checks whether users can be loaded.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Portions of a second in which users are loaded.
const PORTIONS: u32 = 20;
/// The list is this many times longer than the load, so that users whose reads increase enter it.
const LIST_FACTOR: usize = 4;

/// Loads the users once, then adds to their list until it is dropped.
pub(super) async fn warm_hot_users(parts: &Assembled) {
    let warm = &parts.warm;
    let redis = parts
        .redis
        .as_ref()
        .filter(|_| warm.load_progress() != WarmProgress::Off);
    let Some(redis) = redis else {
        return;
    };
    // Reads could be answered from memory, or nothing is known that would keep them from it.
    while !readiness::of_rest(parts).words.not_ready.is_empty() {
        sleep(LOOK_EVERY).await;
    }
    tokio::select! {
        () = load_users(parts, redis) => {}
        () = end_patience(warm) => {}
    }
    warm.end_loading();
    parts.meters.warm_ends();
    keep_list(parts, redis).await;
}

/// Ends the wait of readiness after its longest time, and never returns, so that loading goes on.
async fn end_patience(warm: &WarmStart) {
    if let Some(end) = Instant::now().checked_add(warm.wait_max) {
        sleep_until(end).await;
        warm.stop_waiting();
        if warm.before_ready {
            tracing::warn!(
                "warming takes longer than memory.warm_max_ms: ready before all are loaded"
            );
        }
    }
    std::future::pending::<()>().await;
}

async fn load_users(parts: &Assembled, redis: &Redis) {
    let (warm, begun) = (&parts.warm, Instant::now());
    let Ok(users) = redis.most_read(warm.users_max, clock::wall_now()).await else {
        tracing::warn!("the users that were read most are not known: nobody is loaded");
        return;
    };
    let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
    warm.begin_loading(count);
    parts.meters.warm_begins(count);
    let portion = warm.per_second.div_ceil(PORTIONS).max(1);
    let each = Duration::from_secs(1)
        .saturating_mul(portion)
        .checked_div(warm.per_second)
        .unwrap_or_default()
        .max(Duration::from_millis(1));
    let mut ticks = interval(each);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for some in users.chunks(usize::try_from(portion).unwrap_or(usize::MAX)) {
        ticks.tick().await;
        let now = Instant::now();
        let deadline = now.checked_add(warm.deadline).unwrap_or(now);
        let (loaded, failed) = parts.reader.warm_users(some, deadline).await;
        warm.add_loaded(loaded, failed);
        parts.meters.count_warmed(loaded, failed);
    }
    let (users, loaded, failed) = warm.user_counts();
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        warm.users = users,
        warm.loaded = loaded,
        warm.failed = failed,
        warm.ms = took,
        "users that were read most are loaded"
    );
}

/// Adds the reads of this instance to the list.
async fn keep_list(parts: &Assembled, redis: &Redis) {
    let mut ticks = interval(FLUSH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let list_max = parts.warm.users_max.saturating_mul(LIST_FACTOR);
    loop {
        ticks.tick().await;
        let reads = parts.reader.take_most_read(FLUSHED_MAX);
        if !reads.is_empty() && redis.link.open_session().is_some() {
            // A fault is counted and logged where it is found; the next second has other reads.
            let _ = redis.add_reads(&reads, list_max, clock::wall_now()).await;
        }
    }
}
