//! The embedded ledger against its own current state, in one walk over both tables.

use std::collections::HashSet;

use anyhow::Result;
use balance_cache::{
    config::Settings,
    domain::{Catalogue, UserId},
    ledger::embedded::{
        inspect::{EmbeddedInspector, TablePair},
        records::JudgedRow,
    },
};

use super::{
    Progress, VerifyFindings,
    compare::Trio,
    comparison_failed,
    conservation::{Conservation, compare_recorded, describe_stray},
};
use crate::cli::{arguments::Verify, ledger_file, users};

/// Pairs of one step.
const STEP: usize = 1000;

pub(super) fn compare_file(what: &Verify, settings: &Settings) -> Result<VerifyFindings> {
    let path = &settings.embedded.path;
    let asked = what
        .users
        .as_deref()
        .map(users::read_users_file)
        .transpose()?;
    let look = ledger_file::open_checked(path).map_err(comparison_failed)?;
    let unable = comparison_failed::<balance_cache::ledger::LedgerError>;
    let asked: Option<HashSet<UserId>> = asked.map(HashSet::from_iter);
    let catalogue = settings_catalogue(settings)?;
    let progress = Progress::new("comparing", look.count_pairs().map_err(unable)?);
    let mut findings = VerifyFindings::new(progress, what.json);
    if what.sample.is_some() {
        findings.add_note("the embedded ledger is compared whole: --sample makes no difference");
    }
    let (mut from, mut last) = (None, None);
    loop {
        let (pairs, next) = look.read_pairs(from, STEP).map_err(unable)?;
        for TablePair {
            user,
            asset,
            ledger,
            table,
        } in &pairs
        {
            findings.progress.add_done(1);
            if asked.as_ref().is_some_and(|asked| !asked.contains(user)) {
                continue;
            }
            if last != Some(*user) {
                last = Some(*user);
                findings.tally.users = findings.tally.users.saturating_add(1);
            }
            let trio = Trio {
                table: Some(*table),
                ..Trio::of_ledger(*user, *asset, *ledger)
            };
            findings.tally.count_compared(&trio);
            for kind in trio.difference_kinds() {
                findings.add_difference(trio.describe_difference(kind, &catalogue))?;
            }
        }
        from = next;
        if from.is_none() {
            break;
        }
    }
    if what.conservation {
        check_conservation(&look, &catalogue, &mut findings).map_err(comparison_failed)?;
    }
    Ok(findings)
}

/// Every row of the ledger, and every record of a transaction.
fn check_conservation(
    look: &EmbeddedInspector,
    catalogue: &Catalogue,
    findings: &mut VerifyFindings,
) -> Result<()> {
    let mut sums = Conservation::default();
    let mut from = None;
    loop {
        let (pairs, next) = look.read_pairs(from, STEP)?;
        for pair in &pairs {
            if let Some(held) = pair.table {
                sums.add_held(pair.asset.get(), held.avail.raw(), held.frozen.raw());
            }
        }
        from = next;
        if from.is_none() {
            break;
        }
    }
    let mut below = None;
    loop {
        let rows = look.rows_below(below, STEP)?;
        let Some(last) = rows.last() else { break };
        below = Some(last.row.key);
        for JudgedRow { row, is_recorded } in rows {
            if is_recorded == Some(false) {
                findings.add_difference(describe_stray(&row, catalogue))?;
            }
            if let Some(broken) = sums.add_row(row, is_recorded == Some(true)) {
                findings.add_difference(broken.describe_difference(catalogue))?;
            }
        }
    }
    sums.end_rows();
    let mut above = None;
    loop {
        let records = look.records_above(above, STEP)?;
        let Some((last, _)) = records.last() else {
            break;
        };
        above = Some((last.is_trade, last.id));
        for (record, stands) in &records {
            sums.records = sums.records.saturating_add(1);
            let Some(rows) = record.recorded_rows(catalogue) else {
                sums.unreadable_records = sums.unreadable_records.saturating_add(1);
                continue;
            };
            sums.add_record(record, catalogue);
            for (row, stands) in rows.iter().zip(stands) {
                if let Some(difference) = compare_recorded(record, row, stands.as_ref(), catalogue)
                {
                    findings.add_difference(difference)?;
                }
            }
        }
    }
    findings.conservation = Some((sums, true));
    Ok(())
}

/// The catalogue of the settings; it was checked when they were loaded.
pub(super) fn settings_catalogue(settings: &Settings) -> Result<Catalogue> {
    Catalogue::new(&settings.assets, &settings.symbols)
        .map_err(|_| anyhow::anyhow!("the catalogue cannot be read"))
}
