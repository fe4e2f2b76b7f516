//! Requests to the file's writer, and their answers.

use crate::{
    domain::{Entry, Outcome, Transaction},
    ledger::{WriteError, Written},
};

/// A request: all of it goes into one redb transaction.
#[derive(Debug)]
pub(super) enum Request {
    /// Rows with the caller's own seqs: all of them or none.
    Entries(Vec<Entry>),
    /// Transactions: each by itself whole or not at all.
    Transactions(Vec<Transaction>),
}

impl Request {
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

/// The answer to a [`Request`] of the same name.
#[derive(Debug)]
pub(super) enum Answer {
    /// To entries.
    Entries(Result<Written, WriteError>),
    /// To transactions, in their order.
    Transactions(Vec<Outcome>),
}
