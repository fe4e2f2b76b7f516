//! The rules of the protocol as pure functions: facts in, a named reason out. No I/O, no clock, no lock.
//!
//! The service and the model in `tests/model` call the same functions. The model includes [`rules`] and [`forgetting`] by their
//! paths, so these files name nothing but the standard library.
//!
//! **Invariants.** Each rule is one statement of the form `if fact { return Err(Reason) }`: `tests/rules_removed.rs` takes each
//! of them out and expects the tests of the file to fail.

mod changes;
pub mod forgetting;
mod freshness;

#[expect(
    clippy::struct_excessive_bools,
    reason = "facts are yes or no, and each has its name"
)]
pub mod rules;

pub use changes::{ChangeLog, Knowledge, Use, UserMark, Uses};
pub use freshness::Freshness;
