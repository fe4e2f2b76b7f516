//! The servers of the integration tests, shared by path.

#[path = "../it/support/cassandra.rs"]
#[expect(dead_code, reason = "a bench uses more of it")]
pub mod cassandra;
#[path = "../it/support/cassandra_cluster.rs"]
pub mod cassandra_cluster;
#[path = "../it/support/eventually.rs"]
pub mod eventually;
#[path = "../it/support/names.rs"]
pub mod names;
#[path = "../it/support/pg_pair.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod pg_pair;
#[path = "../it/support/port.rs"]
pub mod port;
#[path = "../it/support/postgres.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod postgres;
#[path = "../it/support/process.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod process;
#[path = "../it/support/proxy.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod proxy;
#[path = "../it/support/redis.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod redis;
#[path = "../it/support/redis_cluster.rs"]
pub mod redis_cluster;
#[path = "../it/support/service.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod service;
#[path = "../it/support/tables.rs"]
pub mod tables;
