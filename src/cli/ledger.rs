//! `ledger settle`: sends trades from a file to a running service.
//!
//! **Invariants.** A trade that was sent before is a repetition: the same file may be sent again after any break. Trades are sent
//! in the order of the file, one request after the other.
//!
//! **Limits.** `--batch` trades in one request; a request that fails for now is sent [`TRIES`] times.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use balance_cache::config::Settings;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    arguments::Settle,
    client::ServiceClient,
    exit_code,
    output::{Unable, print_error, print_line, say_json},
    progress::Progress,
    service_view::ServiceEnvelope,
    start_runtime,
};

const PATH: &str = "/api/v1/ledger/trades";
const TRIES: u32 = 5;
/// Before a request is sent again, where the service does not say how long to wait.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that a service may make us wait.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Codes below mean that the same request would fail again.
const AGAIN: u16 = 429;

/// A trade with its place in the file.
struct NumberedTrade {
    number: u64,
    text: String,
}

/// The service's answer for one trade.
#[derive(Debug, Deserialize)]
struct TradeAnswer {
    trade_id: i64,
    result: String,
    msg: Option<String>,
}

/// The results of all trades, counted.
#[derive(Debug, Default, Serialize)]
struct LoadSummary {
    written: u64,
    repeated: u64,
    /// Trades that do not stand.
    failed: Vec<Failed>,
}

/// A trade that does not stand.
#[derive(Debug, Serialize)]
struct Failed {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trade_id: Option<i64>,
    /// `refused`, `conflict`, `malformed`, or `unanswered`: it may stand.
    result: String,
    msg: String,
}

/// Why a request was not answered with results.
struct Unsettled {
    status: Option<u16>,
    msg: String,
}

/// Sends the trades.
pub(crate) fn run_settle(what: &Settle, settings: &Settings) -> Result<ExitCode> {
    let client = ServiceClient::of_service(&what.reach, settings)?;
    let lines = read_lines(&what.file)?;
    let summary = start_runtime()?.block_on(send_all(what, &client, lines));
    for failed in &summary.failed {
        let id = failed
            .trade_id
            .map_or_else(String::new, |id| format!("trade {id} "));
        print_error(&format!(
            "{}:{}: {id}{}: {}",
            what.file.display(),
            failed.line,
            failed.result,
            failed.msg
        ));
    }
    if what.json {
        say_json(&summary)?;
    } else {
        print_line(&format!(
            "{}: {} written, {} repeated, {} not settled",
            client.base_url(),
            summary.written,
            summary.repeated,
            summary.failed.len()
        ))?;
    }
    Ok(exit_code(summary.failed.is_empty()))
}

/// The lines that are not empty; `-` is standard input.
fn read_lines(path: &Path) -> Result<Vec<NumberedTrade>, Unable> {
    let unread = |error: io::Error| Unable(format!("{}: {error}", path.display()));
    let reader: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(unread)?))
    };
    let mut lines = Vec::new();
    for (text, number) in reader.lines().zip(1..) {
        let text = text.map_err(unread)?;
        if !text.trim().is_empty() {
            lines.push(NumberedTrade { number, text });
        }
    }
    Ok(lines)
}

async fn send_all(what: &Settle, client: &ServiceClient, lines: Vec<NumberedTrade>) -> LoadSummary {
    let count = |lines: &[NumberedTrade]| u64::try_from(lines.len()).unwrap_or(u64::MAX);
    let progress = Progress::new("settling", count(&lines));
    let size = usize::try_from(what.batch).unwrap_or(1).max(1);
    let mut summary = LoadSummary::default();
    for batch in lines.chunks(size) {
        match send_batch(client, batch).await {
            Err(unsettled) if unsettled.status == Some(400) && batch.len() > 1 => {
                // One of them is malformed: each by itself tells which.
                for line in batch.chunks(1) {
                    let answer = send_batch(client, line).await;
                    summary.add_answer(line, answer);
                }
            }
            answer => summary.add_answer(batch, answer),
        }
        progress.add_done(count(batch));
        progress.set_message(format!("{} not settled", summary.failed.len()));
    }
    progress.clear_bar();
    summary
}

/// Sends some trades as one request, again where it may succeed later.
async fn send_batch(
    client: &ServiceClient,
    batch: &[NumberedTrade],
) -> Result<Vec<TradeAnswer>, Unsettled> {
    let texts: Vec<&str> = batch.iter().map(|line| line.text.trim()).collect();
    let body = format!("[{}]", texts.join(","));
    let mut attempt = 1;
    loop {
        let (unsettled, pause) = match client.post_json(PATH, body.clone()).await {
            Err(unanswered) => (
                Unsettled {
                    status: None,
                    msg: unanswered.to_string(),
                },
                PAUSE,
            ),
            Ok(answer) => {
                let envelope: ServiceEnvelope<Vec<TradeAnswer>> =
                    ServiceEnvelope::from_answer(&answer);
                if let (200, Some(told)) = (answer.status, envelope.data) {
                    return Ok(told);
                }
                let wait = answer.header_text("retry-after").parse();
                let unsettled = Unsettled {
                    status: Some(answer.status),
                    msg: format!(
                        "HTTP {}, status {}: {}",
                        answer.status, envelope.status, envelope.msg
                    ),
                };
                (unsettled, wait.map_or(PAUSE, Duration::from_secs))
            }
        };
        if attempt >= TRIES || unsettled.status.is_some_and(|status| status < AGAIN) {
            return Err(unsettled);
        }
        sleep(pause.min(PAUSE_MAX)).await;
        attempt = attempt.saturating_add(1);
    }
}

impl LoadSummary {
    fn add_answer(&mut self, batch: &[NumberedTrade], answer: Result<Vec<TradeAnswer>, Unsettled>) {
        match answer {
            Ok(all) => {
                for (line, told) in batch.iter().zip(all) {
                    match told.result.as_str() {
                        "written" => self.written = self.written.saturating_add(1),
                        "repeated" => self.repeated = self.repeated.saturating_add(1),
                        _ => self.failed.push(Failed {
                            line: line.number,
                            trade_id: Some(told.trade_id),
                            result: told.result,
                            msg: told.msg.unwrap_or_default(),
                        }),
                    }
                }
            }
            Err(unsettled) => {
                let result = match unsettled.status {
                    Some(400) => "malformed",
                    Some(409) => "conflict",
                    Some(_) | None => "unanswered",
                };
                let failed = batch.iter().map(|line| Failed {
                    line: line.number,
                    trade_id: None,
                    result: result.to_owned(),
                    msg: unsettled.msg.clone(),
                });
                self.failed.extend(failed);
            }
        }
    }
}
