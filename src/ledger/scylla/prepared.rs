//! Statements that are prepared by the first request that needs them: an older keyspace has no tables for them. The modules that
//! send them prepare them.

use std::fmt;

use scylla::statement::{batch::Batch, prepared::PreparedStatement};

/// One statement for either order.
#[derive(Debug)]
pub(super) struct PageStatements {
    pub(super) newest_first: PreparedStatement,
    pub(super) oldest_first: PreparedStatement,
}

/// The statements of transactions and trades.
#[derive(Debug)]
pub(super) struct Postings {
    pub(super) journal: Journal,
    pub(super) insert_ledger: PreparedStatement,
    pub(super) insert_table: PreparedStatement,
    pub(super) insert_transaction: PreparedStatement,
    pub(super) insert_trade: PreparedStatement,
    pub(super) insert_side: PreparedStatement,
    pub(super) transaction: PreparedStatement,
    pub(super) trade: PreparedStatement,
    pub(super) side: PreparedStatement,
    pub(super) head: PreparedStatement,
    pub(super) row: PreparedStatement,
}

pub(super) struct Journal {
    pub(super) append: Batch,
    pub(super) tail: PreparedStatement,
    pub(super) records: PreparedStatement,
    pub(super) remove: PreparedStatement,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}
