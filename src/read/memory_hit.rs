//! The snapshot that memory may show, and whether it may be shown now.
//!
//! **Invariants.** A thread's copy is shown only where the map's entry would be shown after the same questions.

use tokio::time::Instant;

use super::{Answer, Ask, Reader, timings::Spent};
use crate::{
    cache_status::{Forward, Tier, Trail},
    domain::UserId,
    protocol::rules::{MemoryFacts, MemoryRefusal, may_memory_serve},
    telemetry::Op,
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
        let facts = MemoryFacts {
            ledger_requested: ask.no_cache,
            // The copy is looked for at its generation and version, and shown within its time.
            current_generation: true,
            expired: false,
            freshness_proven: self.freshness.proven(now),
            from_ledger_lately: false,
            invalidated: false,
            min_seq_met: ask.min_seq.is_empty(),
        };
        may_memory_serve(&facts).ok()?;
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
        let generation = self.marks.generation();
        let kept = self.memory.get(user, generation).ok_or(Forward::Miss)?;
        let proven = self.freshness.proven(now);
        let facts = MemoryFacts {
            ledger_requested: ask.no_cache,
            current_generation: kept.generation == generation,
            expired: kept.until <= now,
            freshness_proven: proven,
            from_ledger_lately: !proven
                && kept.from_ledger
                && self.freshness.young_enough(kept.loaded, now),
            invalidated: kept.doubted,
            min_seq_met: ask.min_seq.is_empty() || ask.min_seq.met_by(&kept.held.snapshot()),
        };
        may_memory_serve(&facts).map_err(forward_of)?;
        let ttl = kept.until.saturating_duration_since(now).as_secs();
        Ok(Answer {
            held: kept.held,
            trail: Trail::memory(ttl),
        })
    }
}

const fn forward_of(refusal: MemoryRefusal) -> Forward {
    match refusal {
        MemoryRefusal::LedgerRequested => Forward::Request,
        MemoryRefusal::OtherGeneration | MemoryRefusal::Expired => Forward::Miss,
        MemoryRefusal::Unproven | MemoryRefusal::Invalidated | MemoryRefusal::BelowMinSeq => {
            Forward::Stale
        }
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
