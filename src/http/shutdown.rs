//! The shutdown signal of a listener. Each connection checks it at every wake-up, so a check costs one atomic load.
//!
//! **Invariants.** A task woken by [`ShutdownSignal::wait_begun`] finds [`ShutdownSignal::has_begun`] true.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// The shutdown flag, and the token that wakes waiting tasks.
#[derive(Debug, Default)]
pub struct ShutdownSignal {
    begun: Arc<AtomicBool>,
    woken: CancellationToken,
}

impl ShutdownSignal {
    /// Makes the signal of one connection, so that waiters of different connections share no lock.
    pub fn child_signal(&self) -> Self {
        Self {
            begun: Arc::clone(&self.begun),
            woken: self.woken.child_token(),
        }
    }

    /// Begins the shutdown for this signal and its children.
    pub fn begin_shutdown(&self) {
        self.begun.store(true, Ordering::Release);
        self.woken.cancel();
    }

    /// Whether the shutdown has begun.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Waits until the shutdown begins.
    pub fn wait_begun(&self) -> WaitForCancellationFuture<'_> {
        self.woken.cancelled()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn children_hear_of_it() {
        let ending = ShutdownSignal::default();
        let (before, other) = (
            ending.child_signal(),
            ShutdownSignal::default().child_signal(),
        );
        assert!(!before.has_begun() && before.wait_begun().now_or_never().is_none());
        ending.begin_shutdown();
        for hears in [&before, &ending.child_signal(), &ending] {
            assert!(hears.has_begun() && hears.wait_begun().now_or_never().is_some());
        }
        assert!(!other.has_begun() && other.wait_begun().now_or_never().is_none());
    }
}
