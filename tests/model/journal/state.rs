//! The state: the database, two instances, and the answers that clients had.

use std::collections::{BTreeMap, BTreeSet};

/// One of the two accounts.
pub type Account = usize;
/// The id of a transaction: its place in [`Scope::transactions`].
pub type Id = usize;

/// A bounded part of what can happen.
#[derive(Debug, Clone)]
pub struct Scope {
    /// For the line of a test.
    pub name: &'static str,
    /// The legs of each transaction: account and delta.
    pub transactions: Vec<Vec<(Account, i8)>>,
    /// Balance of each account, under seq 1.
    pub opening: [i8; 2],
    /// How often each transaction may be sent, to any instance.
    pub sends: u8,
    /// Crashes of any instance.
    pub crashes: u8,
}

/// The rules of the writer. A weakened variant leaves one out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// An append is conditional on the tail that was judged.
    Condition,
    /// Entries of others that share an account are applied before anything is judged.
    Help,
    /// Ids are looked up after the tail is known.
    IdsAfterTail,
    /// An entry is removed only after all of it stands.
    RemoveLast,
    /// The client hears of it only after all of it stands.
    AnswerLast,
}

/// A ledger row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    pub account: Account,
    pub seq: u8,
    pub balance: i8,
    pub id: Id,
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    pub ids: BTreeSet<Id>,
    pub rows: Vec<Row>,
    pub removed: bool,
}

/// The work of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    #[default]
    Idle,
    /// Heads are being read, one after the other: seq and balance.
    Judging { heads: Vec<(u8, i8)> },
    /// An entry is being applied: its position, statements done, the ids whose clients wait.
    Applying {
        position: usize,
        done: usize,
        waiting: BTreeSet<Id>,
        written: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Instance {
    /// The tail that it knows.
    pub tail: Option<usize>,
    /// Positions up to the tail that it has not seen applied.
    pub unapplied: BTreeSet<usize>,
    /// Transactions that wait.
    pub queue: BTreeSet<Id>,
    /// Ids that it found to stand when they came (only without [`Rule::IdsAfterTail`]).
    pub early: BTreeMap<Id, bool>,
    pub phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Positions are counted from 1: the entry at position 1 is the first.
    pub journal: Vec<Entry>,
    pub ledger: BTreeMap<(Account, u8), (i8, Option<Id>)>,
    pub ids: BTreeSet<Id>,
    pub instances: [Instance; 2],
    pub sends: Vec<u8>,
    pub crashes: u8,
    /// Ids that a client was told to stand.
    pub told: BTreeSet<Id>,
    /// Answers `written` for each id.
    pub written: Vec<u8>,
    pub refused: bool,
    pub helped: bool,
    /// A row was written over one with other content.
    pub clash: bool,
    /// A client was told that something stands which did not, whole.
    pub lied: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    Send(usize, Id),
    ReadTail(usize),
    Help(usize, usize),
    ReadHead(usize),
    Append(usize),
    Write(usize),
    Answer(usize),
    Remove(usize),
    Recover(usize, usize),
    Crash(usize),
}

pub struct World {
    pub scope: Scope,
    pub without: Option<Rule>,
}

/// Properties that only say that something happens at all.
pub const REACHED: [&str; 3] = ["one stands", "one is refused", "one is helped"];

impl World {
    pub fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    pub fn begin(&self) -> State {
        let opening = self.scope.opening.iter().enumerate();
        let rows = opening.filter(|(_, balance)| **balance != 0);
        State {
            journal: Vec::new(),
            ledger: rows
                .map(|(account, balance)| ((account, 1), (*balance, None)))
                .collect(),
            ids: BTreeSet::new(),
            instances: [Instance::default(), Instance::default()],
            sends: vec![self.scope.sends; self.scope.transactions.len()],
            crashes: self.scope.crashes,
            told: BTreeSet::new(),
            written: vec![0; self.scope.transactions.len()],
            refused: false,
            helped: false,
            clash: false,
            lied: false,
        }
    }
}

impl State {
    /// Seq and balance of the newest row; seq 0 where there is none.
    pub fn head(&self, account: Account) -> (u8, i8) {
        let rows = self.ledger.range((account, 0)..=(account, u8::MAX));
        rows.last()
            .map_or((0, 0), |((_, seq), (balance, _))| (*seq, *balance))
    }

    pub fn rows_of(&self, id: Id) -> usize {
        let of_it = self.ledger.values().filter(|(_, of)| *of == Some(id));
        of_it.count()
    }

    /// Nothing is under way, and nothing is left in the journal.
    pub fn is_quiet(&self) -> bool {
        let idle = |instance: &Instance| matches!(instance.phase, Phase::Idle);
        self.instances.iter().all(idle) && self.journal.iter().all(|entry| entry.removed)
    }
}
