//! `schema`: the tables in `ScyllaDB` or Cassandra.

use std::process::ExitCode;

use anyhow::Result;
use balance_cache::{
    config::{Settings, SourceKind},
    source::scylla::schema,
};

use super::{
    arguments::SchemaCommand,
    output::{Unable, say},
    runtime,
};

/// Does what is asked of the schema.
pub(crate) fn run(what: &SchemaCommand, settings: &Settings) -> Result<ExitCode> {
    if settings.source.kind != SourceKind::Scylla {
        let reason = "source.kind is embedded: its tables make themselves. For ScyllaDB or Cassandra set source.kind = \"scylla\"";
        anyhow::bail!(Unable(reason.to_owned()));
    }
    runtime()?.block_on(async {
        match what {
            SchemaCommand::Apply => {
                say(schema::apply(&settings.scylla, &settings.source)
                    .await?
                    .to_string()
                    .trim_end())?;
            }
            SchemaCommand::DropView => {
                say(&schema::drop_view(&settings.scylla, &settings.source)
                    .await?
                    .to_string())?;
            }
            SchemaCommand::Status => {
                let status = schema::status(&settings.scylla, &settings.source).await?;
                say(status.to_string().trim_end())?;
                return Ok(if status.is_ready() {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                });
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}
