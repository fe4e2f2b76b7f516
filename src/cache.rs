//! The caches between a reader and the ledger: in this process, and in Redis. Neither is an authority: whatever goes
//! wrong in a tier is an observation, and the read goes on.

pub mod memory;
pub mod redis;
