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
                    tracing::info!(duty = ?duty, "the settlement stream: what was refused works again");
                }
                Ok(Some(brought))
            }
            Err(Failure::Lost) => Err(()),
            Err(Failure::Refused(finding)) => {
                let before = self.0.lock().insert(duty, finding.clone());
                if before.as_ref() != Some(&finding) {
                    tracing::warn!(
                        duty = ?duty,
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
