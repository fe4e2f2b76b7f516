//! Answers to a group as callers of a source get them.

use super::JudgedAnswer;
use crate::{
    domain::{SettleOutcome, Transaction},
    ledger::{LedgerError, WriteError, WrittenCounts},
};

/// An error where a transaction has no seqs of its own and this service assigns none.
pub(in crate::ledger) fn require_seqs(
    assigns_seqs: bool,
    transactions: &[Transaction],
) -> Result<(), LedgerError> {
    if assigns_seqs || transactions.iter().all(|it| it.balances.is_some()) {
        return Ok(());
    }
    Err(LedgerError::unavailable(
        "seqs are assigned by another writer",
    ))
}

/// The answer to one request of entries.
pub(in crate::ledger) fn entries_answer(
    answers: &[JudgedAnswer],
) -> Result<WrittenCounts, WriteError> {
    match answers.first() {
        Some(JudgedAnswer::Entries(written)) => Ok(*written),
        Some(JudgedAnswer::Taken(index)) => Err(WriteError::Conflict { index: *index }),
        Some(JudgedAnswer::Outcome(_)) | None => {
            Err(LedgerError::unavailable("entries without an answer").into())
        }
    }
}

/// The outcomes of transactions, in their order.
pub(in crate::ledger) fn outcomes_of(
    answers: Vec<JudgedAnswer>,
) -> Result<Vec<SettleOutcome>, LedgerError> {
    let outcome = |answer| match answer {
        JudgedAnswer::Outcome(outcome) => Ok(outcome),
        JudgedAnswer::Entries(_) | JudgedAnswer::Taken(_) => {
            Err(LedgerError::unavailable("a transaction without an outcome"))
        }
    };
    answers.into_iter().map(outcome).collect()
}
