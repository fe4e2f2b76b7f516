//! The outbox in PostgreSQL: whether it can be followed, whether its triggers run, and what waits in it.

use std::time::Duration;

use balance_cache::{
    config::Settings,
    ledger::postgres::outbox::{OutboxFacts, OutboxLook},
};

use super::{DoctorReport, tell_trouble};

const CHECK: &str = "source.outbox";
const APPLY: &str = "balance-cache schema apply --outbox, as the owner of the table";
/// A row that waits for longer than this is not on its way.
const WAIT_MAX: Duration = Duration::from_mins(1);

pub(super) async fn check(report: &mut DoctorReport, settings: &Settings) {
    let (schema, table) = (&settings.postgres.schema, &settings.postgres.outbox.table);
    let looked = OutboxLook::read(&settings.postgres, &settings.source).await;
    match looked {
        Err(trouble) => tell_trouble(report, settings, &trouble),
        Ok(OutboxLook::Missing(name)) => {
            report.report_failure(CHECK, format!("there is no table {schema}.{name}"), APPLY);
        }
        Ok(OutboxLook::Forbidden(rights)) => report.report_failure(
            CHECK,
            format!("this user lacks {}", rights.join(", ")),
            "GRANT it, or no change is taken from the outbox",
        ),
        Ok(OutboxLook::Usable(facts)) => {
            if facts.missing_triggers.is_empty() {
                tell_backlog(report, &facts);
            } else {
                let missing = facts.missing_triggers.join(", ");
                let said = format!(
                    "{schema}.{table} does not run {missing}: its changes are told to nobody"
                );
                report.report_failure(CHECK, said, APPLY);
            }
        }
    }
}

fn tell_backlog(report: &mut DoctorReport, facts: &OutboxFacts) {
    let oldest = facts.oldest.unwrap_or_default();
    let said = match facts.waiting {
        0 => "its triggers run, and no row waits".to_owned(),
        rows => format!("{rows} rows wait, the oldest for {} s", oldest.as_secs()),
    };
    if oldest > WAIT_MAX {
        report.report_warning(
            CHECK,
            said,
            "is an instance running, and what does its /readyz say?",
        );
    } else {
        report.report_ok(CHECK, said);
    }
    if facts.dead > 0 {
        report.report_warning(
            "source.outbox.dead",
            format!("{} rows could not be read", facts.dead),
            "SELECT * FROM balance_outbox_dead has the reasons; mend them, then DELETE the rows",
        );
    }
}
