//! The Cassandra of the tests, for benches.

#[path = "../../tests/it/support/cassandra.rs"]
#[expect(
    dead_code,
    clippy::expect_used,
    reason = "shared with the tests, which use more of it"
)]
pub mod cassandra;
#[path = "../../tests/it/support/eventually.rs"]
#[expect(
    dead_code,
    clippy::panic,
    reason = "shared with the tests, which use more of it"
)]
pub mod eventually;
