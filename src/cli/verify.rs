//! `verify`: compares view and current state with the ledger, row by row, and the ledger with itself (`--conservation`).
//!
//! **Invariants.** The ledger is right; nothing is written. A difference counts only if it is still there after the grace time,
//! measured against what the ledger had at first: a busy user is not for ever behind.
//!
//! **Cancellation.** Findings so far are lost.
//!
//! **Limits.** `--at-once` comparisons; [`SHOWN_MAX`] differences are shown, all are counted.

mod compare;
mod conservation;
mod cql;
mod cql_conservation;
mod file;
mod postgres;

use std::process::ExitCode;

use anyhow::Result;
use balance_cache::config::{Settings, SourceKind};
use serde::Serialize;

use self::{
    compare::{Difference, Tally},
    conservation::Conservation,
};
use super::{
    arguments::Verify,
    output::{BAD, GOOD, ODD, complain, painted, say, say_json},
    progress::Progress,
    runtime,
};

/// Differences that are shown one by one.
const SHOWN_MAX: usize = 1000;

/// Findings on the way.
#[derive(Debug)]
struct Findings {
    tally: Tally,
    shown: Vec<Difference>,
    notes: Vec<String>,
    /// The sums of every asset, where they were asked for, and whether `user_balances` is in them.
    conservation: Option<(Conservation, bool)>,
    progress: Progress,
    json: bool,
}

impl Findings {
    fn new(progress: Progress, json: bool) -> Self {
        Self {
            tally: Tally::default(),
            shown: Vec::new(),
            notes: Vec::new(),
            conservation: None,
            progress,
            json,
        }
    }

    /// Something that is not compared, or that whoever reads this has to know.
    fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.json {
            self.progress.aside(|| complain(&painted(ODD, &text)));
        }
        self.notes.push(text);
    }

    /// One that is still there after the grace time.
    fn add(&mut self, difference: Difference) -> Result<()> {
        self.tally.count(difference.kind);
        if self.shown.len() >= SHOWN_MAX {
            return Ok(());
        }
        if !self.json {
            let kind = painted(BAD, difference.kind.word());
            let line = format!("{kind}  user {}: {}", difference.user, difference.said);
            self.progress.aside(|| say(&line))?;
        }
        self.shown.push(difference);
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Page<'a> {
    same: bool,
    #[serde(flatten)]
    tally: &'a Tally,
    #[serde(skip_serializing_if = "Option::is_none")]
    conservation: Option<conservation::Page>,
    notes: &'a [String],
    shown: &'a [Difference],
}

/// It could not be compared: exit code 1, as for differences.
fn failed<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

/// Compares.
pub(crate) fn run(what: &Verify, settings: &Settings) -> Result<ExitCode> {
    let findings = match settings.source.kind {
        SourceKind::Embedded => file::compare(what, settings)?,
        SourceKind::Scylla => runtime()?.block_on(cql::compare(what, settings))?,
        SourceKind::Postgres => runtime()?.block_on(postgres::compare(what, settings))?,
    };
    findings.progress.done();
    let catalogue = file::catalogue(settings)?;
    let sums = findings.conservation.as_ref();
    let (tally, same) = (&findings.tally, findings.tally.differences() == 0);
    if what.json {
        say_json(&Page {
            same,
            tally,
            conservation: sums.map(|(sums, _)| sums.page(&catalogue)),
            notes: &findings.notes,
            shown: &findings.shown,
        })?;
    } else {
        let more = tally
            .differences()
            .saturating_sub(u64::try_from(findings.shown.len()).unwrap_or(0));
        if more > 0 {
            say(&format!("… and {more} more"))?;
        }
        if let Some((sums, with_table)) = sums {
            for line in sums.lines(&catalogue, *with_table) {
                say(&line)?;
            }
            say(&format!("{} transactions and trades", sums.records))?;
        }
        let word = if same {
            painted(GOOD, "the same")
        } else {
            painted(BAD, "DIFFERENT")
        };
        say(&format!("{word}: {tally}"))?;
    }
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
