//! Settings that work and hurt: what is told once at start, and by `config check`.
//!
//! Advice names settings that are allowed and rarely intended; mistakes are refused elsewhere. What shows only at run time is
//! told where it is found: by the service (open files) and by the link to Redis (its eviction policy and what it keeps on
//! disk).
//!
//! **Limits.** Advice uses the settings alone: no file is opened, no server is asked.

use std::{fmt, time::Duration};

use super::{
    AuthMode, Consistency, PostgresAddress, ReadFrom, Settings, SourceKind, SslMode, ViewCheck,
};

/// Assets of a catalogue that one statement to the ledger can name.
const NAMED_MAX: usize = 100;
/// Changes without a notification are seen when the snapshot ends.
const SNAPSHOT_TTL_LONG: Duration = Duration::from_mins(5);
/// Statements of an answer that the auditor looks at, in all its windows.
const AUDIT_READS: u32 = 4;

/// One thing that is worth a thought, with the key to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    pub key: &'static str,
    /// The consequence, and what to do.
    pub text: String,
}

impl Advice {
    pub fn new(key: &'static str, text: impl Into<String>) -> Self {
        Self {
            key,
            text: text.into(),
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// All of it as lines of one block; None where there is nothing to say.
pub fn advice_block(advice: &[Advice]) -> Option<String> {
    let lines: Vec<_> = advice.iter().map(|advice| format!("  {advice}")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Allowed settings that are still worth a line at start.
pub fn advice(settings: &Settings) -> Vec<Advice> {
    let mut lines = Vec::new();
    advise_access(settings, &mut lines);
    advise_tiers(settings, &mut lines);
    advise_times(settings, &mut lines);
    advise_source(settings, &mut lines);
    advise_audit(settings, &mut lines);
    lines
}

struct AdviceCheck<'a>(&'a mut Vec<Advice>);

impl AdviceCheck<'_> {
    fn advise_if(&mut self, so: bool, key: &'static str, text: &str) {
        if so {
            self.0.push(Advice::new(key, text));
        }
    }
}

fn advise_access(settings: &Settings, lines: &mut Vec<Advice>) {
    let mut check = AdviceCheck(lines);
    let (mode, open) = (settings.auth.mode, !settings.http.listen.ip().is_loopback());
    check.advise_if(
        mode == AuthMode::Network,
        "auth.mode",
        "is network: everybody who reaches http.listen may read and change every user; token asks who it is",
    );
    check.advise_if(
        !settings.auth.tokens.is_empty() && mode != AuthMode::Token,
        "auth.tokens",
        "are listed and not looked at: auth.mode is not token",
    );
    check.advise_if(
        !settings.ops.listen.ip().is_loopback(),
        "ops.listen",
        "has no token and is not on loopback: keep it on a private network",
    );
    check.advise_if(
        open && settings.source.kind == SourceKind::Embedded && settings.embedded.sample_data,
        "embedded.sample_data",
        "is true and http.listen is not on loopback: an empty ledger gets users 1001 to 1010 that nobody paid for",
    );
}

fn advise_tiers(settings: &Settings, lines: &mut Vec<Advice>) {
    let mut check = AdviceCheck(lines);
    let (redis, embedded) = (
        !settings.redis.url.is_empty(),
        settings.source.kind == SourceKind::Embedded,
    );
    let open = !settings.http.listen.ip().is_loopback();
    check.advise_if(
        embedded && redis,
        "source.kind",
        "is embedded: with this ledger only one instance can use the Redis",
    );
    check.advise_if(
        !embedded && !redis && open,
        "redis.url",
        "is empty: this has to be the only instance, for what another one is told is not known here; its knowledge of changes ends with the process",
    );
    check.advise_if(
        redis && settings.memory.ttl_ms > settings.redis.snapshot_ttl_ms,
        "memory.ttl_ms",
        "is longer than redis.snapshot_ttl_ms, which ends an entry first",
    );
    check.advise_if(
        redis && settings.redis.snapshot_ttl_ms.0 > SNAPSHOT_TTL_LONG,
        "redis.snapshot_ttl_ms",
        "is longer than five minutes: so long a change is not seen that nobody notifies of",
    );
    check.advise_if(
        settings.stale.enabled && settings.stale.max_age_ms > settings.settlement.floor_ttl_ms,
        "stale.max_age_ms",
        "is longer than settlement.floor_ttl_ms, which ends stale answers first: settlements are remembered for no longer",
    );
}

fn advise_times(settings: &Settings, lines: &mut Vec<Advice>) {
    let mut check = AdviceCheck(lines);
    let deadline = settings.limits.deadline_ms.0;
    let half = deadline.checked_div(2).unwrap_or_default();
    let redis = !settings.redis.url.is_empty();
    check.advise_if(
        settings.source.timeout_ms.0 > half,
        "source.timeout_ms",
        "is more than half of limits.deadline_ms: a load that has to ask twice is cut by the request's deadline, not by its own",
    );
    check.advise_if(
        redis && settings.redis.timeout_ms.0 > half,
        "redis.timeout_ms",
        "is more than half of limits.deadline_ms: a silent Redis takes the time in which the source could answer",
    );
    check.advise_if(
        redis && settings.redis.lease_wait_ms.0 > half,
        "redis.lease_wait_ms",
        "is more than half of limits.deadline_ms: who waits for another instance's load has no time left for its own",
    );
    check.advise_if(
        settings.limits.drain_ms.0 < deadline,
        "limits.drain_ms",
        "is shorter than limits.deadline_ms: requests under way are cut when the process is stopped",
    );
}

fn advise_source(settings: &Settings, lines: &mut Vec<Advice>) {
    match settings.source.kind {
        SourceKind::Embedded => return,
        SourceKind::Postgres => return advise_postgres(settings, lines),
        SourceKind::Scylla => {}
    }
    let mut check = AdviceCheck(lines);
    let from = settings.source.read_from;
    check.advise_if(
        from == ReadFrom::Ledger,
        "source.read_from",
        "is ledger: assets outside of the catalogue are not seen",
    );
    check.advise_if(
        from == ReadFrom::Ledger && settings.assets.len() > NAMED_MAX,
        "assets",
        "are more than one statement can name: each load from the ledger sends one for every hundred of them, whatever the user has; source.read_from = \"view\" does not",
    );
    check.advise_if(
        matches!(
            settings.scylla.consistency,
            Consistency::One | Consistency::LocalOne
        ),
        "scylla.consistency",
        "lets one replica answer alone: one that missed a row shows the balance from before it, whatever was promised; local_quorum does not",
    );
    check.advise_if(
        from == ReadFrom::View && settings.scylla.view_check != ViewCheck::Required,
        "scylla.view_check",
        "is not required: from a view that is not whole, users are shown with less than they have",
    );
}

fn advise_postgres(settings: &Settings, lines: &mut Vec<Advice>) {
    let mut check = AdviceCheck(lines);
    let is_near =
        |host: &str| host.starts_with('/') || matches!(host, "127.0.0.1" | "::1" | "localhost");
    let address = PostgresAddress::parse_url(&settings.postgres.url);
    let is_far = address.is_ok_and(|it| it.hosts.iter().any(|(host, _)| !is_near(host)));
    check.advise_if(
        is_far && settings.postgres.sslmode == SslMode::Disable,
        "postgres.sslmode",
        "is disable and the server is another machine: balances and passwords go over the network in the clear; verify-full does not let them",
    );
    check.advise_if(
        settings.source.read_from == ReadFrom::Ledger && !settings.postgres.read_urls.is_empty(),
        "postgres.read_urls",
        "is not looked at: with source.read_from = \"ledger\" nothing may lag",
    );
}

fn advise_audit(settings: &Settings, lines: &mut Vec<Advice>) {
    let mut check = AdviceCheck(lines);
    let audit = &settings.audit;
    check.advise_if(
        audit.samples_per_second == 0,
        "audit.samples_per_second",
        "is 0: nobody measures whether answers are right, and how far the view lags",
    );
    check.advise_if(
        audit.reads_per_second < audit.samples_per_second.saturating_mul(AUDIT_READS),
        "audit.reads_per_second",
        "is less than four times audit.samples_per_second: checks come late, and are left out",
    );
}
