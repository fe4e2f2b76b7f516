//! Results of changing routes: `data` of their answers.

use serde::Serialize;
use utoipa::ToSchema;

/// The result of a request of notifications.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Settled)]
pub struct SettledCounts {
    /// Those that were news.
    pub applied: u64,
    /// Those that were known.
    pub old: u64,
}

/// The result of a request of ledger entries.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Written)]
pub struct WrittenEntries {
    /// Entries that are new.
    pub written: u64,
    /// Entries that stood already, with the same amounts.
    pub repeated: u64,
}

/// The result of a request to drop snapshots.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invalidated {
    /// Users asked for.
    pub users: u64,
}

/// The result of a request to load users.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Warmed)]
pub struct WarmedCounts {
    /// Users asked for.
    pub users: u64,
    /// Users that are held now.
    pub loaded: u64,
    /// Users that could not be loaded.
    pub failed: u64,
}
