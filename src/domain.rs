//! The vocabulary of the service: ids, amounts, balances, snapshots, floors, notifications, the catalogue.
//!
//! **Invariants.** A balance never travels without its seq. Merging takes the higher seq of a (user, asset), and at equal seq
//! what the ledger says ([`takes_place`]). Money is an integer; no operation here wraps or rounds.
//!
//! **Deliberately absent**: input and output, clocks, randomness. Everything here is a pure function of its arguments.

mod amount;
mod balance;
mod catalogue;
mod change;
mod entry;
mod field_map;
mod floors;
mod history;
mod ids;
mod json_text;
mod live_catalogue;
mod notification;
mod posting;
mod rate;
mod receipt;
mod total;
mod trade;
mod transaction;
mod valuation;

pub use amount::Amount;
pub use balance::{Balance, BalanceOrigin, Snapshot, takes_place};
pub use catalogue::{Asset, CatalogueError, CatalogueTable, Symbol};
pub use change::BalanceChange;
pub use entry::{Entry, EntryWire};
pub use field_map::{FIELDS, FieldMap, PointerError};
pub use floors::Floors;
pub use history::{
    HistoryPage, LedgerSlice, Order, PAGE_DEFAULT, PAGE_MAX, StatementQuestion, StatementRow,
    TradePlace, TradeSideRole, TradeSlice, TradesQuestion, UserTrade,
};
pub use ids::{AssetId, MalformedId, Seq, TradeId, TransactionId, UnixMillis, UserId};
pub use json_text::parse_json;
pub use live_catalogue::Catalogue;
pub use notification::{Notification, NotificationWire, NotifiedChange};
pub use posting::{BalanceHead, PostedBalance, PostedChange, PostingRefusal, RefusalReason};
pub use rate::{DatedRate, MalformedRate, RATE_AT_MAX, RATE_DIGITS_MAX, Rate, Rates, RatesTaken};
pub use receipt::{
    Conflict, Receipt, SettleOutcome, SettleState, StoredTransaction, balances_from_text,
    balances_to_text,
};
pub use total::{AssetSum, Totals, wide_decimal};
pub use trade::{BalanceWire, FeeWire, PaysFrom, Trade, TradeWire};
pub use transaction::{
    ChangeWire, ENTRIES_PER_TRANSACTION_MAX, Reference, Transaction, TransactionWire,
};
pub use valuation::{PricedBalance, Valuation, value_balances};
