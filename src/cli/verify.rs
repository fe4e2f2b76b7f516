//! `verify`: compares view and current state with the ledger, row by row, and the ledger with itself (`--conservation`). Of
//! somebody else's ledger it compares what Redis and the service answer.
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
mod difference;
mod file;
mod mapped;
mod postgres;

use std::process::ExitCode;

use anyhow::Result;
use balance_cache::{
    config::{Settings, SourceKind},
    domain::Catalogue,
};
use serde::Serialize;

use self::{
    compare::{Trio, VerifyTally},
    conservation::Conservation,
    difference::{Difference, DifferenceKind},
};
use super::{
    arguments::Verify,
    output::{BAD, GOOD, ODD, Unable, paint_text, print_error, print_line, say_json},
    progress::Progress,
    start_runtime,
};

/// Differences that are shown one by one.
const SHOWN_MAX: usize = 1000;

/// Findings on the way.
#[derive(Debug)]
struct VerifyFindings {
    tally: VerifyTally,
    shown: Vec<Difference>,
    notes: Vec<String>,
    /// The sums of every asset, where they were asked for, and whether `user_balances` is in them.
    conservation: Option<(Conservation, bool)>,
    progress: Progress,
    json: bool,
}

impl VerifyFindings {
    fn new(progress: Progress, json: bool) -> Self {
        Self {
            tally: VerifyTally::default(),
            shown: Vec::new(),
            notes: Vec::new(),
            conservation: None,
            progress,
            json,
        }
    }

    /// Adds a note on what is not compared, or on what the result does not show.
    fn add_note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.json {
            self.progress
                .suspend_for(|| print_error(&paint_text(ODD, &text)));
        }
        self.notes.push(text);
    }

    /// Counts what was compared. Returns what differs, to be looked at again after the grace time.
    fn count_trios(&mut self, trios: &[Trio]) -> Vec<(Trio, DifferenceKind)> {
        let mut suspects = Vec::new();
        for trio in trios {
            self.tally.count_compared(trio);
            suspects.extend(
                trio.difference_kinds()
                    .into_iter()
                    .map(|kind| (*trio, kind)),
            );
        }
        suspects
    }

    /// Judges what differed at first by what was read later.
    fn judge_again(
        &mut self,
        (first, kind): &(Trio, DifferenceKind),
        later: &Trio,
        catalogue: &Catalogue,
    ) -> Result<()> {
        if first.is_settled(*kind, later) {
            self.tally.lag = self.tally.lag.saturating_add(1);
            return Ok(());
        }
        // The difference as it is by now: a row that was behind may have come, with other amounts.
        let kinds = later.difference_kinds();
        let now = if kinds.contains(kind) {
            *kind
        } else {
            kinds.first().copied().unwrap_or(*kind)
        };
        self.add_difference(later.describe_difference(now, catalogue))
    }

    /// One that is still there after the grace time.
    fn add_difference(&mut self, difference: Difference) -> Result<()> {
        self.tally.count_difference(difference.kind);
        if self.shown.len() >= SHOWN_MAX {
            return Ok(());
        }
        if !self.json {
            let kind = paint_text(BAD, difference.kind.kind_text());
            let line = format!("{kind}  user {}: {}", difference.user, difference.said);
            self.progress.suspend_for(|| print_line(&line))?;
        }
        self.shown.push(difference);
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct VerifyPage<'a> {
    same: bool,
    #[serde(flatten)]
    tally: &'a VerifyTally,
    #[serde(skip_serializing_if = "Option::is_none")]
    conservation: Option<conservation::ConservationPage>,
    notes: &'a [String],
    shown: &'a [Difference],
}

/// It could not be compared: exit code 1, as for differences.
fn comparison_failed<E: std::fmt::Display>(error: E) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

/// Compares.
pub(crate) fn run_verify(what: &Verify, settings: &Settings) -> Result<ExitCode> {
    let is_mapped = settings.shows_balances_only();
    if !is_mapped && (what.reach.url.is_some() || what.no_service) {
        let reason = "--url and --no-service are for postgres.balances_sql: any other ledger is compared with its own tables";
        anyhow::bail!(Unable(reason.to_owned()));
    }
    let findings = match settings.source.kind {
        SourceKind::Postgres if is_mapped => {
            start_runtime()?.block_on(mapped::compare(what, settings))?
        }
        SourceKind::Embedded => file::compare_file(what, settings)?,
        SourceKind::Scylla => start_runtime()?.block_on(cql::compare_cql(what, settings))?,
        SourceKind::Postgres => start_runtime()?.block_on(postgres::compare(what, settings))?,
    };
    findings.progress.clear_bar();
    let catalogue = file::settings_catalogue(settings)?;
    let sums = findings.conservation.as_ref();
    let (tally, same) = (&findings.tally, findings.tally.sum_differences() == 0);
    if what.json {
        say_json(&VerifyPage {
            same,
            tally,
            conservation: sums.map(|(sums, _)| sums.json_page(&catalogue)),
            notes: &findings.notes,
            shown: &findings.shown,
        })?;
    } else {
        let more = tally
            .sum_differences()
            .saturating_sub(u64::try_from(findings.shown.len()).unwrap_or(0));
        if more > 0 {
            print_line(&format!("… and {more} more"))?;
        }
        if let Some((sums, with_table)) = sums {
            for line in sums.asset_sentences(&catalogue, *with_table) {
                print_line(&line)?;
            }
            print_line(&format!("{} transactions and trades", sums.records))?;
        }
        let word = if same {
            paint_text(GOOD, "the same")
        } else {
            paint_text(BAD, "DIFFERENT")
        };
        print_line(&format!("{word}: {tally}"))?;
    }
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
