//! Reads that name the seqs that they must see: the ledger is read for what is missing, for that read only.
//!
//! **Invariants.** A client's `min_seq` raises no floor. The rows that the ledger gave are real, so the tiers move forward with them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Miss, ReadAnswer, ReadError, Reader, timings::Timings};
use crate::{
    admission::LoadClass,
    cache::redis::KnownBalances,
    cache_status::{CacheStatus, ForwardReason, Tier},
    clock,
    domain::{Floors, Snapshot},
    protocol::Knowledge,
};

/// Reads the ledger where an answer is below the client's `min_seq`, and moves the tiers forward to what it gave. `began` is what
/// was known before the answer was asked for, `unmet` are the floors that the answer does not reach.
pub(super) async fn reach_min_seq(
    reader: &Reader,
    (miss, began): (Miss, Knowledge),
    min_seq: &Floors,
    (answer, unmet): (ReadAnswer, Floors),
    timings: &mut Timings,
) -> Result<ReadAnswer, ReadError> {
    let (user, before) = (miss.user, answer.held.read_snapshot());
    if min_seq.met_by(&before) {
        return Ok(answer);
    }
    let snapshot = read_until_reached(reader, miss, min_seq, &before, timings).await?;
    reader.memory.changes.note_shown(user, began, &snapshot);
    reader.memory.raise_held(user, began, &snapshot);
    if let Some(tier) = &reader.redis
        && reader.memory.changes.may_raise(user, began)
    {
        let newer = snapshot.balances().iter().copied();
        let newer = newer.filter(|balance| before.get(balance.asset) != Some(balance));
        tier.redis
            .note_observed(user, &newer.collect::<Vec<_>>())
            .await;
    }
    let redis = match answer.cache_status.answered {
        Tier::Redis => Some(ForwardReason::Stale),
        Tier::Memory | Tier::Source => answer.cache_status.redis,
    };
    let cache_status = CacheStatus {
        answered: Tier::Source,
        ttl: None,
        redis,
        detail: answer
            .cache_status
            .detail
            .filter(|_| !unmet.met_by(&snapshot)),
        ..answer.cache_status
    };
    let held = reader.memory.render_snapshot(&snapshot, clock::wall_now());
    Ok(ReadAnswer { held, cache_status })
}

/// Reads all of the user's assets until `min_seq` is reached, within `lag_budget` and the deadline: of those alone that `min_seq`
/// names, half of a settlement would be served.
async fn read_until_reached(
    reader: &Reader,
    miss: Miss,
    min_seq: &Floors,
    before: &Snapshot,
    timings: &mut Timings,
) -> Result<Snapshot, ReadError> {
    let source = &reader.source;
    let start = reader.start_of_load(LoadClass::Single, miss.user, Instant::now());
    let budget = start.at.checked_add(source.lag_budget);
    let end = budget.map_or(miss.deadline, |end| end.min(miss.deadline));
    let mut known = KnownBalances {
        snapshot: before.clone(),
        floors: min_seq.clone(),
        assets: Vec::new(),
    };
    let mut pause = Duration::from_millis(1);
    loop {
        let load = start.as_admitted(miss.user);
        let permits = reader.admission.acquire_source_permit(load, None).await?;
        let mark = reader.memory.changes.changes_of(miss.user);
        let assets = source.assets_to_read(miss.user, &mark, &known);
        let rows = source.read_ledger(miss.user, &assets, timings).await?;
        known.snapshot = rows.merge_with(&known.snapshot);
        // A pause needs no permit.
        drop(permits);
        if min_seq.met_by(&known.snapshot) {
            return Ok(known.snapshot);
        }
        let next = Instant::now().checked_add(pause).unwrap_or(end);
        if next >= end {
            return Err(ReadError::NotReached);
        }
        tokio::time::sleep_until(next).await;
        pause = pause.saturating_mul(2);
    }
}
