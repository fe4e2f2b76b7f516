//! `ledger simulate`: deposits, holds, trades with fees and withdrawals through the API of a running service, from a seed.
//!
//! **Invariants.** Nothing that the simulation sends can be refused, and the balances that it leads to are known before: each
//! (user, asset) has one row for each posting, so a posting that is lost, doubled or halved is a difference.
//!
//! **Cancellation.** The same command again repeats what was done, and goes on.
//!
//! **Limits.** `--at-once` requests of `--batch` trades. Those of one trade are sent in their order.

mod books;
mod compare;
mod plan;
mod random;
mod report;
mod send;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use balance_cache::{config::Settings, domain::Catalogue};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use self::{
    books::Books,
    plan::{Plan, Posting, SimulatedMarket},
    report::{SimulationReport, build_report, print_report},
    send::{Answered, Sender, ServiceLost},
};
use super::{
    arguments::Simulate, client::ServiceClient, exit_code, output::Unable, progress::Progress,
    start_runtime,
};

const TRANSACTIONS: &str = "/api/v1/ledger/transactions";
const TRADES: &str = "/api/v1/ledger/trades";
const ENTRIES: &str = "/api/v1/ledger/entries";
/// Deposits of one request.
const DEPOSITS: usize = 250;
/// Failures that are told one by one.
const SHOWN_MAX: usize = 20;

/// The side that assigns seqs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum SimulatedWriter {
    Service,
    External,
}

/// Requests that are sent one after the other: path and body.
type Steps = Vec<(&'static str, String)>;

/// Results so far.
#[derive(Debug, Default, Serialize)]
struct SimulationTally {
    written: u64,
    repeated: u64,
    failed: u64,
    #[serde(skip)]
    shown: Vec<String>,
}

pub(crate) fn run_simulate(what: &Simulate, settings: &Settings) -> Result<ExitCode> {
    let client = ServiceClient::of_service(&what.reach, settings)?;
    let plan = plan_of(what, settings)?;
    let sender = Arc::new(Sender::new(client, Duration::from_secs(what.patience_s)));
    let report = start_runtime()?.block_on(simulate_trades(what, settings, &plan, &sender))?;
    print_report(what, &plan, &sender, &report)?;
    Ok(exit_code(report.same))
}

fn plan_of(what: &Simulate, settings: &Settings) -> Result<Plan> {
    let catalogue = Catalogue::new(&settings.assets, &settings.symbols)
        .map_err(|_| anyhow::anyhow!("the catalogue cannot be read"))?;
    let first = settings.symbols.first().map(|symbol| symbol.name.as_str());
    let symbol = what.symbol.as_deref().or(first);
    let symbol = symbol.ok_or_else(|| Unable("the settings have no symbols".to_owned()))?;
    let market = SimulatedMarket::new(catalogue, symbol).ok_or_else(|| {
        Unable(format!(
            "--symbol {symbol}: the settings have no such symbol"
        ))
    })?;
    Ok(Plan::new(
        market,
        what.users,
        what.trades,
        what.zipf,
        what.seed,
    ))
}

async fn simulate_trades(
    what: &Simulate,
    settings: &Settings,
    plan: &Plan,
    sender: &Arc<Sender>,
) -> Result<SimulationReport> {
    let mut books = Books::new(plan);
    let deposits = plan.opening_deposits();
    let mut run = Run {
        sender,
        at_once: usize::try_from(what.at_once).unwrap_or(1).max(1),
        tally: SimulationTally::default(),
        under_way: JoinSet::new(),
    };
    let writer = writer_of(plan, sender, deposits.first()).await?;
    let count = |postings: usize| u64::try_from(postings).unwrap_or(u64::MAX);
    let progress = Progress::new("depositing", count(deposits.len()));
    for some in deposits.chunks(DEPOSITS) {
        let steps = phase_requests(plan, &mut books, writer, &[some]);
        run.send_steps(steps).await?;
        progress.add_done(count(some.len()));
    }
    run.finish_sending().await?;
    progress.clear_bar();
    let begun = Instant::now();
    let progress = Progress::new("trading", plan.trades);
    let mut pace = batch_ticks(what);
    let mut from = 0_u64;
    while from < plan.trades {
        let to = from.saturating_add(u64::from(what.batch)).min(plan.trades);
        let flows: Vec<Vec<Posting>> = (from..to).map(|number| plan.trade_flow(number)).collect();
        let phases = order_phases(&flows);
        let phases: Vec<&[Posting]> = phases.iter().map(Vec::as_slice).collect();
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let steps = phase_requests(plan, &mut books, writer, &phases);
        run.send_steps(steps).await?;
        progress.add_done(to.saturating_sub(from));
        progress.set_message(format!("{} sent again", sender.request_counts().1));
        from = to;
    }
    run.finish_sending().await?;
    progress.clear_bar();
    let took = begun.elapsed();
    let (requests, sent_again) = sender.request_counts();
    let percentile =
        |percent| u64::try_from(sender.percentile_time(percent).as_micros()).unwrap_or(0);
    let (p50_micros, p99_micros) = (percentile(50), percentile(99));
    let compared = {
        let grace = Duration::from_millis(what.grace_ms);
        compare::compare_places(plan, &books, sender, settings, grace).await?
    };
    Ok(build_report(
        plan,
        &books,
        writer,
        run.tally,
        compared,
        |report| {
            report.requests = requests;
            report.sent_again = sent_again;
            report.seconds = took.as_secs_f64();
            report.p50_micros = p50_micros;
            report.p99_micros = p99_micros;
        },
    ))
}

/// Requests that are under way.
struct Run<'a> {
    sender: &'a Arc<Sender>,
    at_once: usize,
    tally: SimulationTally,
    under_way: JoinSet<Result<Vec<Answered>, ServiceLost>>,
}

impl Run<'_> {
    async fn send_steps(&mut self, steps: Steps) -> Result<()> {
        while self.under_way.len() >= self.at_once {
            self.take_one().await?;
        }
        let sender = Arc::clone(self.sender);
        self.under_way.spawn(async move {
            let mut answers = Vec::with_capacity(steps.len());
            for (path, body) in steps {
                answers.push(if path == ENTRIES {
                    sender.send_entries(path, &body).await?
                } else {
                    sender.send_settlements(path, &body).await?
                });
            }
            Ok(answers)
        });
        Ok(())
    }

    async fn finish_sending(&mut self) -> Result<()> {
        while !self.under_way.is_empty() {
            self.take_one().await?;
        }
        Ok(())
    }

    async fn take_one(&mut self) -> Result<()> {
        let Some(done) = self.under_way.join_next().await else {
            return Ok(());
        };
        for answered in done?? {
            let tally = &mut self.tally;
            tally.written = tally.written.saturating_add(answered.written);
            tally.repeated = tally.repeated.saturating_add(answered.repeated);
            let failed = u64::try_from(answered.failed.len()).unwrap_or(u64::MAX);
            tally.failed = tally.failed.saturating_add(failed);
            let room = SHOWN_MAX.saturating_sub(tally.shown.len());
            tally.shown.extend(answered.failed.into_iter().take(room));
        }
        Ok(())
    }
}

/// Asks by the first deposit: it is sent once more with the others.
async fn writer_of(
    plan: &Plan,
    sender: &Sender,
    first: Option<&Posting>,
) -> Result<SimulatedWriter, ServiceLost> {
    let Some(first) = first else {
        return Ok(SimulatedWriter::Service);
    };
    let body = Books::new(plan).assigned_there(plan, first);
    let answered = sender
        .send_settlements(TRANSACTIONS, &format!("[{body}]"))
        .await?;
    Ok(if answered.is_elsewhere {
        SimulatedWriter::External
    } else {
        SimulatedWriter::Service
    })
}

/// One tick for each batch; none where nothing slows it down.
fn batch_ticks(what: &Simulate) -> Option<Interval> {
    let rate = u32::try_from(what.rate).unwrap_or(u32::MAX);
    let every = Duration::from_secs(1)
        .saturating_mul(what.batch)
        .checked_div(rate)?;
    let mut pace = interval(every.max(Duration::from_micros(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(pace)
}

/// Holds, then trades, then the rest of several flows.
fn order_phases(flows: &[Vec<Posting>]) -> Vec<Vec<Posting>> {
    let mut phases = vec![Vec::new(), Vec::new(), Vec::new()];
    for posting in flows.iter().flatten() {
        let phase = match posting.event_type {
            "hold" => 0,
            "trade" => 1,
            _ => 2,
        };
        if let Some(phase) = phases.get_mut(phase) {
            phase.push(posting.clone());
        }
    }
    phases
}

/// The requests of these postings: one for each phase that has any.
fn phase_requests(
    plan: &Plan,
    books: &mut Books,
    writer: SimulatedWriter,
    phases: &[&[Posting]],
) -> Steps {
    let mut steps = Steps::new();
    for phase in phases {
        let Some(first) = phase.first() else { continue };
        let trades = first.trade.is_some();
        let (path, all) = match writer {
            SimulatedWriter::Service => {
                let all = phase.iter().map(|one| books.assigned_there(plan, one));
                (if trades { TRADES } else { TRANSACTIONS }, all.collect())
            }
            SimulatedWriter::External => {
                let all = phase.iter().flat_map(|one| books.assigned_here(plan, one));
                (if trades { TRADES } else { ENTRIES }, all.collect())
            }
        };
        steps.push((path, serde_json::Value::Array(all).to_string()));
    }
    steps
}
