//! News from outside: the feed that tells every instance what changed, and the settlement stream.
//!
//! Both come over connections of their own and end in [`crate::apply`]. Neither is lost by a lost connection: the feed goes on
//! at its cursor, the settlement stream at what was not acknowledged.

pub mod invalidations;
pub mod settlements;
