//! One load, step by step: each step is what happens between two answers that are waited for.
//!
//! | here | in the code |
//! |---|---|
//! | [`Start`], [`Start::may_be_followed`] | `read::single_flight` |
//! | [`Stage::Get`] … [`Stage::Leasing`] | `Reader::ask_redis`, `Reader::accept` |
//! | [`Stage::Asking`] | `Reader::ask_source` |
//! | [`Stage::Loaded`], [`reach`] | `Reader::load_from_source`, `Reader::reach` |
//! | [`Stage::Filling`], [`Stage::Filled`] | `Redis::fill_entry`, and what is done with its answer |
//! | [`land`] | `Flights::land`, `Reader::fly` |

mod parts;

pub use self::parts::{Duty, Forward, Known, Load, Stage, Start, Waiting};
use crate::{
    forgetting_rules::{FillFacts, may_redis_be_filled},
    protocol::{KeepFacts, ViewFacts, may_load_be_kept, may_view_be_trusted},
    redis::{Ask, Entry, LeaseGrant, Leased},
    rules::Rule,
    state::{Broken, FLOOR_TTL, SNAPSHOT_TTL, Seqs, State, meets, merge},
    world::World,
};

/// One step of a load. `force`: the wait for somebody else's lease is over. `caught_up`: the view has all by now.
pub fn step(
    world: &World,
    state: &mut State,
    at: usize,
    index: usize,
    force: bool,
    caught_up: bool,
) {
    let (rules, now) = (world.rules, state.now);
    let mut load = state.insts[at].loads[index].clone();
    match load.stage.clone() {
        Stage::Get => match state.reach_redis(at) {
            None => bypass(&mut load),
            Some(session) => {
                let entry = state.redis.data.entry(now);
                if rules.holds(Rule::ProofForRedis) && !load.start.proven {
                    // It takes no hit, and fills nothing.
                    load.known = entry.map_or(Known::default(), |entry| Known {
                        snapshot: entry.balances,
                        floors: entry.live_floors(now),
                    });
                    load.stage = Stage::Asking(None);
                    state.insts[at].loads[index] = load;
                    return;
                }
                match entry.filter(|entry| entry.servable(rules, session.epoch.id, now)) {
                    Some(Entry {
                        balances, until, ..
                    }) => {
                        load.stage = Stage::Got {
                            snapshot: balances,
                            until,
                        }
                    }
                    None => lease(world, state, at, &mut load, false),
                }
            }
        },
        Stage::Got { snapshot, until } => {
            let inst = &mut state.insts[at];
            let mark = inst.mark(rules, now);
            let merged = merge(snapshot, mark.told);
            let refused = !inst.accepts(rules, now, &load.start, merged);
            if refused {
                load.forward = Forward::Stale;
                load.stage = Stage::Leasing;
            } else {
                let shown = inst.keep(rules, now, &load.start, merged, Some(until), false);
                return land(world, state, at, index, shown, false);
            }
        }
        Stage::Leasing => lease(world, state, at, &mut load, force),
        Stage::Asking(_) if state.source_down => return fail(world, state, at, index),
        Stage::Asking(grant) => {
            let (snapshot, from_ledger) =
                ask_source(world, state, at, &load, grant.as_ref(), caught_up);
            let reached = reach(world, state, at, snapshot, grant.as_ref(), load.known);
            let facts = FillFacts {
                floors_met: reached.met,
                known_elsewhere: reached.known_elsewhere
                    || !rules.holds(Rule::FillKnownElsewhere),
            };
            load.stage = match grant {
                Some(grant) if may_redis_be_filled(&facts).is_ok() => Stage::Filling {
                    snapshot: reached.snapshot,
                    from_ledger,
                    grant,
                },
                grant => Stage::Loaded {
                    snapshot,
                    from_ledger,
                    grant,
                },
            };
        }
        Stage::Loaded {
            snapshot,
            from_ledger,
            grant,
        } => {
            let Reached { snapshot, met, .. } =
                reach(world, state, at, snapshot, grant.as_ref(), load.known);
            let granted = grant.is_some();
            if let Some(grant) = grant
                && state.reach_redis(at).is_some()
            {
                state.redis.data.release(grant.token);
            }
            let inst = &mut state.insts[at];
            if from_ledger && rules.holds(Rule::RereadForRedis) {
                inst.read_ledger(&load.start);
            }
            let facts = KeepFacts {
                floors_met: met,
                from_ledger,
                redis_configured: true,
                lease_granted: granted,
                fill_accepted: false,
            };
            let shown = if may_load_be_kept(&facts).is_ok() {
                inst.keep(rules, now, &load.start, snapshot, None, true)
            } else {
                inst.show_only(rules, now, load.start.reread, snapshot);
                snapshot
            };
            return land(world, state, at, index, shown, !met);
        }
        Stage::Filling {
            snapshot,
            from_ledger,
            grant,
        } => {
            let session = state.reach_redis(at).filter(|session| {
                session.epoch.id == grant.epoch || !rules.holds(Rule::EpochCompared)
            });
            let kept = session.is_some()
                && state
                    .redis
                    .data
                    .fill(rules, now, &grant, snapshot, from_ledger);
            load.stage = Stage::Filled {
                snapshot,
                from_ledger,
                kept,
            };
        }
        Stage::Filled {
            snapshot,
            from_ledger,
            kept,
        } => {
            let (snapshot, met) = if kept {
                (snapshot, true)
            } else {
                let reached = reach(world, state, at, snapshot, None, load.known);
                (reached.snapshot, reached.met)
            };
            let inst = &mut state.insts[at];
            if from_ledger && rules.holds(Rule::RereadForRedis) {
                inst.read_ledger(&load.start);
            }
            let facts = KeepFacts {
                floors_met: met,
                from_ledger,
                redis_configured: true,
                lease_granted: true,
                fill_accepted: kept || !rules.holds(Rule::RefusedIsNotKept),
            };
            let shown = if may_load_be_kept(&facts).is_ok() {
                let until = kept.then_some(now + SNAPSHOT_TTL);
                inst.keep(rules, now, &load.start, snapshot, until, from_ledger)
            } else {
                inst.show_only(rules, now, load.start.reread, snapshot);
                snapshot
            };
            return land(world, state, at, index, shown, !met);
        }
    }
    state.insts[at].loads[index] = load;
}

/// `Redis::ask_lease`, on this load's behalf.
fn lease(world: &World, state: &mut State, at: usize, load: &mut Load, force: bool) {
    let (rules, now) = (world.rules, state.now);
    let Some(session) = state.reach_redis(at) else {
        return bypass(load);
    };
    let force = force || load.forward == Forward::Stale;
    let young = rules.holds(Rule::YoungSession) && now < session.epoch.birth + FLOOR_TTL;
    let ask = Ask {
        now,
        epoch: session.epoch.id,
        evicts: world.scope.evicts,
        young,
    };
    let token = state.redis.tokens + 1;
    load.stage = match state.redis.data.lease(rules, &ask, token, force) {
        Leased::Hit { snapshot, until } => Stage::Got { snapshot, until },
        Leased::Busy => Stage::Leasing,
        Leased::Granted(grant) => {
            state.redis.tokens = token;
            Stage::Asking(Some(grant))
        }
    };
}

/// `Reader::ask_source`: what was read, and whether from the ledger. The view may have caught up by now.
fn ask_source(
    world: &World,
    state: &mut State,
    at: usize,
    load: &Load,
    grant: Option<&LeaseGrant>,
    caught_up: bool,
) -> (Seqs, bool) {
    if trusts_view(world, state, at, load, grant) {
        if caught_up {
            state.view_catches_up();
        }
        (state.view, false)
    } else {
        (merge(state.view, state.ledger), true)
    }
}

pub fn trusts_view(
    world: &World,
    state: &State,
    at: usize,
    load: &Load,
    grant: Option<&LeaseGrant>,
) -> bool {
    let (rules, inst) = (world.rules, &state.insts[at]);
    let facts = ViewFacts {
        ledger_requested: false,
        proven_at_start: load.start.proven || !rules.holds(Rule::ProofForView),
        // A load does not outlast a proof here.
        proven_now: true,
        redis_bypassed: load.forward == Forward::Bypass,
        changes_unknown: inst.blind(state.now) && rules.holds(Rule::NotBlind),
        changed_lately: inst.mark(rules, state.now).changed && rules.holds(Rule::NotChangedLately),
        redis_wants_ledger: grant.is_some_and(|grant| grant.ledger),
    };
    may_view_be_trusted(&facts).is_ok()
}

fn bypass(load: &mut Load) {
    load.forward = Forward::Bypass;
    load.stage = Stage::Asking(None);
}

/// `ReachedSnapshot`
struct Reached {
    snapshot: Seqs,
    /// If not, the ledger has it neither, and the lag budget is over.
    met: bool,
    known_elsewhere: bool,
}

/// Below its floors, a snapshot is read again from the ledger.
fn reach(
    world: &World,
    state: &State,
    at: usize,
    snapshot: Seqs,
    grant: Option<&LeaseGrant>,
    learnt: Known,
) -> Reached {
    let mark = state.insts[at].mark(world.rules, state.now);
    let granted = |grant: &LeaseGrant| (grant.known, grant.floors);
    let (known, floors) = grant.map_or((learnt.snapshot, learnt.floors), granted);
    let mut elsewhere = merge(snapshot, known);
    let mut snapshot = merge(elsewhere, mark.told);
    let floors = merge(floors, mark.floors);
    if !state.source_down {
        for asset in 0..snapshot.len() {
            if snapshot[asset] < floors[asset] {
                let row = state.ledger[asset];
                snapshot[asset] = snapshot[asset].max(row);
                elsewhere[asset] = elsewhere[asset].max(row);
            }
        }
    }
    Reached {
        snapshot,
        met: meets(snapshot, floors),
        known_elsewhere: meets(elsewhere, snapshot),
    }
}

/// The source failed: each reader gets the last known snapshot, or an error (`Reader::stale_or`).
fn fail(world: &World, state: &mut State, at: usize, index: usize) {
    let load = state.insts[at].loads.remove(index);
    if let Stage::Asking(Some(grant)) = &load.stage
        && state.reach_redis(at).is_some()
    {
        state.redis.data.release(grant.token);
    }
    for reader in load.readers {
        if let Some(snapshot) = state.insts[at].ask_stale(world.rules, state.now) {
            // It may break P2 and nothing else.
            let duty = Duty {
                anywhere: [0, 0],
                ..reader.duty
            };
            show(world, state, at, snapshot, duty, false);
        }
    }
}

/// The load is over: those who may be shown it are, the others begin again (which is a new read: left out).
fn land(world: &World, state: &mut State, at: usize, index: usize, snapshot: Seqs, behind: bool) {
    let load = state.insts[at].loads.remove(index);
    // An answer from before a forgetting binds no later one.
    let showed = state.insts[at].showed;
    let forgotten = state.insts[at].mark.forgotten > load.start.reread;
    for reader in load.readers {
        let compared = world.rules.holds(Rule::FollowersCompare);
        if behind || !compared || meets(snapshot, reader.floors) {
            show(world, state, at, snapshot, reader.duty, behind);
        }
    }
    if forgotten {
        state.insts[at].showed = showed;
    }
}

/// An answer leaves.
pub fn show(
    world: &World,
    state: &mut State,
    at: usize,
    snapshot: Seqs,
    duty: Duty,
    behind: bool,
) {
    if !behind && state.broken.is_none() {
        state.broken = if snapshot.contains(&0) {
            Some(Broken::Part)
        } else if !meets(snapshot, duty.here) {
            Some(Broken::SettledHere)
        } else if !meets(snapshot, duty.anywhere) {
            Some(Broken::SettledElsewhere)
        } else if !meets(snapshot, duty.showed) {
            Some(Broken::Backwards)
        } else if world.scope.notes.iter().any(|note| note.torn_in(snapshot)) {
            Some(Broken::Torn)
        } else {
            None
        };
    }
    let showed = &mut state.insts[at].showed;
    *showed = merge(*showed, snapshot);
}
