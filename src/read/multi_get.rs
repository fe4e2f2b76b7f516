//! Reads of many users: one lookup in Redis for all that memory lacks, and a bounded number of loads.
//!
//! **Cancellation.** As for one user: loads that began go on.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::{
    Miss, PassedOn, ReadAnswer, ReadError, ReadOptions, Reader,
    redis_batcher::{BATCH_LOADS, shed_loads, start_loads},
    timings::Timings,
};
use crate::{admission::LoadClass, domain::UserId};

/// The time before the deadline in which no load of warming begins; at most a quarter of the time that is left.
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
        let (leads, flight, floors) =
            joined.inspect_err(|_| shed_loads(reader, std::mem::take(&mut leading)))?;
        if leads {
            leading.push((*user, Arc::clone(&flight)));
        }
        missing.push((at, miss, flight, !leads, floors));
    }
    start_loads(reader, leading);
    let mut timings = Timings::default();
    for (at, miss, flight, follows, floors) in missing {
        let answer = match flight.wait_for_result(deadline, &mut timings).await {
            Ok(result) if result.suits_floors(&floors) => result.into_answer(miss.memory, follows),
            Ok(_) => read_again(reader, miss.user, &ask, deadline).await?,
            Err(error) => reader.serve_stale_or(miss.user, &ask, error)?,
        };
        if let Some(place) = answers.get_mut(at) {
            *place = Some(answer);
        }
    }
    Ok(order_answers(users, &distinct, answers))
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

/// The answers in the order asked; a user asked twice is answered twice.
fn order_answers(
    users: &[UserId],
    distinct: &[UserId],
    mut answers: Vec<Option<ReadAnswer>>,
) -> Vec<ReadAnswer> {
    let repeated = distinct.len() < users.len();
    let of_user = |user: &UserId| {
        let place = answers.get_mut(distinct.binary_search(user).ok()?)?;
        if repeated {
            place.clone()
        } else {
            place.take()
        }
    };
    users.iter().filter_map(of_user).collect()
}

/// Loads users that are not cached; returns how many are cached then, and how many could not be loaded.
pub(super) async fn warm_users(
    reader: &Arc<Reader>,
    users: &[UserId],
    deadline: Instant,
) -> (u64, u64) {
    // No load begins after that, so that the answer with its counts comes in time.
    let left = deadline.saturating_duration_since(Instant::now());
    let margin = WARM_MARGIN.min(left.checked_div(4).unwrap_or_default());
    let end = deadline.checked_sub(margin).unwrap_or(deadline);
    let loads = stream::iter(users.to_vec()).map(|user| async move {
        let (came, mut ask) = (Instant::now(), ReadOptions::default());
        let Err(said) = reader.memory.serve_snapshot(user, &ask, came) else {
            return false;
        };
        ask.passed_on = Some(PassedOn { said, came });
        came >= end || read_again(reader, user, &ask, deadline).await.is_err()
    });
    let results: Vec<_> = loads.buffer_unordered(BATCH_LOADS).collect().await;
    let failed = results.iter().filter(|failed| **failed).count();
    let loaded = results.len().saturating_sub(failed);
    (
        u64::try_from(loaded).unwrap_or(u64::MAX),
        u64::try_from(failed).unwrap_or(u64::MAX),
    )
}
