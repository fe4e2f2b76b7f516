//! Requests to the file's writer, and their answers.

use crate::{
    domain::{Entry, SettleOutcome, Transaction},
    ledger::{WriteError, WrittenCounts},
};

/// A request: all of it goes into one redb transaction.
#[derive(Debug)]
pub(super) enum WriteRequest {
    /// Rows with the caller's own seqs: all of them or none.
    Entries(Vec<Entry>),
    /// Transactions: each by itself whole or not at all.
    Transactions(Vec<Transaction>),
}

impl WriteRequest {
    /// Rows that it can write at most.
    pub(super) fn rows_max(&self) -> usize {
        match self {
            Self::Entries(entries) => entries.len(),
            Self::Transactions(all) => all.iter().fold(0, |rows: usize, transaction| {
                rows.saturating_add(transaction.changes.len())
            }),
        }
    }
}

/// The answer to a [`WriteRequest`] of the same name.
#[derive(Debug)]
pub(super) enum WriteAnswer {
    Entries(Result<WrittenCounts, WriteError>),
    /// The answers to transactions, in their order.
    Transactions(Vec<SettleOutcome>),
}
