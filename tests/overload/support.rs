//! The servers of the integration tests, shared by path.

#[path = "../it/support/cassandra.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod cassandra;
#[path = "../it/support/cql.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod cql;
#[path = "../it/support/eventually.rs"]
pub mod eventually;
#[path = "../it/support/pg_place.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod pg_place;
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
#[path = "../it/support/service.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod service;
#[path = "../it/support/stage.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
pub mod stage;
