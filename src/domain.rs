//! What the service talks about: ids, amounts, balances, snapshots, floors, notifications, the catalogue.
//!
//! **Invariants.** A balance never travels without its seq. Merging is by the higher seq of a (user, asset), so it is
//! idempotent, commutative and associative. Money is an integer; no operation here wraps or rounds.
//!
//! **Deliberately absent**: input and output, clocks, randomness. Everything here is a pure function of its arguments.

mod amount;
mod balance;
mod catalogue;
mod entry;
mod floors;
mod ids;
mod notification;

pub use amount::Amount;
pub use balance::{Balance, Snapshot};
pub use catalogue::{Asset, Catalogue, CatalogueError, Symbol};
pub use entry::{Entry, EntryWire};
pub use floors::Floors;
pub use ids::{AssetId, Malformed, Seq, UnixMillis, UserId};
pub use notification::{Notification, Said, Wire};
