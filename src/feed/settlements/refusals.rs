//! Errors of Redis to the consumer of the settlement stream: one finding for each step, until it works again.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::{cache::redis::stream::StreamFailure, diagnosis::Finding};

/// The duties of a consumer at Redis, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamDuty {
    Follow,
    Apply,
    Acknowledge,
    PutAside,
    Claim,
    Look,
}

impl StreamDuty {
    const fn log_words(self) -> &'static str {
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
pub(super) struct Refusals(Mutex<BTreeMap<StreamDuty, Finding>>);

impl Refusals {
    /// Notes how a duty went. Gives what it brought, or nothing where it was refused.
    /// Errors: the connection is lost, which says nothing of the duty unless it was too slow several times in a row.
    pub(super) fn note_result<T>(
        &self,
        duty: StreamDuty,
        went: Result<T, StreamFailure>,
    ) -> Result<Option<T>, ()> {
        match went {
            Ok(brought) => {
                if self.0.lock().remove(&duty).is_some() {
                    tracing::info!(
                        stream.duty = duty.log_words(),
                        "the settlement stream: a duty that failed works again"
                    );
                }
                Ok(Some(brought))
            }
            Err(StreamFailure::Lost) => Err(()),
            Err(StreamFailure::Refused(finding)) => {
                self.note_finding(duty, &finding);
                Ok(None)
            }
            Err(StreamFailure::TimedOut(finding)) => {
                self.note_finding(duty, &finding);
                Err(())
            }
        }
    }

    fn note_finding(&self, duty: StreamDuty, finding: &Finding) {
        let before = self.0.lock().insert(duty, finding.clone());
        if before.as_ref() != Some(finding) {
            tracing::warn!(
                stream.duty = duty.log_words(),
                reason = %finding,
                "the settlement stream: a duty fails"
            );
        }
    }

    pub(super) fn all_findings(&self) -> Vec<Finding> {
        self.0.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{Code, FindingPart};

    #[test]
    fn a_duty_that_is_too_slow_has_a_finding_and_loses_its_connection_until_it_works() {
        let refusals = Refusals::default();
        let slow = Finding::new(FindingPart::Stream, Code::StreamSilent, "settlement:events");
        for went in [StreamFailure::TimedOut(slow.clone()), StreamFailure::Lost] {
            let noted = refusals.note_result::<()>(StreamDuty::Follow, Err(went));
            assert_eq!(noted, Err(()));
            assert_eq!(refusals.all_findings(), std::slice::from_ref(&slow));
        }
        let noted = refusals.note_result(StreamDuty::Follow, Ok(1));
        assert_eq!(noted, Ok(Some(1)));
        assert!(refusals.all_findings().is_empty());
    }
}
