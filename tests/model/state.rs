//! What there is: two instances, Redis, the ledger and its view, time, and how much may happen.
//!
//! Time runs in ticks. What happens within one tick happens at one moment, in some order. `max_staleness` is shorter than
//! a tick, so a proof is good within its own; a load, an application and a lease last no longer than into the next one.

use crate::{
    faults::Fault,
    instance::{Inst, Session, Tap},
    load::Duty,
    redis::{Feed, Form, News, Redis},
    rules::{Rule, Rules},
    world::World,
};

pub type Tick = u8;
pub type Asset = usize;
/// A snapshot or floors: the seq of each asset, 0 is none. The values are as good as their seq.
pub type Seqs = [u8; 2];

pub const ASSETS: usize = 2;
pub const MEMORY_TTL: Tick = 2;
pub const SNAPSHOT_TTL: Tick = 2;
pub const LEASE: Tick = 2;
/// Longer than snapshot, memory and deadline together.
pub const FLOOR_TTL: Tick = 6;
/// The first tick: the epoch is old by then.
pub const BEGIN: Tick = 8;

pub fn merge(a: Seqs, b: Seqs) -> Seqs {
    [a[0].max(b[0]), a[1].max(b[1])]
}

pub fn meets(snapshot: Seqs, floors: Seqs) -> bool {
    snapshot[0] >= floors[0] && snapshot[1] >= floors[1]
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    SettledHere,
    SettledElsewhere,
    Backwards,
    Part,
    Torn,
}

/// A notification that may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    pub asset: Asset,
    pub seq: u8,
    pub form: Form,
    /// The seq of the other asset in the same request, with its values; 0 is none.
    pub with: u8,
    /// Once, or with duplicates.
    pub times: u8,
}

impl Note {
    /// The snapshot shows one of the two balances that one request carries, and not the other.
    pub fn torn_in(&self, snapshot: Seqs) -> bool {
        let other = snapshot[1 - self.asset];
        self.with > 0 && (snapshot[self.asset] >= self.seq) != (other >= self.with)
    }
}

/// How much of everything there is.
#[derive(Debug, Clone)]
pub struct Scope {
    pub name: &'static str,
    /// What is held at the beginning.
    pub warm_memory: bool,
    pub warm_redis: bool,
    /// Freshness is proven at the beginning.
    pub proven: bool,
    /// The second instance was just started, and is cut off.
    pub newborn: bool,
    pub writes: &'static [(Asset, u8)],
    /// How many of them are there at the beginning: before a notification they make no difference to any promise.
    pub written: u8,
    pub notes: &'static [Note],
    /// Notifications may come before their row is in the ledger.
    pub ahead: bool,
    /// Who applies.
    pub appliers: &'static [usize],
    /// Readers that each instance has.
    pub reads: [u8; 2],
    pub ticks: Tick,
    /// `maxmemory-policy` is not `noeviction`.
    pub evicts: bool,
    /// `stale.enabled`
    pub stale: bool,
    /// Each may happen that often.
    pub faults: &'static [(Fault, u8)],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Applying {
    pub at: usize,
    pub news: News,
    /// What it promises: its seq, or what the ledger had when it was sent.
    pub says: u8,
    pub steps: u8,
    pub begun: Tick,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub now: Tick,
    pub ledger: Seqs,
    pub view: Seqs,
    /// Until when the view has to have what it lacks (P5).
    pub due: [Tick; 2],
    pub written: u8,
    pub notes: Vec<u8>,
    pub reads: [u8; 2],
    pub faults: Vec<u8>,
    pub redis: Redis,
    /// The database fails, and stays away.
    pub source_down: bool,
    /// A row of the ledger is no more.
    pub removed: bool,
    pub insts: [Inst; 2],
    pub applying: Option<Applying>,
    /// All that was acknowledged, and what was before this tick.
    pub acked: Seqs,
    pub acked_before: Seqs,
    pub broken: Option<Broken>,
}

impl State {
    /// The session, if its connections still lead somewhere.
    pub fn reach_redis(&self, at: usize) -> Option<Session> {
        let inst = &self.insts[at];
        inst.session
            .filter(|session| self.redis.up && !inst.cut && session.run == self.redis.run)
    }

    pub fn tap_is_whole(&self, at: usize) -> bool {
        let inst = &self.insts[at];
        let runs = |tap: Tap| self.redis.server(tap.run).is_some();
        self.redis.up && !inst.cut && inst.tap.is_some_and(runs)
    }

    /// `BlockingConnection::read_feed`: of the server that the tap leads to.
    pub fn tap_feed(&self, at: usize) -> Option<&Feed> {
        let tap = self.insts[at].tap?;
        let (data, _) = self.redis.server(tap.run)?;
        data.feed.as_ref()
    }

    /// `BlockingConnection::vouches_for`: the epoch that the tap's server vouches for; the outer none is a broken connection.
    pub fn tap_vouches(&self, rules: Rules, at: usize) -> Option<Option<u8>> {
        let tap = self.insts[at].tap.filter(|_| self.tap_is_whole(at))?;
        let (data, master) = self.redis.server(tap.run)?;
        let vouches = master || !rules.holds(Rule::MasterVouches);
        Some(data.epoch.filter(|_| vouches).map(|epoch| epoch.id))
    }

    pub fn view_catches_up(&mut self) {
        (self.view, self.due) = (self.ledger, [Tick::MAX; 2]);
    }

    pub fn duty(&self, at: usize) -> Duty {
        let inst = &self.insts[at];
        Duty {
            here: inst.acknowledged,
            anywhere: self.acked_before,
            showed: inst.showed,
        }
    }

    /// Nothing is under way, and everybody who answers is up to date.
    pub fn at_rest(&self, world: &World) -> bool {
        self.applying.is_none()
            && (0..2).filter(|at| world.scope.reads[*at] > 0).all(|at| {
                let inst = &self.insts[at];
                let epoch = self.redis.data.epoch.map(|epoch| epoch.id);
                let last = self.redis.data.feed.as_ref().map(|feed| feed.last);
                inst.loads.is_empty()
                    && inst.page.is_none()
                    && self.tap_is_whole(at)
                    && self
                        .reach_redis(at)
                        .is_some_and(|session| Some(session.epoch.id) == epoch)
                    && inst.position.map(|position| position.cursor) == last
                    && inst.proven(self.now)
            })
    }

    /// P4: at rest nothing that was settled is shown old by any tier.
    pub fn holds_nothing_old(&self, world: &World) -> bool {
        !self.at_rest(world)
            || (0..2).filter(|at| world.scope.reads[*at] > 0).all(|at| {
                let inst = &self.insts[at];
                let mark = inst.mark(world.rules, self.now);
                let memory = inst.ask_memory(world.rules, self.now);
                let entry = self.redis.data.entry(self.now).zip(inst.session);
                let hit = entry.filter(|(entry, session)| {
                    entry.servable(world.rules, session.epoch.id, self.now)
                });
                let hit = hit.map(|(entry, _)| merge(entry.balances, mark.told));
                let rules = world.rules.with(Rule::AcceptCompares);
                let start = inst.start(rules, self.now);
                let hit = hit.filter(|hit| inst.accepts(rules, self.now, &start, *hit));
                [memory, hit]
                    .into_iter()
                    .flatten()
                    .all(|shown| meets(shown, self.acked))
            })
    }
}
