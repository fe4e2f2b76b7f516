//! Whether a session is this service's own. A pooler on the way (`PgBouncer`) may leave out the settings that a session begins with, and in
//! transaction mode gives one session of the server to many: a statement that one of them prepared would run for another.

use tokio_postgres::Row;

use super::{
    faults::{error_of_finding, finding_of, map_error},
    pool::{PgConnection, PgPool, query_rows},
    statements::read_column,
};
use crate::{diagnosis::Code, ledger::LedgerError};

/// Whether statements end by themselves, and names are found in the schema.
const SETTINGS: &str = "SELECT current_setting('search_path') = $1 AND \
     EXISTS (SELECT 1 FROM pg_settings WHERE name = 'statement_timeout' AND setting::int8 > 0)";
/// Leaves a mark in the session; a session of another connection does not have it.
const MARK: &str = "SELECT set_config('balance_cache.session', $1, false)";
const MARKED: &str = "SELECT current_setting('balance_cache.session', true) = $1";

/// Looks whether connections of the pool have their settings, and whether two of them share a session.
pub(super) async fn check_sessions(pool: &PgPool, schema: &str) -> Result<(), LedgerError> {
    let mut first = pool.take_connection().await?;
    let set = ask_flag(&mut first, SETTINGS, schema).await?;
    let mut shared = false;
    if pool.connections_max() > 1 {
        let mark = rand::random::<u64>().to_string();
        let mut second = pool.take_connection().await?;
        ask_rows(&mut first, MARK, &mark).await?;
        shared = ask_flag(&mut second, MARKED, &mark).await?;
        second.give_back();
    }
    first.give_back();
    let refuse = |what: &str| {
        let finding = finding_of(Code::PostgresPooled).with_detail(what);
        Err(error_of_finding(&finding))
    };
    if shared {
        refuse("two connections have one session")
    } else if !set {
        refuse("search_path and statement_timeout are not there")
    } else {
        Ok(())
    }
}

async fn ask_rows(
    connection: &mut PgConnection,
    text: &str,
    value: &str,
) -> Result<Vec<Row>, LedgerError> {
    let rows = query_rows(connection.cached_client()?, text, &[&value]).await;
    rows.map_err(|error| map_error(&error))
}

async fn ask_flag(
    connection: &mut PgConnection,
    text: &str,
    value: &str,
) -> Result<bool, LedgerError> {
    let rows = ask_rows(connection, text, value).await?;
    let flag: Option<Option<bool>> = rows.first().map(|row| read_column(row, 0)).transpose()?;
    Ok(flag.flatten().unwrap_or(false))
}
