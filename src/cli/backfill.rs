//! `ledger backfill`: fills one table of a CQL database from another, goes on after a break, and compares both at the end.
//!
//! **Invariants.** Nothing is deleted, and no newer row is replaced (`ledger::scylla::backfill`). The checkpoint stays until the
//! comparison is over, so a run that was killed loses at most the parts that it was at.
//!
//! **Cancellation.** The process may be killed at any moment; the same command goes on.

mod checkpoint;
mod compare;
mod copy;
mod looks;
mod share;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anstyle::Style;
use anyhow::Result;
use balance_cache::{
    cache::redis::BackfillPhase,
    config::{Settings, SourceKind},
    ledger::scylla::{
        backfill::{Backfill, Target},
        inspect::InspectError,
    },
};
use serde::{Deserialize, Serialize};

use self::{
    checkpoint::{Checkpoint, Header},
    looks::TableComparison,
    share::{ProgressSharer, SharedProgress},
};
use super::{
    arguments::{self, BackfillSource, BackfillTable},
    output::{BAD, GOOD, ODD, Unable, paint_text, print_error, print_line, say_json},
    start_runtime,
};

/// The rows of the source, by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OutcomeCounts {
    source_rows: u64,
    /// Rows of the target.
    written: u64,
    /// Rows of the target that stood, of trades that this service claimed.
    present: u64,
    /// Trades that are not finished: nothing was written of them.
    pending: u64,
    /// Rows of the source that no row can be made of. The report has those of the comparison.
    unusable: u64,
}

impl OutcomeCounts {
    fn add_counts(&mut self, more: &Self) {
        let Self {
            source_rows,
            written,
            present,
            pending,
            unusable,
        } = self;
        for (count, more) in [
            (source_rows, more.source_rows),
            (written, more.written),
            (present, more.present),
            (pending, more.pending),
            (unusable, more.unusable),
        ] {
            *count = count.saturating_add(more);
        }
    }
}

/// The end of a backfill, for people and programs.
#[derive(Debug, Default, Serialize)]
struct BackfillReport {
    table: &'static str,
    dry_run: bool,
    /// Over all runs of this checkpoint.
    #[serde(flatten)]
    counts: OutcomeCounts,
    /// Rows of the source that the last run read, and how long it took for them.
    read_now: u64,
    millis: u64,
    /// Some of the rows that cannot be used.
    named: Vec<String>,
    same: bool,
    comparison: TableComparison,
}

impl BackfillReport {
    /// Whether nothing is left out, and both tables hold the same; after a dry run, rows may be still to be written.
    const fn is_done(&self) -> bool {
        self.counts.unusable == 0 && (self.same || self.dry_run)
    }

    /// The result in words.
    const fn result_words(&self) -> (Style, &'static str) {
        match (self.same, self.counts.unusable, self.dry_run) {
            (true, 0, _) => (GOOD, "the same"),
            (true, _, _) => (ODD, "the same, but for rows that were left out"),
            (false, 0, true) => (ODD, "to be written"),
            (false, _, true) => (ODD, "to be written, but for rows that are left out"),
            (false, _, false) => (BAD, "DIFFERENT"),
        }
    }
}

/// Fills the table.
pub(crate) fn run_backfill(
    what: &arguments::BackfillArguments,
    settings: &Settings,
) -> Result<ExitCode> {
    let target = target_of(what, settings)?;
    let report = start_runtime()?.block_on(fill_table(what, settings, target))?;
    if what.json {
        say_json(&report)?;
    } else {
        print_report(&report)?;
    }
    Ok(if report.is_done() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The table, if it can be filled from that source.
fn target_of(what: &arguments::BackfillArguments, settings: &Settings) -> Result<Target, Unable> {
    if settings.source.kind == SourceKind::Embedded {
        let reason = "source.kind is embedded: that ledger writes trades by user and the current state in the same transaction as \
                      the rows behind them, so no backfill is needed. For ScyllaDB or Cassandra set source.kind = \"scylla\"";
        return Err(Unable(reason.to_owned()));
    }
    if settings.source.kind == SourceKind::Postgres {
        let reason = "source.kind is postgres: trades by user and the current state are written in the same transaction as the rows \
                      behind them, so no backfill is needed; rows of another writer are filled in by one INSERT … SELECT";
        return Err(Unable(reason.to_owned()));
    }
    match (what.table, what.from) {
        (BackfillTable::UserTrades, BackfillSource::SettledTrades) => Ok(Target::UserTrades),
        (BackfillTable::UserBalances, BackfillSource::Ledger) => Ok(Target::UserBalances),
        (BackfillTable::UserTrades, BackfillSource::Ledger) => Err(Unable(
            "user_trades is filled from settled_trades: say --from settled_trades".to_owned(),
        )),
        (BackfillTable::UserBalances, BackfillSource::SettledTrades) => Err(Unable(
            "user_balances is filled from the ledger: say --from ledger".to_owned(),
        )),
    }
}

async fn fill_table(
    what: &arguments::BackfillArguments,
    settings: &Settings,
    target: Target,
) -> Result<BackfillReport> {
    let opened = Backfill::open_target(&settings.scylla, &settings.source, target).await;
    let backfill = opened.map_err(|trouble| match trouble {
        InspectError::Setting(reason) => anyhow::Error::from(Unable(reason)),
        InspectError::Source(error) => anyhow::anyhow!("{error}"),
    })?;
    let progress = SharedProgress::new(what.parts);
    // A dry run writes nothing anywhere.
    let sharer = (!what.dry_run)
        .then(|| ProgressSharer::start_writes(&settings.redis, target, &progress, what.json));
    let filled = copy_and_compare(what, settings, &backfill, &progress).await;
    let phase = match &filled {
        Ok(report) if report.is_done() => BackfillPhase::Done,
        Ok(_) => BackfillPhase::Different,
        Err(_) => BackfillPhase::Failed,
    };
    if let Some(sharer) = sharer {
        sharer.end_writes(phase).await;
    }
    filled
}

async fn copy_and_compare(
    what: &arguments::BackfillArguments,
    settings: &Settings,
    backfill: &Backfill,
    progress: &SharedProgress,
) -> Result<BackfillReport> {
    let target = backfill.target();
    let mut report = BackfillReport {
        table: target.table_name(),
        dry_run: what.dry_run,
        ..BackfillReport::default()
    };
    let mut checkpoint = None;
    if !what.dry_run {
        let path = what.checkpoint.clone().unwrap_or_else(|| {
            let keyspace = &settings.scylla.keyspace;
            PathBuf::from(format!(
                "backfill-{}-{keyspace}.checkpoint",
                target.table_name()
            ))
        });
        let header = Header::new(target.table_name(), backfill.identity(), what.parts);
        let mut opened = Checkpoint::open_file(&path, &header)?;
        let (resumed, _) = opened.done_parts();
        if resumed > 0 && !what.json {
            let of = what.parts;
            print_error(&format!(
                "{}: goes on after {resumed} of {of} parts",
                path.display()
            ));
        }
        copy::copy_parts(what, backfill, &mut opened, &mut report, progress).await?;
        checkpoint = Some(opened);
    }
    compare::compare_tables(what, backfill, &mut report, progress).await?;
    report.same = report.comparison.is_same();
    if let Some(checkpoint) = checkpoint {
        // A later run begins anew, and finds what was lost or mended meanwhile.
        checkpoint.remove_file()?;
    }
    Ok(report)
}

/// Returns whole rows per second.
fn per_second(rows: u64, millis: u64) -> u64 {
    let thousands = rows.saturating_mul(1_000);
    thousands.checked_div(millis).unwrap_or(rows)
}

/// A duration in whole milliseconds.
fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn print_report(report: &BackfillReport) -> Result<()> {
    let BackfillReport {
        table,
        counts,
        comparison: found,
        ..
    } = report;
    for shown in &found.shown {
        print_line(shown)?;
    }
    if !report.dry_run {
        print_line(&format!(
            "{table}: {} rows of the source, {} rows written, {} of finished trades stood already, {} trades pending; \
             this run read {} rows, {} rows/s",
            counts.source_rows,
            counts.written,
            counts.present,
            counts.pending,
            report.read_now,
            per_second(report.read_now, report.millis)
        ))?;
    }
    let (style, word) = report.result_words();
    let word = paint_text(style, word);
    let least = if found.incomplete { "at least " } else { "" };
    print_line(&format!(
        "{word}: {} rows expected, {} stand, {least}{} missing, {} different, {} unexpected, {} of pending trades, {} written meanwhile, \
         {} left out",
        found.expected,
        found.standing,
        found.missing,
        found.different,
        found.unexpected,
        found.pending,
        found.settled,
        counts.unusable
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_left_out_are_never_plainly_the_same_also_in_a_dry_run() {
        let left_out = "the same, but for rows that were left out";
        let partly = "to be written, but for rows that are left out";
        for (same, unusable, dry_run, is_done, words) in [
            (true, 0, false, true, "the same"),
            (true, 0, true, true, "the same"),
            (true, 1, false, false, left_out),
            (true, 1, true, false, left_out),
            (false, 0, true, true, "to be written"),
            (false, 1, true, false, partly),
            (false, 0, false, false, "DIFFERENT"),
            (false, 1, false, false, "DIFFERENT"),
        ] {
            let report = BackfillReport {
                dry_run,
                counts: OutcomeCounts {
                    unusable,
                    ..OutcomeCounts::default()
                },
                same,
                ..BackfillReport::default()
            };
            assert_eq!(
                (report.is_done(), report.result_words().1),
                (is_done, words),
                "{report:?}"
            );
        }
    }
}
