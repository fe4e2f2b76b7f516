//! Readers that name the seq that they must see: what is missing is looked up in the ledger, for that reader.
//!
//! **Invariants.** A client's `min_seq` raises no floor. What the ledger gave is real, so the tiers move forward with it.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Ask, Error, Reader, permit_queue::Kind, timings::Spent};
use crate::{
    cache::redis::Known,
    cache_status::{Forward, Tier, Trail},
    clock,
    domain::{Floors, Snapshot, UserId},
    ledger::Cost,
    render::Held,
};

impl Reader {
    /// If the answer is below the client's `min_seq`, the ledger is asked for what is missing.
    pub(super) async fn satisfy(
        &self,
        user: UserId,
        ask: &Ask,
        answer: Answer,
        deadline: Instant,
        spent: &mut Spent,
    ) -> Result<Answer, Error> {
        let before = answer.held.snapshot();
        if ask.min_seq.met_by(&before) {
            return Ok(answer);
        }
        let start = self.start(Kind::Single, user, Instant::now());
        let end = start
            .at
            .checked_add(self.times.lag_budget)
            .map_or(deadline, |end| end.min(deadline));
        let mut snapshot = before.clone();
        let mut pause = Duration::from_millis(1);
        loop {
            let place = self.doors.place(user, start, None).await?;
            snapshot = self
                .look_at_all(user, snapshot, &ask.min_seq, spent)
                .await?;
            // A reader that only waits keeps no place among the loads.
            drop(place);
            if ask.min_seq.met_by(&snapshot) {
                break;
            }
            let next = Instant::now().checked_add(pause).unwrap_or(end);
            if next >= end {
                return Err(Error::NotReached);
            }
            tokio::time::sleep_until(next).await;
            pause = pause.saturating_mul(2);
        }
        let newer: Vec<_> = snapshot
            .balances()
            .iter()
            .filter(|balance| before.get(balance.asset) != Some(balance))
            .copied()
            .collect();
        self.marks.shown(user, &snapshot);
        self.memory.raise(user, &snapshot);
        if let Some(redis) = &self.redis {
            redis.observed(user, &newer).await;
        }
        let redis = if answer.trail.answered == Tier::Redis {
            Some(Forward::Stale)
        } else {
            answer.trail.redis
        };
        let trail = Trail {
            answered: Tier::Source,
            ttl: None,
            redis,
            ..answer.trail
        };
        Ok(Answer {
            held: Held::new(&self.catalogue, &snapshot, clock::wall()),
            trail,
        })
    }

    /// The newest ledger rows of all the user's assets: of those that `min_seq` names alone, half of a settlement would be shown,
    /// and kept.
    async fn look_at_all(
        &self,
        user: UserId,
        snapshot: Snapshot,
        min_seq: &Floors,
        spent: &mut Spent,
    ) -> Result<Snapshot, Error> {
        let known = Known {
            snapshot,
            floors: min_seq.clone(),
            assets: Vec::new(),
        };
        let wanted = self.wanted(user, &self.marks.of(user), &known);
        let (begun, cost) = (Instant::now(), Cost::default());
        let rows = self.source.latest_counting(user, &wanted, &cost).await;
        spent.source = spent.source.saturating_add(begun.elapsed());
        spent.add(&cost);
        Ok(rows?.merge(&known.snapshot))
    }
}
