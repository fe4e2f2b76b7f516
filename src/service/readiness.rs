//! Whether the parts can answer together: findings, in words for probes and as labels for metrics.

use std::time::Duration;

use tokio::time::Instant;

use super::assembled::Assembled;
use crate::{
    cache::redis::Redis,
    diagnosis::{Code, Finding, FindingPart},
    ledger, ops,
    telemetry::Degraded,
};

/// How long an instance waits with its readiness for Redis. Without Redis it is ready, and degraded, after that.
const STARTING: Duration = Duration::from_secs(2);

/// Findings while they are collected.
#[derive(Default)]
pub(super) struct GatheredFindings {
    /// In words, for probes.
    pub(super) words: ops::ReadinessReasons,
    pub(super) degraded: Vec<Degraded>,
    pub(super) codes: Vec<Code>,
}

impl GatheredFindings {
    fn not_ready(&mut self, finding: &Finding) {
        self.codes.push(finding.code);
        self.words.not_ready.push(finding.to_string());
    }

    fn add_degraded(&mut self, reason: Degraded, finding: &Finding) {
        self.codes.push(finding.code);
        self.words.degraded.push(finding.to_string());
        self.degraded.push(reason);
    }

    fn of_redis(&mut self, parts: &Assembled, redis: &Redis) {
        let session = redis.link.open_session();
        match redis.link.session_trouble() {
            Some(finding) if redis.link.is_refused() => self.not_ready(&finding),
            Some(finding) => self.add_degraded(Degraded::Redis, &finding),
            None => {}
        }
        if session.is_some() {
            let advised = redis.link.last_advice();
            if let Some(evicts) = advised.iter().find(|it| it.code == Code::RedisEvicts) {
                self.add_degraded(Degraded::Evicting, evicts);
            }
            if let Some(finding) = redis.link.settlement_trouble() {
                self.add_degraded(Degraded::Settlements, &finding);
            }
        }
        if !parts.applier.outbox.is_settled() && parts.started.elapsed() < STARTING {
            let word = "ledger: redis is told what was committed before this start";
            self.words.not_ready.push(word.to_owned());
        }
        let of_feed = |code| Finding::new(FindingPart::Feed, code, "");
        if !parts.freshness.ever_proven() && parts.started.elapsed() < STARTING {
            self.not_ready(&of_feed(Code::FeedStarting));
        } else if !parts.freshness.is_proven(Instant::now()) {
            let trouble = parts
                .follower
                .as_ref()
                .and_then(|follower| follower.feed_trouble());
            let unproven = trouble.unwrap_or_else(|| of_feed(Code::FeedUnproven));
            self.add_degraded(Degraded::Feed, &unproven);
        }
    }
}

/// Collects the findings that stop the parts from answering, and those that only degrade them.
pub(super) fn collect_findings(parts: &Assembled) -> GatheredFindings {
    let mut found = of_rest(parts);
    found.words.not_ready.extend(parts.warm.keeps_from_ready());
    found
}

/// Collects the findings without the wait for warming.
pub(super) fn of_rest(parts: &Assembled) -> GatheredFindings {
    let mut found = GatheredFindings::default();
    if parts.shutdown.is_cancelled() {
        found.words.not_ready.push("stopping".to_owned());
    }
    let of_stream = parts
        .consumer
        .iter()
        .flat_map(|consumer| consumer.consumer_findings());
    for finding in of_stream {
        found.add_degraded(Degraded::Stream, &finding);
    }
    #[cfg(feature = "kafka")]
    for finding in parts
        .kafka
        .iter()
        .flat_map(|kafka| kafka.consumer_findings())
    {
        found.add_degraded(Degraded::Kafka, &finding);
    }
    for finding in parts.outbox.iter().flat_map(|outbox| outbox.trouble()) {
        found.add_degraded(Degraded::Outbox, &finding);
    }
    match parts.source.readiness() {
        ledger::SourceReadiness::Ready => {}
        ledger::SourceReadiness::Failing(reason) => {
            found.words.degraded.push(format!("source: {reason}"));
            found.degraded.push(Degraded::Source);
        }
        ledger::SourceReadiness::NotReady(reason) => {
            found.words.not_ready.push(format!("source: {reason}"));
        }
    }
    if let Some(finding) = parts.source.write_trouble() {
        found.add_degraded(Degraded::LedgerWrites, &finding);
    }
    if let Some(redis) = &parts.redis {
        found.of_redis(parts, redis);
    }
    found
}
