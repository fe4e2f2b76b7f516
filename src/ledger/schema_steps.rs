//! Steps by which a schema is made or taken back, each with its result.

use std::fmt;

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
