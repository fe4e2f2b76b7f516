//! One load: Redis, then the lease, then the source, then the floors, then the fill.
//!
//! **Invariants.** The view is asked only by who knows all changes of the last `floor_ttl` and knows of none of this user's; whoever
//! cannot know asks the ledger. What Redis refused is answered, never kept. What is shown raises the floor of what memory may
//! hold before it is kept or shown. What does not reach its floors is shown as behind and stored nowhere.
//!
//! **Cancellation.** Runs in a task of its own; if the task is dropped, the lease ends by itself.
//!
//! **Limits.** A turn at the source for each load and for each look after it; `lag_budget` for reaching floors; the source's own timeout for each statement.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::{
    Error, Reader,
    permit_queue::Waiting,
    single_flight::{Landed, Start},
    timings::Spent,
};
use crate::{
    cache::{
        memory::Kept,
        redis::{Grant, Known, Lookup},
    },
    cache_status::{Detail, Forward, Tier},
    clock,
    domain::{AssetId, Floors, Snapshot, UnixMillis, UserId},
    ledger::{self, Cost},
    protocol::Mark,
    protocol::rules::{KeepFacts, ViewFacts, may_load_be_kept, may_view_be_trusted},
    render::Held,
    telemetry::{Fault, Op},
};

/// Pauses between two looks at what another instance fills, and between two looks at a ledger that lags behind a floor.
const PAUSES_MS: [u64; 6] = [1, 2, 4, 8, 16, 32];

/// The part of the answer that Redis contributed.
pub(super) struct Asked<'a> {
    /// The reply.
    pub(super) forward: Option<Forward>,
    /// The right to fill, if it gave one.
    pub(super) grant: Option<Grant>,
    /// The instance's knowledge of the user.
    pub(super) known: Known,
    /// The place at the source that was expected then.
    pub(super) expected: Option<Waiting<'a>>,
}

/// The source's answer.
struct Loaded {
    snapshot: Snapshot,
    from_ledger: bool,
}

/// Where a snapshot comes from that memory may keep.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// How long Redis has it, if it has.
    pub(super) redis_ttl: Option<Duration>,
    /// When it was loaded.
    pub(super) loaded: Instant,
    /// From the ledger itself.
    pub(super) from_ledger: bool,
    /// The same moment by the wall clock.
    pub(super) heard_at: UnixMillis,
}

pub(super) fn pauses() -> impl Iterator<Item = Duration> {
    let last = PAUSES_MS.last().copied().unwrap_or(1);
    PAUSES_MS
        .into_iter()
        .chain(std::iter::repeat(last))
        .map(Duration::from_millis)
}

impl Reader {
    /// Loads a user. With `fresh` the ledger is read, whatever is held.
    pub(super) async fn load(
        &self,
        user: UserId,
        start: Start,
        looked: Option<Lookup>,
        fresh: bool,
        spent: &mut Spent,
    ) -> Result<Landed, Error> {
        let mut asked = match &self.redis {
            None => Asked {
                forward: None,
                grant: None,
                known: Known::default(),
                expected: None,
            },
            Some(redis) => {
                let asked = self.ask_redis(redis, user, start, looked, fresh).await?;
                // For several users at once Redis was asked before this began.
                spent.redis = start.at.elapsed();
                match asked {
                    Ok(landed) => return Ok(landed),
                    Err(asked) => asked,
                }
            }
        };
        let expected = asked.expected.take();
        let result = self
            .load_from_source(user, start, &asked, expected, fresh, spent)
            .await;
        if result.is_err()
            && let (Some(redis), Some(grant)) = (&self.redis, &asked.grant)
        {
            redis.release(user, grant).await;
        }
        result
    }

    async fn load_from_source(
        &self,
        user: UserId,
        start: Start,
        asked: &Asked<'_>,
        expected: Option<Waiting<'_>>,
        fresh: bool,
        spent: &mut Spent,
    ) -> Result<Landed, Error> {
        let heard_at = clock::wall();
        let loaded = self
            .ask_source_in_turn(user, start, asked, expected, fresh, spent)
            .await?;
        self.count_negative_amounts(&loaded.snapshot);
        let (mut snapshot, mut unmet) = self
            .reach(user, start, &loaded.snapshot, &asked.known, spent)
            .await?;
        fail::fail_point!("reached");
        let mut kept_for = None;
        if let (true, Some(redis), Some(grant)) = (unmet.is_empty(), &self.redis, &asked.grant) {
            let begun = Instant::now();
            let filled = redis.fill(user, grant, &snapshot, loaded.from_ledger).await;
            kept_for = filled.ok().and_then(Result::ok);
            spent.redis = spent.redis.saturating_add(begun.elapsed());
            if kept_for.is_none() {
                // A notification may have overtaken this load: its floor is known here by now, or the reader does not know it.
                (snapshot, unmet) = self
                    .reach(user, start, &snapshot, &asked.known, spent)
                    .await?;
            }
        } else if let (false, Some(redis), Some(grant)) =
            (unmet.is_empty(), &self.redis, &asked.grant)
        {
            redis.release(user, grant).await;
        }
        fail::fail_point!("filled");
        if loaded.from_ledger {
            self.marks.read(user, start.knowledge.reread);
        }
        let met = unmet.is_empty();
        // Without Redis' word a load from the ledger is good for max_staleness.
        let facts = KeepFacts {
            floors_met: met,
            from_ledger: loaded.from_ledger,
            redis_configured: self.redis.is_some(),
            lease_granted: asked.grant.is_some(),
            fill_accepted: kept_for.is_some(),
        };
        self.marks.shown(user, &snapshot);
        let held = if may_load_be_kept(&facts).is_ok() {
            self.keep(
                user,
                start,
                &snapshot,
                Origin {
                    redis_ttl: kept_for,
                    loaded: start.at,
                    from_ledger: loaded.from_ledger,
                    heard_at,
                },
            )
        } else {
            self.memory.raise(user, &snapshot);
            Held::new(&self.catalogue, &snapshot, heard_at)
        };
        Ok(Landed {
            held,
            tier: Tier::Source,
            ttl: None,
            detail: (!met).then_some(Detail::Behind),
            unmet,
            redis: asked.forward,
        })
    }

    fn count_negative_amounts(&self, snapshot: &Snapshot) {
        let balances = snapshot.balances().iter();
        let amounts = balances.flat_map(|balance| [balance.avail, balance.frozen]);
        let negative = amounts.filter(|amount| amount.is_negative()).count();
        self.meters
            .negative_amounts(u64::try_from(negative).unwrap_or(0));
    }

    /// As [`Reader::ask_source`], in its turn and with a look at the clock.
    async fn ask_source_in_turn(
        &self,
        user: UserId,
        start: Start,
        asked: &Asked<'_>,
        expected: Option<Waiting<'_>>,
        fresh: bool,
        spent: &mut Spent,
    ) -> Result<Loaded, Error> {
        let waits = Instant::now();
        let place = self.doors.place(user, start, expected).await;
        spent.permit = waits.elapsed();
        let (place, _turn) = place?;
        let (begun, cost) = (Instant::now(), Cost::default());
        let loaded = self
            .ask_source(user, start, asked, fresh, &cost, &mut spent.asked)
            .await;
        spent.source = begun.elapsed();
        spent.add(&cost);
        let fault = match &loaded {
            Ok(_) => None,
            Err(ledger::Error::Timeout) => Some(Fault::Timeout),
            Err(ledger::Error::Corrupt(_)) => Some(Fault::Corrupt),
            Err(ledger::Error::Unavailable(_)) => Some(Fault::Error),
        };
        // Other failures say nothing of load: a source that is away refuses at once.
        if matches!(fault, None | Some(Fault::Timeout)) {
            place.told(spent.source, fault.is_some()).await;
        }
        match fault {
            None => self.meters.tier(Tier::Source, Op::Load, spent.source),
            Some(fault) => self.meters.tier_failure(Tier::Source, Op::Load, fault),
        }
        let loaded = loaded?;
        let assets = loaded.snapshot.balances().len();
        self.meters.source_read(cost.rows(), assets);
        let (untrusted, unreadable) = cost.detours();
        self.meters.source_detours(untrusted, unreadable);
        Ok(loaded)
    }

    /// Asks the view, or whatever is configured, alone where that is safe; else the ledger too.
    async fn ask_source(
        &self,
        user: UserId,
        start: Start,
        asked: &Asked<'_>,
        fresh: bool,
        cost: &Cost,
        named: &mut &'static str,
    ) -> Result<Loaded, ledger::Error> {
        *named = self.ways.alone;
        let mark = self.marks.of(user);
        let facts = ViewFacts {
            ledger_requested: fresh,
            proven_at_start: start.proven,
            // And since then not revoked: the lease may be of another Redis than the proof.
            proven_now: self.freshness.proven(Instant::now()),
            redis_bypassed: asked.forward == Some(Forward::Bypass),
            // After the mark: what was given up leaves either of them.
            changes_unknown: self.marks.blind(),
            changed_lately: mark.changed,
            redis_wants_ledger: asked.grant.as_ref().is_some_and(|grant| grant.ledger),
        };
        if may_view_be_trusted(&facts).is_ok() {
            return Ok(Loaded {
                snapshot: self.source.load_counting(user, cost).await?,
                from_ledger: !self.ways.lags,
            });
        }
        *named = self.ways.both;
        let wanted = self.wanted(user, &mark, &asked.known);
        let load = self.source.load_counting(user, cost);
        if !self.ways.lags {
            let beyond: Vec<_> = wanted
                .iter()
                .copied()
                .filter(|asset| !self.catalogue.has(*asset))
                .collect();
            let more = self.source.latest_counting(user, &beyond, cost);
            let (loaded, more) = futures::try_join!(load, more)?;
            return Ok(Loaded {
                snapshot: loaded.merge(&more),
                from_ledger: true,
            });
        }
        let ledger = self.source.latest_counting(user, &wanted, cost);
        let (viewed, ledger) = futures::try_join!(load, ledger)?;
        let more: Vec<_> = viewed
            .assets()
            .filter(|asset| wanted.binary_search(asset).is_err())
            .collect();
        let more = self.source.latest_counting(user, &more, cost).await?;
        // The view says which assets there are. A row of it that the ledger does not have is nobody's balance.
        Ok(Loaded {
            snapshot: ledger.merge(&more).complete_with(&viewed),
            from_ledger: true,
        })
    }

    /// The assets of the catalogue, of what is held and of the floors, ascending: a ledger cannot be listed by user.
    pub(super) fn wanted(&self, user: UserId, mark: &Mark, known: &Known) -> Vec<AssetId> {
        let mut wanted: BTreeSet<_> = self.catalogue.ids().collect();
        wanted.extend(mark.floors.iter().map(|(asset, _)| asset));
        wanted.extend(mark.reread_assets.iter().copied());
        wanted.extend(known.snapshot.assets());
        wanted.extend(known.floors.iter().map(|(asset, _)| asset));
        wanted.extend(known.assets.iter().copied());
        if let Some(kept) = self.memory.last_known(user) {
            wanted.extend(kept.held.snapshot().assets());
        }
        wanted.into_iter().collect()
    }

    /// Reads assets that are below their floors again from the ledger, within `lag_budget`. Returns the floors that are
    /// not reached, too.
    async fn reach(
        &self,
        user: UserId,
        start: Start,
        snapshot: &Snapshot,
        known: &Known,
        spent: &mut Spent,
    ) -> Result<(Snapshot, Floors), Error> {
        let mut snapshot = snapshot.merge(&known.snapshot);
        let end = Instant::now().checked_add(self.times.lag_budget);
        let mut floors = Floors::NONE;
        for pause in pauses() {
            let mark = self.marks.of(user);
            snapshot = snapshot.merge(&mark.told);
            floors = mark.floors;
            floors.raise_all(&known.floors);
            if !floors.met_by(&snapshot) {
                snapshot = self.with_held(user, snapshot, &floors);
            }
            if floors.met_by(&snapshot) {
                return Ok((snapshot, Floors::NONE));
            }
            let place = self.doors.place(user, start, None).await?;
            snapshot = self.look_again(user, snapshot, &floors, spent).await?;
            drop(place);
            if floors.met_by(&snapshot) {
                continue;
            }
            let late = end.is_none_or(|end| {
                Instant::now()
                    .checked_add(pause)
                    .is_none_or(|next| next >= end)
            });
            if late {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        Ok((snapshot, floors))
    }

    /// Merges in the balances that memory holds of the assets below their floors.
    fn with_held(&self, user: UserId, snapshot: Snapshot, floors: &Floors) -> Snapshot {
        let Some(kept) = self.memory.last_known(user) else {
            return snapshot;
        };
        let held = kept.held.snapshot();
        let unmet = floors.unmet_by(&snapshot);
        let held: Vec<_> = unmet.filter_map(|asset| held.get(asset).copied()).collect();
        snapshot.merge(&Snapshot::new(held))
    }

    /// The newest ledger rows of what is below its floor, merged in.
    pub(super) async fn look_again(
        &self,
        user: UserId,
        snapshot: Snapshot,
        floors: &Floors,
        spent: &mut Spent,
    ) -> Result<Snapshot, Error> {
        let unmet: Vec<_> = floors.unmet_by(&snapshot).collect();
        let (begun, cost) = (Instant::now(), Cost::default());
        let rows = self.source.latest_counting(user, &unmet, &cost).await;
        spent.source = spent.source.saturating_add(begun.elapsed());
        spent.add(&cost);
        Ok(rows?.merge(&snapshot))
    }

    /// Memory keeps what the marks know as shown, if nothing happened that it does not know.
    pub(super) fn keep(
        &self,
        user: UserId,
        start: Start,
        snapshot: &Snapshot,
        origin: Origin,
    ) -> Held {
        let held = Held::new(&self.catalogue, snapshot, origin.heard_at);
        if self.memory.is_off() {
            return held;
        }
        let ttl = self.times.memory_ttl();
        let ttl = origin.redis_ttl.map_or(ttl, |redis| ttl.min(redis));
        let until = Instant::now().checked_add(ttl).unwrap_or(start.at);
        let generation = start.knowledge.generation;
        let kept = Kept {
            held: held.clone(),
            until,
            loaded: origin.loaded,
            from_ledger: origin.from_ledger,
            generation,
            doubted: false,
        };
        let guard = |snapshot: &Snapshot| self.marks.allows(user, start.knowledge, snapshot);
        let kept = self.memory.keep(user, &kept, snapshot, guard);
        kept.unwrap_or_else(|| {
            self.memory.raise(user, snapshot);
            held
        })
    }
}
