//! The rows and the id of one request as it was judged: everything that has to be written for it.

use crate::domain::{
    Entry, PostedBalance, Receipt, Reference, SettleState, StoredTransaction, Trade, UnixMillis,
};

/// One transaction or trade, or the entries of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) claim: Option<Claim>,
    pub(super) rows: Vec<RowToWrite>,
}

/// The id that an item takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) reference: Reference,
    pub(super) content: String,
    pub(super) created_at: UnixMillis,
    pub(super) trade: Option<Trade>,
}

/// A row of the ledger. One that stood before with the same amounts is not written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowToWrite {
    pub(super) entry: Entry,
    pub(super) stood: bool,
}

impl Item {
    /// The rows that it wrote.
    pub(super) fn receipt_of(&self, claim: &Claim) -> Receipt {
        Receipt {
            balances: self
                .rows
                .iter()
                .map(|row| PostedBalance::from(&row.entry))
                .collect(),
            created_at: claim.created_at,
        }
    }

    /// The record under its id, not yet written whole.
    pub(super) fn pending_record(&self, claim: &Claim) -> StoredTransaction {
        StoredTransaction {
            state: SettleState::Pending,
            content: claim.content.clone(),
            receipt: self.receipt_of(claim),
        }
    }
}
