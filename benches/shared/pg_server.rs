//! The PostgreSQL, Redis and service of the tests, for benches.

#[path = "../../tests/it/support/eventually.rs"]
pub mod eventually;
#[path = "../../tests/it/support/port.rs"]
pub mod port;
#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
pub mod postgres;
#[path = "../../tests/it/support/process.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
pub mod process;
#[path = "../../tests/it/support/redis.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
pub mod redis;
#[path = "../../tests/it/support/service.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
pub mod service;
