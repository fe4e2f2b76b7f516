//! Doubts of this instance: changes that it may have missed, and until when.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{ChangeLog, generations::GivenUp};

impl ChangeLog {
    /// Begins a generation because Redis lost its data, and does not trust the view for `floor_ttl`.
    pub fn note_lost(&self) {
        self.blind_for(self.ttl);
        self.start_over();
    }

    /// Changes were missed that an entry in Redis may not show either (its key may have been deleted, and filled again by an
    /// instance that missed them too).
    pub fn doubts_redis(&self) -> bool {
        let until = self.doubtful_until.load(Ordering::SeqCst);
        until > 0 && self.since_base(Instant::now()) < until
    }

    /// Changes may have been missed: whatever is held or under way from before now counts for nothing, and the view is not
    /// trusted for `floor_ttl`; nor is what Redis holds.
    pub fn note_missed(&self) {
        self.raise_until(&self.doubtful_until, Instant::now());
        self.note_lost();
    }

    /// Begins a generation: everything held or under way from before counts as absent.
    pub fn start_over(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Does not trust the view for this long.
    pub fn blind_for(&self, time: Duration) {
        let until = self.since_base(
            Instant::now()
                .checked_add(time)
                .unwrap_or_else(Instant::now),
        );
        self.blind_until.fetch_max(until, Ordering::SeqCst);
    }

    /// Whether changes may be unknown here, so that no load may trust the view.
    pub fn distrusts_view(&self) -> bool {
        self.since_base(Instant::now()) < self.blind_until.load(Ordering::SeqCst)
    }

    /// Changes of the last `floor_ttl` were given up for want of room, so that a floor may be unknown here.
    pub fn has_forgotten(&self) -> bool {
        let until = self.given_up_until.load(Ordering::SeqCst);
        until > 0 && self.since_base(Instant::now()) < until
    }

    /// Rises when everything held or under way counts for nothing.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The view is not trusted until what was given up would have ended. To be called while the shard is locked: a load sees the
    /// change or this.
    pub(super) fn changes_were_given_up(&self, given_up: Option<GivenUp>) {
        let Some(GivenUp { touched, users }) = given_up else {
            return;
        };
        let users = u64::try_from(users).unwrap_or(u64::MAX);
        self.changes_given_up.fetch_add(users, Ordering::Relaxed);
        self.raise_until(&self.blind_until, touched);
        self.raise_until(&self.given_up_until, touched);
        self.given_up.fetch_add(1, Ordering::SeqCst);
    }

    /// Raises the moment to a `floor_ttl` after `from`.
    fn raise_until(&self, moment: &AtomicU64, from: Instant) {
        let until = from.checked_add(self.ttl).unwrap_or(from);
        moment.fetch_max(self.since_base(until), Ordering::SeqCst);
    }

    fn since_base(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}
