//! Finishes what stands in the journal and was left there: by an instance that was killed, or by a request that failed.
//!
//! **Invariants.** A record is written and announced before it is removed. Several instances may finish one record.
//!
//! **Limits.** One page of records at a time, those that stood for as long as the caller says, by this instance's own clock.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{Scylla, record::JournalRecord};
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

/// Writes records that were seen in the journal at least this long ago.
pub(super) async fn recover_unfinished(
    scylla: &Scylla,
    age: Duration,
) -> Result<Recovered, LedgerError> {
    let live = scylla.live_connection()?;
    let postings = scylla.prepared_postings(&live).await?;
    let tail = postings.journal.read_tail(&live).await?;
    scylla.appends.note_tail(tail);
    let above = scylla.appends.removed_up_to(tail);
    let page = postings
        .journal
        .read_page(&live, above, tail.position)
        .await?;
    let lowest = page.first().map(|(position, _)| position.saturating_sub(1));
    let removed = lowest.unwrap_or(tail.position);
    scylla.appends.set_removed(removed);
    scylla.appends.forget_up_to(removed);
    let due = due_records(scylla, page, age);
    let mut recovered = Recovered::default();
    for (position, record) in due {
        postings.write_record(&live, &record).await?;
        scylla.appends.take_record(position, &record);
        let items = u64::try_from(record.items.len()).unwrap_or(u64::MAX);
        recovered.transactions = recovered.transactions.saturating_add(items);
        recovered.balances.extend(record.notifications());
    }
    Ok(recovered)
}

fn due_records(
    scylla: &Scylla,
    page: Vec<(i64, JournalRecord)>,
    age: Duration,
) -> Vec<(i64, JournalRecord)> {
    let now = Instant::now();
    let mut seen = scylla.appends.seen.lock();
    let mut still = BTreeMap::new();
    let mut due = Vec::new();
    for (position, record) in page {
        let since = seen.get(&position).copied().unwrap_or(now);
        let is_due = now.duration_since(since) >= age;
        // The removal of one that is finished now may be seen late.
        still.insert(position, if is_due { now } else { since });
        if is_due {
            due.push((position, record));
        }
    }
    *seen = still;
    due
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
