//! The rules about answers and about keeping. Each function takes facts and returns the first reason against it.

/// Facts about a snapshot in memory and the read that asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryFacts {
    /// The read wants the ledger (`Cache-Control: no-cache`).
    pub ledger_requested: bool,
    /// The snapshot was stored in the current generation.
    pub current_generation: bool,
    /// Its time to live has passed.
    pub expired: bool,
    /// This instance has seen all changes up to `max_staleness` ago.
    pub freshness_proven: bool,
    /// The snapshot was read from the ledger within `max_staleness`.
    pub from_ledger_lately: bool,
    /// A notification said that the snapshot is old.
    pub invalidated: bool,
    /// The snapshot reaches the `min_seq` of the read.
    pub min_seq_met: bool,
}

/// Memory may not serve a snapshot, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryRefusal {
    /// The read wants the ledger.
    LedgerRequested,
    /// Everything from an earlier generation counts for nothing.
    OtherGeneration,
    /// Its time to live has passed.
    Expired,
    /// Neither the instance nor the snapshot is provably fresh.
    Unproven,
    /// A notification said that it is old.
    Invalidated,
    /// It is below the `min_seq` of the read.
    BelowMinSeq,
}

#[inline]
pub const fn may_memory_serve(facts: &MemoryFacts) -> Result<(), MemoryRefusal> {
    if facts.ledger_requested {
        return Err(MemoryRefusal::LedgerRequested);
    }
    if !facts.current_generation {
        return Err(MemoryRefusal::OtherGeneration);
    }
    if facts.expired {
        return Err(MemoryRefusal::Expired);
    }
    if !facts.freshness_proven && !facts.from_ledger_lately {
        return Err(MemoryRefusal::Unproven);
    }
    if facts.invalidated {
        return Err(MemoryRefusal::Invalidated);
    }
    if !facts.min_seq_met {
        return Err(MemoryRefusal::BelowMinSeq);
    }
    Ok(())
}

/// Facts about a load that could be answered by the view alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewFacts {
    /// The read wants the ledger (`Cache-Control: no-cache`).
    pub ledger_requested: bool,
    /// Freshness was proven when the load began.
    pub proven_at_start: bool,
    /// Freshness is proven now: the session has not ended since.
    pub proven_now: bool,
    /// Redis was not reached by this load.
    pub redis_bypassed: bool,
    /// Changes of the last `floor_ttl` may be unknown here (blind).
    pub changes_unknown: bool,
    /// The user changed in the last `floor_ttl`.
    pub changed_lately: bool,
    /// Redis said that this user is to be read from the ledger.
    pub redis_wants_ledger: bool,
}

/// The view alone may not answer a load, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewRefusal {
    /// The read wants the ledger.
    LedgerRequested,
    /// Freshness was not proven when the load began.
    UnprovenAtStart,
    /// The proof was revoked since.
    UnprovenNow,
    /// Redis was not reached, so that its floors are unknown.
    RedisBypassed,
    /// Changes may be unknown here.
    ChangesUnknown,
    /// The view may not have the user's last change yet.
    ChangedLately,
    /// Redis names this user as one to be read from the ledger.
    RedisWantsLedger,
}

/// Whether a load may trust the view, which lags behind the ledger.
pub const fn may_view_be_trusted(facts: &ViewFacts) -> Result<(), ViewRefusal> {
    if facts.ledger_requested {
        return Err(ViewRefusal::LedgerRequested);
    }
    if !facts.proven_at_start {
        return Err(ViewRefusal::UnprovenAtStart);
    }
    if !facts.proven_now {
        return Err(ViewRefusal::UnprovenNow);
    }
    if facts.redis_bypassed {
        return Err(ViewRefusal::RedisBypassed);
    }
    if facts.changes_unknown {
        return Err(ViewRefusal::ChangesUnknown);
    }
    if facts.changed_lately {
        return Err(ViewRefusal::ChangedLately);
    }
    if facts.redis_wants_ledger {
        return Err(ViewRefusal::RedisWantsLedger);
    }
    Ok(())
}

/// Facts about a load under way and a reader of the same user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinFacts {
    /// No generation began between the load and the reader.
    pub same_generation: bool,
    /// No notification without a seq came between the load and the reader.
    pub same_reread: bool,
    /// Freshness is proven as the reader begins.
    pub reader_proven: bool,
    /// Freshness was proven as the load began, so that it may have asked a view that lags.
    pub load_proven: bool,
    /// The load began within `max_staleness` before the reader.
    pub load_young: bool,
    /// The load belongs to a batch and the reader does not.
    pub batch_load_single_reader: bool,
}

/// A reader may not join a load, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinRefusal {
    /// The load began in an earlier generation.
    OtherGeneration,
    /// The load began before a notification without a seq.
    BeforeReread,
    /// The load may rest on a proof that the reader does not have.
    ReaderUnproven,
    /// The load began too long ago for a reader without a proof.
    TooOld,
    /// The load waits in the queue of batches; single reads have their own.
    BatchQueue,
}

/// Whether a reader may be shown what a load under way brings.
pub const fn may_load_be_joined(facts: &JoinFacts) -> Result<(), JoinRefusal> {
    if !facts.same_generation {
        return Err(JoinRefusal::OtherGeneration);
    }
    if !facts.same_reread {
        return Err(JoinRefusal::BeforeReread);
    }
    if !facts.reader_proven && facts.load_proven {
        return Err(JoinRefusal::ReaderUnproven);
    }
    if !facts.reader_proven && !facts.load_young {
        return Err(JoinRefusal::TooOld);
    }
    if facts.batch_load_single_reader {
        return Err(JoinRefusal::BatchQueue);
    }
    Ok(())
}

/// Facts about a load that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepFacts {
    /// The load reaches every floor that is known.
    pub floors_met: bool,
    /// It was read from the ledger.
    pub from_ledger: bool,
    /// There is a Redis tier.
    pub redis_configured: bool,
    pub lease_granted: bool,
    /// Redis took the fill.
    pub fill_accepted: bool,
}

/// The load may be answered and not kept, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepRefusal {
    BelowFloor,
    /// Redis refused the fill: its lease was revoked, its epoch ended, or it is below a floor.
    RefusedByRedis,
    /// No lease was granted, and without one only a snapshot from the ledger may be kept.
    WithoutLease,
}

/// Whether a load that is over may be kept in memory.
pub const fn may_load_be_kept(facts: &KeepFacts) -> Result<(), KeepRefusal> {
    if !facts.floors_met {
        return Err(KeepRefusal::BelowFloor);
    }
    if facts.lease_granted && !facts.fill_accepted {
        return Err(KeepRefusal::RefusedByRedis);
    }
    if facts.redis_configured && !facts.lease_granted && !facts.from_ledger {
        return Err(KeepRefusal::WithoutLease);
    }
    Ok(())
}

/// Facts about a snapshot and what became known of its user since its load began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFacts {
    /// No generation began since.
    pub same_generation: bool,
    /// No notification without a seq came since.
    pub same_reread: bool,
    /// The snapshot reaches every floor of the user.
    pub floors_met: bool,
}

/// Memory may not store a snapshot, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreRefusal {
    /// Everything from an earlier generation counts for nothing.
    OtherGeneration,
    /// The load began before a notification without a seq.
    BeforeReread,
    BelowFloor,
}

/// Whether memory may store a snapshot. The caller holds memory's lock on the user.
pub const fn may_memory_store(facts: &StoreFacts) -> Result<(), StoreRefusal> {
    if !facts.same_generation {
        return Err(StoreRefusal::OtherGeneration);
    }
    if !facts.same_reread {
        return Err(StoreRefusal::BeforeReread);
    }
    if !facts.floors_met {
        return Err(StoreRefusal::BelowFloor);
    }
    Ok(())
}

/// Facts about a snapshot that Redis holds and what this instance knows of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisFacts {
    /// Freshness was proven when the load began.
    pub proven_at_start: bool,
    /// Changes were missed that Redis' snapshots may not show either.
    pub changes_missed: bool,
    /// A notification without a seq waits for the ledger to be read.
    pub ledger_required: bool,
    /// No notification without a seq came since the load began.
    pub same_reread: bool,
    /// With the notified balances, the snapshot reaches every floor of the user.
    pub floors_met: bool,
}

/// A snapshot from Redis may not be shown, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisRefusal {
    /// A key that was deleted took its floors with it, and this instance cannot tell.
    Unproven,
    /// Changes were missed here and maybe there.
    ChangesMissed,
    /// The ledger has to be read first.
    LedgerRequired,
    /// The load began before a notification without a seq.
    BeforeReread,
    BelowFloor,
}

/// Whether a snapshot that Redis holds may be shown and kept.
#[inline]
pub const fn may_redis_snapshot_be_accepted(facts: &RedisFacts) -> Result<(), RedisRefusal> {
    if !facts.proven_at_start {
        return Err(RedisRefusal::Unproven);
    }
    if facts.changes_missed {
        return Err(RedisRefusal::ChangesMissed);
    }
    if facts.ledger_required {
        return Err(RedisRefusal::LedgerRequired);
    }
    if !facts.same_reread {
        return Err(RedisRefusal::BeforeReread);
    }
    if !facts.floors_met {
        return Err(RedisRefusal::BelowFloor);
    }
    Ok(())
}

/// Facts about a snapshot that could be shown as `detail=stale` while the source fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleFacts {
    /// The read wants the ledger (`Cache-Control: no-cache`).
    pub ledger_requested: bool,
    /// It was loaded longer ago than `stale.max_age`, or than changes are remembered.
    pub too_old: bool,
    pub current_generation: bool,
    /// A notification said that it is old.
    pub invalidated: bool,
    /// A notification without a seq waits for the ledger to be read.
    pub ledger_required: bool,
    /// Changes that this instance was told were given up for want of room.
    pub changes_given_up: bool,
    /// It reaches every floor of the user.
    pub floors_met: bool,
    /// It reaches the `min_seq` of the read.
    pub min_seq_met: bool,
}

/// A snapshot may not be shown as stale, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleRefusal {
    /// The read wants the ledger.
    LedgerRequested,
    TooOld,
    /// Everything from an earlier generation counts for nothing.
    OtherGeneration,
    /// A notification said that it is old.
    Invalidated,
    /// A notification without a seq was acknowledged, and the ledger was not read since.
    LedgerRequired,
    /// A change of the user may have been given up.
    ChangesGivenUp,
    BelowFloor,
    /// It is below the `min_seq` of the read.
    BelowMinSeq,
}

/// Whether the last known snapshot may be shown as stale. It may break P2, never P1 and P3.
pub const fn may_stale_answer_be_shown(facts: &StaleFacts) -> Result<(), StaleRefusal> {
    if facts.ledger_requested {
        return Err(StaleRefusal::LedgerRequested);
    }
    if facts.too_old {
        return Err(StaleRefusal::TooOld);
    }
    if !facts.current_generation {
        return Err(StaleRefusal::OtherGeneration);
    }
    if facts.invalidated {
        return Err(StaleRefusal::Invalidated);
    }
    if facts.ledger_required {
        return Err(StaleRefusal::LedgerRequired);
    }
    if facts.changes_given_up {
        return Err(StaleRefusal::ChangesGivenUp);
    }
    if !facts.floors_met {
        return Err(StaleRefusal::BelowFloor);
    }
    if !facts.min_seq_met {
        return Err(StaleRefusal::BelowMinSeq);
    }
    Ok(())
}

#[cfg(test)]
#[path = "rules/tests.rs"]
mod tests;
