//! What this instance knows of changes: which users changed lately, the lowest seqs that may still be shown, and how fresh
//! that knowledge is.
//!
//! **Invariants.** Whatever was notified or shown here in the last `floor_ttl` is remembered here, whatever Redis forgets. A mark
//! is made before memory is told, and memory asks for the mark while it holds its own lock on the user: so either the fill sees
//! the mark, or the change sees the fill. Where marks had to be given up, or were never had, the view is not trusted
//! ([`Marks::blind`]). Who cannot prove freshness does not serve from memory ([`Freshness`]).
//!
//! **Limits.** `settlement.change_log_max_bytes`: a quarter for what was shown, the rest for what was notified, each in two
//! generations of which the older one is given up first. What was notified counts for `floor_ttl`, what was shown for one to two.

mod freshness;
mod marks;

pub use freshness::Freshness;
pub use marks::{Knowledge, Mark, Marks, Use, Uses};
