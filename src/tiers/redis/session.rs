//! Connections that were checked: to which life of which Redis they lead.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering},
    time::Duration,
};

use super::{
    clock::{Clock, Now, Reading},
    conn::Conn,
    lane::Lane,
};
use crate::telemetry::Op;

/// An unbroken life of a Redis' data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Random.
    pub id: String,
    /// When it began, in ms of Redis' clock.
    pub birth: i64,
}

/// What was found out about the Redis behind some connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Findings {
    /// The life of its data.
    pub(super) epoch: Epoch,
    /// Its clock.
    pub(super) now: Reading,
    /// Run and replication ids of all its masters.
    pub(super) fingerprint: String,
    /// It may drop keys that have not ended.
    pub(super) evicts: bool,
}

/// The connections of a session.
pub(super) struct Conns {
    /// For hashes, where there can be such.
    pub(super) lanes: Vec<Lane>,
    /// For whatever else readers ask.
    pub(super) readers: Vec<Conn>,
    /// For what is applied.
    pub(super) writer: Conn,
}

/// Checked connections.
pub struct Session {
    lanes: Vec<Lane>,
    readers: Vec<Conn>,
    next: AtomicUsize,
    pub(super) writer: Conn,
    /// The life of Redis that they belong to.
    pub epoch: Epoch,
    /// Redis may drop keys that have not ended: an absent key does not mean that there is no floor.
    pub evicts: bool,
    pub(super) fingerprint: String,
    clock: Clock,
    failures: AtomicU32,
    /// When the streak of failures began, on the clock's base, in ms.
    failing_since: AtomicI64,
    over: AtomicBool,
}

impl Session {
    pub(super) fn new(conns: Conns, found: Findings) -> Self {
        let Conns {
            lanes,
            readers,
            writer,
        } = conns;
        Self {
            lanes,
            readers,
            next: AtomicUsize::new(0),
            writer,
            epoch: found.epoch,
            evicts: found.evicts,
            fingerprint: found.fingerprint,
            clock: Clock::new(found.now),
            failures: AtomicU32::new(0),
            failing_since: AtomicI64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Redis' clock was read.
    pub(super) fn set_clock(&self, reading: Reading) {
        self.clock.set(reading);
    }

    /// A command was answered.
    pub(super) fn answered(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// A command was not answered. True if that makes `most` in a row, over at least `time`: many commands that fail in one
    /// moment may be this process' own stutter.
    pub(super) fn failed(&self, most: u32, time: Duration) -> bool {
        let now = self.clock.elapsed();
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.failing_since.store(now, Ordering::Relaxed);
        }
        let since = now.saturating_sub(self.failing_since.load(Ordering::Relaxed));
        before.saturating_add(1) >= most
            && u128::try_from(since).is_ok_and(|since| since >= time.as_millis())
    }

    /// It is over; false if it was already.
    pub(super) fn end(&self) -> bool {
        !self.over.swap(true, Ordering::Relaxed)
    }

    /// Somebody ended it.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Now, by Redis' clock (it is looked at four times a second).
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// How much of `ttl` an epoch is short of: until then it may have forgotten floors.
    #[must_use]
    pub fn young_for(&self, ttl: Duration) -> Duration {
        let age = u64::try_from(self.now().earliest.saturating_sub(self.epoch.birth)).unwrap_or(0);
        ttl.saturating_sub(Duration::from_millis(age))
    }

    /// Readers fail fast; what applies does not give up early.
    pub(super) fn conn(&self, op: Op) -> &Conn {
        match op {
            Op::Apply => &self.writer,
            Op::Get | Op::Fill | Op::Load => self.in_turn(&self.readers).unwrap_or(&self.writer),
        }
    }

    /// The way that is made for hashes, if there is one.
    pub(super) fn lane(&self) -> Option<&Lane> {
        self.in_turn(&self.lanes)
    }

    fn in_turn<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        turn.checked_rem(of.len()).and_then(|at| of.get(at))
    }
}
