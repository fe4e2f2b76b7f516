//! Chaos: real Redis, real Cassandra or PostgreSQL, two instances of the real binary, writers, readers, and a nemesis; then a checker
//! that compares what was shown with what was promised (contract §4: P1–P4, P6, P8, P9). Zero violations are required.
//!
//! The view is a plain table that the writers fill up to ten seconds late (`scylla.view_check = "off"`), all the time.
//!
//! As a part of the tests: `cargo test --test chaos`, one minute with a fixed seed. For long:
//!
//! ```text
//! BALANCE_CACHE_CHAOS_SECONDS=3600 BALANCE_CACHE_CHAOS_SEED=7 cargo test --test chaos -- --nocapture the_promises
//! ```
//!
//! The same with three databases at replication factor 3, of which one after the other is killed: `one_database` instead
//! of `the_promises`, 20 seconds where nothing is said. There the availability of reads is asserted, too.
//!
//! With a ledger in PostgreSQL whose servers are killed, stand still and change places: `no_promise_is_broken_while_postgresql_fails`,
//! and `transactions_stand_once_while_postgresql_fails`, where the service assigns seqs (W1–W5, P10). Each runs until every fault came.
//!
//! `BALANCE_CACHE_TEST_REDIS_SERVER=/path/to/valkey-server` runs the same with Valkey in the place of Redis.
//! With `BALANCE_CACHE_CHAOS_REDIS=cluster`, `the_promises` uses a Redis Cluster of six and kills its masters instead.
//!
//! A seed decides what is done and in which order, not what the machine makes of it: a violation may need some runs to
//! be seen again. Each is printed with its story. What is kept is about 300 bytes for each read, 0.5 GB an hour.

#[cfg(test)]
mod audit;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod clustered;
#[cfg(test)]
mod history;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod nemesis;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod pace;
#[cfg(test)]
mod pg_faults;
#[cfg(test)]
mod pg_writer;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod postgres_service;
#[cfg(test)]
mod run;
#[cfg(test)]
mod senders;
#[cfg(test)]
mod stands;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod support;
#[cfg(test)]
mod world;
#[cfg(test)]
mod wrong;
