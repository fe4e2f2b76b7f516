//! The source tier of a read: a load from the view or the ledger, and the floors that it has to reach.
//!
//! **Invariants.** The view is read alone only if this instance knows all changes of the last `floor_ttl` and knows of none of this
//! user; otherwise the ledger is read too. A snapshot that does not reach its floors is served as behind and stored nowhere.
//!
//! **Cancellation.** Runs in the task of the load.
//!
//! **Limits.** Permits for each load and for each look at the ledger after it; `lag_budget` for reaching floors; the source's own
//! timeout for each statement.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    ReadError, ReaderParts,
    memory_hit::MemoryTier,
    redis_hit::{RedisLease, RedisMiss, lease_pauses},
    single_flight::LoadStart,
    timings::{SourceStatements, Timings},
};
use crate::{
    admission::Admission,
    cache::redis::KnownBalances,
    cache_status::{ForwardReason, Tier},
    config::Settings,
    domain::{AssetId, Floors, Snapshot, UserId},
    ledger::{self, Cost, Source},
    protocol::{
        UserMark,
        forgetting::{FillFacts, may_redis_be_filled},
        rules::{ViewFacts, may_view_be_trusted},
    },
    telemetry::{Fault, Meters, Op},
};

/// The source tier, with all that decides what it reads.
#[derive(Debug)]
pub(super) struct SourceTier {
    pub(super) source: Arc<dyn Source>,
    admission: Arc<Admission>,
    pub(super) lag_budget: Duration,
    memory: MemoryTier,
    statements: SourceStatements,
    meters: Arc<Meters>,
}

pub(super) struct SourceSnapshot {
    pub(super) snapshot: Snapshot,
    /// Its amounts are the ledger's own.
    pub(super) from_ledger: bool,
}

/// A load that was brought up to the floors that are known.
pub(super) struct ReachedSnapshot {
    pub(super) snapshot: Snapshot,
    /// The floors that are not reached.
    pub(super) unmet: Floors,
    /// All of it stands in the source or in Redis.
    known_elsewhere: bool,
}

impl ReachedSnapshot {
    fn new(snapshot: Snapshot, unmet: Floors, elsewhere: &Snapshot) -> Self {
        Self {
            known_elsewhere: elsewhere.covers_all(&snapshot),
            snapshot,
            unmet,
        }
    }

    /// Whether a load that has the right to fill Redis does so.
    pub(super) fn fills_redis(&self) -> bool {
        let facts = FillFacts {
            floors_met: self.unmet.is_empty(),
            known_elsewhere: self.known_elsewhere,
        };
        may_redis_be_filled(&facts).is_ok()
    }
}

impl SourceTier {
    pub(super) fn new(
        parts: &ReaderParts,
        memory: &MemoryTier,
        admission: &Arc<Admission>,
        settings: &Settings,
    ) -> Self {
        Self {
            source: Arc::clone(&parts.source),
            admission: Arc::clone(admission),
            lag_budget: settings.settlement.lag_budget_ms.0,
            memory: memory.clone(),
            statements: SourceStatements::from_settings(settings),
            meters: Arc::clone(&parts.meters),
        }
    }

    /// Loads the user's balances under a permit, and records the latency.
    pub(super) async fn load_snapshot(
        &self,
        user: UserId,
        start: LoadStart,
        miss: &mut RedisMiss<'_>,
        fresh: bool,
        timings: &mut Timings,
    ) -> Result<SourceSnapshot, ReadError> {
        let waits = Instant::now();
        let reservation = miss.reservation.take();
        let permits = self
            .admission
            .acquire_source_permit(start.as_admitted(user), reservation)
            .await;
        timings.permit = waits.elapsed();
        let (permit, _user_permit) = permits?;
        let (begun, cost) = (Instant::now(), Cost::default());
        let statements = &mut timings.asked;
        let loaded = self
            .read_source(user, start, miss, fresh, &cost, statements)
            .await;
        timings.source = begun.elapsed();
        timings.add_cost(&cost);
        let fault = match &loaded {
            Ok(_) => None,
            Err(ledger::LedgerError::Timeout) => Some(Fault::Timeout),
            Err(ledger::LedgerError::Corrupt(_)) => Some(Fault::Corrupt),
            Err(ledger::LedgerError::Unavailable(_)) => Some(Fault::Error),
        };
        // Another failure says nothing of load: a source that is away refuses at once.
        if matches!(fault, None | Some(Fault::Timeout)) {
            permit.record_sample(timings.source, fault.is_some()).await;
        }
        match fault {
            None => self
                .meters
                .record_tier(Tier::Source, Op::Load, timings.source),
            Some(fault) => self.meters.tier_failure(Tier::Source, Op::Load, fault),
        }
        let loaded = loaded?;
        self.record_size(&loaded.snapshot, &cost);
        Ok(loaded)
    }

    fn record_size(&self, snapshot: &Snapshot, cost: &Cost) {
        let balances = snapshot.balances();
        self.meters.source_read(cost.row_count(), balances.len());
        let (untrusted, unreadable) = cost.detour_counts();
        self.meters.source_detours(untrusted, unreadable);
        let amounts = balances
            .iter()
            .flat_map(|balance| [balance.avail, balance.frozen]);
        let negative = amounts.filter(|amount| amount.is_negative()).count();
        self.meters
            .negative_amounts(u64::try_from(negative).unwrap_or(0));
    }

    /// Reads the view, or the place that is configured, alone where that is safe; else the ledger too.
    async fn read_source(
        &self,
        user: UserId,
        start: LoadStart,
        miss: &RedisMiss<'_>,
        fresh: bool,
        cost: &Cost,
        statements: &mut &'static str,
    ) -> Result<SourceSnapshot, ledger::LedgerError> {
        *statements = self.statements.alone;
        let mark = self.memory.changes.changes_of(user);
        let facts = ViewFacts {
            ledger_requested: fresh,
            proven_at_start: start.proven,
            // Nor revoked since then: the lease may be of another Redis than the proof.
            proven_now: self.memory.freshness.is_proven(Instant::now()),
            redis_bypassed: miss.forward == Some(ForwardReason::Bypass),
            // Read after the user's changes: a change that was given up shows in one of the two.
            changes_unknown: self.memory.changes.distrusts_view(),
            changed_lately: mark.changed,
            redis_wants_ledger: miss.lease.as_ref().is_some_and(RedisLease::wants_ledger),
        };
        if may_view_be_trusted(&facts).is_ok() {
            return Ok(SourceSnapshot {
                snapshot: self.source.load_counting(user, cost).await?,
                from_ledger: !self.statements.lags,
            });
        }
        *statements = self.statements.both;
        let mut named = self.assets_to_read(user, &mark, &miss.known);
        if !self.statements.lags {
            // The load reads the catalogue's assets from the ledger itself.
            named.retain(|asset| !self.memory.catalogue.has_asset(*asset));
        }
        let viewed = self.source.load_counting(user, cost);
        let ledger = self.source.latest_counting(user, &named, cost);
        let (viewed, ledger) = futures::try_join!(viewed, ledger)?;
        let snapshot = if self.statements.lags {
            let unnamed = viewed.asset_ids();
            let unnamed = unnamed.filter(|asset| named.binary_search(asset).is_err());
            let unnamed: Vec<_> = unnamed.collect();
            let more = self.source.latest_counting(user, &unnamed, cost).await?;
            // The view says which assets there are. A row of the view that the ledger does not have is no balance.
            ledger.merge_with(&more).complete_with(&viewed)
        } else {
            viewed.merge_with(&ledger)
        };
        Ok(SourceSnapshot {
            snapshot,
            from_ledger: true,
        })
    }

    /// The assets of the catalogue, of the cached snapshots and of the floors, ascending: a ledger cannot be listed by user.
    pub(super) fn assets_to_read(
        &self,
        user: UserId,
        mark: &UserMark,
        known: &KnownBalances,
    ) -> Vec<AssetId> {
        let mut assets: BTreeSet<_> = self.memory.catalogue.asset_ids().collect();
        assets.extend(mark.floors.iter().map(|(asset, _)| asset));
        assets.extend(mark.reread_assets.iter().copied());
        assets.extend(known.snapshot.asset_ids());
        assets.extend(known.floors.iter().map(|(asset, _)| asset));
        assets.extend(known.assets.iter().copied());
        if let Some(kept) = self.memory.memory.last_known(user) {
            assets.extend(kept.held.read_snapshot().asset_ids());
        }
        assets.into_iter().collect()
    }

    /// Reads assets below their floors again from the ledger, within `lag_budget`.
    pub(super) async fn reach_floors(
        &self,
        user: UserId,
        start: LoadStart,
        snapshot: &Snapshot,
        known: &KnownBalances,
        timings: &mut Timings,
    ) -> Result<ReachedSnapshot, ReadError> {
        let mut elsewhere = snapshot.merge_with(&known.snapshot);
        let mut snapshot = elsewhere.clone();
        let end = Instant::now().checked_add(self.lag_budget);
        let mut floors = Floors::NONE;
        for pause in lease_pauses() {
            let mark = self.memory.changes.changes_of(user);
            snapshot = snapshot.merge_with(&mark.told);
            floors = mark.floors;
            floors.raise_all(&known.floors);
            if !floors.met_by(&snapshot) {
                snapshot = self.merge_cached(user, snapshot, &floors);
            }
            if floors.met_by(&snapshot) {
                return Ok(ReachedSnapshot::new(snapshot, Floors::NONE, &elsewhere));
            }
            let load = start.as_admitted(user);
            let permits = self.admission.acquire_source_permit(load, None).await?;
            let unmet: Vec<_> = floors.unmet_by(&snapshot).collect();
            let rows = self.read_ledger(user, &unmet, timings).await?;
            (elsewhere, snapshot) = (rows.merge_with(&elsewhere), rows.merge_with(&snapshot));
            drop(permits);
            if floors.met_by(&snapshot) {
                continue;
            }
            let next = Instant::now().checked_add(pause);
            if end.is_none_or(|end| next.is_none_or(|next| next >= end)) {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        Ok(ReachedSnapshot::new(snapshot, floors, &elsewhere))
    }

    /// Merges in the balances that memory holds of the assets below their floors.
    fn merge_cached(&self, user: UserId, snapshot: Snapshot, floors: &Floors) -> Snapshot {
        let Some(kept) = self.memory.memory.last_known(user) else {
            return snapshot;
        };
        let held = kept.held.read_snapshot();
        let unmet = floors.unmet_by(&snapshot);
        let held: Vec<_> = unmet.filter_map(|asset| held.get(asset).copied()).collect();
        snapshot.merge_with(&Snapshot::new(held))
    }

    /// The newest ledger rows of these assets.
    pub(super) async fn read_ledger(
        &self,
        user: UserId,
        assets: &[AssetId],
        timings: &mut Timings,
    ) -> Result<Snapshot, ReadError> {
        let (begun, cost) = (Instant::now(), Cost::default());
        let rows = self.source.latest_counting(user, assets, &cost).await;
        timings.source = timings.source.saturating_add(begun.elapsed());
        timings.add_cost(&cost);
        Ok(rows?)
    }
}
