//! Requests that need the writer: they wait in its queue, and are answered from there.
//!
//! **Cancellation.** A request that is dropped before its group begins writes nothing.

use tokio::sync::oneshot;

use super::{
    Scylla,
    appends::Waiting,
    judge::{Answer, Request},
    write,
};
use crate::{
    domain::{Entry, Outcome, Transaction},
    ledger::{Error, WriteError, Written},
};

impl Scylla {
    /// Requests join the next groups, in their order; the answers come in their order.
    async fn judged(
        &self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Answer>, Error> {
        self.live()?;
        let mut replies = Vec::new();
        for request in requests {
            let (reply, answer) = oneshot::channel();
            self.appends.push(Waiting { request, reply }).await?;
            replies.push(answer);
        }
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            let stopped = || Error::unavailable("the writer has stopped");
            answers.push(reply.await.map_err(|_| stopped())??);
        }
        Ok(answers)
    }

    pub(super) async fn write_entries(&self, entries: &[Entry]) -> Result<Written, WriteError> {
        if !self.assigns_seqs {
            let live = self.live()?;
            return write::write(&live, entries).await;
        }
        let answers = self.judged([Request::Entries(entries.to_vec())]).await?;
        match answers.first() {
            Some(Answer::Entries(written)) => Ok(*written),
            Some(Answer::Taken(index)) => Err(WriteError::Conflict { index: *index }),
            Some(Answer::Outcome(_)) | None => {
                Err(Error::unavailable("entries without an answer").into())
            }
        }
    }

    pub(super) async fn settle_all(
        &self,
        transactions: &[Transaction],
    ) -> Result<Vec<Outcome>, Error> {
        let needs_seqs = |transaction: &Transaction| transaction.balances.is_none();
        if !self.assigns_seqs && transactions.iter().any(needs_seqs) {
            return Err(Error::unavailable("seqs are assigned by another writer"));
        }
        let requests = transactions.iter().cloned().map(Request::Transaction);
        let answers = self.judged(requests).await?;
        let outcome = |answer| match answer {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::Entries(_) | Answer::Taken(_) => {
                Err(Error::unavailable("a transaction without an outcome"))
            }
        };
        answers.into_iter().map(outcome).collect()
    }
}
