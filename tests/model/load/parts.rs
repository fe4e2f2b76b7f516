//! A load and its readers.

use crate::{
    protocol::{JoinFacts, may_load_be_joined},
    redis::LeaseGrant,
    rules::Rule,
    state::{Seqs, Tick},
    world::World,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Start {
    pub at: Tick,
    pub generation: u8,
    pub reread: u8,
    pub proven: bool,
}

/// A reader that waits, with what it has to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Of the mark at boarding.
    pub floors: Seqs,
    pub duty: Duty,
}

/// What the contract says that a read has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Duty {
    /// P1: acknowledged by this instance before the read began.
    pub here: Seqs,
    /// P2: acknowledged by anybody `max_staleness` before it began.
    pub anywhere: Seqs,
    /// P3: shown by this instance before it began.
    pub showed: Seqs,
}

/// What Redis knows of the user, where it gave no right to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Known {
    pub snapshot: Seqs,
    pub floors: Seqs,
}

/// What Redis said in place of a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    Miss,
    Stale,
    Bypass,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stage {
    Get,
    /// A hit is under way back.
    Got {
        snapshot: Seqs,
        until: Tick,
    },
    Leasing,
    Asking(Option<LeaseGrant>),
    Loaded {
        snapshot: Seqs,
        from_ledger: bool,
        grant: Option<LeaseGrant>,
    },
    Filling {
        snapshot: Seqs,
        from_ledger: bool,
        grant: LeaseGrant,
    },
    Filled {
        snapshot: Seqs,
        from_ledger: bool,
        kept: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Load {
    pub start: Start,
    /// New readers may still find it.
    pub current: bool,
    pub forward: Forward,
    /// What was learnt without a right to fill.
    pub known: Known,
    pub stage: Stage,
    pub readers: Vec<Waiting>,
}

impl Start {
    pub fn may_be_followed(&self, world: &World, reader: &Self) -> bool {
        let facts = JoinFacts {
            same_generation: self.generation == reader.generation
                || !world.rules.holds(Rule::Generation),
            same_reread: self.reread == reader.reread || !world.rules.holds(Rule::RereadCompared),
            reader_proven: reader.proven,
            load_proven: self.proven,
            load_young: self.at == reader.at,
            batch_load_single_reader: false,
        };
        may_load_be_joined(&facts).is_ok()
    }
}
