//! The events that end a connection's wait for its client: the shutdown of the service, and the client's timeout.
//!
//! **Invariants.** Only another task notifies a waiter again: a wait that was begun is not begun anew with every request.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::{Duration, Instant, Sleep};

use super::shutdown::ShutdownSignal;

/// Bytes a millisecond that a client takes or sends at least, once its patience is used up: some 64 KB a second.
const BYTES_PER_MS: u64 = 64;

/// How long so many bytes may be under way.
pub fn transfer_time(bytes: usize) -> Duration {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    Duration::from_millis(bytes.checked_div(BYTES_PER_MS).unwrap_or(0))
}

/// The waits of one connection: shutdown, cut and client timeout.
pub struct ConnectionWaits<'a, F> {
    /// The service ends.
    pub ends: &'a ShutdownSignal,
    /// Ready when the shutdown begins.
    pub stop: Pin<&'a mut F>,
    /// Ready when the time for draining is over.
    pub cut: Pin<&'a mut F>,
    /// The client took too long.
    pub alarm: Pin<&'a mut Sleep>,
    /// The time that a client may take.
    pub patience: Duration,
    /// When the current wait began.
    pub since: Instant,
    /// Time that the client may take beyond `patience`, for an answer that is long.
    pub extra: Duration,
    /// The tasks that were told of `stop` and `alarm`.
    told: Option<Waker>,
}

impl<'a, F: Future<Output = ()>> ConnectionWaits<'a, F> {
    /// From now on.
    pub fn new(
        ends: &'a ShutdownSignal,
        stop: Pin<&'a mut F>,
        cut: Pin<&'a mut F>,
        alarm: Pin<&'a mut Sleep>,
        patience: Duration,
    ) -> Self {
        Self {
            ends,
            stop,
            cut,
            alarm,
            patience,
            since: Instant::now(),
            extra: Duration::ZERO,
            told: None,
        }
    }

    /// Polls the waits. `again`: the connection worked since the last poll, so this poll only has to register its waker, which
    /// may be known already. `ends`: whether the shutdown had begun when this task was woken; a later shutdown wakes the task
    /// again.
    pub fn poll_waits(
        &mut self,
        context: &mut Context<'_>,
        again: bool,
        ends: bool,
    ) -> Poll<WaitEnd> {
        let told = self
            .told
            .as_ref()
            .is_some_and(|told| told.will_wake(context.waker()));
        // The waker may have been one of these all the same.
        if again && told && !ends && !self.alarm.is_elapsed() {
            return Poll::Pending;
        }
        if ends || self.stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(WaitEnd::Stopped);
        }
        if self.poll_alarm(context).is_ready() {
            return Poll::Ready(WaitEnd::TooLong);
        }
        if !told {
            self.told = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Ready when the client took too long, or the service waits no more. For a service that ends, and a client that is in
    /// the middle of something.
    pub fn poll_last(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        self.poll_alarm(context)
    }

    fn poll_alarm(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.alarm.as_mut().poll(context).is_ready() {
            let patience = self.patience.saturating_add(self.extra);
            match self.since.checked_add(patience) {
                Some(end) if end > Instant::now() => self.alarm.as_mut().reset(end),
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

/// How a wait ended without a request.
pub enum WaitEnd {
    /// The service ends.
    Stopped,
    /// The client took too long.
    TooLong,
}
