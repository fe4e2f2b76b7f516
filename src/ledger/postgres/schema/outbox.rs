//! The outbox of `schema/postgres/outbox`: its tables, and the triggers on the table that is to be followed.
//!
//! **Invariants.** Everything is made in one transaction, or taken back in one. Names of the settings are quoted.

use super::{SchemaAccess, SchemaError, SchemaStep, StepsDone};
use crate::{
    config,
    ledger::postgres::{schema_state::TABLE, statements::quote_name},
};

const UP: &str = include_str!("../../../../schema/postgres/outbox/up.sql");
const DOWN: &str = include_str!("../../../../schema/postgres/outbox/down.sql");

/// Makes the outbox and its triggers. May be run again.
///
/// # Errors
/// [`SchemaError`]; nothing was made.
pub async fn apply_outbox(
    settings: &config::PostgresSettings,
    source: &config::SourceSettings,
) -> Result<StepsDone, SchemaError> {
    run_text(settings, source, UP, SchemaStep::Created).await
}

/// Drops the outbox, with the rows in it, and its triggers.
///
/// # Errors
/// [`SchemaError`]; nothing was dropped.
pub async fn roll_back_outbox(
    settings: &config::PostgresSettings,
    source: &config::SourceSettings,
) -> Result<StepsDone, SchemaError> {
    run_text(settings, source, DOWN, SchemaStep::RolledBack).await
}

async fn run_text(
    settings: &config::PostgresSettings,
    source: &config::SourceSettings,
    text: &str,
    outcome: SchemaStep,
) -> Result<StepsDone, SchemaError> {
    let access = SchemaAccess::open_access(settings, source).await?;
    let mut connection = access.pool.take_connection().await?;
    let client = connection.cached_client()?;
    let what = format!("outbox of {}.{}", settings.schema, settings.outbox.table);
    let text = format!(
        "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL client_min_messages = warning; {}; COMMIT",
        fill_names(text, settings)
    );
    access.run_batch(client, &what, &text).await?;
    Ok(StepsDone {
        steps: vec![(what, outcome)],
    })
}

fn fill_names(text: &str, settings: &config::PostgresSettings) -> String {
    let outbox = &settings.outbox;
    let table = format!("{{s}}.{}", quote_name(&outbox.table));
    let mut arguments = vec![&*outbox.user_column, &*outbox.asset_column];
    // A writer of this service locks a balance that does not exist by a row of version 0.
    if !settings.is_mapped() && outbox.table == TABLE {
        arguments.push("version");
    }
    let arguments: Vec<String> = arguments.into_iter().map(quote_literal).collect();
    text.replace("{table}", &table)
        .replace("{schema}", &quote_name(&settings.schema))
        .replace("{arguments}", &arguments.join(", "))
}

fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_quoted_and_no_placeholder_is_left() {
        let none = std::iter::empty::<(String, String)>();
        let mut settings = config::load_settings(None, none).unwrap().postgres;
        settings.outbox.table = "My \"wallets\"".to_owned();
        settings.outbox.user_column = "it's".to_owned();
        for text in [UP, DOWN] {
            let filled = fill_names(text, &settings).replace("{s}.", "");
            assert!(!filled.contains('{'), "{filled}");
            assert!(filled.contains("\"My \"\"wallets\"\"\""), "{filled}");
        }
        assert!(fill_names(UP, &settings).contains("balance_outbox_add('it''s', 'asset_id')"));
        settings.outbox.table = TABLE.to_owned();
        assert!(fill_names(UP, &settings).contains("'asset_id', 'version')"));
        settings.balances_sql = "SELECT".to_owned();
        assert!(!fill_names(UP, &settings).contains("'version'"));
    }
}
