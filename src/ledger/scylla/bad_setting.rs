//! The error of a setting of the database that cannot be used.

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct BadSetting {
    /// `scylla.keyspace`
    pub key: &'static str,
    /// The mistake.
    pub reason: String,
}

impl BadSetting {
    pub(super) fn new(key: &'static str, reason: impl std::fmt::Display) -> Self {
        Self {
            key,
            reason: reason.to_string(),
        }
    }
}
