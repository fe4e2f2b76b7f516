//! Sends requests until they are answered: a service that was killed finds the same ids again.
//!
//! **Invariants.** A request is sent again with the same bytes, so it is a repetition of itself. An answer that would be the same
//! again (400, 409) is not asked for again.
//!
//! **Limits.** A request that is not answered for `--patience-s` ends the simulation.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::super::{client::ServiceClient, service_view::ServiceEnvelope};

/// Codes from here on may be another one later, but for 4xx.
const AGAIN: u16 = 500;
const SHED: u16 = 429;
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Seqs are assigned elsewhere.
const SEQS_ELSEWHERE: i64 = 4093;

/// The service's answer for one transaction or trade.
#[derive(Debug, Deserialize)]
struct PostingAnswer {
    #[serde(default)]
    transaction_id: Option<i64>,
    #[serde(default)]
    trade_id: Option<i64>,
    result: String,
    #[serde(default)]
    msg: Option<String>,
}

/// The service's answer for entries.
#[derive(Debug, Deserialize)]
struct EntriesAnswer {
    written: u64,
    repeated: u64,
}

#[derive(Debug, Default)]
pub(super) struct Answered {
    pub(super) written: u64,
    pub(super) repeated: u64,
    /// One sentence for each transaction that does not stand.
    pub(super) failed: Vec<String>,
    /// Seqs are assigned by another program.
    pub(super) is_elsewhere: bool,
}

/// The service did not answer for too long.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no answer for {} s: {reason}", patience.as_secs())]
pub(super) struct ServiceLost {
    patience: Duration,
    reason: String,
}

/// A client that does not give up soon.
#[derive(Debug)]
pub(super) struct Sender {
    client: ServiceClient,
    patience: Duration,
    requests: AtomicU64,
    resent: AtomicU64,
    times_micros: Mutex<Vec<u64>>,
}

impl Sender {
    pub(super) fn new(client: ServiceClient, patience: Duration) -> Self {
        Self {
            client: client.with_patience(patience.min(Duration::from_secs(10))),
            patience,
            requests: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            times_micros: Mutex::default(),
        }
    }

    pub(super) fn base_url(&self) -> &str {
        self.client.base_url()
    }

    /// Requests, and how many of them were sent again.
    pub(super) fn request_counts(&self) -> (u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.resent.load(Ordering::Relaxed),
        )
    }

    /// The time that requests took, from the last time that each was sent: the one that so many percent do not exceed.
    pub(super) fn percentile_time(&self, percent: usize) -> Duration {
        let mut times = self.times_micros.lock();
        times.sort_unstable();
        let rank = times.len().saturating_mul(percent).div_ceil(100);
        let time = times.get(rank.saturating_sub(1)).copied();
        Duration::from_micros(time.unwrap_or_default())
    }

    /// Sends it until it is answered.
    pub(super) async fn post_until_answered(
        &self,
        path: &str,
        body: &str,
    ) -> Result<super::super::client::ClientResponse, ServiceLost> {
        let begun = Instant::now();
        let mut pause = PAUSE_MIN;
        self.requests.fetch_add(1, Ordering::Relaxed);
        loop {
            let reason = match self.client.post_json(path, body.to_owned()).await {
                Ok(answer) if answer.status < AGAIN && answer.status != SHED => {
                    let micros = u64::try_from(answer.took.as_micros()).unwrap_or(u64::MAX);
                    self.times_micros.lock().push(micros);
                    return Ok(answer);
                }
                Ok(answer) => format!("HTTP {}", answer.status),
                Err(unanswered) => unanswered.to_string(),
            };
            if begun.elapsed() >= self.patience {
                return Err(ServiceLost {
                    patience: self.patience,
                    reason,
                });
            }
            self.resent.fetch_add(1, Ordering::Relaxed);
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// Sends transactions or trades.
    pub(super) async fn send_settlements(
        &self,
        path: &str,
        body: &str,
    ) -> Result<Answered, ServiceLost> {
        let answer = self.post_until_answered(path, body).await?;
        let envelope: ServiceEnvelope<Vec<PostingAnswer>> = ServiceEnvelope::from_answer(&answer);
        let mut answered = Answered::default();
        let Some(all) = envelope.data.filter(|_| answer.status == 200) else {
            answered.is_elsewhere = envelope.status == SEQS_ELSEWHERE;
            answered
                .failed
                .push(refusal_text(answer.status, &envelope.msg));
            return Ok(answered);
        };
        for told in all {
            let count = match told.result.as_str() {
                "written" => &mut answered.written,
                "repeated" => &mut answered.repeated,
                other => {
                    let id = told.trade_id.or(told.transaction_id).unwrap_or_default();
                    let msg = told.msg.unwrap_or_default();
                    answered.failed.push(format!("{id}: {other}: {msg}"));
                    continue;
                }
            };
            *count = count.saturating_add(1);
        }
        Ok(answered)
    }

    /// Sends entries with their seqs.
    pub(super) async fn send_entries(
        &self,
        path: &str,
        body: &str,
    ) -> Result<Answered, ServiceLost> {
        let answer = self.post_until_answered(path, body).await?;
        let envelope: ServiceEnvelope<EntriesAnswer> = ServiceEnvelope::from_answer(&answer);
        let mut answered = Answered::default();
        match envelope.data.filter(|_| answer.status == 200) {
            Some(done) => {
                answered.written = done.written;
                answered.repeated = done.repeated;
            }
            None => answered
                .failed
                .push(refusal_text(answer.status, &envelope.msg)),
        }
        Ok(answered)
    }
}

fn refusal_text(status: u16, msg: &str) -> String {
    format!("HTTP {status}: {msg}")
}
