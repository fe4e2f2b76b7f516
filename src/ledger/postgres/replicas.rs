//! Servers that loads are read from in place of the primary: in turn, and not for a while after one failed.
//!
//! **Invariants.** A replica never fails a load: the primary is asked then. One that follows another ledger is left out.
//!
//! **Limits.** A quarter of `source.timeout_ms` for the replica's answer.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tokio_postgres::Row;

use super::pool::{PgPool, Values, jittered_wait};

/// The part of a statement's time after which the primary is asked.
const PRIMARY_AFTER: u32 = 4;

/// How long a replica that failed is left out.
const PAUSE: Duration = Duration::from_secs(1);

/// The replicas of `postgres.read_urls`.
#[derive(Debug)]
pub(super) struct Replicas {
    servers: Vec<Replica>,
    next: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) pool: PgPool,
    /// Not asked before this moment; none before its ledger was seen to be the primary's.
    usable_from: Mutex<Option<Instant>>,
}

impl Replicas {
    pub(super) fn new(pools: Vec<PgPool>) -> Self {
        let replica = |pool| Replica {
            pool,
            usable_from: Mutex::new(None),
        };
        Self {
            servers: pools.into_iter().map(replica).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// All of them.
    pub(super) fn servers(&self) -> &[Replica] {
        &self.servers
    }

    /// The next one in turn that can be asked.
    pub(super) fn choose_replica(&self) -> Option<&Replica> {
        let count = self.servers.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = (0..count).filter_map(|step| first.wrapping_add(step).checked_rem(count));
        let mut turn = turn.filter_map(|at| self.servers.get(at));
        turn.find(|replica| replica.is_usable())
    }

    /// Rows that a replica has; none where it does not answer in time.
    pub(super) async fn read_rows(
        &self,
        replica: &Replica,
        text: &str,
        values: Values<'_>,
    ) -> Option<Vec<Row>> {
        let patience = replica.pool.timeout().checked_div(PRIMARY_AFTER)?;
        let reading = timeout(patience, replica.pool.read_rows(text, values));
        if let Ok(Ok(rows)) = reading.await {
            return Some(rows);
        }
        replica.pause_replica();
        None
    }
}

impl Replica {
    fn is_usable(&self) -> bool {
        let usable_from = *self.usable_from.lock();
        usable_from.is_some_and(|from| from <= Instant::now())
    }

    /// It is left out for a while.
    fn pause_replica(&self) {
        let mut usable_from = self.usable_from.lock();
        if usable_from.is_some() {
            *usable_from = Instant::now().checked_add(jittered_wait(PAUSE));
        }
    }

    /// Whether it may be asked at all.
    pub(super) fn allow_reads(&self, allowed: bool) {
        let mut usable_from = self.usable_from.lock();
        match (*usable_from, allowed) {
            (None, true) => *usable_from = Some(Instant::now()),
            (Some(_), false) => *usable_from = None,
            (None, false) | (Some(_), true) => {}
        }
    }
}
