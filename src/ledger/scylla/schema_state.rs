//! The state of the database: tables, columns, keys, the build of the view, and whether that is enough.
//!
//! That a view is named in the schema does not mean that it holds anything (seed fault 11): its build is looked at on
//! every node. Shared by the check at start and by `schema status`.
//!
//! **Limits.** Reads system tables at consistency ONE: `system_distributed` has three replicas by default, also where
//! there is one node.

mod columns;
mod queries;

use std::collections::BTreeMap;

use scylla::{client::session::Session, value::CqlValue};

pub(super) use self::queries::query_rows;
use self::queries::{is_empty, read_builds, views_enabled};
use super::{
    names::Names,
    table_names::{JOURNAL, LEDGER, SETTLED_TRADES, TABLE, TRANSACTIONS, USER_TRADES, VIEW},
};
use columns::{
    Column, JOURNAL_COLUMNS, LEDGER_COLUMNS, SETTLED_TRADES_COLUMNS, TABLE_COLUMNS,
    TRANSACTIONS_COLUMNS, USER_TRADES_COLUMNS, VIEW_COLUMNS,
};

use crate::{
    config::{ReadFrom, ViewCheck},
    ledger::LedgerError,
};

/// The state of a table or view, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationState {
    /// There is none.
    Missing,
    /// It is there, and has other columns or another key.
    Unlike(String),
    Table,
    /// A materialized view as it should be.
    View,
}

/// How far one node is with the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewBuild {
    /// Host id of the node.
    pub host: String,
    /// As the database calls it: STARTED, SUCCESS, UNKNOWN where it says nothing.
    pub status: String,
    /// Whether this process is connected to it.
    pub connected: bool,
}

impl ViewBuild {
    /// A node that said nothing and cannot be reached is not waited for.
    pub(super) fn is_done(&self) -> bool {
        self.status == "SUCCESS" || (self.status == UNKNOWN && !self.connected)
    }
}

const UNKNOWN: &str = "UNKNOWN";

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct FoundSchema {
    /// The keyspace that was looked for.
    pub keyspace: String,
    /// The database's names of the tables below.
    pub(super) names: Names,
    /// Whether it is there.
    pub exists: bool,
    /// The identity: keyspace, cluster and the id that the database gave the ledger when it was created.
    pub identity: Option<String>,
    /// `balance_ledger`
    pub ledger: RelationState,
    /// `user_balances`
    pub table: RelationState,
    /// `user_balances_by_user`
    pub view: RelationState,
    pub settled_trades: RelationState,
    pub user_trades: RelationState,
    /// `ledger_transactions`
    pub transactions: RelationState,
    /// `ledger_journal`
    pub journal: RelationState,
    /// Whether a materialized view of that name is there, as it should be or not.
    pub view_is_view: bool,
    /// The view's build on every node; empty where there is no view.
    pub builds: Vec<ViewBuild>,
    /// Cassandra's `materialized_views_enabled`; none where the database does not say, or the view is there.
    pub views_enabled: Option<bool>,
    /// `user_balances` is empty and the ledger is not. Looked at with `read_from = "table"` only.
    pub table_is_empty: bool,
}

/// Why the database cannot be used as configured, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It must not be used.
    Blocking(String),
    /// The view is not known to be built: blocking or not, as `scylla.view_check` says.
    ViewNotBuilt(String),
}

pub(super) const VIEWS_DISABLED: &str = "this Cassandra has materialized_views_enabled: false, so there can be no view \
     user_balances_by_user: set materialized_views_enabled: true in cassandra.yaml of every node, restart it and run \
     `balance-cache schema apply`, or set source.read_from = \"table\"";

impl FoundSchema {
    /// Tables and view, in the order in which they are made.
    pub(super) fn standings(&self) -> [(&'static str, &RelationState); 7] {
        [
            (LEDGER, &self.ledger),
            (TABLE, &self.table),
            (SETTLED_TRADES, &self.settled_trades),
            (USER_TRADES, &self.user_trades),
            (TRANSACTIONS, &self.transactions),
            (JOURNAL, &self.journal),
            (VIEW, &self.view),
        ]
    }

    /// Why no transaction or trade can be written. Balances can be read all the same.
    pub fn trades_problem(&self) -> Option<String> {
        let tables = [
            (SETTLED_TRADES, &self.settled_trades),
            (USER_TRADES, &self.user_trades),
            (TRANSACTIONS, &self.transactions),
            (JOURNAL, &self.journal),
        ];
        tables.into_iter().find_map(|(name, standing)| {
            let name = self.names.show_table(name);
            match standing {
            RelationState::Table => None,
            RelationState::Missing => Some(format!(
                "{name} is missing, so no transaction can be written: run `balance-cache schema apply`"
            )),
            RelationState::Unlike(how) => Some(format!("{name} is not as it should be: {how}")),
            RelationState::View => Some(format!("{name} is a view and not a table")),
        }})
    }

    /// The obstacle to reading like this.
    pub fn first_problem(&self, from: ReadFrom, check: ViewCheck) -> Option<Problem> {
        if !self.exists {
            let reason = format!(
                "there is no keyspace {}: run `balance-cache schema apply`",
                self.keyspace
            );
            return Some(Problem::Blocking(reason));
        }
        let mut needed = vec![(LEDGER, &self.ledger), (TABLE, &self.table)];
        if from == ReadFrom::View {
            needed.push((VIEW, &self.view));
        }
        for (ours, standing) in needed {
            let name = self.names.show_table(ours);
            let reason = match standing {
                RelationState::Table | RelationState::View => continue,
                RelationState::Unlike(how) => format!("{name} is not as it should be: {how}"),
                RelationState::Missing if ours == VIEW && self.views_enabled == Some(false) => {
                    VIEWS_DISABLED.to_owned()
                }
                RelationState::Missing => {
                    format!("{name} is missing: run `balance-cache schema apply`")
                }
            };
            return Some(Problem::Blocking(reason));
        }
        match from {
            ReadFrom::View => self.unbuilt_problem(check),
            ReadFrom::Table => self.table_is_empty.then(|| {
                let (table, ledger) = (self.names.show_table(TABLE), self.names.show_table(LEDGER));
                Problem::Blocking(format!(
                    "{table} is empty and {ledger} is not: fill it (a CDC consumer, ledger entries through this service), \
                     or set source.read_from = \"view\""
                ))
            }),
            ReadFrom::Ledger => None,
        }
    }

    fn unbuilt_problem(&self, check: ViewCheck) -> Option<Problem> {
        if check == ViewCheck::Off {
            return None;
        }
        if self.view == RelationState::Table {
            let view = self.names.show_table(VIEW);
            return Some(Problem::ViewNotBuilt(format!(
                "{view} is a plain table: if somebody fills it, set scylla.view_check = \"off\"; else drop it and run \
                 `balance-cache schema apply`"
            )));
        }
        let behind = self.builds.iter().filter(|build| !build.is_done()).count();
        let all = self.builds.len();
        (behind > 0 || all == 0).then(|| {
            let reason = format!(
                "the view {} is still being built on {behind} of {all} nodes: see \
                 `balance-cache schema status`",
                self.names.show_table(VIEW)
            );
            Problem::ViewNotBuilt(reason)
        })
    }
}

/// Looks at everything.
pub(super) async fn read_schema_state(
    session: &Session,
    names: &Names,
    from: ReadFrom,
) -> Result<FoundSchema, LedgerError> {
    let ks = (names.keyspace(),);
    let exists = !query_rows::<(String,)>(
        session,
        "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
        ks,
    )
    .await?
    .is_empty();
    let tables: BTreeMap<String, CqlValue> = query_rows(
        session,
        "SELECT table_name, id FROM system_schema.tables WHERE keyspace_name = ?",
        ks,
    )
    .await?
    .into_iter()
    .collect();
    let views: Vec<(String,)> = query_rows(
        session,
        "SELECT view_name FROM system_schema.views WHERE keyspace_name = ?",
        ks,
    )
    .await?;
    let columns: Vec<Described> = query_rows(
        session,
        "SELECT table_name, column_name, type, kind, position, clustering_order \
         FROM system_schema.columns WHERE keyspace_name = ?",
        ks,
    )
    .await?;
    let is_view = |name: &str| views.iter().any(|(view,)| view == names.table_name(name));
    let standing = |name: &str, expected: &[Column]| {
        if !tables.contains_key(names.table_name(name)) && !is_view(name) {
            return RelationState::Missing;
        }
        match first_difference(names, name, expected, &columns) {
            Some(how) => RelationState::Unlike(how),
            None if is_view(name) => RelationState::View,
            None => RelationState::Table,
        }
    };
    let cluster = session.get_cluster_state().cluster_name().to_owned();
    let identity = tables
        .get(names.table_name(LEDGER))
        .and_then(CqlValue::as_uuid)
        .map(|id| format!("{}@{cluster}/{id}", names.keyspace()));
    let mut found = FoundSchema {
        keyspace: names.keyspace().to_owned(),
        names: names.clone(),
        exists,
        identity,
        ledger: standing(LEDGER, LEDGER_COLUMNS),
        table: standing(TABLE, TABLE_COLUMNS),
        view: standing(VIEW, VIEW_COLUMNS),
        settled_trades: standing(SETTLED_TRADES, SETTLED_TRADES_COLUMNS),
        user_trades: standing(USER_TRADES, USER_TRADES_COLUMNS),
        transactions: standing(TRANSACTIONS, TRANSACTIONS_COLUMNS),
        journal: standing(JOURNAL, JOURNAL_COLUMNS),
        view_is_view: is_view(VIEW),
        builds: Vec::new(),
        views_enabled: None,
        table_is_empty: false,
    };
    complete_found(session, names, from, &mut found).await?;
    Ok(found)
}

/// Asks what is asked only where the answer matters.
async fn complete_found(
    session: &Session,
    names: &Names,
    from: ReadFrom,
    found: &mut FoundSchema,
) -> Result<(), LedgerError> {
    if found.view == RelationState::Missing {
        found.views_enabled = views_enabled(session).await;
    }
    if found.view == RelationState::View {
        found.builds = read_builds(session, names).await?;
    }
    let both = (found.ledger == RelationState::Table) && (found.table == RelationState::Table);
    if from == ReadFrom::Table && both {
        found.table_is_empty =
            is_empty(session, names, TABLE).await? && !is_empty(session, names, LEDGER).await?;
    }
    Ok(())
}

/// table, column, type, kind, position, order
type Described = (String, String, String, String, i32, String);

/// The first difference between what is and what should be. Additional columns that are no keys are ignored.
fn first_difference(
    names: &Names,
    relation: &str,
    expected: &[Column],
    described: &[Described],
) -> Option<String> {
    let table = names.table_name(relation);
    let of_it = || described.iter().filter(|column| column.0 == table);
    for (ours, cql, kind, position, order) in expected {
        let name = names.column_name(relation, ours);
        let Some((_, _, is_cql, is_kind, is_position, is_order)) = of_it().find(|c| c.1 == name)
        else {
            return Some(format!("it has no column {name}"));
        };
        let should = format!("{name} {cql}, {kind} {position}, order {order}");
        let is = format!("{name} {is_cql}, {is_kind} {is_position}, order {is_order}");
        if is != should {
            return Some(format!("it has {is} instead of {should}"));
        }
    }
    of_it()
        .find(|column| {
            column.3 != "regular"
                && expected
                    .iter()
                    .all(|e| names.column_name(relation, e.0) != column.1)
        })
        .map(|column| format!("its {} has {} in it", column.3.replace('_', " "), column.1))
}
