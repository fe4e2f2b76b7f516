//! A notification takes effect: what that reports, and how it can fail.

use std::sync::Arc;

use crate::source;

/// What a batch of notifications did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Took effect.
    pub applied: u64,
    /// Told nothing new.
    pub old: u64,
}

/// What warming did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Warmed {
    /// Asked for.
    pub users: u64,
    /// Held now, whether or not they were before.
    pub loaded: u64,
    /// Could not be loaded.
    pub failed: u64,
}

/// Why a notification did not get its promise. The text is for the log; a client never sees it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Redis cannot take it now.
    #[error("the promise cannot be given: {0}")]
    Unavailable(Arc<str>),
    /// The request's deadline passed first.
    #[error("the request's deadline passed")]
    Deadline,
}

/// Why ledger entries were not written and applied.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The seq of the entry at `index` exists with other amounts; nothing was written.
    #[error("the seq of entry {index} is taken by other amounts")]
    Conflict {
        /// Counted from 0.
        index: usize,
    },
    /// The source failed; some of the entries may stand, and may be written again.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The rows stand, but they could not be applied; the same request again completes it.
    #[error(transparent)]
    Apply(#[from] Error),
}
