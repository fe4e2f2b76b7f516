//! What memory may show, and whether it may be shown now.
//!
//! **Invariants.** What this thread has at hand is shown only where what the map holds would be shown after the same questions.

use tokio::time::Instant;

use super::{Answer, Ask, Reader, spent::Spent};
use crate::{
    domain::UserId,
    telemetry::Op,
    trail::{Forward, Tier, Trail},
};

impl Reader {
    /// Shows what memory may show to a reader who came at `begun`, without waiting.
    ///
    /// # Errors
    /// Why it shows nothing.
    pub fn held<T>(
        &self,
        user: UserId,
        ask: &Ask,
        begun: Instant,
        mut show: impl FnMut(Answer<&[u8]>) -> T,
    ) -> Result<T, Forward> {
        let mut counted = |answer: Answer<&[u8]>| {
            let took = begun.elapsed();
            self.meters.memory_hit(took);
            self.note_read(user, Ok(answer), begun, took, &Spent::default());
            show(answer)
        };
        if let Some(shown) = self.show_near(user, ask, begun, &mut counted) {
            return Ok(shown);
        }
        match self.ask_memory(user, ask, begun) {
            Ok(answer) => Ok(counted(answer.view())),
            Err(said) => {
                self.meters.tier(Tier::Memory, Op::Get, begun.elapsed());
                Err(said)
            }
        }
    }

    /// Shows what this thread has at hand, where that needs no closer look: [`Self::ask_memory`] would answer the same.
    pub(super) fn show_near<T>(
        &self,
        user: UserId,
        ask: &Ask,
        now: Instant,
        show: impl FnOnce(Answer<&[u8]>) -> T,
    ) -> Option<T> {
        if ask.no_cache || !ask.min_seq.is_empty() || !self.freshness.proven(now) {
            return None;
        }
        let generation = self.marks.generation();
        self.memory.show_near(user, generation, now, |held, left| {
            let trail = Trail::memory(left.as_secs());
            show(Answer { held, trail })
        })
    }

    /// Memory's answer, or why it has none.
    pub(super) fn ask_memory(
        &self,
        user: UserId,
        ask: &Ask,
        now: Instant,
    ) -> Result<Answer, Forward> {
        if ask.no_cache {
            return Err(Forward::Request);
        }
        let kept = self
            .memory
            .get(user, self.marks.generation())
            .ok_or(Forward::Miss)?;
        if kept.until <= now {
            return Err(Forward::Miss);
        }
        let fresh = self.freshness.proven(now)
            || (kept.from_ledger && self.freshness.young_enough(kept.loaded, now));
        let reached = || ask.min_seq.is_empty() || ask.min_seq.met_by(&kept.held.snapshot());
        if !fresh || kept.doubted || !reached() {
            return Err(Forward::Stale);
        }
        let ttl = kept.until.saturating_duration_since(now).as_secs();
        Ok(Answer {
            held: kept.held,
            trail: Trail::memory(ttl),
        })
    }
}

impl Answer {
    /// The same, looked at.
    #[must_use]
    pub fn view(&self) -> Answer<&[u8]> {
        Answer {
            held: self.held.view(),
            trail: self.trail,
        }
    }
}

impl Answer<&[u8]> {
    /// One of its own.
    #[must_use]
    pub fn to_shared(&self) -> Answer {
        Answer {
            held: self.held.to_shared(),
            trail: self.trail,
        }
    }
}
