//! `schema` of PostgreSQL: migrations up and down.

use std::process::ExitCode;

use anyhow::Result;
use balance_cache::{
    config::Settings,
    ledger::postgres::schema::{
        apply_migrations, apply_outbox, find_migrations_above, read_status, roll_back,
        roll_back_outbox,
    },
};

use super::{explain_error, live_instances};
use crate::cli::{
    arguments::SchemaCommand,
    output::{Unable, print_error, print_line},
};

pub(super) async fn run(what: &SchemaCommand, settings: &Settings) -> Result<ExitCode> {
    let (postgres, source) = (&settings.postgres, &settings.source);
    match what {
        SchemaCommand::Apply { outbox } => {
            if !outbox || !postgres.is_mapped() {
                is_own(settings)?;
                let applied = apply_migrations(postgres, source).await;
                print_line(applied.map_err(explain_error)?.to_string().trim_end())?;
            }
            if *outbox {
                let applied = apply_outbox(postgres, source).await;
                print_line(applied.map_err(explain_error)?.to_string().trim_end())?;
            }
        }
        SchemaCommand::Status => {
            is_own(settings)?;
            let status = read_status(postgres, source).await.map_err(explain_error)?;
            print_line(status.to_string().trim_end())?;
            if status.find_problem().is_some() {
                return Ok(ExitCode::FAILURE);
            }
        }
        SchemaCommand::Rollback {
            outbox: true, yes, ..
        } => return drop_outbox(settings, *yes).await,
        SchemaCommand::Rollback { to, yes, .. } => {
            is_own(settings)?;
            return roll_back_to(settings, *to, *yes).await;
        }
        SchemaCommand::DropView { .. } => {
            let reason = "source.kind is postgres: there is no view to drop; `schema rollback` takes migrations back";
            anyhow::bail!(Unable(reason.to_owned()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The operator's own tables are not made or changed here.
fn is_own(settings: &Settings) -> Result<()> {
    if settings.postgres.is_mapped() {
        let reason = "postgres.balances_sql names tables that are not this service's: it makes and looks at none of its own there. \
                      `schema apply --outbox` makes the outbox, `doctor` checks the statement";
        anyhow::bail!(Unable(reason.to_owned()));
    }
    Ok(())
}

async fn drop_outbox(settings: &Settings, yes: bool) -> Result<ExitCode> {
    let (postgres, source) = (&settings.postgres, &settings.source);
    if !yes {
        anyhow::bail!(Unable(format!(
            "schema rollback --outbox drops balance_outbox and balance_outbox_dead of schema {} with all rows, and the triggers on \
             {}. Changes that wait there are told to nobody. Say --yes to drop them",
            postgres.schema, postgres.outbox.table
        )));
    }
    let done = roll_back_outbox(postgres, source)
        .await
        .map_err(explain_error)?;
    print_line(done.to_string().trim_end())?;
    Ok(ExitCode::SUCCESS)
}

async fn roll_back_to(settings: &Settings, to: Option<i32>, yes: bool) -> Result<ExitCode> {
    let (postgres, source) = (&settings.postgres, &settings.source);
    let migrations = find_migrations_above(postgres, source, to).await;
    let migrations = migrations.map_err(explain_error)?;
    if migrations.is_empty() {
        print_line("nothing to roll back")?;
        return Ok(ExitCode::SUCCESS);
    }
    let (all, live) = (migrations.join(", "), live_instances(settings).await);
    if !yes {
        anyhow::bail!(Unable(format!(
            "schema rollback drops the tables of {all} in schema {}, with all their rows; nothing here brings them back. Live \
             instances: {live}. Say --yes to drop them",
            postgres.schema
        )));
    }
    print_error(&format!("live instances: {live}"));
    let done = roll_back(postgres, source, to)
        .await
        .map_err(explain_error)?;
    print_line(done.to_string().trim_end())?;
    Ok(ExitCode::SUCCESS)
}
