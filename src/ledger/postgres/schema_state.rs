//! The state of the database: tables, columns, keys, rights, and whether that is enough. Shared by the check at start and by
//! `schema status`.

use tokio_postgres::Row;

use super::{
    pool::{PgPool, Values},
    statements::{fill_schema, read_column},
};
use crate::{config::ReadFrom, ledger::LedgerError};

/// A column and its type, as `format_type` says it.
type ExpectedColumn = (&'static str, &'static str);

/// A table: its name, its columns, and the columns of the unique index that serves its statements.
struct ExpectedTable {
    name: &'static str,
    columns: &'static [ExpectedColumn],
    key: &'static [&'static str],
}

const BIG: &str = "bigint";
const INT: &str = "integer";

pub(super) const LEDGER: &str = "balance_ledger";
pub(super) const TABLE: &str = "user_balances";

/// In the order of the migrations.
const EXPECTED: [ExpectedTable; 6] = [
    ExpectedTable {
        name: LEDGER,
        columns: &[
            ("user_id", BIG),
            ("asset_id", INT),
            ("seq", BIG),
            ("delta_avail", BIG),
            ("delta_frozen", BIG),
            ("avail", BIG),
            ("frozen", BIG),
            ("event_type", "text"),
            ("ref_id", BIG),
            ("created_at", BIG),
        ],
        key: &["user_id", "asset_id", "seq"],
    },
    ExpectedTable {
        name: TABLE,
        columns: &[
            ("user_id", BIG),
            ("asset_id", INT),
            ("avail", BIG),
            ("frozen", BIG),
            ("version", BIG),
            ("updated_at", BIG),
        ],
        key: &["user_id", "asset_id"],
    },
    ExpectedTable {
        name: "settled_trades",
        columns: &[
            ("trade_id", BIG),
            ("symbol_id", INT),
            ("price", BIG),
            ("quantity", BIG),
            ("cost", BIG),
            ("settled_at", BIG),
            ("buyer_user_id", BIG),
            ("seller_user_id", BIG),
            ("buyer_order_id", BIG),
            ("seller_order_id", BIG),
            ("content", "text"),
            ("balances", "text"),
        ],
        key: &["trade_id"],
    },
    ExpectedTable {
        name: "user_trades",
        columns: &[
            ("user_id", BIG),
            ("symbol_id", INT),
            ("settled_at", BIG),
            ("trade_id", BIG),
            ("role", "smallint"),
            ("price", BIG),
            ("quantity", BIG),
            ("cost", BIG),
            ("order_id", BIG),
        ],
        key: &["user_id", "symbol_id", "settled_at", "trade_id", "role"],
    },
    ExpectedTable {
        name: "ledger_transactions",
        columns: &[
            ("transaction_id", BIG),
            ("content", "text"),
            ("balances", "text"),
            ("created_at", BIG),
        ],
        key: &["transaction_id"],
    },
    ExpectedTable {
        name: "redis_outbox",
        columns: &[
            ("user_id", BIG),
            ("asset_id", INT),
            ("seq", BIG),
            ("written_at", "timestamp with time zone"),
        ],
        key: &["user_id", "asset_id"],
    },
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableState {
    /// There is none.
    Missing,
    /// It is there, and has other columns or no such key.
    Unlike(String),
    /// It is as it should be.
    Good,
}

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct PgSchemaState {
    /// The schema that was looked for.
    pub schema: String,
    /// Whether it is there.
    pub exists: bool,
    /// The ledger's own id, made with its table.
    pub identity: Option<String>,
    /// Each table and its state, in the order of the migrations.
    pub tables: Vec<(&'static str, TableState)>,
    /// `user_balances` is empty and the ledger is not. Looked at with `read_from = "table"` only.
    pub table_is_empty: bool,
    /// The server says when a row was committed (`track_commit_timestamp`).
    pub commit_times: bool,
    /// The rights that this user lacks to write, if some are missing.
    pub missing_right: Option<String>,
    /// The server's version as it says it.
    pub server_version: String,
    /// Migrations that were applied, ascending.
    pub migrations: Vec<i32>,
}

impl PgSchemaState {
    /// The obstacle to reading like this, and what to do.
    #[must_use]
    pub fn reading_problem(&self, from: ReadFrom) -> Option<String> {
        if !self.exists {
            return Some(format!(
                "there is no schema {}: run `balance-cache schema apply`, or correct postgres.schema",
                self.schema
            ));
        }
        for (name, state) in &self.tables {
            if [LEDGER, TABLE].contains(name)
                && let Some(problem) = problem_of(name, state)
            {
                return Some(problem);
            }
        }
        if self.identity.is_none() {
            return Some(
                "the ledger has no id: ledger_identity is missing or empty; run `balance-cache schema apply`".to_owned(),
            );
        }
        (from == ReadFrom::Table && self.table_is_empty).then(|| {
            "user_balances is empty and balance_ledger is not: fill it (ledger entries through this service, a trigger), or set \
             source.read_from = \"view\""
                .to_owned()
        })
    }

    /// The reason for which no transaction or trade can be written or shown. Balances can be read all the same.
    #[must_use]
    pub fn trades_problem(&self) -> Option<String> {
        let mut tables = self.tables.iter();
        tables.find_map(|(name, state)| problem_of(name, state))
    }
}

fn problem_of(name: &str, state: &TableState) -> Option<String> {
    match state {
        TableState::Good => None,
        TableState::Missing => Some(format!(
            "{name} is missing: run `balance-cache schema apply`"
        )),
        TableState::Unlike(how) => Some(format!("{name} is not as it should be: {how}")),
    }
}

const SERVER: &str = "SELECT current_setting('server_version'), current_setting('track_commit_timestamp') = 'on', \
     EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";

const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL) FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped";

/// Unique indexes without a condition.
const KEYS: &str = "SELECT t.relname::text, array_agg(a.attname::text ORDER BY k.position) FROM pg_index i \
     JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
     CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, position) \
     JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number \
     WHERE n.nspname = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND k.position <= i.indnkeyatts \
     GROUP BY t.relname, i.indexrelid";

const IDENTITY: &str = "SELECT id::text FROM {s}.ledger_identity ORDER BY id LIMIT 1";
const MIGRATIONS: &str = "SELECT version FROM {s}.schema_migrations ORDER BY version";
const IS_EMPTY: &str = "SELECT NOT EXISTS (SELECT 1 FROM {s}.user_balances) AND EXISTS (SELECT 1 FROM {s}.balance_ledger)";

/// Rights that writes need and this user lacks; none where nothing is missing.
const RIGHTS: &str = "SELECT string_agg(r.kind || ' on ' || r.name, ', ' ORDER BY r.name, r.kind) FROM (VALUES ('balance_ledger', 'INSERT'), ('user_balances', 'INSERT'), \
     ('user_balances', 'UPDATE'), ('settled_trades', 'INSERT'), ('user_trades', 'INSERT'), ('ledger_transactions', 'INSERT'), \
     ('user_balances', 'DELETE'), ('redis_outbox', 'INSERT'), ('redis_outbox', 'UPDATE'), ('redis_outbox', 'DELETE'), \
     ('settled_trades', 'SELECT'), ('user_trades', 'SELECT'), ('ledger_transactions', 'SELECT'), ('redis_outbox', 'SELECT')) \
     AS r (name, kind) JOIN pg_class c ON c.relname = r.name JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, r.kind)";

/// Looks at everything.
pub(super) async fn read_schema_state(
    pool: &PgPool,
    schema: &str,
    from: ReadFrom,
) -> Result<PgSchemaState, LedgerError> {
    let values: Values<'_> = &[&schema];
    let server = pool.read_rows(SERVER, values).await?;
    let server = server
        .first()
        .ok_or_else(|| LedgerError::unavailable("the server says nothing of itself"))?;
    let columns = pool.read_rows(COLUMNS, values).await?;
    let columns: Vec<(String, String, String)> = read_all(&columns, |row| {
        Ok((
            read_column(row, 0)?,
            read_column(row, 1)?,
            read_column(row, 2)?,
        ))
    })?;
    let keys = pool.read_rows(KEYS, values).await?;
    let keys: Vec<(String, Vec<String>)> = read_all(&keys, |row| {
        Ok((read_column(row, 0)?, read_column(row, 1)?))
    })?;
    let rights = pool.read_rows(RIGHTS, values).await?;
    let tables = EXPECTED
        .iter()
        .map(|table| (table.name, table.state_in(&columns, &keys)));
    let mut found = PgSchemaState {
        schema: schema.to_owned(),
        exists: read_column(server, 2)?,
        identity: None,
        tables: tables.collect(),
        table_is_empty: false,
        commit_times: read_column(server, 1)?,
        missing_right: rights.first().map_or(Ok(None), |row| read_column(row, 0))?,
        server_version: read_column(server, 0)?,
        migrations: Vec::new(),
    };
    let has_table = |name: &str| columns.iter().any(|(table, _, _)| table == name);
    let ask = async |text: &str| pool.read_rows(&fill_schema(text, schema), &[]).await;
    if has_table("ledger_identity") {
        let rows = ask(IDENTITY).await?;
        let id: Option<String> = rows.first().map(|row| read_column(row, 0)).transpose()?;
        found.identity = id.map(|id| format!("postgres/{schema}/{id}"));
    }
    if has_table("schema_migrations") {
        found.migrations = read_all(&ask(MIGRATIONS).await?, |row| read_column(row, 0))?;
    }
    if from == ReadFrom::Table && found.reading_problem(ReadFrom::View).is_none() {
        let rows = ask(IS_EMPTY).await?;
        found.table_is_empty = rows.first().map_or(Ok(false), |row| read_column(row, 0))?;
    }
    Ok(found)
}

fn read_all<T>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, LedgerError>,
) -> Result<Vec<T>, LedgerError> {
    rows.iter().map(read).collect()
}

impl ExpectedTable {
    fn state_in(
        &self,
        columns: &[(String, String, String)],
        keys: &[(String, Vec<String>)],
    ) -> TableState {
        let found = || columns.iter().filter(|(table, _, _)| table == self.name);
        if found().next().is_none() {
            return TableState::Missing;
        }
        for (name, wanted) in self.columns {
            match found().find(|(_, column, _)| column == name) {
                None => return TableState::Unlike(format!("it has no column {name}")),
                Some((_, _, kind)) if kind != wanted => {
                    let how = format!("its column {name} is {kind} and not {wanted}");
                    return TableState::Unlike(how);
                }
                Some(_) => {}
            }
        }
        let mut of_it = keys.iter().filter(|(table, _)| table == self.name);
        if of_it.any(|(_, key)| key == self.key) {
            TableState::Good
        } else {
            let key = self.key.join(", ");
            TableState::Unlike(format!("it has no unique index over ({key})"))
        }
    }
}
