//! The memory tier of a read: hot copies, snapshots, and stale answers while the source fails.
//!
//! **Invariants.** A hot copy is served only where the snapshot in the map would be served after the same questions. A snapshot is
//! kept only if nothing happened that its load does not know. A stale answer consults all that is known of the user
//! ([`may_stale_answer_be_shown`]).

use std::{sync::Arc, time::Duration};

use rand::Rng;
use tokio::time::Instant;

use super::{ReadAnswer, ReadError, ReadOptions, ReaderParts, single_flight::LoadStart};
use crate::{
    cache::memory::{CacheEntry, Memory},
    cache_status::{CacheStatus, Detail, ForwardReason},
    config::Settings,
    domain::{Catalogue, Snapshot, UnixMillis, UserId},
    protocol::{
        ChangeLog, Freshness, Knowledge,
        rules::{
            MemoryFacts, MemoryRefusal, StaleFacts, StaleRefusal, may_memory_serve,
            may_stale_answer_be_shown,
        },
    },
    render::RenderedSnapshot,
};

/// The memory tier, with all that decides whether it may serve. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct MemoryTier {
    pub(super) memory: Arc<Memory>,
    pub(super) changes: Arc<ChangeLog>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) catalogue: Arc<Catalogue>,
    ttl: Duration,
    stale_max_age: Option<Duration>,
}

/// The origin of a snapshot that memory may keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct SnapshotOrigin {
    /// The rest of its life in Redis, if Redis has it.
    pub(super) redis_ttl: Option<Duration>,
    pub(super) loaded: Instant,
    /// It comes from the ledger itself.
    pub(super) from_ledger: bool,
    /// `loaded` by the wall clock.
    pub(super) heard_at: UnixMillis,
}

impl MemoryTier {
    pub(super) fn new(parts: &ReaderParts, settings: &Settings) -> Self {
        // Changes are remembered for `floor_ttl`.
        let max_age = settings.stale.max_age_ms.0;
        let max_age = max_age.min(settings.settlement.floor_ttl_ms.0);
        Self {
            memory: Arc::clone(&parts.memory),
            changes: Arc::clone(&parts.change_log),
            freshness: Arc::clone(&parts.freshness),
            catalogue: Arc::clone(&parts.catalogue),
            ttl: settings.memory.ttl_ms.0,
            stale_max_age: settings.stale.enabled.then_some(max_age),
        }
    }

    /// Serves this thread's copy, where [`Self::serve_snapshot`] would answer the same.
    pub(super) fn serve_hot_copy<T>(
        &self,
        user: UserId,
        ask: &ReadOptions,
        now: Instant,
        show: impl FnOnce(ReadAnswer<&[u8]>) -> T,
    ) -> Option<T> {
        let facts = MemoryFacts {
            ledger_requested: ask.no_cache,
            // The copy is looked up by its generation and version, and served within its time.
            current_generation: true,
            expired: false,
            freshness_proven: self.freshness.is_proven(now),
            from_ledger_lately: false,
            invalidated: false,
            min_seq_met: ask.min_seq.is_empty(),
        };
        may_memory_serve(&facts).ok()?;
        let generation = self.changes.generation();
        self.memory
            .show_hot_copy(user, generation, now, |held, left| {
                let cache_status = CacheStatus::memory_hit(left.as_secs());
                show(ReadAnswer { held, cache_status })
            })
    }

    /// Serves the snapshot in the map. The error: why it may not be served.
    pub(super) fn serve_snapshot(
        &self,
        user: UserId,
        ask: &ReadOptions,
        now: Instant,
    ) -> Result<ReadAnswer, ForwardReason> {
        if ask.no_cache {
            return Err(ForwardReason::Request);
        }
        let generation = self.changes.generation();
        let kept = self
            .memory
            .get_entry(user, generation)
            .ok_or(ForwardReason::Miss)?;
        let proven = self.freshness.is_proven(now);
        let facts = MemoryFacts {
            ledger_requested: ask.no_cache,
            current_generation: kept.generation == generation,
            expired: kept.until <= now,
            freshness_proven: proven,
            from_ledger_lately: !proven
                && kept.from_ledger
                && self.freshness.young_enough(kept.loaded, now),
            invalidated: kept.invalidated,
            min_seq_met: ask.min_seq.is_empty() || ask.min_seq.met_by(&kept.held.read_snapshot()),
        };
        may_memory_serve(&facts).map_err(forward_reason)?;
        let ttl = kept.until.saturating_duration_since(now).as_secs();
        Ok(ReadAnswer {
            held: kept.held,
            cache_status: CacheStatus::memory_hit(ttl),
        })
    }

    /// Renders a snapshot, and keeps it unless something happened that its load does not know.
    pub(super) fn keep_snapshot(
        &self,
        user: UserId,
        start: LoadStart,
        snapshot: &Snapshot,
        origin: SnapshotOrigin,
    ) -> RenderedSnapshot {
        let held = self.render_snapshot(snapshot, origin.heard_at);
        if self.memory.is_off() {
            return held;
        }
        let ttl = self.jittered_ttl();
        let ttl = origin.redis_ttl.map_or(ttl, |redis| ttl.min(redis));
        let until = Instant::now().checked_add(ttl).unwrap_or(start.at);
        let kept = CacheEntry {
            held: held.clone(),
            until,
            loaded: origin.loaded,
            from_ledger: origin.from_ledger,
            generation: start.knowledge.generation,
            invalidated: false,
        };
        let guard = |snapshot: &Snapshot| self.changes.may_keep(user, start.knowledge, snapshot);
        let kept = self.memory.keep_merged(user, &kept, snapshot, guard);
        kept.unwrap_or_else(|| {
            self.raise_held(user, start.knowledge, snapshot);
            held
        })
    }

    /// Moves what is held forward to balances that are shown and not kept, by a read that began with this knowledge.
    pub(super) fn raise_held(&self, user: UserId, began: Knowledge, shown: &Snapshot) {
        let guard = || self.changes.may_raise(user, began);
        self.memory.raise_shown(user, shown, guard);
    }

    pub(super) fn render_snapshot(
        &self,
        snapshot: &Snapshot,
        heard_at: UnixMillis,
    ) -> RenderedSnapshot {
        RenderedSnapshot::new(&self.catalogue, snapshot, heard_at)
    }

    /// The configured lifetime less up to a tenth, so that snapshots that were filled together do not end together.
    fn jittered_ttl(&self) -> Duration {
        let tenth = u64::try_from(self.ttl.as_millis())
            .unwrap_or(u64::MAX)
            .checked_div(10)
            .unwrap_or(0);
        let jitter = Duration::from_millis(rand::rng().random_range(0..=tenth));
        self.ttl.saturating_sub(jitter)
    }

    /// The last known balances, where stale answers are configured and these may still be shown; else the error.
    pub(super) fn serve_stale_or(
        &self,
        user: UserId,
        ask: &ReadOptions,
        redis: Option<ForwardReason>,
        error: ReadError,
    ) -> Result<ReadAnswer, ReadError> {
        let (Some(max_age), ReadError::Source(_)) = (self.stale_max_age, &error) else {
            return Err(error);
        };
        let Some(kept) = self.memory.last_known(user) else {
            return Err(error);
        };
        let (snapshot, mark) = (kept.held.read_snapshot(), self.changes.changes_of(user));
        let facts = StaleFacts {
            ledger_requested: ask.no_cache,
            too_old: kept.loaded.elapsed() > max_age,
            current_generation: kept.generation == self.changes.generation(),
            invalidated: kept.invalidated,
            ledger_required: mark.ledger_required,
            changes_given_up: self.changes.has_forgotten(),
            floors_met: mark.floors.met_by(&snapshot),
            min_seq_met: ask.min_seq.met_by(&snapshot),
        };
        match may_stale_answer_be_shown(&facts) {
            Ok(()) => {}
            Err(StaleRefusal::BelowMinSeq) => return Err(ReadError::NotReached),
            Err(_) => return Err(error),
        }
        let cache_status = CacheStatus {
            ttl: None,
            detail: Some(Detail::Stale),
            source_failed: true,
            redis,
            ..CacheStatus::memory_hit(0)
        };
        let held = kept.held;
        Ok(ReadAnswer { held, cache_status })
    }
}

const fn forward_reason(refusal: MemoryRefusal) -> ForwardReason {
    match refusal {
        MemoryRefusal::LedgerRequested => ForwardReason::Request,
        MemoryRefusal::OtherGeneration | MemoryRefusal::Expired => ForwardReason::Miss,
        MemoryRefusal::Unproven | MemoryRefusal::Invalidated | MemoryRefusal::BelowMinSeq => {
            ForwardReason::Stale
        }
    }
}
