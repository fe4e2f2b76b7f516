//! Checks of the writer: the side that assigns seqs.

use super::Check;
use crate::config::{LedgerWriter, SourceKind};

impl Check<'_> {
    pub(super) fn ledger(&mut self) {
        let (writer, kind) = (self.settings.ledger.writer, self.settings.source.kind);
        self.require(
            &["ledger.writer", "source.kind"],
            (writer, kind) != (LedgerWriter::External, SourceKind::Embedded),
            "must be \"service\" (or \"auto\") with source.kind = \"embedded\": an embedded ledger has one writer, this instance",
        );
    }
}
