//! Steps by which a schema is made or taken back, each with its result; and why one cannot be made.

use std::fmt;

use super::LedgerError;
use crate::config::BadSetting;

/// Why a schema could not be made or looked at.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The database cannot be reached, or failed.
    #[error(transparent)]
    Source(#[from] LedgerError),
    /// The database refused the statements of a file, or a keyspace.
    #[error("{what}: {reason}")]
    Refused { what: String, reason: LedgerError },
    /// The database cannot have what the settings need.
    #[error("{0}")]
    Unsupported(&'static str),
    /// Something of that name stands there and is something else.
    #[error("{name} is not as it should be: {how}")]
    Unlike {
        name: String,
        /// The first difference.
        how: String,
    },
}

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaStep {
    /// Made now.
    Created,
    /// Was there, as it should be.
    Present,
    /// Left out, and why.
    Skipped(String),
    /// Taken back now.
    RolledBack,
}

impl fmt::Display for SchemaStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Present => f.write_str("already there"),
            Self::Skipped(why) => write!(f, "left out: {why}"),
            Self::RolledBack => f.write_str("rolled back"),
        }
    }
}

/// Steps that were done, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepsDone {
    /// The object or file, and what became of it.
    pub steps: Vec<(String, SchemaStep)>,
}

impl fmt::Display for StepsDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, outcome) in &self.steps {
            writeln!(f, "{what}: {outcome}")?;
        }
        Ok(())
    }
}
