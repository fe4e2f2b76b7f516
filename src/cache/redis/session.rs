//! Connections that were checked: to which life of which Redis they lead.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use super::{
    batch_reader::BatchReader,
    clock::{Clock, ClockReading, RedisTime},
    connection::SharedConnection,
    connection_slot::{ConnectionSlot, FailureStreak},
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

/// The facts about the Redis behind some connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RedisState {
    /// The life of its data.
    pub(super) epoch: Epoch,
    pub(super) now: ClockReading,
    /// Run and replication ids of all its masters.
    pub(super) fingerprint: String,
    /// It may drop keys that have not ended.
    pub(super) evicts: bool,
}

pub(super) struct SessionConnections {
    /// For hashes, where there can be such.
    pub(super) batch_readers: Vec<BatchReader>,
    /// For whatever else readers ask.
    pub(super) readers: Vec<SharedConnection>,
    /// For what is applied.
    pub(super) writer: SharedConnection,
}

/// Checked connections.
pub struct RedisSession {
    pub(super) batch_readers: Vec<ConnectionSlot<BatchReader>>,
    pub(super) readers: Vec<ConnectionSlot<SharedConnection>>,
    next: AtomicUsize,
    pub(super) writer: ConnectionSlot<SharedConnection>,
    /// The life of Redis that they belong to.
    pub epoch: Epoch,
    /// Redis may drop keys that have not ended: an absent key does not mean that there is no floor.
    pub evicts: bool,
    pub(super) fingerprint: String,
    clock: Clock,
    /// Failures on whatever connection, without an answer on any between.
    streak: FailureStreak,
    over: AtomicBool,
}

impl RedisSession {
    pub(super) fn new(conns: SessionConnections, found: RedisState) -> Self {
        Self {
            batch_readers: conns
                .batch_readers
                .into_iter()
                .map(ConnectionSlot::new)
                .collect(),
            readers: conns.readers.into_iter().map(ConnectionSlot::new).collect(),
            next: AtomicUsize::new(0),
            writer: ConnectionSlot::new(conns.writer),
            epoch: found.epoch,
            evicts: found.evicts,
            fingerprint: found.fingerprint,
            clock: Clock::new(found.now),
            streak: FailureStreak::default(),
            over: AtomicBool::new(false),
        }
    }

    pub(super) fn set_clock(&self, reading: ClockReading) {
        self.clock.set_reading(reading);
    }

    /// Time since the session was opened, in ms.
    pub(super) fn elapsed_ms(&self) -> i64 {
        self.clock.elapsed_ms()
    }

    /// A command was answered, on whatever connection.
    pub(super) fn note_answered(&self) {
        self.streak.end_streak();
    }

    /// A command was not answered. True if nothing was for so many commands in a row, over at least `time`.
    pub(super) fn count_failure(&self, most: u32, time: Duration) -> bool {
        self.streak.count_failure(self.elapsed_ms(), most, time)
    }

    /// It is over; false if it was already.
    pub(super) fn end_session(&self) -> bool {
        !self.over.swap(true, Ordering::Relaxed)
    }

    /// The session was ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Now, by Redis' clock (it is looked at four times a second).
    pub fn now(&self) -> RedisTime {
        self.clock.now()
    }

    /// How much of `ttl` an epoch is short of: until then it may have forgotten floors.
    pub fn young_for(&self, ttl: Duration) -> Duration {
        let age = u64::try_from(self.now().earliest.saturating_sub(self.epoch.birth)).unwrap_or(0);
        ttl.saturating_sub(Duration::from_millis(age))
    }

    /// Readers fail fast; what applies does not give up early.
    pub(super) fn slot_for(&self, op: Op) -> &ConnectionSlot<SharedConnection> {
        match op {
            Op::Apply => &self.writer,
            Op::Get | Op::Fill | Op::Load => self.sound_one(&self.readers).unwrap_or(&self.writer),
        }
    }

    /// The way that is made for hashes, if one is sound.
    pub(super) fn sound_batch_reader(&self) -> Option<&ConnectionSlot<BatchReader>> {
        self.sound_one(&self.batch_readers)
    }

    /// The next connection in turn that is not broken.
    fn sound_one<'a, T>(&self, slots: &'a [ConnectionSlot<T>]) -> Option<&'a ConnectionSlot<T>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let first = turn.checked_rem(slots.len())?;
        let mut in_turn = slots.iter().cycle().skip(first).take(slots.len());
        in_turn.find(|slot| !slot.health().is_broken())
    }
}
