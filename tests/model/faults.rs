//! What goes wrong.

use crate::{
    instance::Inst,
    redis::Data,
    rules::{Rule, Rules},
    state::{FLOOR_TTL, Scope, State},
    world::Action,
};

/// Each happens to Redis, or to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Memory evicts the entry of an instance.
    EvictMemory(usize),
    /// Redis evicts, or somebody deletes, a key.
    LoseEntry,
    LoseFeed,
    LoseEpoch,
    /// `FLUSHALL`: the connections stay.
    Flush,
    /// What Redis has now reaches its disk.
    Save,
    /// Redis dies; it comes back with what was saved, or with nothing. A failover looks the same.
    Restart,
    /// A failover makes the master a replica whose link is down: it goes on answering reads, and another server takes writes.
    Demote,
    /// Redis' clock is set forward beyond `floor_ttl`: every end is over, and what was written before is old.
    ClockForward,
    /// The feed is trimmed to nothing.
    Trim,
    /// An instance is cut off from Redis, alone; the network heals whenever it likes.
    Cut(usize),
    /// An instance is killed and started again.
    Kill(usize),
    /// An application is given up in the middle.
    GiveUp,
    /// The database fails and stays away.
    LoseSource,
    /// A row goes away, as nothing that the service does makes it.
    RemoveRow,
    /// An instance is from the beginning one that was just started.
    Heal(usize),
}

pub fn actions(scope: &Scope, state: &State, actions: &mut Vec<Action>) {
    for (index, (fault, _)) in scope.faults.iter().enumerate() {
        if state.faults[index] > 0 && possible(state, *fault) {
            actions.push(Action::Fault(*fault, index));
        }
        if let Fault::Cut(at) = *fault
            && state.insts[at].cut
        {
            actions.push(Action::Fault(Fault::Heal(at), index));
        }
    }
}

fn possible(state: &State, fault: Fault) -> bool {
    let data = &state.redis.data;
    match fault {
        Fault::EvictMemory(at) => state.insts[at].memory.is_some(),
        Fault::LoseEntry => data.entry.is_some(),
        Fault::LoseFeed => data.feed.is_some(),
        Fault::LoseEpoch => data.epoch.is_some(),
        Fault::Flush => *data != Data::default(),
        Fault::Save => state.redis.dump.is_none(),
        Fault::Trim => data
            .feed
            .as_ref()
            .is_some_and(|feed| !feed.posts.is_empty()),
        Fault::Cut(at) => !state.insts[at].cut,
        Fault::GiveUp => state.applying.is_some(),
        Fault::LoseSource => !state.source_down,
        Fault::RemoveRow => state.ledger[0] == 2,
        Fault::Demote => state.redis.demoted.is_none(),
        Fault::Restart | Fault::Kill(_) | Fault::ClockForward => true,
        Fault::Heal(_) => false,
    }
}

pub fn strike(state: &mut State, rules: Rules, fault: Fault, index: usize) {
    if let Fault::Heal(at) = fault {
        state.insts[at].cut = false;
        return;
    }
    state.faults[index] -= 1;
    // Within a tick, which is longer than the keeper takes to look.
    let watched = (0..2).any(|at| state.reach_redis(at).is_some());
    let data = &mut state.redis.data;
    match fault {
        Fault::EvictMemory(at) => state.insts[at].memory = None,
        Fault::LoseEntry => data.entry = None,
        Fault::LoseFeed => data.feed = None,
        Fault::LoseEpoch => data.epoch = None,
        Fault::Flush => *data = Data::default(),
        Fault::Save => state.redis.dump = Some(Box::new(data.clone())),
        Fault::Restart => {
            state.redis.run += 1;
            *data = state.redis.dump.as_deref().cloned().unwrap_or_default();
        }
        Fault::Demote => {
            state.redis.demoted = Some((state.redis.run, Box::new(data.clone())));
            state.redis.run += 1;
        }
        Fault::ClockForward => {
            data.entry = None;
            state.redis.ahead += FLOOR_TTL + 1;
            if watched && rules.holds(Rule::ClockStepEndsEpoch) {
                data.epoch = None;
            }
        }
        Fault::Trim => {
            if let Some(feed) = &mut data.feed {
                feed.posts.clear();
            }
        }
        Fault::Cut(at) => state.insts[at].cut = true,
        Fault::Kill(at) => {
            let Inst { cut, stale, .. } = state.insts[at];
            state.insts[at] = Inst {
                cut,
                stale,
                ..Inst::default()
            };
            if state.applying.is_some_and(|applying| applying.at == at) {
                state.applying = None;
            }
        }
        Fault::GiveUp => state.applying = None,
        Fault::LoseSource => state.source_down = true,
        Fault::RemoveRow => state.remove_row(),
        Fault::Heal(_) => {}
    }
}
