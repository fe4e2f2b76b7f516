//! The report of a simulation: figures, sums of each asset, and differences.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::{
    SimulatedWriter, SimulationTally,
    books::Books,
    compare::SimulationComparison,
    plan::{MarketSide, Plan},
    send::Sender,
};
use crate::cli::{
    arguments::Simulate,
    output::{BAD, GOOD, millis_text, paint_text, print_error, print_line, say_json},
};

/// Everything that is told at the end.
#[derive(Debug, Serialize)]
pub(super) struct SimulationReport {
    pub(super) same: bool,
    pub(super) writer: SimulatedWriter,
    pub(super) users: u32,
    pub(super) trades: u64,
    #[serde(flatten)]
    pub(super) tally: SimulationTally,
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

pub(super) fn build_report(
    plan: &Plan,
    books: &Books,
    writer: SimulatedWriter,
    tally: SimulationTally,
    compared: SimulationComparison,
    complete: impl FnOnce(&mut SimulationReport),
) -> SimulationReport {
    let assets: Vec<AssetReport> = [MarketSide::Base, MarketSide::Quote]
        .into_iter()
        .map(|side| asset_report(plan, books, side))
        .collect();
    let conserved = assets.iter().all(|asset| asset.conserved);
    let mut report = SimulationReport {
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

pub(super) fn asset_report(plan: &Plan, books: &Books, side: MarketSide) -> AssetReport {
    let asset = plan.market.side_asset(side);
    let name = plan.market.catalogue.get_asset(asset);
    let (deposited, withdrawn) = books.in_and_out(side);
    let mut sum = 0_i128;
    for seat in 0..=plan.house_seat() {
        let held = books.seat_balance(seat, side);
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

pub(super) fn print_report(
    what: &Simulate,
    plan: &Plan,
    sender: &Sender,
    report: &SimulationReport,
) -> Result<()> {
    for line in report.tally.shown.iter().chain(&report.shown) {
        print_error(&paint_text(BAD, line));
    }
    if what.json {
        return say_json(report);
    }
    let writer = match report.writer {
        SimulatedWriter::Service => "the service assigns seqs",
        SimulatedWriter::External => "the simulation assigns seqs",
    };
    let tally = &report.tally;
    print_line(&format!(
        "{}: {} trades of {} users (seed {}, {writer}): {} written, {} repeated, {} failed",
        sender.base_url(),
        plan.trades,
        plan.users,
        what.seed,
        tally.written,
        tally.repeated,
        tally.failed,
    ))?;
    let time = |micros| millis_text(Duration::from_micros(micros));
    print_line(&format!(
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
        print_line(&format!(
            "{asset}: {deposited} deposited - {withdrawn} withdrawn {word} {held} held; raw units"
        ))?;
    }
    let word = if report.differences == 0 {
        paint_text(GOOD, "the same")
    } else {
        paint_text(BAD, "DIFFERENT")
    };
    print_line(&format!(
        "{word}: {} balances compared in {}, {} differences",
        report.balances,
        report.compared.join(", "),
        report.differences
    ))
}
