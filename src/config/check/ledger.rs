//! Checks of the writer: the side that assigns seqs.

use super::SettingsCheck;
use crate::config::{LedgerWriter, SourceKind};

impl SettingsCheck<'_> {
    pub(super) fn check_ledger(&mut self) {
        let (writer, kind) = (self.settings.ledger.writer, self.settings.source.kind);
        self.require_that(
            &["ledger.writer", "source.kind"],
            (writer, kind) != (LedgerWriter::External, SourceKind::Embedded),
            "must be \"service\" (or \"auto\") with source.kind = \"embedded\": an embedded ledger has one writer, this instance",
        );
    }
}
