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
    output::{BAD, FAINT, GOOD, ODD, painted, say, say_json},
    runtime,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    said: String,
    remedy: Option<String>,
}

/// The findings so far, shown as they come.
#[derive(Debug, Default)]
struct Report {
    checks: Vec<Check>,
    json: bool,
    /// The first line that could not be written ends the showing.
    unwritten: Option<anyhow::Error>,
}

impl Report {
    fn ok(&mut self, name: &'static str, said: impl Into<String>) {
        self.add(name, State::Ok, said.into(), None);
    }

    fn warn(&mut self, name: &'static str, said: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, State::Warn, said.into(), Some(remedy.into()));
    }

    fn fail(&mut self, name: &'static str, said: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, State::Fail, said.into(), Some(remedy.into()));
    }

    fn add(&mut self, name: &'static str, state: State, said: String, remedy: Option<String>) {
        let check = Check {
            name,
            state,
            said,
            remedy,
        };
        if !self.json && self.unwritten.is_none() {
            self.unwritten = say(&line(&check)).err();
        }
        self.checks.push(check);
    }

    fn count(&self, state: State) -> usize {
        self.checks
            .iter()
            .filter(|check| check.state == state)
            .count()
    }
}

fn line(check: &Check) -> String {
    let (style, word) = match check.state {
        State::Ok => (GOOD, "ok  "),
        State::Warn => (ODD, "warn"),
        State::Fail => (BAD, "FAIL"),
    };
    let Check {
        name, said, remedy, ..
    } = check;
    let remedy = remedy.as_ref().map_or_else(String::new, |remedy| {
        format!(". {} {remedy}", painted(FAINT, "Fix:"))
    });
    format!("{}  {name:18} {said}{remedy}", painted(style, word))
}

#[derive(Debug, Serialize)]
struct Page<'a> {
    ok: usize,
    warn: usize,
    fail: usize,
    checks: &'a [Check],
}

/// Checks everything.
pub(crate) fn run(what: &Doctor, settings: &Settings, file: Option<&Path>) -> Result<ExitCode> {
    let mut report = Report {
        json: what.json,
        ..Report::default()
    };
    let asked = service::Asked::new(what, settings)?;
    machine::check(&mut report, settings, file);
    runtime()?.block_on(async {
        let runs = asked.check(&mut report).await;
        let identity = match settings.source.kind {
            SourceKind::Scylla => cql::check(&mut report, settings).await,
            SourceKind::Postgres => postgres::check(&mut report, settings).await,
            SourceKind::Embedded => file::check(&mut report, settings, runs),
        };
        if settings.redis.url.is_empty() {
            report.ok(
                "redis",
                "redis.url is empty: no Redis tier, this is the only instance",
            );
        } else {
            redis::check(&mut report, settings, identity.as_deref()).await;
        }
        #[cfg(feature = "kafka")]
        kafka::check(&mut report, &settings.settlement.kafka).await;
    });
    let [ok, warn, fail] = [State::Ok, State::Warn, State::Fail].map(|state| report.count(state));
    if let Some(unwritten) = report.unwritten.take() {
        return Err(unwritten);
    }
    if what.json {
        say_json(&Page {
            ok,
            warn,
            fail,
            checks: &report.checks,
        })?;
    } else {
        say(&format!("{ok} ok, {warn} warnings, {fail} faults"))?;
    }
    Ok(if fail == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
