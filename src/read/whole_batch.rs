//! Batch reads that show each transaction whole, where the source promises that (`source::isolation`).
//!
//! **Invariants.** A transaction that one answer shows is in all answers of its users. Answers only move forward. Each user asked
//! is recorded once as a read, when the result of the whole batch is known.
//!
//! **Limits.** Users that lack a transaction are read again until none does, or the deadline has passed. Answers marked
//! `detail=` are exempt.

use std::{collections::HashMap, sync::Arc};

use futures::future::try_join_all;
use tokio::time::Instant;

use super::{
    ReadAnswer, ReadError, ReadOptions, Reader,
    multi_get::{read_again, read_each},
    timings::Timings,
};
use crate::{
    domain::{AssetId, Seq, Snapshot, UserId},
    ledger::isolation::lagging_users,
};

/// Reads the balances of many users, in the order asked.
pub(super) async fn read_users(
    reader: &Arc<Reader>,
    users: &[UserId],
    deadline: Instant,
) -> Result<Vec<ReadAnswer>, ReadError> {
    let begun = Instant::now();
    let result = read_whole(reader, users, deadline).await;
    let (recorder, took, timings) = (&reader.recorder, begun.elapsed(), Timings::default());
    match &result {
        Ok(answers) => {
            for (user, answer) in users.iter().zip(answers) {
                let shown = Ok(answer.borrowed_view());
                recorder.record_read(*user, shown, begun, took, &timings);
            }
            recorder.slow_log.log_batch(answers, took);
        }
        Err(error) => {
            // Each is a read; among the slowest they are one.
            if let Some((first, others)) = users.split_first() {
                let outcome = recorder.record_read(*first, Err(error), begun, took, &timings);
                for _ in others {
                    recorder.meters.record_read(outcome, took);
                }
            }
        }
    }
    result
}

/// Reads users until no answer lacks a transaction that another one shows.
async fn read_whole(
    reader: &Arc<Reader>,
    users: &[UserId],
    deadline: Instant,
) -> Result<Vec<ReadAnswer>, ReadError> {
    let Some(isolation) = reader.source.source.isolation() else {
        return read_each(reader, users, deadline).await;
    };
    let mut began = isolation.current_moment();
    let mut answers = read_each(reader, users, deadline).await?;
    loop {
        let known = isolation.visible_since(began);
        if matches!(&known, Ok(transactions) if transactions.is_empty()) {
            return Ok(answers);
        }
        if Instant::now() >= deadline {
            return Err(ReadError::Deadline);
        }
        let Ok(transactions) = known else {
            began = isolation.current_moment();
            answers = read_each(reader, users, deadline).await?;
            continue;
        };
        let torn = {
            let shown = snapshots_of(users, &answers);
            let seq = |user: UserId, asset: AssetId| -> Option<Option<Seq>> {
                let snapshot = shown.get(&user)?;
                Some(snapshot.get(asset).map(|balance| balance.seq))
            };
            lagging_users(&transactions, seq)
        };
        if torn.is_empty() {
            return Ok(answers);
        }
        let ask = ReadOptions {
            no_cache: true,
            ..ReadOptions::default()
        };
        // At once: the longer this takes, the more transactions come meanwhile.
        let reads = torn.iter().map(async |user| {
            let answer = read_again(reader, *user, &ask, deadline).await?;
            Ok::<_, ReadError>((*user, answer))
        });
        let again: HashMap<UserId, ReadAnswer> = try_join_all(reads).await?.into_iter().collect();
        for (user, answer) in users.iter().zip(&mut answers) {
            if let Some(newer) = again.get(user) {
                *answer = newer.clone();
            }
        }
    }
}

/// The answer for each user, where it is as good as promised.
fn snapshots_of(users: &[UserId], answers: &[ReadAnswer]) -> HashMap<UserId, Snapshot> {
    let promised = users.iter().zip(answers);
    promised
        .filter(|(_, answer)| answer.cache_status.detail.is_none())
        .map(|(user, answer)| (*user, answer.held.read_snapshot()))
        .collect()
}
