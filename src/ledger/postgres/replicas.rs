//! Servers that loads are read from in place of the primary: in turn, and not for a while after one failed.
//!
//! **Invariants.** A replica never fails a load: the primary is asked then. One that follows another ledger is left out, and so is a
//! standby that lacks what the primary had written [`LAG_MAX`] ago: its replication may have stopped for good.
//!
//! **Limits.** A quarter of `source.timeout_ms` for the replica's answer.

use std::{
    collections::VecDeque,
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

/// The age of the primary's log that every replica must have.
pub(super) const LAG_MAX: Duration = Duration::from_secs(30);

/// The replicas of `postgres.read_urls`.
#[derive(Debug)]
pub(super) struct Replicas {
    servers: Vec<Replica>,
    next: AtomicUsize,
    primary_log: Mutex<PrimaryLog>,
}

/// Positions of the primary's log, and when they had been written.
#[derive(Debug, Default)]
struct PrimaryLog(VecDeque<(Instant, i64)>);

impl PrimaryLog {
    fn note_position(&mut self, position: i64, now: Instant) {
        if self.0.back().is_some_and(|(_, last)| *last > position) {
            // Another server, or one that was restored.
            self.0.clear();
        }
        self.0.push_back((now, position));
        let is_old = |at: Option<&(Instant, i64)>| {
            at.is_some_and(|(then, _)| now.duration_since(*then) >= LAG_MAX)
        };
        while is_old(self.0.get(1)) {
            self.0.pop_front();
        }
    }

    /// The position that a replica must have reached.
    fn required_position(&self, now: Instant) -> Option<i64> {
        let (then, position) = self.0.front()?;
        (now.duration_since(*then) >= LAG_MAX).then_some(*position)
    }
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
            primary_log: Mutex::default(),
        }
    }

    /// All of them.
    pub(super) fn servers(&self) -> &[Replica] {
        &self.servers
    }

    /// The primary has written this much of its log.
    pub(super) fn note_primary_position(&self, position: i64) {
        self.primary_log
            .lock()
            .note_position(position, Instant::now());
    }

    /// Whether a standby that has replayed this much lags too far behind.
    pub(super) fn is_too_late(&self, replayed: i64) -> bool {
        let required = self.primary_log.lock().required_position(Instant::now());
        required.is_some_and(|required| replayed < required)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_has_to_have_what_the_primary_had_written_a_while_ago() {
        let (mut log, begun) = (PrimaryLog::default(), Instant::now());
        let at = |seconds| begun.checked_add(Duration::from_secs(seconds)).unwrap();
        for (seconds, position) in [(0, 100), (5, 200), (10, 300)] {
            log.note_position(position, at(seconds));
        }
        assert_eq!(log.required_position(at(29)), None);
        assert_eq!(log.required_position(at(30)), Some(100));
        log.note_position(400, at(41));
        assert_eq!(log.required_position(at(41)), Some(300));
        assert_eq!(log.0.len(), 2);
        log.note_position(50, at(90));
        assert_eq!(log.required_position(at(100)), None, "another log");
    }
}
