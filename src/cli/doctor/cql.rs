//! `ScyllaDB` or Cassandra: reached, which one, what stands there, and its pace.

use balance_cache::{
    config::{Millis, ReadFrom, Settings, Source, ViewCheck},
    domain::AssetId,
    ledger::{
        self,
        scylla::{
            inspect::{Look, PATIENCE, Relation, Stretch, Trouble},
            schema::{self, Problem, Standing, Status},
        },
    },
};
use tokio::time::Instant;

use super::{Report, latency::Times};

/// The oldest Cassandra whose views and statements are what is needed.
const OLDEST: (u32, u32) = (4, 1);

/// The source's identity, where it can be read.
pub(super) async fn check(report: &mut Report, settings: &Settings) -> Option<String> {
    let opened = Look::open(&settings.scylla, &settings.source).await;
    let look = match opened {
        Ok(look) => look,
        Err(trouble) => {
            let nodes = settings.scylla.nodes.join(", ");
            let otherwise = "start it, or correct scylla.nodes, username, password, datacenter or the TLS files";
            let (cause, remedy) = match &trouble {
                Trouble::Setting(setting) => (setting.clone(), "correct that setting"),
                Trouble::Source(ledger::Error::Unavailable(reason)) => {
                    let (cause, remedy) = reason.rsplit_once("; ").unwrap_or((reason, otherwise));
                    (cause.to_owned(), remedy)
                }
                Trouble::Source(error) => (error.to_string(), otherwise),
            };
            report.fail("source", format!("{nodes}: {cause}"), remedy);
            return None;
        }
    };
    version(report, &look).await;
    let patient = Source {
        timeout_ms: Millis(settings.source.timeout_ms.0.max(PATIENCE)),
        ..settings.source.clone()
    };
    match schema::status(&settings.scylla, &patient).await {
        Err(error) => report.fail(
            "source.schema",
            error.to_string(),
            "balance-cache schema status",
        ),
        Ok(status) => stands(report, settings, &status),
    }
    if look.found.table_is_empty && settings.source.read_from != ReadFrom::Table {
        report.warn(
            "source.table",
            "user_balances is empty and balance_ledger is not: source.read_from = \"table\" would not be ready",
            "fill it (ledger entries through this service, a CDC consumer), or leave it: it is not what is read",
        );
    }
    if let Err(error) = pace(report, settings, &look).await {
        report.fail(
            "source.latency",
            error.to_string(),
            "look at the database's own monitoring",
        );
    }
    look.found.identity.clone()
}

async fn version(report: &mut Report, look: &Look) {
    match look.product().await {
        None => report.warn(
            "source.version",
            "it does not say which version it is",
            "see system.local",
        ),
        Some(product) if product.name == "Cassandra" && product.release() < OLDEST => report.fail(
            "source.version",
            format!("Cassandra {}: older than 4.1", product.version),
            "upgrade it to 5.0 (4.1 at least)",
        ),
        Some(product) => report.ok(
            "source.version",
            format!("{} {}", product.name, product.version),
        ),
    }
}

fn stands(report: &mut Report, settings: &Settings, status: &Status) {
    let found = &status.found;
    match status.problem() {
        None => report.ok("source.schema", format!("keyspace {}: all that is needed is there", found.keyspace)),
        Some(Problem::ViewNotBuilt(reason)) if settings.scylla.view_check == ViewCheck::Warn => report.warn(
            "source.view",
            reason,
            "wait for it: with scylla.view_check = \"warn\" it is read all the same, and may lack balances",
        ),
        Some(Problem::ViewNotBuilt(reason)) => report.fail(
            "source.view",
            reason,
            "wait until it is built; if it stands still, schema drop-view and schema apply",
        ),
        Some(Problem::Blocking(reason)) => {
            let name = if !found.exists {
                "source.keyspace"
            } else if found.view == Standing::Missing && reason.contains("user_balances_by_user") {
                "source.view"
            } else {
                "source.schema"
            };
            let remedy = if found.exists {
                "balance-cache schema apply makes what is missing, and says what stands in its way"
            } else {
                "correct scylla.keyspace, or balance-cache schema apply"
            };
            report.fail(name, reason, remedy);
        }
    }
    if let (true, Some(reason)) = (found.exists, found.trades_problem()) {
        report.warn("source.trades", reason, "balance-cache schema apply");
    }
    let apart = found.builds.iter().filter(|build| !build.connected).count();
    if apart > 0 {
        report.warn(
            "source.nodes",
            format!(
                "{apart} of {} nodes cannot be reached from here",
                found.builds.len()
            ),
            "bring them back: a quorum may be missing for some users",
        );
    }
    if let Some(sample) = &status.sample {
        match sample.percent() {
            Some(percent) if percent < 100 => report.warn(
                "source.sample",
                format!("the view shows {sample}"),
                "it may lag: balance-cache verify --sample 10000 tells lag from loss",
            ),
            Some(_) | None => report.ok("source.sample", format!("the view shows {sample}")),
        }
    }
}

/// How long reads of some user take.
async fn pace(report: &mut Report, settings: &Settings, look: &Look) -> Result<(), ledger::Error> {
    if look.found.ledger != Standing::Table {
        return Ok(());
    }
    let place = Stretch {
        from: i64::MIN,
        to: i64::MAX,
    };
    let (some, _) = look
        .stretches(Relation::Ledger, 1)
        .await?
        .page(place, None)
        .await?;
    let Some(user) = some.first().map(|partition| partition.user) else {
        report.ok("source.latency", "the ledger is empty: nothing to measure");
        return Ok(());
    };
    let timeout = ("source.timeout_ms", settings.source.timeout_ms.0);
    let remedy = "look at the database's own monitoring (compactions, garbage collection), or raise source.timeout_ms";
    let assets: Vec<AssetId> = settings
        .assets
        .iter()
        .filter_map(|asset| AssetId::new(asset.id).ok())
        .collect();
    let ledger = Times::of(async || {
        let begun = Instant::now();
        look.ledger(user, &assets).await?;
        Ok::<_, ledger::Error>(begun.elapsed())
    });
    ledger.await?.tell(
        report,
        "source.latency",
        "a read of the ledger",
        timeout,
        remedy,
    );
    if settings.source.read_from == ReadFrom::View && look.found.view != Standing::Missing {
        let view = Times::of(async || {
            let begun = Instant::now();
            look.newest(
                Relation::View,
                user,
                assets.first().copied().unwrap_or(AssetId::MAX),
            )
            .await?;
            Ok::<_, ledger::Error>(begun.elapsed())
        });
        view.await?.tell(
            report,
            "source.latency",
            "a read of the view",
            timeout,
            remedy,
        );
    }
    Ok(())
}
