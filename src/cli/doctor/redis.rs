//! Redis: reached, whose it is, how it keeps what it is given, its clock and its pace.

use balance_cache::{
    cache::redis::{
        Keys,
        inspect::{RedisInspector, RedisTrouble, Server},
    },
    clock,
    config::Settings,
    diagnosis::Code,
};

use super::{DoctorReport, latency::SortedTimes};
use crate::cli::output::span_text;

/// `XAUTOCLAIM` came with it.
const OLDEST: (u32, u32) = (6, 2);
/// The oldest one that the tests run with.
const TESTED: (u32, u32) = (7, 0);

/// Skews of the clocks that are worth a word, and that are a fault.
const SKEW_WARN_MS: u64 = 500;
const SKEW_FAIL_MS: u64 = 5_000;

/// Percent of Redis' memory from which it counts as full.
const FULL: u64 = 90;

pub(super) async fn check_redis(
    report: &mut DoctorReport,
    settings: &Settings,
    identity: Option<&str>,
) {
    let look = match RedisInspector::open_connection(&settings.redis).await {
        Ok(look) => look,
        Err(trouble) => {
            report.report_failure("redis", trouble.to_string(), trouble.remedy());
            return;
        }
    };
    let checks = async {
        for server in look.read_servers().await? {
            check_version(report, &server);
            if let Some(line) = server.missing_line() {
                let said = format!(
                    "INFO says no {line}: whether it is still the same Redis cannot be proven, so it is not used"
                );
                let remedy = "let this user call INFO whole; a managed service that hides run_id, role or master_replid cannot be used";
                report.report_failure("redis.identity", said, remedy);
                continue;
            }
            check_eviction(report, &server);
            check_persistence(report, &look, &server).await;
            check_replica_fence(report, &look, &server).await;
        }
        check_settling(report, &look).await;
        check_clock_skew(report, &look).await?;
        check_owner(report, settings, &look, identity).await?;
        check_inbox(report, settings, &look).await?;
        let times = SortedTimes::measure_times(async || look.ping_server().await).await?;
        let timeout = ("redis.timeout_ms", settings.redis.timeout_ms.0);
        let remedy =
            "bring Redis nearer, find who blocks it (SLOWLOG GET), or raise redis.timeout_ms";
        times.report_times(report, "redis.latency", "PING", timeout, remedy);
        Ok::<_, RedisTrouble>(())
    };
    if let Err(trouble) = checks.await {
        report.report_failure("redis", trouble.to_string(), trouble.remedy());
    }
}

fn check_version(report: &mut DoctorReport, server: &Server) {
    let Server {
        product,
        own_version,
        uptime,
        ..
    } = server;
    let up = span_text(i64::try_from(uptime.saturating_mul(1000)).unwrap_or(i64::MAX));
    let said = format!("{product} {own_version}, up for {up}");
    if server.release_numbers() < OLDEST {
        report.report_failure(
            "redis.version",
            format!("{said}: older than 6.2"),
            "upgrade it to 7 or later",
        );
    } else if server.release_numbers() < TESTED {
        report.report_warning(
            "redis.version",
            format!("{said}: not among the tested ones"),
            "upgrade it to 7 or later",
        );
    } else {
        report.report_ok("redis.version", said);
    }
    if !server.master {
        report.report_failure(
            "redis.role",
            format!(
                "this is a replica (its link to the master is {}): it takes no writes, and nothing that it holds is proven fresh",
                server.link
            ),
            "name the master in redis.url",
        );
    }
}

/// Whether it forgets before its time.
fn check_eviction(report: &mut DoctorReport, server: &Server) {
    let Server {
        policy,
        maxmemory,
        used,
        ..
    } = server;
    let remedy =
        "CONFIG SET maxmemory-policy noeviction (and in redis.conf), with enough maxmemory";
    if server.may_evict() && *maxmemory > 0 {
        report.report_failure(
            "redis.eviction",
            format!("maxmemory-policy is {policy} with maxmemory {maxmemory}: floors may be evicted, so every absent key is loaded \
                     from the ledger"),
            remedy,
        );
    } else if server.may_evict() {
        report.report_warning(
            "redis.eviction",
            format!("maxmemory-policy is {policy}: nothing is evicted without maxmemory, and still every absent key is loaded from the \
                     ledger"),
            remedy,
        );
    } else if *maxmemory > 0 && used.saturating_mul(100) > maxmemory.saturating_mul(FULL) {
        report.report_warning(
            "redis.eviction",
            format!("{used} of {maxmemory} bytes are used: soon writes are refused, and settlements with them"),
            "raise maxmemory",
        );
    } else {
        report.report_ok(
            "redis.eviction",
            format!("{policy}, {} MiB used", used >> 20),
        );
    }
}

/// Whether it remembers over a restart.
async fn check_persistence(report: &mut DoctorReport, look: &RedisInspector, server: &Server) {
    let remedy = "CONFIG SET appendonly yes and appendfsync always (and in redis.conf), if notifications may come before \
                  their ledger rows";
    if !server.appendonly {
        let said =
            "appendonly is no: a restart forgets notifications that ran ahead of their ledger rows";
        report.report_warning("redis.persistence", said, remedy);
        return;
    }
    let fsync = look.read_setting("appendfsync").await;
    match fsync.as_deref() {
        Some("no") => {
            let said = "appendfsync is no: a crash forgets notifications that ran ahead of their ledger rows";
            report.report_warning("redis.persistence", said, remedy);
        }
        Some("everysec") => report.report_ok(
            "redis.persistence",
            "appendonly, appendfsync everysec (a crash may forget one second of notifications that ran ahead)",
        ),
        Some(other) => report.report_ok("redis.persistence", format!("appendonly, appendfsync {other}")),
        None => report.report_ok("redis.persistence", "appendonly; appendfsync may not be asked (CONFIG GET)"),
    }
}

/// Whether a master that is cut off from its replicas stops taking writes.
async fn check_replica_fence(report: &mut DoctorReport, look: &RedisInspector, server: &Server) {
    let advice = look.advice_for(server).await;
    match advice.iter().find(|it| it.code == Code::RedisUnfenced) {
        Some(finding) => report.report_warning(
            "redis.replicas",
            finding.cause_text(),
            finding.remedy_text(),
        ),
        None if server.replicas > 0 => report.report_ok(
            "redis.replicas",
            format!("{}, and min-replicas-to-write is set", server.replicas),
        ),
        None => {}
    }
}

/// Whether a settlement can succeed.
async fn check_settling(report: &mut DoctorReport, look: &RedisInspector) {
    match look.try_settling().await {
        Ok(()) => report.report_ok("redis.settle", "every command of a settlement is taken"),
        Err(finding) => {
            report.report_failure("redis.settle", finding.cause_text(), finding.remedy_text());
        }
    }
}

async fn check_clock_skew(
    report: &mut DoctorReport,
    look: &RedisInspector,
) -> Result<(), RedisTrouble> {
    let before = clock::wall_now().0;
    let (theirs, took) = look.read_clock().await?;
    let half = i64::try_from(took.as_millis()).unwrap_or(0) / 2;
    let skew = theirs
        .saturating_sub(before.saturating_add(half))
        .unsigned_abs();
    let said = format!(
        "Redis' clock and this machine's differ by {}",
        span_text(i64::try_from(skew).unwrap_or(i64::MAX))
    );
    let remedy = "let both keep time (chrony, systemd-timesyncd); ages, delays and created_at are only as good as the clocks";
    if skew > SKEW_FAIL_MS {
        report.report_failure("redis.clock", said, remedy);
    } else if skew > SKEW_WARN_MS {
        report.report_warning("redis.clock", said, remedy);
    } else {
        report.report_ok("redis.clock", said);
    }
    Ok(())
}

async fn check_owner(
    report: &mut DoctorReport,
    settings: &Settings,
    look: &RedisInspector,
    identity: Option<&str>,
) -> Result<(), RedisTrouble> {
    let keys = Keys::new(&settings.redis.namespace);
    let owner = look.read_owner().await?;
    let namespace = match settings.redis.namespace.as_str() {
        "" => "no redis.namespace".to_owned(),
        name => format!("redis.namespace {name}"),
    };
    match (owner.source.as_deref(), identity) {
        (Some(theirs), Some(ours)) if theirs != ours => report.report_failure(
            "redis.owner",
            format!("this Redis with {namespace} holds the balances of another source: {theirs}, not {ours}"),
            format!("give this deployment a redis.namespace of its own. (If the other is gone for good: DEL {})", keys.source_key()),
        ),
        (Some(theirs), Some(_)) => report.report_ok("redis.owner", format!("{theirs}, {namespace}")),
        (Some(theirs), None) => report.report_ok(
            "redis.owner",
            format!("{theirs}, {namespace}; the source here does not say who it is: not compared"),
        ),
        (None, _) => report.report_ok("redis.owner", format!("nobody's yet, {namespace}")),
    }
    if let Some(epoch) = owner.epoch {
        let (now, _) = look.read_clock().await?;
        let age = now.saturating_sub(epoch.birth);
        let ttl = i64::try_from(settings.settlement.floor_ttl_ms.as_millis()).unwrap_or(i64::MAX);
        let said = format!("data unbroken for {}", span_text(age));
        if age < ttl {
            report.report_warning(
                "redis.epoch",
                format!("{said}: until settlement.floor_ttl_ms is over, loads ask the ledger beside the view"),
                "wait; if it goes on, find out why Redis restarts or fails over",
            );
        } else {
            report.report_ok("redis.epoch", said);
        }
    }
    Ok(())
}

async fn check_inbox(
    report: &mut DoctorReport,
    settings: &Settings,
    look: &RedisInspector,
) -> Result<(), RedisTrouble> {
    let keys = Keys::new(&settings.redis.namespace);
    let stream = &settings.settlement.stream;
    for finding in look.try_following(stream).await? {
        report.report_failure("redis.follow", finding.cause_text(), finding.remedy_text());
    }
    let inbox = look.read_inbox(stream).await?;
    let waiting = inbox
        .waiting
        .map_or_else(|| "?".to_owned(), |count| count.to_string());
    let said = format!(
        "{stream}: {waiting} waiting, {} not acknowledged",
        inbox.pending
    );
    if inbox.followed {
        let shared = match inbox.others.as_slice() {
            [] => String::new(),
            others => format!("; shared with the consumer groups {}", others.join(", ")),
        };
        report.report_ok("redis.stream", said + &shared);
    } else {
        let said = format!("{stream}: no instance has followed it yet");
        report.report_ok("redis.stream", said);
    }
    if inbox.dead > 0 {
        report.report_warning(
            "redis.dead",
            format!("{} notifications could not be read", inbox.dead),
            format!(
                "XRANGE {} - + shows them with the reason; XDEL or trim it when that is dealt with",
                keys.dead_key(stream)
            ),
        );
    }
    Ok(())
}
