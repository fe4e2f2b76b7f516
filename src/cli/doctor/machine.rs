//! The settings, their file, and this machine's limits.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use balance_cache::{
    config::{self, AuthMode, Scope, Settings},
    service::descriptors::{Connections, DEFAULT_CONNECTIONS},
};

use super::DoctorReport;

/// Others may read.
const READABLE_BY_ALL: u32 = 0o004;

/// The descriptors that the process needs beside the connections of clients: Redis, the database, files.
const OTHER_FILES: u64 = 64;

pub(super) fn check_machine(report: &mut DoctorReport, settings: &Settings, file: Option<&Path>) {
    report.report_ok("settings", "right, alone and together");
    for advice in config::advice(settings) {
        report.report_warning(
            "settings.advice",
            advice.to_string(),
            "see that key in config/default.toml",
        );
    }
    if let Some(file) = file {
        check_file_secrets(report, settings, file);
    }
    check_token_scopes(report, settings);
    check_floor_ttl(report, settings);
    check_descriptors(report, settings);
}

/// Warns if a file with secrets is readable by all.
fn check_file_secrets(report: &mut DoctorReport, settings: &Settings, file: &Path) {
    let mode = fs::metadata(file).map_or(0, |metadata| metadata.mode());
    let secret = !settings.scylla.password.is_empty()
        || settings.redis.url.contains('@')
        || !settings.auth.tokens.is_empty();
    if secret && mode & READABLE_BY_ALL != 0 {
        report.report_warning(
            "settings.file",
            format!(
                "{} holds secrets, or digests of tokens, and everybody may read it",
                file.display()
            ),
            format!("chmod 640 {}", file.display()),
        );
    } else {
        report.report_ok("settings.file", file.display().to_string());
    }
}

fn check_token_scopes(report: &mut DoctorReport, settings: &Settings) {
    if settings.auth.mode != AuthMode::Token {
        return;
    }
    let has = |scope| {
        settings
            .auth
            .tokens
            .iter()
            .any(|token| token.scopes.contains(&scope))
    };
    if has(Scope::Settle) {
        report.report_ok("auth", format!("{} tokens", settings.auth.tokens.len()));
    } else {
        report.report_warning(
            "auth",
            "no token has the scope settle: nobody can notify settlements over HTTP",
            "balance-cache auth token --name engine --scopes settle (not needed if all come by the stream)",
        );
    }
}

/// How long the view may lag before a floor that guards against it is forgotten.
fn check_floor_ttl(report: &mut DoctorReport, settings: &Settings) {
    let held = [
        settings.redis.snapshot_ttl_ms,
        settings.memory.ttl_ms,
        settings.limits.deadline_ms,
        settings.settlement.lag_budget_ms,
    ];
    let held = held
        .iter()
        .fold(0_u64, |sum, time| sum.saturating_add(time.as_millis()));
    let margin = settings
        .settlement
        .floor_ttl_ms
        .as_millis()
        .saturating_sub(held);
    let said = format!(
        "floors outlive all that is held by {} s: so long may the view lag",
        margin / 1000
    );
    if margin < 30_000 {
        report.report_warning(
            "settings.floors",
            said,
            "raise settlement.floor_ttl_ms, or lower redis.snapshot_ttl_ms",
        );
    } else {
        report.report_ok("settings.floors", said);
    }
}

/// Open files that this shell allows; the service's own limit may be another (systemd's `LimitNOFILE`).
fn check_descriptors(report: &mut DoctorReport, settings: &Settings) {
    let connections = u64::try_from(settings.limits.connections).unwrap_or(u64::MAX);
    let needed = connections.saturating_add(OTHER_FILES);
    let Some(limit) = soft_limit(&fs::read_to_string("/proc/self/limits").unwrap_or_default())
    else {
        report.report_ok(
            "machine.files",
            "this system does not tell its limit of open files: not checked",
        );
        return;
    };
    if settings.limits.connections == DEFAULT_CONNECTIONS {
        let fit = Connections::new(settings, Some(limit)).api;
        let said = format!("{limit} open files allowed here: {fit} connections of clients");
        return report.report_ok("machine.files", said);
    }
    let said = format!("{limit} open files allowed here, limits.connections is {connections}");
    let remedy = format!(
        "ulimit -n {needed} before the start (LimitNOFILE= in a systemd unit), or lower limits.connections"
    );
    if limit < connections {
        report.report_failure("machine.files", said, remedy);
    } else if limit < needed {
        report.report_warning(
            "machine.files",
            format!("{said}, and Redis, database and files need some too"),
            remedy,
        );
    } else {
        report.report_ok("machine.files", said);
    }
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_found_among_the_others() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             127                  127                  processes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(soft_limit(limits), Some(1024));
        assert_eq!(soft_limit(""), None);
    }
}
