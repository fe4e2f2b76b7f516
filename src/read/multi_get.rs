//! Reads of many users: one lookup in Redis for all that memory lacks, and a bounded number of loads.
//!
//! **Cancellation.** As for one user: loads that began go on.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::{
    Miss, ReadAnswer, ReadError, ReadOptions, Reader,
    redis_batcher::{BATCH_LOADS, shed_loads, start_loads},
    timings::Timings,
};
use crate::{admission::LoadClass, domain::UserId};

/// The time before the deadline in which no more users are warmed.
const WARM_MARGIN: Duration = Duration::from_millis(200);

/// Reads many users, in the order asked, each by itself.
pub(super) async fn read_each(
    reader: &Arc<Reader>,
    users: &[UserId],
    deadline: Instant,
) -> Result<Vec<ReadAnswer>, ReadError> {
    let begun = Instant::now();
    let ask = ReadOptions::default();
    let mut distinct = users.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let mut answers: Vec<Option<ReadAnswer>> = Vec::with_capacity(distinct.len());
    let (mut missing, mut leading) = (Vec::new(), Vec::new());
    for (at, user) in distinct.iter().enumerate() {
        let served = match serve_from_memory(reader, *user, &ask, begun) {
            Ok(answer) => {
                answers.push(Some(answer));
                continue;
            }
            Err(refusal) => refusal,
        };
        answers.push(None);
        let miss = Miss {
            class: LoadClass::Batch,
            user: *user,
            begun,
            memory: served,
            deadline,
        };
        let joined = reader.join_load(miss);
        let (leads, flight, floors) = joined.inspect_err(|error| {
            shed_loads(reader, std::mem::take(&mut leading));
            record_result(reader, *user, Err(error), begun);
        })?;
        if leads {
            leading.push((*user, Arc::clone(&flight)));
        }
        missing.push((at, miss, flight, !leads, floors));
    }
    start_loads(reader, leading);
    let mut timings = Timings::default();
    for (at, miss, flight, follows, floors) in missing {
        let result = match flight.wait_for_result(deadline, &mut timings).await {
            Ok(result) if result.suits_floors(&floors) => {
                Ok(result.into_answer(miss.memory, follows))
            }
            Ok(_) => read_again(reader, miss.user, &ask, deadline).await,
            Err(error) => reader.serve_stale_or(miss.user, &ask, error),
        };
        let answer =
            result.inspect_err(|error| record_result(reader, miss.user, Err(error), begun))?;
        if let Some(place) = answers.get_mut(at) {
            *place = Some(answer);
        }
    }
    Ok(order_answers(reader, users, &distinct, answers, begun))
}

fn serve_from_memory(
    reader: &Reader,
    user: UserId,
    ask: &ReadOptions,
    now: Instant,
) -> Result<ReadAnswer, crate::cache_status::ForwardReason> {
    let memory = &reader.memory;
    let copy = memory.serve_hot_copy(user, ask, now, |answer| answer.to_shared());
    copy.map_or_else(|| memory.serve_snapshot(user, ask, now), Ok)
}

/// Reads one user of a batch from all tiers.
pub(super) async fn read_again(
    reader: &Arc<Reader>,
    user: UserId,
    ask: &ReadOptions,
    deadline: Instant,
) -> Result<ReadAnswer, ReadError> {
    let (now, mut timings) = (Instant::now(), Timings::default());
    reader
        .read_tiers(LoadClass::Batch, user, ask, now, deadline, &mut timings)
        .await
}

/// The answers in the order asked, each recorded; a user asked twice is answered twice.
fn order_answers(
    reader: &Reader,
    users: &[UserId],
    distinct: &[UserId],
    mut answers: Vec<Option<ReadAnswer>>,
    begun: Instant,
) -> Vec<ReadAnswer> {
    let took = begun.elapsed();
    let mut ordered = Vec::with_capacity(users.len());
    let repeated = distinct.len() < users.len();
    for user in users {
        let at = distinct.binary_search(user).ok();
        let place = at.and_then(|at| answers.get_mut(at));
        let of_user = place.and_then(|place| {
            if repeated {
                place.clone()
            } else {
                place.take()
            }
        });
        if let Some(answer) = of_user {
            let (shown, timings) = (Ok(answer.borrowed_view()), Timings::default());
            reader
                .recorder
                .record_read(*user, shown, begun, took, &timings);
            ordered.push(answer);
        }
    }
    reader.recorder.slow_log.log_batch(&ordered, took);
    ordered
}

fn record_result(
    reader: &Reader,
    user: UserId,
    result: Result<ReadAnswer<&[u8]>, &ReadError>,
    begun: Instant,
) {
    let timings = Timings::default();
    reader
        .recorder
        .record_read(user, result, begun, begun.elapsed(), &timings);
}

/// Loads users that are not cached; returns how many are cached then, and how many could not be loaded.
pub(super) async fn warm_users(
    reader: &Arc<Reader>,
    users: &[UserId],
    deadline: Instant,
) -> (u64, u64) {
    // No load begins after that, so that the answer with its counts comes in time.
    let end = deadline.checked_sub(WARM_MARGIN).unwrap_or(deadline);
    let loads = stream::iter(users.to_vec()).map(|user| async move {
        let (now, ask) = (Instant::now(), ReadOptions::default());
        now >= end || read_again(reader, user, &ask, deadline).await.is_err()
    });
    let results: Vec<_> = loads.buffer_unordered(BATCH_LOADS).collect().await;
    let failed = results.iter().filter(|failed| **failed).count();
    let loaded = results.len().saturating_sub(failed);
    (
        u64::try_from(loaded).unwrap_or(u64::MAX),
        u64::try_from(failed).unwrap_or(u64::MAX),
    )
}
