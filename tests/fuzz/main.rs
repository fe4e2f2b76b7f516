//! Fuzz targets: what comes from outside, fed with random input for a given time. See [`runner`].
//!
//! A target is a test named `fuzz_…` that calls `runner::fuzz` with its own name, and a line in [`TARGETS`].

#[cfg(test)]
mod connection;
#[cfg(test)]
mod http;
#[cfg(test)]
mod runner;
#[cfg(test)]
mod stored;
#[cfg(test)]
mod wire;

/// Every target. They share the time.
#[cfg(test)]
const TARGETS: [&str; 9] = [
    "fuzz_batch_body",
    "fuzz_connection",
    "fuzz_entries_body",
    "fuzz_entry_json",
    "fuzz_invalidate_body",
    "fuzz_notification_json",
    "fuzz_query_string",
    "fuzz_settlement_body",
    "fuzz_stored_hash",
];
