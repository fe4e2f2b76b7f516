//! Bounded parts of all that can happen, each small enough to be looked at whole.

use crate::{
    faults::Fault,
    redis::Form,
    state::{Note, Scope},
};

const VALUES: Note = Note {
    asset: 0,
    seq: 2,
    form: Form::Values,
    with: 0,
    times: 1,
};
/// One request with two balances: both by their values, or one by its seq only.
const BOTH: Note = Note { with: 2, ..VALUES };
const SEQ_AND_VALUES: Note = Note { with: 2, ..SEQ };
const SEQ: Note = Note {
    form: Form::Seq,
    ..VALUES
};
const ASSET: Note = Note {
    form: Form::Asset,
    ..VALUES
};
/// Comes after the row of seq 2 has gone.
const FORGET: Note = Note {
    form: Form::Forget,
    ..VALUES
};

/// One write that is in the ledger and not yet in the view, one notification with values, one reader at each instance, and
/// all within one tick.
const PLAIN: Scope = Scope {
    name: "plain",
    warm_memory: false,
    warm_redis: false,
    proven: true,
    newborn: false,
    writes: &[(0, 2)],
    written: 1,
    notes: &[VALUES],
    ahead: false,
    appliers: &[0],
    reads: [1, 1],
    ticks: 0,
    evicts: false,
    stale: false,
    faults: &[],
};

/// Whether all of them hold is what the model is for.
pub const SCOPES: &[Scope] = &[
    Scope {
        name: "values, duplicate, memory evicts",
        notes: &[Note { times: 2, ..VALUES }],
        faults: &[(Fault::EvictMemory(0), 1)],
        ..PLAIN
    },
    Scope {
        name: "seq only",
        notes: &[SEQ],
        ..PLAIN
    },
    Scope {
        name: "asset only",
        notes: &[ASSET],
        ..PLAIN
    },
    Scope {
        name: "asset only twice, row between",
        writes: &[(0, 2)],
        written: 0,
        notes: &[Note { times: 2, ..ASSET }],
        ahead: true,
        reads: [2, 0],
        ..PLAIN
    },
    Scope {
        name: "two assets, two forms",
        writes: &[(0, 2), (1, 2)],
        written: 2,
        notes: &[VALUES, Note { asset: 1, ..SEQ }],
        reads: [0, 2],
        ..PLAIN
    },
    Scope {
        name: "two assets in one request, two readers here",
        writes: &[(0, 2), (1, 2)],
        written: 2,
        notes: &[BOTH],
        reads: [2, 0],
        warm_memory: true,
        faults: &[(Fault::EvictMemory(0), 1)],
        ..PLAIN
    },
    Scope {
        name: "two assets in one request, two readers elsewhere",
        writes: &[(0, 2), (1, 2)],
        written: 2,
        notes: &[Note { times: 2, ..BOTH }],
        reads: [0, 2],
        warm_redis: true,
        faults: &[(Fault::EvictMemory(1), 1), (Fault::LoseEntry, 1)],
        ..PLAIN
    },
    Scope {
        name: "two assets in one request, a seq and values",
        writes: &[(0, 2), (1, 2)],
        written: 2,
        notes: &[SEQ_AND_VALUES],
        reads: [1, 1],
        warm_memory: true,
        ..PLAIN
    },
    Scope {
        name: "two assets in one request before their rows",
        writes: &[],
        written: 0,
        ahead: true,
        notes: &[BOTH],
        reads: [1, 1],
        warm_redis: true,
        ..PLAIN
    },
    Scope {
        name: "one asset twice, out of order",
        writes: &[(0, 2), (0, 3)],
        written: 2,
        notes: &[VALUES, Note { seq: 3, ..SEQ }],
        reads: [0, 2],
        warm_memory: true,
        ..PLAIN
    },
    Scope {
        name: "one instance, two readers",
        reads: [2, 0],
        ..PLAIN
    },
    Scope {
        name: "one instance, asset only, Redis warm",
        reads: [2, 0],
        notes: &[ASSET],
        warm_redis: true,
        ..PLAIN
    },
    Scope {
        name: "warm memory, memory evicts",
        warm_memory: true,
        faults: &[(Fault::EvictMemory(0), 1)],
        ..PLAIN
    },
    Scope {
        name: "given up in the middle, sent again",
        notes: &[Note { times: 2, ..VALUES }],
        appliers: &[0, 1],
        faults: &[(Fault::GiveUp, 1)],
        ..PLAIN
    },
    Scope {
        name: "notified before its row, feed trimmed",
        written: 0,
        ahead: true,
        notes: &[SEQ],
        reads: [0, 1],
        ticks: 1,
        faults: &[(Fault::Trim, 1)],
        ..PLAIN
    },
    Scope {
        name: "no notification, three readers",
        notes: &[],
        written: 0,
        reads: [0, 3],
        ticks: 1,
        faults: &[(Fault::LoseEntry, 1), (Fault::EvictMemory(1), 1)],
        ..PLAIN
    },
    Scope {
        name: "a tick between",
        reads: [0, 1],
        ticks: 1,
        warm_memory: true,
        proven: false,
        ..PLAIN
    },
    Scope {
        name: "floors end",
        reads: [0, 2],
        ticks: 8,
        warm_redis: true,
        notes: &[SEQ],
        ..PLAIN
    },
    Scope {
        name: "feed trimmed",
        reads: [0, 2],
        ticks: 1,
        proven: false,
        faults: &[(Fault::Trim, 1)],
        ..PLAIN
    },
    Scope {
        name: "cut off, feed trimmed",
        reads: [0, 2],
        ticks: 1,
        warm_memory: true,
        faults: &[(Fault::Cut(1), 1), (Fault::Trim, 1)],
        ..PLAIN
    },
    Scope {
        name: "key deleted, cut off",
        reads: [0, 2],
        ticks: 1,
        faults: &[(Fault::LoseEntry, 1), (Fault::Cut(1), 1)],
        ..PLAIN
    },
    Scope {
        name: "Redis evicts, asset only",
        notes: &[ASSET],
        reads: [2, 0],
        evicts: true,
        faults: &[(Fault::LoseEntry, 1)],
        ..PLAIN
    },
    Scope {
        name: "Redis evicts entry and feed",
        reads: [0, 2],
        ticks: 1,
        evicts: true,
        warm_memory: true,
        faults: &[(Fault::LoseFeed, 1), (Fault::LoseEntry, 1)],
        ..PLAIN
    },
    Scope {
        name: "Redis evicts entry and epoch",
        reads: [0, 1],
        ticks: 1,
        evicts: true,
        faults: &[(Fault::LoseEpoch, 1), (Fault::LoseEntry, 1)],
        ..PLAIN
    },
    Scope {
        name: "Redis evicts, instance restarted",
        reads: [0, 2],
        ticks: 1,
        evicts: true,
        faults: &[(Fault::Kill(1), 1), (Fault::LoseEntry, 1)],
        ..PLAIN
    },
    Scope {
        name: "FLUSHALL",
        reads: [0, 2],
        ticks: 1,
        faults: &[(Fault::Flush, 1)],
        ..PLAIN
    },
    Scope {
        name: "Redis back, older or empty",
        reads: [0, 2],
        ticks: 1,
        warm_memory: true,
        faults: &[(Fault::Save, 1), (Fault::Restart, 1)],
        ..PLAIN
    },
    Scope {
        name: "master demoted",
        reads: [0, 2],
        ticks: 1,
        warm_memory: true,
        faults: &[(Fault::Demote, 1)],
        ..PLAIN
    },
    Scope {
        name: "Redis' clock set forward, instance restarted",
        reads: [0, 1],
        ticks: 1,
        faults: &[(Fault::ClockForward, 1), (Fault::Kill(1), 1)],
        ..PLAIN
    },
    Scope {
        name: "new instance cut off, FLUSHALL",
        newborn: true,
        written: 0,
        reads: [0, 1],
        faults: &[(Fault::Flush, 1), (Fault::Cut(1), 0)],
        ..PLAIN
    },
    Scope {
        name: "new instance, feed trimmed",
        newborn: true,
        reads: [0, 1],
        ticks: 1,
        faults: &[(Fault::Trim, 1), (Fault::Cut(1), 0)],
        ..PLAIN
    },
    Scope {
        name: "asset only, key deleted",
        notes: &[ASSET],
        reads: [2, 0],
        faults: &[(Fault::LoseEntry, 1)],
        ..PLAIN
    },
    Scope {
        name: "new instance, feed trimmed, key deleted",
        newborn: true,
        reads: [0, 1],
        ticks: 1,
        faults: &[(Fault::Trim, 1), (Fault::LoseEntry, 1), (Fault::Cut(1), 0)],
        ..PLAIN
    },
    Scope {
        name: "asset only, source down, stale answers",
        notes: &[ASSET],
        reads: [2, 0],
        warm_memory: true,
        stale: true,
        faults: &[(Fault::LoseSource, 1)],
        ..PLAIN
    },
    Scope {
        name: "seq only, source down, stale answers",
        notes: &[SEQ],
        reads: [1, 1],
        ticks: 1,
        warm_memory: true,
        stale: true,
        faults: &[(Fault::LoseSource, 1)],
        ..PLAIN
    },
    Scope {
        name: "key deleted, feed trimmed",
        reads: [0, 1],
        ticks: 1,
        faults: &[(Fault::LoseEntry, 1), (Fault::Trim, 1)],
        ..PLAIN
    },
    Scope {
        name: "row removed and forgotten, two readers here",
        notes: &[VALUES, FORGET],
        reads: [2, 0],
        faults: &[(Fault::RemoveRow, 1)],
        ..PLAIN
    },
    Scope {
        name: "row removed and forgotten, two readers elsewhere",
        notes: &[VALUES, FORGET],
        reads: [0, 2],
        faults: &[(Fault::RemoveRow, 1)],
        ..PLAIN
    },
    Scope {
        name: "row removed and forgotten, Redis warm, memory evicts",
        notes: &[VALUES, FORGET],
        reads: [1, 1],
        warm_redis: true,
        faults: &[(Fault::RemoveRow, 1), (Fault::EvictMemory(1), 1)],
        ..PLAIN
    },
    Scope {
        name: "row removed and forgotten, a new one after it",
        writes: &[(0, 2), (0, 3)],
        notes: &[Note { seq: 3, ..VALUES }, FORGET],
        reads: [0, 2],
        faults: &[(Fault::RemoveRow, 1)],
        ..PLAIN
    },
];
