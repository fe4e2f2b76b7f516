//! `ledger settle`: sends trades from a file to a running service.
//!
//! **Invariants.** A trade that was sent before is a repetition: the same file may be sent again after any break. Trades are sent
//! in the order of the file, one request after the other. A request that is not answered is the last: no trade overtakes one
//! before it.
//!
//! **Limits.** `--batch` trades in one request; a request that fails for now is sent [`TRIES`] times.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use balance_cache::config::Settings;
use serde::{Deserialize, Serialize, de::IgnoredAny};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
}

/// The rest of the file: the first request that was not answered, of which any trade may stand, and all that was not sent.
#[derive(Debug, Serialize)]
struct Stopped {
    /// The first line of it.
    line: u64,
    trades: u64,
    msg: String,
}

/// A trade that does not stand.
#[derive(Debug, Serialize)]
struct Failed {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trade_id: Option<i64>,
    /// `refused`, `conflict` or `malformed`.
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
    let send = async |batch: &[NumberedTrade]| send_batch(&client, batch).await;
    let summary = start_runtime()?.block_on(send_all(what.batch, &lines, send));
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
    let mut unsettled = count(&summary.failed);
    if let Some(Stopped { line, trades, msg }) = &summary.stopped {
        unsettled = unsettled.saturating_add(*trades);
        print_error(&format!(
            "{}:{line}: unanswered: {msg}; the {trades} trades from this line on are not sent, or may stand: settle the file again",
            what.file.display()
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
            unsettled
        ))?;
    }
    Ok(exit_code(unsettled == 0))
}

fn count<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
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

/// Sends the batches in order, until one is not answered.
async fn send_all(
    size: u32,
    lines: &[NumberedTrade],
    send: impl AsyncFn(&[NumberedTrade]) -> Result<Vec<TradeAnswer>, Unsettled>,
) -> LoadSummary {
    let progress = Progress::new("settling", count(lines));
    let size = usize::try_from(size).unwrap_or(1).max(1);
    let mut waiting: VecDeque<&[NumberedTrade]> = lines.chunks(size).collect();
    let mut summary = LoadSummary::default();
    while let Some(batch) = waiting.pop_front() {
        let answer = match check_lines(batch) {
            Ok(()) => send(batch).await,
            Err(malformed) => Err(malformed),
        };
        if batch.len() > 1 && matches!(&answer, Err(told) if matches!(told.status, Some(400 | 413)))
        {
            // One of them is malformed, or all are too long for one request: each by itself tells which.
            for line in batch.chunks(1).rev() {
                waiting.push_front(line);
            }
            continue;
        }
        if let Err(unsettled) = summary.add_answer(batch, answer) {
            let rest = waiting.into_iter().map(count);
            summary.stopped = Some(Stopped {
                line: batch.first().map_or(0, |line| line.number),
                trades: rest.fold(count(batch), u64::saturating_add),
                msg: unsettled.msg,
            });
            break;
        }
        progress.add_done(count(batch));
        progress.set_message(format!("{} not settled", summary.failed.len()));
    }
    progress.clear_bar();
    summary
}

/// Refuses a line that is not one JSON value: among others it could be taken for several trades.
fn check_lines(batch: &[NumberedTrade]) -> Result<(), Unsettled> {
    for line in batch {
        serde_json::from_str::<IgnoredAny>(&line.text).map_err(|error| Unsettled {
            status: Some(400),
            msg: format!("it is not one JSON object: {error}"),
        })?;
    }
    Ok(())
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
    /// Errors: the batch was not answered, and any trade of it may stand.
    fn add_answer(
        &mut self,
        batch: &[NumberedTrade],
        answer: Result<Vec<TradeAnswer>, Unsettled>,
    ) -> Result<(), Unsettled> {
        let all = match answer {
            Ok(all) if all.len() == batch.len() => all,
            Ok(all) => {
                return Err(Unsettled {
                    status: None,
                    msg: format!("{} results for {} trades", all.len(), batch.len()),
                });
            }
            Err(unsettled) => {
                let result = match unsettled.status {
                    Some(400) => "malformed",
                    Some(409) => "conflict",
                    Some(_) | None => return Err(unsettled),
                };
                self.failed.extend(batch.iter().map(|line| Failed {
                    line: line.number,
                    trade_id: None,
                    result: result.to_owned(),
                    msg: unsettled.msg.clone(),
                }));
                return Ok(());
            }
        };
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Settles these lines, two in a request, with a service that answers a request by its lines' numbers; and what it was sent.
    async fn settle_lines(
        texts: &[&str],
        answer: impl Fn(&[u64]) -> Result<usize, u16>,
    ) -> (LoadSummary, Vec<Vec<u64>>) {
        let lines: Vec<_> = (1..)
            .zip(texts)
            .map(|(number, text)| NumberedTrade {
                number,
                text: (*text).to_owned(),
            })
            .collect();
        let requests = RefCell::new(Vec::new());
        let send = async |batch: &[NumberedTrade]| {
            let numbers: Vec<u64> = batch.iter().map(|line| line.number).collect();
            let replied = answer(&numbers);
            requests.borrow_mut().push(numbers);
            let written = || TradeAnswer {
                trade_id: 1,
                result: "written".to_owned(),
                msg: None,
            };
            replied
                .map(|count| {
                    std::iter::repeat_with(written)
                        .take(count)
                        .collect::<Vec<_>>()
                })
                .map_err(|status| Unsettled {
                    status: Some(status),
                    msg: "told".to_owned(),
                })
        };
        let summary = send_all(2, &lines, send).await;
        (summary, requests.into_inner())
    }

    fn failed_lines(summary: &LoadSummary) -> Vec<(u64, &str)> {
        let failed = summary.failed.iter();
        failed.map(|one| (one.line, one.result.as_str())).collect()
    }

    #[tokio::test]
    async fn the_first_request_that_is_not_answered_is_the_last() {
        for status in [401, 403, 404, 500, 503] {
            let answer = |lines: &[u64]| match lines {
                [1, 2] => Ok(2),
                [3, 4] => Err(409),
                _ => Err(status),
            };
            let (summary, requests) = settle_lines(&["{}"; 9], answer).await;
            assert_eq!(requests, [[1, 2], [3, 4], [5, 6]], "{status}");
            assert_eq!(summary.written, 2);
            assert_eq!(failed_lines(&summary), [(3, "conflict"), (4, "conflict")]);
            let stopped = summary.stopped.unwrap();
            assert_eq!((stopped.line, stopped.trades), (5, 5));
        }
        // The same, where a batch was cut into its lines.
        let answer = |lines: &[u64]| match lines {
            [1] => Ok(1),
            [_, _] => Err(400),
            _ => Err(503),
        };
        let (summary, sent) = settle_lines(&["{}"; 5], answer).await;
        assert_eq!(sent, [vec![1, 2], vec![1], vec![2]]);
        let stopped = summary.stopped.unwrap();
        assert_eq!((stopped.line, stopped.trades), (2, 4));
    }

    #[tokio::test]
    async fn a_line_is_one_trade_and_has_one_answer() {
        let texts = ["{}", "{},{}", "{", "{}{}", "{}"];
        let (summary, sent) = settle_lines(&texts, |lines| Ok(lines.len())).await;
        assert_eq!(sent, [[1], [5]]);
        let malformed = [2, 3, 4].map(|line| (line, "malformed"));
        assert_eq!(failed_lines(&summary), malformed);
        assert!(summary.written == 2 && summary.stopped.is_none());
        let (summary, sent) = settle_lines(&["{}"; 5], |lines| Ok(lines.len() + 1)).await;
        assert_eq!(sent, [[1, 2]]);
        assert_eq!((summary.written, summary.stopped.unwrap().trades), (0, 5));
    }
}
