//! Requests that need the writer: they wait in its queue, and are answered from there.
//!
//! **Cancellation.** A request that is dropped before its group begins writes nothing.

use tokio::sync::oneshot;

use super::{
    Scylla,
    appends::WaitingAppend,
    judge::{JudgedAnswer, LedgerRequest, entries_answer, outcomes_of, require_seqs},
    write,
};
use crate::{
    domain::{Entry, SettleOutcome, Transaction},
    ledger::{LedgerError, WriteError, WrittenCounts},
};

impl Scylla {
    /// Requests join the next groups, in their order; the answers come in their order.
    async fn judge_all(
        &self,
        requests: impl IntoIterator<Item = LedgerRequest>,
    ) -> Result<Vec<JudgedAnswer>, LedgerError> {
        self.live_connection()?;
        let mut replies = Vec::new();
        for request in requests {
            let (reply, answer) = oneshot::channel();
            self.appends
                .push_waiting(WaitingAppend { request, reply })
                .await?;
            replies.push(answer);
        }
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            let stopped = || LedgerError::unavailable("the writer has stopped");
            answers.push(reply.await.map_err(|_| stopped())??);
        }
        Ok(answers)
    }

    pub(super) async fn append_entries(
        &self,
        entries: &[Entry],
    ) -> Result<WrittenCounts, WriteError> {
        if !self.assigns_seqs {
            let live = self.live_connection()?;
            return write::write_entries(&live, entries).await;
        }
        let answers = self
            .judge_all([LedgerRequest::Entries(entries.to_vec())])
            .await?;
        entries_answer(&answers)
    }

    pub(super) async fn settle_all(
        &self,
        transactions: &[Transaction],
    ) -> Result<Vec<SettleOutcome>, LedgerError> {
        require_seqs(self.assigns_seqs, transactions)?;
        let requests = transactions.iter().cloned().map(LedgerRequest::Transaction);
        outcomes_of(self.judge_all(requests).await?)
    }
}
