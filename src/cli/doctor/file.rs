//! The embedded ledger's file.

use balance_cache::{
    config::Settings,
    source::embedded::look::{Look, Trouble},
};

use super::Report;

/// Its identity, where it can be read.
pub(super) fn check(
    report: &mut Report,
    settings: &Settings,
    service_runs: bool,
) -> Option<String> {
    let path = settings.embedded.path.display();
    match Look::open(&settings.embedded.path) {
        Ok(look) => match (look.identity(), look.count()) {
            (Ok(identity), Ok(count)) => {
                report.ok("source.file", format!("{path}: {count} balances"));
                return Some(identity);
            }
            (Err(error), _) | (_, Err(error)) => {
                report.fail("source.file", format!("{path}: {error}"), restore());
            }
        },
        Err(Trouble::Missing) => report.ok("source.file", format!("{path}: the first start makes it")),
        Err(Trouble::InUse) if service_runs => {
            report.ok("source.file", format!("{path}: in use by the running service, not looked into"));
        }
        Err(trouble @ Trouble::InUse) => report.fail(
            "source.file",
            format!("{path}: {trouble}, and none answers at http.listen: a start here would be refused"),
            "stop the other process, or give this instance its own embedded.path (fuser shows who has it open)",
        ),
        Err(trouble @ Trouble::Unclean) => report.warn(
            "source.file",
            format!("{path}: {trouble}"),
            "start the service once; nothing that was acknowledged is lost",
        ),
        Err(trouble @ Trouble::Unreadable(_)) => {
            report.fail("source.file", format!("{path}: {trouble}"), restore());
        }
    }
    None
}

fn restore() -> &'static str {
    "restore the file from a copy, make it readable, or name another one in embedded.path"
}
