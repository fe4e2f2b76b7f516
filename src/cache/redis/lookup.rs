//! The answers of Redis to a lookup and to a request for the lease.

use std::{sync::Arc, time::Duration};

use super::session::RedisSession;
use crate::{
    domain::{AssetId, Floors, Snapshot},
    telemetry::Fault,
};

/// Redis' knowledge of one user.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// A snapshot that may be shown, and for how long.
    Hit {
        /// All balances.
        snapshot: Snapshot,
        /// The time that the snapshot may still be served.
        ttl: Duration,
    },
    /// No snapshot, or one whose time to live is over.
    Miss(KnownBalances),
    /// Something that may not be shown any more: below a floor, or to be read from the ledger.
    Stale(KnownBalances),
    /// Redis could not be asked.
    Fault(Fault),
}

/// The knowledge of Redis about a user: perhaps not all balances.
#[derive(Debug, Clone, Default)]
pub struct KnownBalances {
    pub snapshot: Snapshot,
    /// The lowest seqs that may be shown.
    pub floors: Floors,
    /// Assets to be read from the ledger by name.
    pub assets: Vec<AssetId>,
}

/// The result of a miss.
#[derive(Debug, Clone)]
pub enum Lease {
    /// The lease, with what Redis knows of the user.
    Granted(LeaseGrant, KnownBalances),
    /// Another load filled meanwhile.
    Hit {
        /// All balances.
        snapshot: Snapshot,
        /// The time that the snapshot may still be served.
        ttl: Duration,
    },
    /// Another instance is filling.
    Busy,
}

#[derive(Debug, Clone)]
pub struct LeaseGrant {
    pub(super) token: String,
    pub(super) session: SessionRef,
    /// The ledger has to be read: a notification without a seq came, or Redis may have forgotten the floors.
    pub ledger: bool,
}

/// The session that a lease was given in.
#[derive(Clone)]
pub(super) struct SessionRef(pub(super) Arc<RedisSession>);

impl std::fmt::Debug for SessionRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SessionRef").field(&self.0.epoch.id).finish()
    }
}
