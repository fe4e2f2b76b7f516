//! Chooses the relations of a CQL database that can be compared with its ledger.

use anyhow::Result;
use balance_cache::{
    config::{ReadFrom, Settings},
    ledger::scylla::{inspect::CqlInspector, schema::RelationState},
};

use crate::cli::verify::VerifyFindings;

/// The relations that can be compared, and a note for those that cannot.
pub(super) fn choose_relations(
    look: &CqlInspector,
    settings: &Settings,
    findings: &mut VerifyFindings,
) -> Result<(bool, bool)> {
    let found = &look.found;
    let keyspace = &found.keyspace;
    let stands =
        |standing: &RelationState| matches!(standing, RelationState::Table | RelationState::View);
    if !found.exists {
        anyhow::bail!("there is no keyspace {keyspace}: see scylla.keyspace");
    }
    if !stands(&found.ledger) {
        anyhow::bail!("balance_ledger of keyspace {keyspace} is missing, or not as it should be");
    }
    let view = stands(&found.view);
    if !view {
        findings
            .add_note("user_balances_by_user is not there, or not as it should be: not compared");
    }
    // A service that reads from the view need not fill the table.
    let table = stands(&found.table)
        && (!found.table_is_empty || settings.source.read_from == ReadFrom::Table);
    if !table {
        findings.add_note(
            "user_balances is empty, or not as it should be, and is not what is read: not compared",
        );
    }
    if !view && !table {
        anyhow::bail!("there is nothing to compare the ledger with");
    }
    Ok((view, table))
}
