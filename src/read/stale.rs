//! The last known balances, while the source fails.
//!
//! **Invariants.** Each fallback to them consults all that is known of the user ([`may_stale_answer_be_shown`]).

use super::{Answer, Ask, Error, Reader};
use crate::{
    cache_status::{Detail, Forward, Trail},
    domain::UserId,
    protocol::rules::{StaleFacts, StaleRefusal, may_stale_answer_be_shown},
};

impl Reader {
    /// The last known balances, where that is switched on and they may still be shown; else the error.
    pub(super) fn stale_or(&self, user: UserId, ask: &Ask, error: Error) -> Result<Answer, Error> {
        let (Some(max_age), Error::Source(_)) = (self.times.stale, &error) else {
            return Err(error);
        };
        let Some(kept) = self.memory.last_known(user) else {
            return Err(error);
        };
        let (snapshot, mark) = (kept.held.snapshot(), self.marks.of(user));
        let facts = StaleFacts {
            ledger_requested: ask.no_cache,
            too_old: kept.loaded.elapsed() > max_age,
            current_generation: kept.generation == self.marks.generation(),
            invalidated: kept.doubted,
            ledger_required: mark.ledger_required,
            changes_given_up: self.marks.forgetful(),
            floors_met: mark.floors.met_by(&snapshot),
            min_seq_met: ask.min_seq.met_by(&snapshot),
        };
        match may_stale_answer_be_shown(&facts) {
            Ok(()) => {}
            Err(StaleRefusal::BelowMinSeq) => return Err(Error::NotReached),
            Err(_) => return Err(error),
        }
        let held = kept.held;
        let redis = self.redis.as_ref().map(|redis| match redis.link.session() {
            Some(_) => Forward::Miss,
            None => Forward::Bypass,
        });
        let trail = Trail {
            ttl: None,
            detail: Some(Detail::Stale),
            source_failed: true,
            redis,
            ..Trail::memory(0)
        };
        Ok(Answer { held, trail })
    }
}
