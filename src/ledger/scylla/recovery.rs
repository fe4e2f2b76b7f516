//! Finishes what stands in the journal and was left there: by an instance that was killed, or by a request that failed.
//!
//! **Invariants.** A record is written and announced before it is removed. Several instances may finish one record.
//!
//! **Limits.** One page of records at a time, those that stood for as long as the caller says, by this instance's own clock.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{Scylla, journal::PAGE};
use crate::{
    domain::{Reference, StoredTransaction},
    ledger::{LedgerError, Recovered},
};

/// Removes records that are in effect everywhere, for ever. One that cannot be removed is found again by [`recover_unfinished`].
pub(super) async fn run_removals(scylla: &Scylla, queue: &mut tokio::sync::mpsc::Receiver<i64>) {
    while let Some(position) = queue.recv().await {
        let Ok(live) = scylla.live_connection() else {
            continue;
        };
        if let Ok(postings) = scylla.prepared_postings(&live).await {
            let _ = postings.journal.remove_record(&live, position).await;
        }
    }
}

/// Writes the lowest records that were seen in the journal at least this long ago: those of one page.
pub(super) async fn recover_unfinished(
    scylla: &Scylla,
    age: Duration,
) -> Result<Recovered, LedgerError> {
    let live = scylla.live_connection()?;
    let postings = scylla.prepared_postings(&live).await?;
    let tail = postings.journal.read_tail(&live).await?;
    scylla.appends.note_tail(tail);
    let mut removed = None;
    let mut above = scylla.appends.removed_up_to(tail);
    let mut due = Vec::new();
    while due.is_empty() && above < tail.position {
        let page = postings
            .journal
            .read_page(&live, above, tail.position)
            .await?;
        let lowest = page.first().map(|(position, _)| position.saturating_sub(1));
        let removed = *removed.get_or_insert(lowest.unwrap_or(tail.position));
        let is_last = page.len() < PAGE;
        above = page.last().map_or(above, |(position, _)| *position);
        let mut ages = scylla.appends.ages.lock();
        ages.note_tail(Instant::now(), tail.position, removed, age);
        due = ages.due_of_page(Instant::now(), page, age);
        if is_last {
            break;
        }
    }
    let removed = removed.unwrap_or(tail.position);
    scylla.appends.set_removed(removed);
    scylla.appends.forget_up_to(removed);
    let mut recovered = Recovered::default();
    for (position, record) in due {
        postings.write_record(&live, &record).await?;
        scylla.appends.take_record(position, &record);
        // Not before: later records must not be finished ahead of one that could not be written.
        scylla.appends.ages.lock().note_finished(position);
        let items = u64::try_from(record.items.len()).unwrap_or(u64::MAX);
        recovered.transactions = recovered.transactions.saturating_add(items);
        recovered.balances.extend(record.notifications());
    }
    Ok(recovered)
}

/// How long records stand in the journal, by this instance's clock.
#[derive(Debug, Default)]
pub(super) struct RecordAges {
    /// Looks at the tail, ascending: each record up to the position stood at that time.
    tails: VecDeque<(Instant, i64)>,
    /// Records that were finished here, with the time: their removal may be seen late.
    finished: BTreeMap<i64, Instant>,
}

impl RecordAges {
    /// The tail was looked at. A look less than an eighth of `age` after the one before is taken together with it, so that few are kept.
    fn note_tail(&mut self, now: Instant, tail: i64, removed: i64, age: Duration) {
        self.finished.retain(|position, _| *position > removed);
        self.tails
            .retain(|(_, position)| *position > removed && *position <= tail);
        let apart = age.checked_div(8).unwrap_or_default();
        match self.tails.back_mut() {
            Some((at, position)) if now.duration_since(*at) < apart || *position == tail => {
                *position = tail;
            }
            _ => self.tails.push_back((now, tail)),
        }
    }

    /// Those of a page that stand at least for `age` since they were seen or finished.
    fn due_of_page<R>(&self, now: Instant, page: Vec<(i64, R)>, age: Duration) -> Vec<(i64, R)> {
        let mut due = Vec::new();
        for (position, record) in page {
            let seen = || {
                let mut tails = self.tails.iter();
                tails.find(|(_, tail)| *tail >= position).map(|(at, _)| *at)
            };
            let since = self.finished.get(&position).copied().or_else(seen);
            if since.is_some_and(|since| now.duration_since(since) >= age) {
                due.push((position, record));
            }
        }
        due
    }

    fn note_finished(&mut self, position: i64) {
        self.finished.insert(position, Instant::now());
    }
}

/// The record under an id, in the tables or in the journal.
pub(super) async fn find_transaction(
    scylla: &Scylla,
    reference: Reference,
) -> Result<Option<StoredTransaction>, LedgerError> {
    let live = scylla.live_connection()?;
    let postings = scylla.prepared_postings(&live).await?;
    let written = postings.find_stored(&live, reference).await?;
    if written.is_some() {
        return Ok(written);
    }
    let tail = postings.journal.read_tail(&live).await?;
    let above = scylla.appends.removed_up_to(tail);
    let records = postings
        .journal
        .read_records(&live, above, tail.position)
        .await?;
    let mut items = records.iter().flat_map(|(_, record)| &record.items);
    let pending = items.find_map(|item| {
        let claim = item.claim.as_ref()?;
        (claim.reference == reference).then(|| item.pending_record(claim))
    });
    if pending.is_some() {
        return Ok(pending);
    }
    // It may have been written and removed between the two looks.
    postings.find_stored(&live, reference).await
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(8);

    fn page(positions: std::ops::RangeInclusive<i64>) -> Vec<(i64, ())> {
        positions.map(|position| (position, ())).collect()
    }

    fn positions(due: &[(i64, ())]) -> Vec<i64> {
        due.iter().map(|(position, ())| *position).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn records_of_all_pages_are_due_an_age_after_the_tail_was_seen_behind_them() {
        let seconds = Duration::from_secs;
        let mut ages = RecordAges::default();
        ages.note_tail(Instant::now(), 100, 0, AGE);
        tokio::time::advance(seconds(4)).await;
        ages.note_tail(Instant::now(), 110, 0, AGE);
        tokio::time::advance(seconds(3)).await;
        assert!(
            ages.due_of_page(Instant::now(), page(1..=64), AGE)
                .is_empty()
        );
        tokio::time::advance(seconds(1)).await;
        for _ in 0..2 {
            // One that could not be written stays due.
            let first = ages.due_of_page(Instant::now(), page(1..=64), AGE);
            assert_eq!(positions(&first), (1..=64).collect::<Vec<i64>>());
        }
        // Finished, and not removed yet.
        (1..=64).for_each(|position| ages.note_finished(position));
        assert!(
            ages.due_of_page(Instant::now(), page(1..=64), AGE)
                .is_empty()
        );
        let second = ages.due_of_page(Instant::now(), page(65..=110), AGE);
        assert_eq!(positions(&second), (65..=100).collect::<Vec<i64>>());
        tokio::time::advance(seconds(4)).await;
        let last = ages.due_of_page(Instant::now(), page(101..=110), AGE);
        assert_eq!(positions(&last), (101..=110).collect::<Vec<i64>>());
        // Finished records that stay are finished again.
        tokio::time::advance(seconds(4)).await;
        assert_eq!(
            ages.due_of_page(Instant::now(), page(1..=64), AGE).len(),
            64
        );
    }

    #[test]
    fn looks_are_few_and_none_is_kept_of_what_was_removed() {
        let begun = Instant::now();
        let mut ages = RecordAges::default();
        for moment in 0..1_000 {
            let now = begun + Duration::from_millis(moment);
            ages.note_tail(now, i64::try_from(moment).unwrap() + 1, 0, AGE);
        }
        assert_eq!(ages.tails.len(), 1);
        assert_eq!(
            ages.due_of_page(begun + AGE, page(1_000..=1_000), AGE)
                .len(),
            1
        );
        ages.note_tail(begun + AGE, 1_001, 1_001, AGE);
        assert_eq!((ages.finished.len(), ages.tails.len()), (0, 1));
    }
}
