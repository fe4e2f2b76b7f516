//! The operator's own tables in PostgreSQL: whether the statements are right, and whether indexes serve them.

use std::sync::Arc;

use balance_cache::{
    config::Settings,
    domain::Catalogue,
    ledger::postgres::{inspect::PgTrouble, mapped::MappedLook},
};

use super::{DoctorReport, tell_trouble};

/// The source's identity, where it can be read.
pub(super) async fn check(report: &mut DoctorReport, settings: &Settings) -> Option<String> {
    // The catalogue was checked with the settings.
    let catalogue = Arc::new(Catalogue::new(&settings.assets, &settings.symbols).ok()?);
    let looking = async {
        let look = MappedLook::open(&settings.postgres, &settings.source, &catalogue).await?;
        let unserved = look.find_unserved().await?;
        let units = look.describe_units()?;
        Ok::<_, PgTrouble>((look.identity, unserved, units))
    };
    let looked = looking.await;
    let (identity, unserved, units) = match looked {
        Ok(looked) => looked,
        Err(trouble) => {
            tell_trouble(report, settings, &trouble);
            return None;
        }
    };
    for (key, units) in units {
        let said = format!("{key} has its columns, each of a type that is read exactly; {units}");
        report.report_ok("source.statements", said);
    }
    if unserved.is_empty() {
        report.report_ok("source.plan", "an index serves each statement");
    }
    for (key, table) in unserved {
        let remedy = table.create_index.unwrap_or_else(|| {
            "name the key of that table in the statement, or make an index that serves its condition".to_owned()
        });
        let said = format!(
            "{key} reads the whole of {}: no index serves it",
            table.table
        );
        report.report_failure("source.plan", said, remedy);
    }
    Some(identity)
}
