//! What the tests share.

pub mod cassandra;
pub mod cql;
