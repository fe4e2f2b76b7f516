//! The error of a setting of PostgreSQL that cannot be used.

use std::fmt;

/// A setting that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct BadPostgresSetting {
    /// As in the file.
    pub key: &'static str,
    /// The mistake.
    pub reason: String,
}

impl BadPostgresSetting {
    pub(super) fn new(key: &'static str, reason: impl fmt::Display) -> Self {
        Self {
            key,
            reason: reason.to_string(),
        }
    }
}
