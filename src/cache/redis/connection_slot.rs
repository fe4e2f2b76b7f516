//! A place for one connection of a session: the connection can be replaced, and its failures are counted apart from the others'.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct FailureStreak {
    failures: AtomicU32,
    /// When the first of them happened, in ms of the session's clock.
    since_ms: AtomicI64,
}

/// One connection of a session, and how it does.
#[derive(Debug)]
pub(super) struct ConnectionSlot<T> {
    connection: ArcSwap<T>,
    health: ConnectionHealth,
}

#[derive(Debug, Default)]
pub(super) struct ConnectionHealth {
    streak: FailureStreak,
    broken: AtomicBool,
}

// === impl Streak ===

impl FailureStreak {
    /// Ends the row.
    pub(super) fn end_streak(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Counts a failure at `now_ms`. True if that makes `most` in a row over at least `time`: many commands that fail in one
    /// moment may be this process' own stutter.
    pub(super) fn count_failure(&self, now_ms: i64, most: u32, time: Duration) -> bool {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.since_ms.store(now_ms, Ordering::Relaxed);
        }
        let since = now_ms.saturating_sub(self.since_ms.load(Ordering::Relaxed));
        before.saturating_add(1) >= most
            && u128::try_from(since).is_ok_and(|since| since >= time.as_millis())
    }
}

// === impl Health ===

impl ConnectionHealth {
    /// A command was answered on it.
    pub(super) fn note_answered(&self) {
        self.streak.end_streak();
    }

    /// A command was not answered on it; after `most` in a row over `time` it counts as broken.
    pub(super) fn note_failed(&self, now_ms: i64, most: u32, time: Duration) {
        if self.streak.count_failure(now_ms, most, time) {
            self.break_off();
        }
    }

    /// It ended.
    pub(super) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// It is to be replaced.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

// === impl Slot ===

impl<T> ConnectionSlot<T> {
    pub(super) fn new(connection: T) -> Self {
        Self {
            connection: ArcSwap::from_pointee(connection),
            health: ConnectionHealth::default(),
        }
    }

    pub(super) fn get(&self) -> Arc<T> {
        self.connection.load_full()
    }

    /// How it does.
    pub(super) const fn health(&self) -> &ConnectionHealth {
        &self.health
    }

    /// Replaces the connection, which then counts as sound.
    pub(super) fn replace_connection(&self, connection: T) {
        self.connection.store(Arc::new(connection));
        self.health.streak.end_streak();
        self.health.broken.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(100);

    #[test]
    fn a_connection_breaks_after_failures_in_a_row_over_some_time() {
        let slot = ConnectionSlot::new("first");
        let health = slot.health();
        for _ in 0..9 {
            health.note_failed(1_000, 3, TIME);
        }
        assert!(!health.is_broken(), "all in one moment");
        health.note_answered();
        health.note_failed(1_050, 3, TIME);
        health.note_failed(1_200, 3, TIME);
        assert!(!health.is_broken());
        health.note_failed(1_201, 3, TIME);
        assert!(health.is_broken());
        slot.replace_connection("second");
        assert!(!health.is_broken());
        assert_eq!(*slot.get(), "second");
    }
}
