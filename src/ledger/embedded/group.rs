//! Group commit: requests that wait while one transaction is being written share the next.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, oneshot};

use super::{
    keeper::Keeper,
    requests::{WriteAnswer, WriteRequest},
};
use crate::ledger::{LedgerError, isolation::Isolation};

/// Entries that one transaction takes at most, unless a single request has more.
pub const GROUP_ENTRIES_MAX: usize = 10_000;

#[derive(Debug)]
struct WaitingWrite {
    request: WriteRequest,
    answer: oneshot::Sender<Result<WriteAnswer, LedgerError>>,
}

/// The writer of a file.
///
/// Invariant: every job in the queue has a caller that waits for the turn, or is gone. The caller that gets the turn takes the
/// first jobs of the queue, so no job is left behind.
#[derive(Debug)]
pub(super) struct Group {
    keeper: Arc<Keeper>,
    isolation: Arc<Isolation>,
    queue: Mutex<VecDeque<WaitingWrite>>,
    turn: Arc<Turn<()>>,
}

impl Group {
    pub(super) fn new(keeper: Arc<Keeper>, isolation: Arc<Isolation>) -> Self {
        Self {
            keeper,
            isolation,
            queue: Mutex::default(),
            turn: Arc::default(),
        }
    }

    /// Writes one request, alone or together with others. Dropped before its transaction began, it is not written.
    pub(super) async fn write_grouped(
        &self,
        request: WriteRequest,
    ) -> Result<WriteAnswer, LedgerError> {
        let (answer, mut answered) = oneshot::channel();
        self.queue
            .lock()
            .push_back(WaitingWrite { request, answer });
        loop {
            tokio::select! {
                biased;
                answer = &mut answered => {
                    return answer.unwrap_or_else(|_| Err(LedgerError::unavailable("the writer stopped")));
                }
                turn = Arc::clone(&self.turn).lock_owned() => self.start_transaction(turn),
            }
        }
    }

    /// Starts the transaction of the first jobs of the queue. The turn ends with it, even if all callers are gone.
    fn start_transaction(&self, turn: OwnedMutexGuard<()>) {
        let jobs = self.next_group();
        if jobs.is_empty() {
            return;
        }
        let (keeper, isolation) = (Arc::clone(&self.keeper), Arc::clone(&self.isolation));
        drop(tokio::task::spawn_blocking(move || {
            let requests: Vec<_> = jobs.iter().map(|job| &job.request).collect();
            let mut window = isolation.open_window();
            let answers =
                keeper.write_requests(&requests, &mut |receipt| window.add_receipt(receipt));
            window.close_window(answers.is_ok());
            // Dropped before the answers: a caller that has its answer may close the ledger and open it again.
            drop(keeper);
            match answers {
                Ok(answers) => {
                    for (job, answer) in jobs.into_iter().zip(answers) {
                        // A client that has gone does not hear it.
                        let _ = job.answer.send(Ok(answer));
                    }
                }
                Err(error) => {
                    for job in jobs {
                        let _ = job.answer.send(Err(error.clone()));
                    }
                }
            }
            // Dropped after the answers: the next caller either has its answer, or still has its job in the queue.
            drop(turn);
        }));
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.queue.lock().is_empty()
    }

    fn next_group(&self) -> Vec<WaitingWrite> {
        let mut queue = self.queue.lock();
        let (mut jobs, mut entries) = (Vec::new(), 0_usize);
        while let Some(job) = queue.pop_front_if(|job| {
            entries == 0 || entries.saturating_add(job.request.rows_max()) <= GROUP_ENTRIES_MAX
        }) {
            if !job.answer.is_closed() {
                entries = entries.saturating_add(job.request.rows_max());
                jobs.push(job);
            }
        }
        jobs
    }
}
