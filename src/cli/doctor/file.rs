//! The embedded ledger's file.

use balance_cache::{
    config::Settings,
    ledger::embedded::{
        OpenError, OpenErrorKind,
        inspect::{self, Look},
    },
};

use super::Report;
use crate::cli::ledger_file;

/// Free bytes beside the ledger below which there is a fault, and below which there is a warning.
const FREE_MIN: u64 = 16 * 1024 * 1024;
const FREE_LOW: u64 = 256 * 1024 * 1024;

/// Its identity, where it can be read.
pub(super) fn check(
    report: &mut Report,
    settings: &Settings,
    service_runs: bool,
) -> Option<String> {
    let path = &settings.embedded.path;
    let checked = ledger_file::check_apart(path);
    let usable = match &checked {
        Ok(_) => true,
        Err(error) => matches!(error.kind, OpenErrorKind::Missing | OpenErrorKind::InUse),
    };
    if usable && let Err(error) = inspect::check_place(path) {
        fail(report, &error);
        return None;
    }
    if usable {
        space(report, settings);
    }
    match checked {
        Ok(checked) => {
            let said = format!("{}: {} balances, whole", path.display(), checked.balances);
            report.ok("source.file", said);
            identity(report, settings)
        }
        Err(error) if error.kind == OpenErrorKind::Missing => {
            let said = format!("{}: the first start makes it, new", path.display());
            let what = if settings.embedded.sample_data {
                "and with sample balances of users 1001 to 1010 (embedded.sample_data)"
            } else {
                "and empty: if balances are expected, embedded.path or a mount is wrong"
            };
            report.ok("source.file", format!("{said}, {what}"));
            None
        }
        Err(error) if error.kind == OpenErrorKind::InUse && service_runs => {
            let id = identity(report, settings);
            if id.is_some() {
                let said = format!(
                    "{}: in use by the running service, which was asked",
                    path.display()
                );
                report.ok("source.file", said);
            }
            id
        }
        Err(error) if error.kind == OpenErrorKind::InUse => {
            report.fail(
                "source.file",
                format!(
                    "{}: {}, and none answers at http.listen: a start here would be refused",
                    path.display(),
                    error.said
                ),
                error.remedy,
            );
            None
        }
        Err(error) => {
            fail(report, &error);
            None
        }
    }
}

fn fail(report: &mut Report, error: &OpenError) {
    let said = format!("{}: {}", error.path.display(), error.said);
    report.fail("source.file", said, error.remedy.clone());
}

fn identity(report: &mut Report, settings: &Settings) -> Option<String> {
    let path = settings.embedded.path.display();
    let look = match Look::open(&settings.embedded.path) {
        Ok(look) => look,
        Err(error) => {
            fail(report, &error);
            return None;
        }
    };
    match (look.identity(), look.is_sample()) {
        (Ok(identity), Ok(sample)) => {
            if sample && !settings.http.listen.ip().is_loopback() {
                report.warn(
                    "source.sample",
                    format!("{path}: it was made with sample balances of users 1001 to 1010"),
                    "move the file away and start with embedded.sample_data = false, before money is written",
                );
            }
            Some(identity)
        }
        (Err(error), _) | (_, Err(error)) => {
            let remedy = "see the log of the service; balance-cache ledger check says more once it is stopped";
            report.fail("source.file", format!("{path}: {error}"), remedy);
            None
        }
    }
}

/// The space that is left for it.
fn space(report: &mut Report, settings: &Settings) {
    let path = &settings.embedded.path;
    let Some(free) = inspect::free_bytes(path) else {
        return;
    };
    let said = format!(
        "{}: {} MiB free on its disk",
        path.display(),
        free / 1_048_576
    );
    let remedy = "free space there (df -h): a full disk fails every write, and reads go on";
    if free < FREE_MIN {
        report.fail("source.space", said, remedy);
    } else if free < FREE_LOW {
        report.warn("source.space", said, remedy);
    } else {
        report.ok("source.space", said);
    }
}
