//! Reads the system tables: settings, builds of the view, and whether a table is empty.

use std::collections::BTreeMap;

use scylla::{
    client::session::Session,
    deserialize::row::DeserializeRow,
    serialize::row::SerializeRow,
    statement::{Consistency, Statement},
    value::CqlValue,
};

use super::{UNKNOWN, ViewBuild};
use crate::ledger::{
    LedgerError,
    scylla::{
        names::Names,
        statements::{rows_of, statement_error, unreadable_row},
        table_names::VIEW,
    },
};

/// Cassandra shows its settings as a table; `ScyllaDB` has no such table and always has views.
pub(super) async fn views_enabled(session: &Session) -> Option<bool> {
    let rows: Vec<(String,)> = query_rows(
        session,
        "SELECT value FROM system_views.settings WHERE name = 'materialized_views_enabled'",
        (),
    )
    .await
    .ok()?;
    rows.first().map(|(value,)| value == "true")
}

pub(super) async fn read_builds(
    session: &Session,
    names: &Names,
) -> Result<Vec<ViewBuild>, LedgerError> {
    let rows: Vec<(CqlValue, Option<String>)> = query_rows(
        session,
        "SELECT host_id, status FROM system_distributed.view_build_status \
         WHERE keyspace_name = ? AND view_name = ?",
        (names.keyspace(), names.table_name(VIEW)),
    )
    .await?;
    let mut said: BTreeMap<String, String> = rows
        .into_iter()
        .filter_map(|(host, status)| Some((host.as_uuid()?.to_string(), status?)))
        .collect();
    // Hosts that said something and are members no more do not count.
    let builds = session
        .get_cluster_state()
        .get_nodes_info()
        .iter()
        .map(|node| {
            let host = node.host_id.to_string();
            ViewBuild {
                status: said.remove(&host).unwrap_or_else(|| UNKNOWN.to_owned()),
                host,
                connected: node.is_connected(),
            }
        })
        .collect();
    Ok(builds)
}

pub(super) async fn is_empty(
    session: &Session,
    names: &Names,
    table: &str,
) -> Result<bool, LedgerError> {
    let text = names.fill_in(&format!("SELECT user_id FROM {{ks}}.{table} LIMIT 1"));
    Ok(query_rows::<(i64,)>(session, &text, ()).await?.is_empty())
}

/// Rows of a statement that is asked now and then.
pub(in crate::ledger::scylla) async fn query_rows<R>(
    session: &Session,
    text: &str,
    values: impl SerializeRow,
) -> Result<Vec<R>, LedgerError>
where
    R: for<'a> DeserializeRow<'a, 'a>,
{
    let mut statement = Statement::new(text);
    statement.set_consistency(Consistency::One);
    statement.set_is_idempotent(true);
    let result = session
        .query_unpaged(statement, values)
        .await
        .map_err(|error| statement_error(&error))?;
    rows_of(result)?
        .rows::<R>()
        .map_err(unreadable_row)?
        .collect::<Result<_, _>>()
        .map_err(unreadable_row)
}
