//! That a listener ends, as its connections hear of it: each looks at it with every wake-up, so that looking costs a load.
//!
//! **Invariants.** A task woken by [`Ending::wait_begun`] finds [`Ending::has_begun`] true.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// Whether it ends, and who is to be woken then.
#[derive(Debug, Default)]
pub struct Ending {
    begun: Arc<AtomicBool>,
    woken: CancellationToken,
}

impl Ending {
    /// The same, for one connection: who waits there is in nobody's way.
    #[must_use]
    pub fn child_signal(&self) -> Self {
        Self {
            begun: Arc::clone(&self.begun),
            woken: self.woken.child_token(),
        }
    }

    /// It ends, for all children.
    pub fn begin_shutdown(&self) {
        self.begun.store(true, Ordering::Release);
        self.woken.cancel();
    }

    /// Whether it ends.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Ready when it ends.
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
        let ending = Ending::default();
        let (before, other) = (ending.child_signal(), Ending::default().child_signal());
        assert!(!before.has_begun() && before.wait_begun().now_or_never().is_none());
        ending.begin_shutdown();
        for hears in [&before, &ending.child_signal(), &ending] {
            assert!(hears.has_begun() && hears.wait_begun().now_or_never().is_some());
        }
        assert!(!other.has_begun() && other.wait_begun().now_or_never().is_none());
    }
}
