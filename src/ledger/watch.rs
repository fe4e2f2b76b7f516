//! The parts that the watches of the sources over a database share: their clock, and the words for what they see.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{LedgerError, SourceReadiness};
use crate::diagnosis::{Code, Finding, FindingPart};

pub(super) const RETRY_MIN: Duration = Duration::from_millis(100);
pub(super) const RETRY_MAX: Duration = Duration::from_secs(2);
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(1);
pub(super) const PROBE_MIN: Duration = Duration::from_millis(100);
pub(super) const INSPECT_EVERY: Duration = Duration::from_secs(5);
/// The pause before the next inspection after a statement failed.
pub(super) const INSPECT_AFTER: Duration = Duration::from_secs(1);

/// The reason of an error, behind the address. `silent` is the finding of a database that says nothing.
pub(super) fn describe_failure(
    address: impl fmt::Display,
    silent: Code,
    error: LedgerError,
) -> Arc<str> {
    match error {
        LedgerError::Unavailable(reason) | LedgerError::Corrupt(reason) => {
            format!("{address}: {reason}").into()
        }
        LedgerError::Timeout => {
            let silent = Finding::new(FindingPart::Source, silent, address.to_string());
            format!("{}; {}", silent.cause_text(), silent.remedy_text()).into()
        }
    }
}

/// Whether this is what was found at the start: the first identity is kept.
pub(super) fn check_identity(
    kept: &OnceLock<Arc<str>>,
    identity: &str,
    what: &str,
) -> Result<(), Arc<str>> {
    let known = kept.get_or_init(|| identity.into());
    if **known == *identity {
        return Ok(());
    }
    Err(
        format!("this is another {what} than at the start ({identity}, was {known}): restart")
            .into(),
    )
}

/// Says a state that has just begun.
pub(super) fn log_readiness(readiness: &SourceReadiness) {
    match readiness {
        SourceReadiness::Ready => tracing::info!("source is ready"),
        SourceReadiness::Failing(reason) => {
            tracing::warn!(source.reason = %reason, "source is failing");
        }
        SourceReadiness::NotReady(reason) => {
            tracing::warn!(source.reason = %reason, "source is not ready");
        }
    }
}
