//! The embedded ledger's file.

use balance_cache::{
    config::Settings,
    ledger::embedded::{
        OpenError, OpenErrorKind,
        inspect::{self, EmbeddedInspector},
    },
};

use super::DoctorReport;
use crate::cli::ledger_file;

/// Free bytes beside the ledger below which there is a fault, and below which there is a warning.
const FREE_MIN: u64 = 16 * 1024 * 1024;
const FREE_LOW: u64 = 256 * 1024 * 1024;

/// Its identity, where it can be read.
pub(super) fn check_file(
    report: &mut DoctorReport,
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
        report_open_error(report, &error);
        return None;
    }
    if usable {
        check_free_space(report, settings);
    }
    match checked {
        Ok(checked) => {
            let said = format!("{}: {} balances, whole", path.display(), checked.balances);
            report.report_ok("source.file", said);
            read_identity(report, settings)
        }
        Err(error) if error.kind == OpenErrorKind::Missing => {
            let said = format!("{}: the first start makes it, new", path.display());
            let what = if settings.embedded.sample_data {
                "and with sample balances of users 1001 to 1010 (embedded.sample_data)"
            } else {
                "and empty: if balances are expected, embedded.path or a mount is wrong"
            };
            report.report_ok("source.file", format!("{said}, {what}"));
            None
        }
        Err(error) if error.kind == OpenErrorKind::InUse && service_runs => {
            let id = read_identity(report, settings);
            if id.is_some() {
                let said = format!(
                    "{}: in use by the running service, which was asked",
                    path.display()
                );
                report.report_ok("source.file", said);
            }
            id
        }
        Err(error) if error.kind == OpenErrorKind::InUse => {
            report.report_failure(
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
            report_open_error(report, &error);
            None
        }
    }
}

fn report_open_error(report: &mut DoctorReport, error: &OpenError) {
    let said = format!("{}: {}", error.path.display(), error.said);
    report.report_failure("source.file", said, error.remedy.clone());
}

fn read_identity(report: &mut DoctorReport, settings: &Settings) -> Option<String> {
    let path = settings.embedded.path.display();
    let look = match EmbeddedInspector::open_ledger(&settings.embedded.path) {
        Ok(look) => look,
        Err(error) => {
            report_open_error(report, &error);
            return None;
        }
    };
    match (look.read_identity(), look.is_sample()) {
        (Ok(identity), Ok(sample)) => {
            if sample && !settings.http.listen.ip().is_loopback() {
                report.report_warning(
                    "source.sample",
                    format!("{path}: it was made with sample balances of users 1001 to 1010"),
                    "move the file away and start with embedded.sample_data = false, before money is written",
                );
            }
            Some(identity)
        }
        (Err(error), _) | (_, Err(error)) => {
            let remedy = "see the log of the service; balance-cache ledger check says more once it is stopped";
            report.report_failure("source.file", format!("{path}: {error}"), remedy);
            None
        }
    }
}

/// The space that is left for it.
fn check_free_space(report: &mut DoctorReport, settings: &Settings) {
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
        report.report_failure("source.space", said, remedy);
    } else if free < FREE_LOW {
        report.report_warning("source.space", said, remedy);
    } else {
        report.report_ok("source.space", said);
    }
}
