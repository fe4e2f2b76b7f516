//! What was done, as answers say it: `data` of every changing route.

use serde::Serialize;
use utoipa::ToSchema;

/// What a request of notifications did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Settled {
    /// Those that were news.
    pub applied: u64,
    /// Those that were known.
    pub old: u64,
}

/// What a request of ledger entries did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Written {
    /// Entries that are new.
    pub written: u64,
    /// Entries that stood already, with the same amounts.
    pub repeated: u64,
}

/// What a request to drop snapshots did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invalidated {
    /// Users asked for.
    pub users: u64,
}

/// What a request to load users did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Warmed {
    /// Users asked for.
    pub users: u64,
    /// Users that are held now.
    pub loaded: u64,
    /// Users that could not be loaded.
    pub failed: u64,
}
