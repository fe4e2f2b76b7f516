//! Reading balances: the only place that knows the order of the tiers.

use std::sync::Arc;

use crate::{
    domain::{Floors, Snapshot},
    tiers::Trail,
};

/// What a reader asks for beside the user.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Not older than that, for this request only.
    pub min_seq: Floors,
    /// Read the ledger, whatever is held.
    pub no_cache: bool,
}

/// An answer to one user's read.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The balances, whole, with their rendered body.
    pub held: Arc<Held>,
    /// How it came about.
    pub trail: Trail,
}

/// A snapshot and everything that is prepared for showing it.
#[derive(Debug)]
pub struct Held {
    /// All balances of the user.
    pub snapshot: Snapshot,
    /// The whole body of a single read, with its tag.
    pub rendered: crate::render::Rendered,
}

/// Why a read was not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The source cannot answer, and nothing that may be shown is held.
    #[error(transparent)]
    Source(#[from] crate::source::Error),
    /// `min_seq` was not reached in time.
    #[error("min_seq was not reached in time")]
    NotReached,
    /// A permit for the source was not had in time.
    #[error("too many loads in flight")]
    Shed,
    /// The request's deadline, elsewhere than in the source.
    #[error("the request's deadline passed")]
    Deadline,
}
