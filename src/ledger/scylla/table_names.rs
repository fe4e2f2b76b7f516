//! Our names of the tables and of the view; a database may have others ([`super::names`]).

/// The ledger: one row for each event.
pub(super) const LEDGER: &str = "balance_ledger";
/// The current state: one row for each (user, asset).
pub(super) const TABLE: &str = "user_balances";
/// The view of the ledger by user.
pub(super) const VIEW: &str = "user_balances_by_user";
/// Trades by their id.
pub(super) const SETTLED_TRADES: &str = "settled_trades";
/// Trades by user and symbol.
pub(super) const USER_TRADES: &str = "user_trades";
/// Transactions by their id.
pub(super) const TRANSACTIONS: &str = "ledger_transactions";
/// The journal of this service.
pub(super) const JOURNAL: &str = "ledger_journal";
