//! Findings: each thing that can be wrong, with one sentence that names where, why and what to do.
//!
//! `/readyz`, the log, the advice at start, the metric `balance_cache_finding` and `doctor` say the sentences of this table.
//!
//! **Invariants.** A sentence is never empty and never holds a driver's text, a password or an amount.

mod code;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub use code::Code;

/// The part of the service that a finding concerns; the sentence begins with its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingPart {
    Redis,
    /// The feed `balance:invalidations`.
    Feed,
    Stream,
    Kafka,
    /// The outbox of a PostgreSQL ledger.
    Outbox,
    /// Applying notifications.
    Settlements,
    Source,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub part: FindingPart,
    /// The kind of finding: its word is the label of the metric.
    pub code: Code,
    at: Arc<str>,
    detail: Arc<str>,
}

// === impl Part ===

impl FindingPart {
    /// The word that the sentence begins with.
    pub const fn leading_word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Feed => "feed",
            Self::Stream => "settlement stream",
            Self::Kafka => "kafka",
            Self::Outbox => "outbox",
            Self::Settlements => "settlements",
            Self::Source => "source",
        }
    }
}

// === impl Finding ===

impl Finding {
    /// A finding of this code at an address, a file or a key; the address must not hold a password.
    pub fn new(part: FindingPart, code: Code, at: impl Into<Arc<str>>) -> Self {
        Self {
            part,
            code,
            at: at.into(),
            detail: "".into(),
        }
    }

    /// Adds the command, key, number or name that the code's sentence has a place for.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Arc<str>>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Moves the finding to another part.
    #[must_use]
    pub const fn with_part(mut self, part: FindingPart) -> Self {
        self.part = part;
        self
    }

    /// Returns the cause, without the part's word.
    pub fn cause_text(&self) -> String {
        self.fill_text(self.code.cause_template())
    }

    /// Returns the action that ends it.
    pub fn remedy_text(&self) -> String {
        self.fill_text(self.code.remedy_template())
    }

    fn fill_text(&self, text: &str) -> String {
        let detail = match &*self.detail {
            "" => "(not said)",
            detail => detail,
        };
        text.replace("{at}", &self.at).replace("{}", detail)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, cause, remedy) = (
            self.part.leading_word(),
            self.cause_text(),
            self.remedy_text(),
        );
        write!(f, "{part}: {cause}; {remedy}")
    }
}
