//! Reads that name the seqs that they must see: the ledger is read for what is missing, for that read only.
//!
//! **Invariants.** A client's `min_seq` raises no floor. The rows that the ledger gave are real, so the tiers move forward with them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Error, Miss, Reader, timings::Timings};
use crate::{
    admission::LoadClass,
    cache::redis::Known,
    cache_status::{Forward, Tier, Trail},
    clock,
    domain::{Floors, Snapshot},
};

/// Reads the ledger where an answer is below the client's `min_seq`, and moves the tiers forward to what it gave.
pub(super) async fn reach_min_seq(
    reader: &Reader,
    miss: Miss,
    min_seq: &Floors,
    answer: Answer,
    timings: &mut Timings,
) -> Result<Answer, Error> {
    let (user, before) = (miss.user, answer.held.snapshot());
    if min_seq.met_by(&before) {
        return Ok(answer);
    }
    let snapshot = read_until_reached(reader, miss, min_seq, &before, timings).await?;
    reader.memory.changes.shown(user, &snapshot);
    reader.memory.memory.raise(user, &snapshot);
    if let Some(tier) = &reader.redis {
        let newer = snapshot.balances().iter().copied();
        let newer = newer.filter(|balance| before.get(balance.asset) != Some(balance));
        tier.redis.observed(user, &newer.collect::<Vec<_>>()).await;
    }
    let redis = match answer.trail.answered {
        Tier::Redis => Some(Forward::Stale),
        Tier::Memory | Tier::Source => answer.trail.redis,
    };
    let trail = Trail {
        answered: Tier::Source,
        ttl: None,
        redis,
        ..answer.trail
    };
    let held = reader.memory.render(&snapshot, clock::wall());
    Ok(Answer { held, trail })
}

/// Reads all of the user's assets until `min_seq` is reached, within `lag_budget` and the deadline: of those alone that `min_seq`
/// names, half of a settlement would be served.
async fn read_until_reached(
    reader: &Reader,
    miss: Miss,
    min_seq: &Floors,
    before: &Snapshot,
    timings: &mut Timings,
) -> Result<Snapshot, Error> {
    let source = &reader.source;
    let start = reader.start_of_load(LoadClass::Single, miss.user, Instant::now());
    let budget = start.at.checked_add(source.lag_budget);
    let end = budget.map_or(miss.deadline, |end| end.min(miss.deadline));
    let mut known = Known {
        snapshot: before.clone(),
        floors: min_seq.clone(),
        assets: Vec::new(),
    };
    let mut pause = Duration::from_millis(1);
    loop {
        let load = start.admitted(miss.user);
        let permits = reader.admission.acquire_source_permit(load, None).await?;
        let mark = reader.memory.changes.of(miss.user);
        let assets = source.assets_to_read(miss.user, &mark, &known);
        let rows = source.read_ledger(miss.user, &assets, timings).await?;
        known.snapshot = rows.merge(&known.snapshot);
        // A pause needs no permit.
        drop(permits);
        if min_seq.met_by(&known.snapshot) {
            return Ok(known.snapshot);
        }
        let next = Instant::now().checked_add(pause).unwrap_or(end);
        if next >= end {
            return Err(Error::NotReached);
        }
        tokio::time::sleep_until(next).await;
        pause = pause.saturating_mul(2);
    }
}
