//! Announces the outbox of the embedded ledger at start, before the first read.

use super::assembled::Assembled;
use crate::ledger;

/// Makes the balances effective here that an earlier process committed and may not have announced.
pub(super) fn take_outbox(parts: &Assembled) -> Result<(), ledger::LedgerError> {
    let (Some(embedded), Some(_)) = (&parts.embedded, &parts.redis) else {
        return Ok(());
    };
    embedded.keep_outbox();
    let mut after = None;
    loop {
        let balances = embedded.unannounced_after(after)?;
        let Some(last) = balances.last() else {
            return Ok(());
        };
        after = Some(last.user);
        parts.applier.take_here(&balances);
    }
}
