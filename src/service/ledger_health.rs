//! Whether the embedded ledger can be written, for metrics.

use super::assembled::Assembled;
use crate::{ledger::embedded::WriteHealth, telemetry::LedgerFault};

impl Assembled {
    /// Lets the embedded ledger look whether its disk works again, and shows whether it does.
    pub(super) fn look_after_ledger(&self) {
        if let Some(embedded) = &self.embedded {
            embedded.keep_up();
        }
        let writes = self.ledger_writes();
        let cause = writes.failing.map(|failure| failure.label_word());
        let mut all = LedgerFault::ALL.iter().copied();
        let fault = cause.and_then(|cause| all.find(|fault| fault.label_value() == cause));
        self.meters
            .ledger_writes(fault, writes.failures, writes.reopened);
    }

    /// Whether the embedded ledger takes writes; a database says so by its answers.
    fn ledger_writes(&self) -> WriteHealth {
        let embedded = self.embedded.as_ref();
        embedded
            .map(|embedded| embedded.write_health())
            .unwrap_or_default()
    }
}
