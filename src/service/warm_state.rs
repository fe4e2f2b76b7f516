//! The progress of loading users after a start.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use crate::config::{Settings, WarmOnStart};

const OFF: u8 = 0;
const WAITING: u8 = 1;
const LOADING: u8 = 2;
const DONE: u8 = 3;

/// How far it is.
#[derive(Debug)]
pub(super) struct WarmStart {
    phase: AtomicU8,
    users: AtomicU64,
    loaded: AtomicU64,
    failed: AtomicU64,
    /// Readiness waits for it.
    pub(super) before_ready: bool,
    /// The longest wait of readiness is over.
    patience_is_over: AtomicBool,
    pub(super) users_max: usize,
    pub(super) per_second: u32,
    pub(super) wait_max: Duration,
    pub(super) deadline: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WarmProgress {
    Off,
    Waiting,
    Loading,
    Done,
}

impl WarmStart {
    pub(super) fn new(settings: &Settings) -> Self {
        let memory = &settings.memory;
        let off = memory.warm_on_start == WarmOnStart::Off || settings.redis.url.is_empty();
        Self {
            phase: AtomicU8::new(if off { OFF } else { WAITING }),
            users: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            before_ready: memory.warm_on_start == WarmOnStart::BeforeReady,
            patience_is_over: false.into(),
            users_max: usize::try_from(memory.warm_users).unwrap_or(usize::MAX),
            per_second: memory.warm_users_per_second,
            wait_max: memory.warm_max_ms.0,
            deadline: settings.limits.deadline_ms.0,
        }
    }

    pub(super) fn load_progress(&self) -> WarmProgress {
        match self.phase.load(Ordering::Acquire) {
            OFF => WarmProgress::Off,
            WAITING => WarmProgress::Waiting,
            LOADING => WarmProgress::Loading,
            _ => WarmProgress::Done,
        }
    }

    /// Users to load, loaded, and those that could not be.
    pub(super) fn user_counts(&self) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.users), of(&self.loaded), of(&self.failed))
    }

    pub(super) fn begin_loading(&self, users: u64) {
        self.users.store(users, Ordering::Relaxed);
        self.phase.store(LOADING, Ordering::Release);
    }

    /// Adds users that were loaded, and those that could not be.
    pub(super) fn add_loaded(&self, loaded: u64, failed: u64) {
        self.loaded.fetch_add(loaded, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    pub(super) fn end_loading(&self) {
        self.phase.store(DONE, Ordering::Release);
    }

    /// Readiness waits no longer.
    pub(super) fn stop_waiting(&self) {
        self.patience_is_over.store(true, Ordering::Relaxed);
    }

    /// Why the instance is not ready yet, if it waits for this.
    pub(super) fn keeps_from_ready(&self) -> Option<String> {
        let waits = self.before_ready && !self.patience_is_over.load(Ordering::Relaxed);
        match self.load_progress() {
            WarmProgress::Waiting if waits => Some("warming: begins".to_owned()),
            WarmProgress::Loading if waits => {
                let (users, loaded, failed) = self.user_counts();
                let done = loaded.saturating_add(failed);
                Some(format!("warming: {done} of {users} users"))
            }
            WarmProgress::Off
            | WarmProgress::Waiting
            | WarmProgress::Loading
            | WarmProgress::Done => None,
        }
    }
}
