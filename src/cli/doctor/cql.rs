//! `ScyllaDB` or Cassandra: reached, which one, what stands there, and its pace.

use balance_cache::{
    config::{Millis, ReadFrom, Settings, SourceSettings, ViewCheck},
    domain::AssetId,
    ledger::{
        self,
        scylla::{
            inspect::{CqlInspector, InspectError, PATIENCE, Relation, TokenRange},
            schema::{self, Problem, RelationState, Status},
        },
    },
};
use tokio::time::Instant;

use super::{DoctorReport, latency::SortedTimes};

/// The oldest Cassandra whose views and statements are what is needed.
const OLDEST: (u32, u32) = (4, 1);

/// The source's identity, where it can be read.
pub(super) async fn check_cql(report: &mut DoctorReport, settings: &Settings) -> Option<String> {
    let opened = CqlInspector::open_session(&settings.scylla, &settings.source).await;
    let look = match opened {
        Ok(look) => look,
        Err(trouble) => {
            let nodes = settings.scylla.nodes.join(", ");
            let otherwise = "start it, or correct scylla.nodes, username, password, datacenter or the TLS files";
            let (cause, remedy) = match &trouble {
                InspectError::Setting(setting) => (setting.clone(), "correct that setting"),
                InspectError::Source(ledger::LedgerError::Unavailable(reason)) => {
                    let (cause, remedy) = reason.rsplit_once("; ").unwrap_or((reason, otherwise));
                    (cause.to_owned(), remedy)
                }
                InspectError::Source(error) => (error.to_string(), otherwise),
            };
            report.report_failure("source", format!("{nodes}: {cause}"), remedy);
            return None;
        }
    };
    check_version(report, &look).await;
    let patient = SourceSettings {
        timeout_ms: Millis(settings.source.timeout_ms.0.max(PATIENCE)),
        ..settings.source.clone()
    };
    match schema::read_status(&settings.scylla, &patient).await {
        Err(error) => report.report_failure(
            "source.schema",
            error.to_string(),
            "balance-cache schema status",
        ),
        Ok(status) => check_schema(report, settings, &status),
    }
    if look.found.table_is_empty && settings.source.read_from != ReadFrom::Table {
        report.report_warning(
            "source.table",
            "user_balances is empty and balance_ledger is not: source.read_from = \"table\" would not be ready",
            "fill it (ledger entries through this service, a CDC consumer), or leave it: it is not what is read",
        );
    }
    if let Err(error) = measure_reads(report, settings, &look).await {
        report.report_failure(
            "source.latency",
            error.to_string(),
            "look at the database's own monitoring",
        );
    }
    look.found.identity.clone()
}

async fn check_version(report: &mut DoctorReport, look: &CqlInspector) {
    match look.read_product().await {
        None => report.report_warning(
            "source.version",
            "it does not say which version it is",
            "see system.local",
        ),
        Some(product) if product.name == "Cassandra" && product.release_numbers() < OLDEST => {
            report.report_failure(
                "source.version",
                format!("Cassandra {}: older than 4.1", product.version),
                "upgrade it to 5.0 (4.1 at least)",
            );
        }
        Some(product) => report.report_ok(
            "source.version",
            format!("{} {}", product.name, product.version),
        ),
    }
}

fn check_schema(report: &mut DoctorReport, settings: &Settings, status: &Status) {
    let found = &status.found;
    match status.first_problem() {
        None => report.report_ok("source.schema", format!("keyspace {}: all that is needed is there", found.keyspace)),
        Some(Problem::ViewNotBuilt(reason)) if settings.scylla.view_check == ViewCheck::Warn => report.report_warning(
            "source.view",
            reason,
            "wait for it: with scylla.view_check = \"warn\" it is read all the same, and may lack balances",
        ),
        Some(Problem::ViewNotBuilt(reason)) => report.report_failure(
            "source.view",
            reason,
            "wait until it is built; if it stands still, schema drop-view and schema apply",
        ),
        Some(Problem::Blocking(reason)) => {
            let name = if !found.exists {
                "source.keyspace"
            } else if found.view == RelationState::Missing && reason.contains("user_balances_by_user") {
                "source.view"
            } else {
                "source.schema"
            };
            let remedy = if found.exists {
                "balance-cache schema apply makes what is missing, and says what stands in its way"
            } else {
                "correct scylla.keyspace, or balance-cache schema apply"
            };
            report.report_failure(name, reason, remedy);
        }
    }
    if let (true, Some(reason)) = (found.exists, found.trades_problem()) {
        report.report_warning("source.trades", reason, "balance-cache schema apply");
    }
    let apart = found.builds.iter().filter(|build| !build.connected).count();
    if apart > 0 {
        report.report_warning(
            "source.nodes",
            format!(
                "{apart} of {} nodes cannot be reached from here",
                found.builds.len()
            ),
            "bring them back: a quorum may be missing for some users",
        );
    }
    if let Some(sample) = &status.sample {
        match sample.present_percent() {
            Some(percent) if percent < 100 => report.report_warning(
                "source.sample",
                format!("the view shows {sample}"),
                "it may lag: balance-cache verify --sample 10000 tells lag from loss",
            ),
            Some(_) | None => report.report_ok("source.sample", format!("the view shows {sample}")),
        }
    }
}

/// How long reads of some user take.
async fn measure_reads(
    report: &mut DoctorReport,
    settings: &Settings,
    look: &CqlInspector,
) -> Result<(), ledger::LedgerError> {
    if look.found.ledger != RelationState::Table {
        return Ok(());
    }
    let place = TokenRange {
        from: i64::MIN,
        to: i64::MAX,
    };
    let (some, _) = look
        .walk_stretches(Relation::Ledger, 1)
        .await?
        .read_page(place, None)
        .await?;
    let Some(user) = some.first().map(|partition| partition.user) else {
        report.report_ok("source.latency", "the ledger is empty: nothing to measure");
        return Ok(());
    };
    let timeout = ("source.timeout_ms", settings.source.timeout_ms.0);
    let remedy = "look at the database's own monitoring (compactions, garbage collection), or raise source.timeout_ms";
    let assets: Vec<AssetId> = settings
        .assets
        .iter()
        .filter_map(|asset| AssetId::new(asset.id).ok())
        .collect();
    let ledger = SortedTimes::measure_times(async || {
        let begun = Instant::now();
        look.read_ledger(user, &assets).await?;
        Ok::<_, ledger::LedgerError>(begun.elapsed())
    });
    ledger.await?.report_times(
        report,
        "source.latency",
        "a read of the ledger",
        timeout,
        remedy,
    );
    if settings.source.read_from == ReadFrom::View && look.found.view != RelationState::Missing {
        let view = SortedTimes::measure_times(async || {
            let begun = Instant::now();
            look.read_newest(
                Relation::View,
                user,
                assets.first().copied().unwrap_or(AssetId::MAX),
            )
            .await?;
            Ok::<_, ledger::LedgerError>(begun.elapsed())
        });
        view.await?.report_times(
            report,
            "source.latency",
            "a read of the view",
            timeout,
            remedy,
        );
    }
    Ok(())
}
