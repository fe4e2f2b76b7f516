//! The report of a simulation: figures, sums of each asset, and differences.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::{
    Tally, Writer,
    books::Books,
    compare::Compared,
    plan::{Plan, Side},
    send::Sender,
};
use crate::cli::{
    arguments::Simulate,
    output::{BAD, GOOD, complain, millis, painted, say, say_json},
};

/// Everything that is told at the end.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) same: bool,
    pub(super) writer: Writer,
    pub(super) users: u32,
    pub(super) trades: u64,
    #[serde(flatten)]
    pub(super) tally: Tally,
    pub(super) requests: u64,
    pub(super) sent_again: u64,
    pub(super) seconds: f64,
    pub(super) p50_micros: u64,
    pub(super) p99_micros: u64,
    pub(super) assets: Vec<AssetReport>,
    pub(super) compared: Vec<&'static str>,
    pub(super) balances: u64,
    pub(super) differences: u64,
    pub(super) shown: Vec<String>,
}

/// Raw units of one asset.
#[derive(Debug, Serialize)]
pub(super) struct AssetReport {
    pub(super) asset: String,
    pub(super) deposited: String,
    pub(super) withdrawn: String,
    pub(super) held: String,
    pub(super) conserved: bool,
}

pub(super) fn report(
    plan: &Plan,
    books: &Books,
    writer: Writer,
    tally: Tally,
    compared: Compared,
    complete: impl FnOnce(&mut Report),
) -> Report {
    let assets: Vec<AssetReport> = [Side::Base, Side::Quote]
        .into_iter()
        .map(|side| asset_report(plan, books, side))
        .collect();
    let conserved = assets.iter().all(|asset| asset.conserved);
    let mut report = Report {
        same: conserved && tally.failed == 0 && compared.differences == 0,
        writer,
        users: plan.users,
        trades: plan.trades,
        tally,
        requests: 0,
        sent_again: 0,
        seconds: 0.0,
        p50_micros: 0,
        p99_micros: 0,
        assets,
        compared: compared.places,
        balances: compared.balances,
        differences: compared.differences,
        shown: compared.shown,
    };
    complete(&mut report);
    report
}

pub(super) fn asset_report(plan: &Plan, books: &Books, side: Side) -> AssetReport {
    let asset = plan.market.asset(side);
    let name = plan.market.catalogue.get(asset);
    let (deposited, withdrawn) = books.in_and_out(side);
    let mut sum = 0_i128;
    for seat in 0..=plan.house() {
        let held = books.held(seat, side);
        sum = sum
            .saturating_add(i128::from(held.avail))
            .saturating_add(i128::from(held.frozen));
    }
    AssetReport {
        asset: name.map_or_else(|| asset.to_string(), |(name, _)| name.clone()),
        deposited: deposited.to_string(),
        withdrawn: withdrawn.to_string(),
        held: sum.to_string(),
        conserved: deposited.saturating_sub(withdrawn) == sum,
    }
}

pub(super) fn tell(what: &Simulate, plan: &Plan, sender: &Sender, report: &Report) -> Result<()> {
    for line in report.tally.shown.iter().chain(&report.shown) {
        complain(&painted(BAD, line));
    }
    if what.json {
        return say_json(report);
    }
    let writer = match report.writer {
        Writer::Service => "the service assigns seqs",
        Writer::External => "the simulation assigns seqs",
    };
    let tally = &report.tally;
    say(&format!(
        "{}: {} trades of {} users (seed {}, {writer}): {} written, {} repeated, {} failed",
        sender.base(),
        plan.trades,
        plan.users,
        what.seed,
        tally.written,
        tally.repeated,
        tally.failed,
    ))?;
    let time = |micros| millis(Duration::from_micros(micros));
    say(&format!(
        "{} requests, {} sent again, {:.1} s; half of them took at most {}, 99 % at most {}",
        report.requests,
        report.sent_again,
        report.seconds,
        time(report.p50_micros),
        time(report.p99_micros),
    ))?;
    for asset in &report.assets {
        let AssetReport {
            asset,
            deposited,
            withdrawn,
            held,
            conserved,
        } = asset;
        let word = if *conserved { "=" } else { "is NOT" };
        say(&format!(
            "{asset}: {deposited} deposited - {withdrawn} withdrawn {word} {held} held; raw units"
        ))?;
    }
    let word = if report.differences == 0 {
        painted(GOOD, "the same")
    } else {
        painted(BAD, "DIFFERENT")
    };
    say(&format!(
        "{word}: {} balances compared in {}, {} differences",
        report.balances,
        report.compared.join(", "),
        report.differences
    ))
}
