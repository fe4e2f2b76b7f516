//! The service's own auditor during a run: it has to look, and to find nothing.
//!
//! What it counts ends with each life of an instance; what it tells stays in the log.

use std::time::Duration;

use crate::support::{
    eventually::eventually_async,
    service::{Service, Setup},
};

/// A row that nobody has told of yet is shown when the view has it and the tiers have let go: ten seconds, two and a half,
/// and what a paused Cassandra adds. Until then answers lack it, and keep every promise.
const GRACE: Duration = Duration::from_secs(15);
/// What the auditor says of an answer that was too old.
const FOUND: &str = "an answer was too old when it was served";
const SOON: Duration = Duration::from_mins(1);

/// With an auditor that looks often.
pub fn audited(setup: Setup) -> Setup {
    setup
        .with("audit.samples_per_second", 30)
        .with("audit.reads_per_second", 200)
        .with("audit.grace_ms", GRACE.as_millis())
}

/// What all series of this name count together, with this in their labels.
async fn counted(service: &Service, name: &str, label: &str) -> u64 {
    let page = service.get_ops("/metrics").await.body;
    let name = format!("balance_cache_{name}{{");
    let lines = page
        .lines()
        .filter(|line| line.starts_with(&name) && line.contains(label));
    lines
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

/// Answers of every instance were checked, and none was ever too old.
pub async fn found_nothing(services: &mut [Service]) {
    for service in services {
        eventually_async(SOON, "answers are checked", async || {
            service.balances(1).await;
            let checked = counted(service, "audit_checked_total", "window=\"1\"").await;
            (checked > 0).then_some(())
        })
        .await;
        let checked = counted(service, "audit_checked_total", "").await;
        let stale = counted(service, "audit_stale_total", "").await;
        eprintln!("audited in its last life: {checked}, too old: {stale}");
        assert_eq!(stale, 0);
        let log = service.process().stderr();
        let told: Vec<_> = log.lines().filter(|line| line.contains(FOUND)).collect();
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}
