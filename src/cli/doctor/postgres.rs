//! PostgreSQL: reached, which one, what stands there, and its pace.

use balance_cache::{
    config::{LedgerWriter, PostgresAddress, Settings},
    ledger::{
        self,
        postgres::{
            inspect::{PgLook, PgTrouble},
            schema::PgSchemaState,
        },
    },
};
use tokio::time::Instant;

use super::{DoctorReport, latency::SortedTimes};

mod mapped;
mod outbox;

/// The oldest server whose functions are what is needed (`gen_random_uuid`).
const OLDEST: u32 = 13;

/// The source's identity, where it can be read.
pub(super) async fn check(report: &mut DoctorReport, settings: &Settings) -> Option<String> {
    let identity = if settings.shows_balances_only() {
        mapped::check(report, settings).await
    } else {
        check_own(report, settings).await
    };
    if identity.is_some() && settings.postgres.outbox.enabled {
        outbox::check(report, settings).await;
    }
    identity
}

/// The tables of this service.
async fn check_own(report: &mut DoctorReport, settings: &Settings) -> Option<String> {
    let opened = PgLook::open_schema(&settings.postgres, &settings.source).await;
    let look = match opened {
        Ok(look) => look,
        Err(trouble) => {
            tell_trouble(report, settings, &trouble);
            return None;
        }
    };
    tell_version(report, &look.found);
    tell_schema(report, settings, &look.found);
    if let Err(error) = measure_pace(report, settings, &look).await {
        report.report_failure(
            "source.latency",
            error.to_string(),
            "look at the database's own monitoring",
        );
    }
    look.found.identity.clone()
}

fn tell_trouble(report: &mut DoctorReport, settings: &Settings, trouble: &PgTrouble) {
    let address = PostgresAddress::parse_url(&settings.postgres.url);
    let place = address.map_or_else(|_| String::new(), |it| it.show_place());
    let otherwise = "start it, or correct postgres.url, username, password or the TLS files";
    let (cause, remedy) = match trouble {
        PgTrouble::Setting(bad) => (bad.to_string(), "correct that setting"),
        PgTrouble::Source(ledger::LedgerError::Unavailable(reason)) => {
            let (cause, remedy) = reason.rsplit_once("; ").unwrap_or((reason, otherwise));
            (cause.to_owned(), remedy)
        }
        PgTrouble::Source(error) => (error.to_string(), otherwise),
    };
    report.report_failure("source", format!("{place}: {cause}"), remedy);
}

fn tell_version(report: &mut DoctorReport, found: &PgSchemaState) {
    let version = &found.server_version;
    let major = version.split(['.', ' ']).next();
    if major
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major < OLDEST)
    {
        let said = format!("PostgreSQL {version}: older than {OLDEST}");
        report.report_failure("source.version", said, "upgrade it");
    } else {
        report.report_ok("source.version", format!("PostgreSQL {version}"));
    }
}

fn tell_schema(report: &mut DoctorReport, settings: &Settings, found: &PgSchemaState) {
    match found.reading_problem(settings.source.read_from) {
        None => report.report_ok(
            "source.schema",
            format!("schema {}: all that is needed is there", found.schema),
        ),
        Some(reason) => report.report_failure(
            "source.schema",
            reason,
            "balance-cache schema apply makes what is missing, and says what stands in its way",
        ),
    }
    let writes = settings.ledger.writer == LedgerWriter::Service;
    if let (true, Some(reason)) = (found.exists, found.trades_problem()) {
        let cure = "balance-cache schema apply";
        if writes {
            report.report_failure("source.trades", reason, cure);
        } else {
            report.report_warning("source.trades", reason, cure);
        }
    }
    if let Some(right) = &found.missing_right {
        let lacks =
            format!("this user lacks {right}: it can read, and ledger entries cannot be written");
        if writes {
            report.report_failure("source.rights", lacks, "GRANT it");
        } else {
            let cure = "GRANT it, or leave it where another program writes";
            report.report_warning("source.rights", lacks, cure);
        }
    }
    if !found.commit_times {
        report.report_warning(
            "source.commit_times",
            "track_commit_timestamp is off: the auditor cannot know since when a row stood, and finds no stale answer",
            "ALTER SYSTEM SET track_commit_timestamp = on, and restart the server",
        );
    }
}

/// How long reads of some user take.
async fn measure_pace(
    report: &mut DoctorReport,
    settings: &Settings,
    look: &PgLook,
) -> Result<(), ledger::LedgerError> {
    if look
        .found
        .reading_problem(settings.source.read_from)
        .is_some()
    {
        return Ok(());
    }
    let Some(user) = look.find_some_user().await? else {
        report.report_ok("source.latency", "the ledger is empty: nothing to measure");
        return Ok(());
    };
    let times = SortedTimes::measure_times(async || {
        let begun = Instant::now();
        look.read_ledger(user).await?;
        Ok::<_, ledger::LedgerError>(begun.elapsed())
    });
    let timeout = ("source.timeout_ms", settings.source.timeout_ms.0);
    times.await?.report_times(
        report,
        "source.latency",
        "a read of the ledger",
        timeout,
        "look at the database's own monitoring (pg_stat_activity, pg_stat_statements), or raise source.timeout_ms",
    );
    Ok(())
}
