//! Fuzz targets: what comes from outside, fed with random input for a given time. See [`runner`].
//!
//! A target is a test named `fuzz_…` that calls `runner::fuzz` with its own name, and a line in [`TARGETS`].

#[cfg(test)]
mod runner;
#[cfg(test)]
mod wire;

/// Every target. They share the time.
#[cfg(test)]
const TARGETS: [&str; 2] = ["fuzz_entry_json", "fuzz_notification_json"];
