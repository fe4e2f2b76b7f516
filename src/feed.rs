//! News from outside: the feed that tells every instance what changed, the settlement stream, a Kafka topic, and an outbox in PostgreSQL.
//!
//! All come over connections of their own and end in [`crate::apply`]. None is lost by a lost connection: the feed goes on at its
//! cursor, the settlement stream at what was not acknowledged, Kafka at what was not committed, the outbox at what was not removed.

pub mod invalidations;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod outbox;
pub mod settlements;
