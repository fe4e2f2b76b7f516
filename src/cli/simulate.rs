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
    plan::{Market, Plan, Posting},
    report::{Report, report, tell},
    send::{Answered, Lost, Sender},
};
use super::{arguments::Simulate, client::Client, output::Unable, progress::Progress, runtime};

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
enum Writer {
    Service,
    External,
}

/// Requests that are sent one after the other: path and body.
type Steps = Vec<(&'static str, String)>;

/// Results so far.
#[derive(Debug, Default, Serialize)]
struct Tally {
    written: u64,
    repeated: u64,
    failed: u64,
    #[serde(skip)]
    shown: Vec<String>,
}

/// Simulates.
pub(crate) fn run(what: &Simulate, settings: &Settings) -> Result<ExitCode> {
    let client = Client::new(
        what.reach.url.as_deref(),
        settings.http.listen,
        what.reach.token.as_deref(),
    )?;
    let plan = plan_of(what, settings)?;
    let sender = Arc::new(Sender::new(client, Duration::from_secs(what.patience_s)));
    let report = runtime()?.block_on(simulate(what, settings, &plan, &sender))?;
    tell(what, &plan, &sender, &report)?;
    Ok(if report.same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn plan_of(what: &Simulate, settings: &Settings) -> Result<Plan> {
    let catalogue = Catalogue::new(&settings.assets, &settings.symbols)
        .map_err(|_| anyhow::anyhow!("the catalogue cannot be read"))?;
    let first = settings.symbols.first().map(|symbol| symbol.name.as_str());
    let symbol = what.symbol.as_deref().or(first);
    let symbol = symbol.ok_or_else(|| Unable("the settings have no symbols".to_owned()))?;
    let market = Market::new(catalogue, symbol).ok_or_else(|| {
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

async fn simulate(
    what: &Simulate,
    settings: &Settings,
    plan: &Plan,
    sender: &Arc<Sender>,
) -> Result<Report> {
    let mut books = Books::new(plan);
    let deposits = plan.deposits();
    let mut run = Run {
        sender,
        at_once: usize::try_from(what.at_once).unwrap_or(1).max(1),
        tally: Tally::default(),
        under_way: JoinSet::new(),
    };
    let writer = writer_of(plan, sender, deposits.first()).await?;
    let count = |postings: usize| u64::try_from(postings).unwrap_or(u64::MAX);
    let progress = Progress::new("depositing", count(deposits.len()));
    for some in deposits.chunks(DEPOSITS) {
        let steps = steps(plan, &mut books, writer, &[some]);
        run.send(steps).await?;
        progress.add(count(some.len()));
    }
    run.finish().await?;
    progress.done();
    let begun = Instant::now();
    let progress = Progress::new("trading", plan.trades);
    let mut pace = pace(what);
    let mut from = 0_u64;
    while from < plan.trades {
        let to = from.saturating_add(u64::from(what.batch)).min(plan.trades);
        let flows: Vec<Vec<Posting>> = (from..to).map(|number| plan.flow(number)).collect();
        let phases = phases(&flows);
        let phases: Vec<&[Posting]> = phases.iter().map(Vec::as_slice).collect();
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let steps = steps(plan, &mut books, writer, &phases);
        run.send(steps).await?;
        progress.add(to.saturating_sub(from));
        progress.beside(format!("{} sent again", sender.counts().1));
        from = to;
    }
    run.finish().await?;
    progress.done();
    let took = begun.elapsed();
    let (requests, sent_again) = sender.counts();
    let percentile = |percent| u64::try_from(sender.percentile(percent).as_micros()).unwrap_or(0);
    let (p50_micros, p99_micros) = (percentile(50), percentile(99));
    let compared = {
        let grace = Duration::from_millis(what.grace_ms);
        compare::compare(plan, &books, sender, settings, grace).await?
    };
    Ok(report(
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
    tally: Tally,
    under_way: JoinSet<Result<Vec<Answered>, Lost>>,
}

impl Run<'_> {
    async fn send(&mut self, steps: Steps) -> Result<()> {
        while self.under_way.len() >= self.at_once {
            self.take_one().await?;
        }
        let sender = Arc::clone(self.sender);
        self.under_way.spawn(async move {
            let mut answers = Vec::with_capacity(steps.len());
            for (path, body) in steps {
                answers.push(if path == ENTRIES {
                    sender.write(path, &body).await?
                } else {
                    sender.settle(path, &body).await?
                });
            }
            Ok(answers)
        });
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
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
async fn writer_of(plan: &Plan, sender: &Sender, first: Option<&Posting>) -> Result<Writer, Lost> {
    let Some(first) = first else {
        return Ok(Writer::Service);
    };
    let body = Books::new(plan).assigned_there(plan, first);
    let answered = sender.settle(TRANSACTIONS, &format!("[{body}]")).await?;
    Ok(if answered.is_elsewhere {
        Writer::External
    } else {
        Writer::Service
    })
}

/// One tick for each batch; none where nothing slows it down.
fn pace(what: &Simulate) -> Option<Interval> {
    let rate = u32::try_from(what.rate).unwrap_or(u32::MAX);
    let every = Duration::from_secs(1)
        .saturating_mul(what.batch)
        .checked_div(rate)?;
    let mut pace = interval(every.max(Duration::from_micros(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(pace)
}

/// Holds, then trades, then the rest of several flows.
fn phases(flows: &[Vec<Posting>]) -> Vec<Vec<Posting>> {
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
fn steps(plan: &Plan, books: &mut Books, writer: Writer, phases: &[&[Posting]]) -> Steps {
    let mut steps = Steps::new();
    for phase in phases {
        let Some(first) = phase.first() else { continue };
        let trades = first.trade.is_some();
        let (path, all) = match writer {
            Writer::Service => {
                let all = phase.iter().map(|one| books.assigned_there(plan, one));
                (if trades { TRADES } else { TRANSACTIONS }, all.collect())
            }
            Writer::External => {
                let all = phase.iter().flat_map(|one| books.assigned_here(plan, one));
                (if trades { TRADES } else { ENTRIES }, all.collect())
            }
        };
        steps.push((path, serde_json::Value::Array(all).to_string()));
    }
    steps
}
