//! Refusals of Redis to a consumer of the settlement stream: one finding for each duty, until that works again.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::{cache::redis::stream::Failure, diagnosis::Finding};

/// The duties of a consumer at Redis, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    Follow,
    Apply,
    Acknowledge,
    PutAside,
    Claim,
    Look,
}

impl Duty {
    /// For log lines.
    const fn words(self) -> &'static str {
        match self {
            Self::Follow => "read the stream",
            Self::Apply => "apply its notifications",
            Self::Acknowledge => "acknowledge entries",
            Self::PutAside => "put an entry into the dead stream",
            Self::Claim => "claim entries of consumers that ended",
            Self::Look => "look at the group",
        }
    }
}

/// The findings that stand.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<Duty, Finding>>);

impl Refusals {
    /// Notes how a duty went. Gives what it brought, or nothing where it was refused.
    ///
    /// # Errors
    /// The connection is lost, which says nothing of the duty.
    pub(super) fn note<T>(&self, duty: Duty, went: Result<T, Failure>) -> Result<Option<T>, ()> {
        match went {
            Ok(brought) => {
                if self.0.lock().remove(&duty).is_some() {
                    tracing::info!(
                        stream.duty = duty.words(),
                        "the settlement stream: a duty that redis refused works again"
                    );
                }
                Ok(Some(brought))
            }
            Err(Failure::Lost) => Err(()),
            Err(Failure::Refused(finding)) => {
                let before = self.0.lock().insert(duty, finding.clone());
                if before.as_ref() != Some(&finding) {
                    tracing::warn!(
                        stream.duty = duty.words(),
                        reason = %finding,
                        "the settlement stream: redis refuses a command"
                    );
                }
                Ok(None)
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Finding> {
        self.0.lock().values().cloned().collect()
    }
}
