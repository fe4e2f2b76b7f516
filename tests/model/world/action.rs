//! What may happen next.

use crate::faults::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Write,
    /// A notification arrives at an instance, and its first step is done.
    Apply {
        at: usize,
        note: usize,
    },
    ApplyOn,
    Read {
        at: usize,
    },
    Load {
        at: usize,
        load: usize,
    },
    /// The same, of the view, which has caught up.
    LoadCaughtUp {
        at: usize,
        load: usize,
    },
    ForceLease {
        at: usize,
        load: usize,
    },
    ReadFeed {
        at: usize,
    },
    TakeFeed {
        at: usize,
    },
    EndSession {
        at: usize,
    },
    OpenSession {
        at: usize,
    },
    BeginFollowing {
        at: usize,
    },
    Tick,
    Fault(Fault, usize),
}
