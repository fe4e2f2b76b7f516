//! What the tests stand on: real servers, a proxy that breaks the wire, and the one way to wait.
//!
//! **Invariants.** A server that a test started ends with the test, whatever happens to the test. A port is ours from
//! its reservation on. Nothing waits without a bound, and nothing waits but [`eventually`].

pub mod browser;
#[expect(dead_code, reason = "a bench uses more of it")]
pub mod cassandra;
pub mod cql;
pub mod databases;
pub mod described;
pub mod desk;
pub mod eventually;
pub mod ground;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod names;
#[expect(dead_code, reason = "the chaos tests use more of it")]
pub mod pg_pair;
pub mod pg_place;
pub mod pictures;
pub mod port;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod redis_cluster;
pub mod rewrite;
pub mod service;
pub mod stage;
pub mod tables;
pub mod tokens;
