//! `doctor`: connects to everything that the settings name, measures it, and says what to fix.
//!
//! **Invariants.** Nothing is written anywhere. (Asking a running service is a read like any other.) Every fault has a remedy.
//! A check that cannot be made is said, never left out silently.
//!
//! **Limits.** [`latency::ROUNDS`] questions for each figure, one after the other: a look, not a load test.
//!
//! **Deliberately absent**: what other instances think of themselves; ask each with `--url`.

mod cql;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
mod latency;
mod machine;
mod postgres;
mod redis;
mod service;

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use balance_cache::config::{Settings, SourceKind};
use serde::Serialize;

use super::{
    arguments::Doctor,
    exit_code,
    output::{BAD, FAINT, GOOD, ODD, paint_text, print_line, say_json},
    start_runtime,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckState {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct CheckResult {
    name: &'static str,
    state: CheckState,
    said: String,
    remedy: Option<String>,
}

/// The findings so far, shown as they come.
#[derive(Debug, Default)]
struct DoctorReport {
    checks: Vec<CheckResult>,
    json: bool,
    /// The first line that could not be written ends the showing.
    unwritten: Option<anyhow::Error>,
}

impl DoctorReport {
    fn report_ok(&mut self, name: &'static str, said: impl Into<String>) {
        self.add_check(name, CheckState::Ok, said.into(), None);
    }

    fn report_warning(
        &mut self,
        name: &'static str,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add_check(name, CheckState::Warn, said.into(), Some(remedy.into()));
    }

    fn report_failure(
        &mut self,
        name: &'static str,
        said: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add_check(name, CheckState::Fail, said.into(), Some(remedy.into()));
    }

    fn add_check(
        &mut self,
        name: &'static str,
        state: CheckState,
        said: String,
        remedy: Option<String>,
    ) {
        let check = CheckResult {
            name,
            state,
            said,
            remedy,
        };
        if !self.json && self.unwritten.is_none() {
            self.unwritten = print_line(&check_line(&check)).err();
        }
        self.checks.push(check);
    }

    fn count_checks(&self, state: CheckState) -> usize {
        self.checks
            .iter()
            .filter(|check| check.state == state)
            .count()
    }
}

fn check_line(check: &CheckResult) -> String {
    let (style, word) = match check.state {
        CheckState::Ok => (GOOD, "ok  "),
        CheckState::Warn => (ODD, "warn"),
        CheckState::Fail => (BAD, "FAIL"),
    };
    let CheckResult {
        name, said, remedy, ..
    } = check;
    let remedy = remedy.as_ref().map_or_else(String::new, |remedy| {
        format!(". {} {remedy}", paint_text(FAINT, "Fix:"))
    });
    format!("{}  {name:18} {said}{remedy}", paint_text(style, word))
}

#[derive(Debug, Serialize)]
struct DoctorPage<'a> {
    ok: usize,
    warn: usize,
    fail: usize,
    checks: &'a [CheckResult],
}

/// Checks everything.
pub(crate) fn run_doctor(
    what: &Doctor,
    settings: &Settings,
    file: Option<&Path>,
) -> Result<ExitCode> {
    let mut report = DoctorReport {
        json: what.json,
        ..DoctorReport::default()
    };
    let asked = service::ServiceTarget::new(what, settings)?;
    machine::check_machine(&mut report, settings, file);
    start_runtime()?.block_on(async {
        let runs = asked.check_service(&mut report).await;
        let identity = match settings.source.kind {
            SourceKind::Scylla => cql::check_cql(&mut report, settings).await,
            SourceKind::Postgres => postgres::check(&mut report, settings).await,
            SourceKind::Embedded => file::check_file(&mut report, settings, runs),
        };
        if settings.redis.url.is_empty() {
            report.report_ok(
                "redis",
                "redis.url is empty: no Redis tier, this is the only instance",
            );
        } else {
            redis::check_redis(&mut report, settings, identity.as_deref()).await;
        }
        #[cfg(feature = "kafka")]
        kafka::check_kafka(&mut report, &settings.settlement.kafka).await;
    });
    let [ok, warn, fail] = [CheckState::Ok, CheckState::Warn, CheckState::Fail]
        .map(|state| report.count_checks(state));
    if let Some(unwritten) = report.unwritten.take() {
        return Err(unwritten);
    }
    if what.json {
        say_json(&DoctorPage {
            ok,
            warn,
            fail,
            checks: &report.checks,
        })?;
    } else {
        print_line(&format!("{ok} ok, {warn} warnings, {fail} faults"))?;
    }
    Ok(exit_code(fail == 0))
}
