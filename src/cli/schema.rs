//! `schema`: the tables in `ScyllaDB` or Cassandra, and in PostgreSQL.

mod postgres;

use std::process::ExitCode;

use anyhow::Result;
use balance_cache::{
    cache::redis::inspect::RedisInspector,
    config::{Settings, SourceKind},
    ledger::scylla::schema::{self, SchemaError},
};

use super::{
    arguments::SchemaCommand,
    client::ServiceClient,
    exit_code,
    output::{Unable, print_error, print_line},
    start_runtime,
};

/// Does what is asked of the schema.
pub(crate) fn run_schema_command(what: &SchemaCommand, settings: &Settings) -> Result<ExitCode> {
    match settings.source.kind {
        SourceKind::Scylla => {}
        SourceKind::Postgres => return start_runtime()?.block_on(postgres::run(what, settings)),
        SourceKind::Embedded => {
            let reason = "source.kind is embedded: its tables make themselves. For ScyllaDB or Cassandra set source.kind = \"scylla\", \
                          for PostgreSQL \"postgres\"";
            anyhow::bail!(Unable(reason.to_owned()));
        }
    }
    start_runtime()?.block_on(async {
        match what {
            SchemaCommand::Apply { outbox: true } => {
                let reason = "--outbox needs source.kind = \"postgres\"";
                anyhow::bail!(Unable(reason.to_owned()));
            }
            SchemaCommand::Apply { outbox: false } => {
                let applied = schema::apply_schema(&settings.scylla, &settings.source).await;
                print_line(applied.map_err(explain_error)?.to_string().trim_end())?;
            }
            SchemaCommand::Rollback { .. } => {
                let reason = "source.kind is scylla: its tables have no way back but DROP TABLE; drop-view drops the view";
                anyhow::bail!(Unable(reason.to_owned()));
            }
            SchemaCommand::DropView { yes } => drop_view(settings, *yes).await?,
            SchemaCommand::Status => {
                let status = schema::read_status(&settings.scylla, &settings.source).await;
                let status = status.map_err(explain_error)?;
                print_line(status.to_string().trim_end())?;
                return Ok(exit_code(status.is_ready()));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Settings that cannot be used have their own exit code.
fn explain_error(error: SchemaError) -> anyhow::Error {
    match error {
        SchemaError::Setting(bad) => Unable(bad.to_string()).into(),
        other => other.into(),
    }
}

async fn drop_view(settings: &Settings, yes: bool) -> Result<()> {
    let live = live_instances(settings).await;
    let keyspace = &settings.scylla.keyspace;
    if !yes {
        anyhow::bail!(Unable(format!(
            "schema drop-view drops user_balances_by_user of keyspace {keyspace}; instances that read it are not ready until \
             schema apply has built it again. Live instances: {live}. Say --yes to drop it"
        )));
    }
    print_error(&format!(
        "live instances, not ready until the view is built again: {live}"
    ));
    let dropped = schema::drop_view(&settings.scylla, &settings.source).await;
    print_line(&dropped.map_err(explain_error)?.to_string())
}

/// The instances that can be seen from here: the one of these settings, and those that follow the settlement stream.
async fn live_instances(settings: &Settings) -> String {
    let mut live = Vec::new();
    if let Ok(here) = ServiceClient::new(None, settings.ops.listen, None)
        && here.get("/livez").await.is_ok()
    {
        live.push(format!("{} (of these settings)", here.base_url()));
    }
    if !settings.redis.url.is_empty() {
        let followers = async {
            RedisInspector::open_connection(&settings.redis)
                .await?
                .list_followers()
                .await
        };
        match followers.await {
            Ok(addresses) => live.extend(
                addresses
                    .iter()
                    .map(|address| format!("{address} (follows the settlement stream)")),
            ),
            Err(trouble) => live.push(format!("others unknown, Redis cannot be asked ({trouble})")),
        }
    }
    if live.is_empty() {
        "none seen".to_owned()
    } else {
        live.join(", ")
    }
}
