//! The error of a setting that passed the checks of the configuration and cannot be used all the same: a file, an address.

use std::fmt;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct BadSetting {
    /// As in the file: `scylla.keyspace`.
    pub key: &'static str,
    pub reason: String,
}

impl BadSetting {
    pub(crate) fn new(key: &'static str, reason: impl fmt::Display) -> Self {
        Self {
            key,
            reason: reason.to_string(),
        }
    }
}
