//! Whether ledger entries can be written: the tables and rights that writes need and reads do not.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;

use super::schema_state::PgSchemaState;
use crate::diagnosis::{Code, Finding, FindingPart};

/// The findings of the last look at the schema that are about writes.
#[derive(Debug, Default)]
pub(super) struct PgWriting {
    /// This instance could write once. One that never could, beside another writer, has a user that is meant to read only.
    was_possible: AtomicBool,
    trouble: ArcSwapOption<Finding>,
}

impl PgWriting {
    /// Why no ledger entry can be written, if none can.
    pub(super) fn trouble(&self) -> Option<Finding> {
        self.trouble.load().as_deref().cloned()
    }

    /// Takes over what a look at the schema found. `is_writer`: all writes of this ledger are this service's.
    pub(super) fn note_schema(&self, found: &PgSchemaState, address: &str, is_writer: bool) {
        let finding = |code, detail: String| {
            Finding::new(FindingPart::Source, code, address).with_detail(detail)
        };
        let missing_table = found
            .trades_problem()
            .map(|problem| finding(Code::PostgresIncomplete, problem));
        let missing_right = || {
            let right = found.missing_right.clone()?;
            Some(finding(Code::PostgresUnwritable, right))
        };
        let trouble = missing_table.or_else(missing_right);
        if trouble.is_none() {
            self.was_possible.store(true, Ordering::Relaxed);
        }
        let is_meant = is_writer || self.was_possible.load(Ordering::Relaxed);
        let trouble = trouble.filter(|_| is_meant);
        if let Some(finding) = &trouble
            && self.trouble.load().as_deref() != Some(finding)
        {
            tracing::warn!(source.reason = %finding, "ledger entries cannot be written");
        }
        self.trouble.store(trouble.map(Arc::new));
    }
}
