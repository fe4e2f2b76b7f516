//! The embedded ledger against its own current state, in one walk over both tables.

use std::collections::HashSet;

use anyhow::Result;
use balance_cache::{
    config::Settings,
    domain::{Catalogue, UserId},
    ledger::embedded::inspect::Pair,
};

use super::{Findings, Progress, compare::Trio, failed};
use crate::cli::{arguments::Verify, ledger_file, users};

/// Pairs of one step.
const STEP: usize = 1000;

pub(super) fn compare(what: &Verify, settings: &Settings) -> Result<Findings> {
    let path = &settings.embedded.path;
    let asked = what.users.as_deref().map(users::listed).transpose()?;
    let look = ledger_file::look(path).map_err(failed)?;
    let unable = failed::<balance_cache::ledger::Error>;
    let asked: Option<HashSet<UserId>> = asked.map(HashSet::from_iter);
    let catalogue = catalogue(settings)?;
    let progress = Progress::new("comparing", look.count().map_err(unable)?);
    let mut findings = Findings::new(progress, what.json);
    if what.sample.is_some() {
        findings.note("the embedded ledger is compared whole: --sample makes no difference");
    }
    let (mut from, mut last) = (None, None);
    loop {
        let (pairs, next) = look.pairs(from, STEP).map_err(unable)?;
        for Pair {
            user,
            asset,
            ledger,
            table,
        } in &pairs
        {
            findings.progress.add(1);
            if asked.as_ref().is_some_and(|asked| !asked.contains(user)) {
                continue;
            }
            if last != Some(*user) {
                last = Some(*user);
                findings.tally.users = findings.tally.users.saturating_add(1);
            }
            let trio = Trio {
                user: *user,
                asset: *asset,
                ledger: *ledger,
                view: None,
                table: Some(*table),
            };
            findings.tally.compared(&trio);
            for kind in trio.kinds() {
                findings.add(trio.difference(kind, &catalogue))?;
            }
        }
        from = next;
        if from.is_none() {
            return Ok(findings);
        }
    }
}

/// The catalogue of the settings; it was checked when they were loaded.
pub(super) fn catalogue(settings: &Settings) -> Result<Catalogue> {
    Catalogue::new(&settings.assets, &settings.symbols)
        .map_err(|_| anyhow::anyhow!("the catalogue cannot be read"))
}
