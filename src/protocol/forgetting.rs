//! The rules about floors that were forgotten, because their balances are no more, beside loads that know them still. As in
//! [`super::rules`], each function takes facts and returns the first reason against it.

/// Facts about balances that a read shows, which nothing older may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaiseFacts {
    /// The user's floors were forgotten after the read had begun.
    pub forgotten_since: bool,
}

/// Shown balances may not be raised to floors, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaiseRefusal {
    /// The read may show a balance that is no more.
    ForgottenSince,
}

/// Whether what a read shows becomes the floors of its user, and moves what memory holds.
pub const fn may_shown_raise_floors(facts: &RaiseFacts) -> Result<(), RaiseRefusal> {
    if facts.forgotten_since {
        return Err(RaiseRefusal::ForgottenSince);
    }
    Ok(())
}

/// Facts about a load that has the right to fill Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillFacts {
    /// The load reaches every floor that is known.
    pub floors_met: bool,
    /// All that it shows stands in the source or in Redis.
    pub known_elsewhere: bool,
}

/// Redis may not be filled, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FillRefusal {
    BelowFloor,
    /// This instance alone knows a part of it. Redis may have been told to forget that, and the feed not have said so here yet.
    KnownHereAlone,
}

/// Whether a load that has the right to fill Redis does so.
pub const fn may_redis_be_filled(facts: &FillFacts) -> Result<(), FillRefusal> {
    if !facts.floors_met {
        return Err(FillRefusal::BelowFloor);
    }
    if !facts.known_elsewhere {
        return Err(FillRefusal::KnownHereAlone);
    }
    Ok(())
}

#[cfg(test)]
#[path = "forgetting/tests.rs"]
mod tests;
