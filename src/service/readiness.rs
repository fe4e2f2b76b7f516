//! Whether the parts can answer together, in words for probes and as labels for metrics.

use std::time::Duration;

use tokio::time::Instant;

use super::assembled::Assembled;
use crate::{ops, source, telemetry::Degraded, tiers::redis::Redis};

/// How long an instance waits with its readiness for Redis. Without Redis it is ready, and degraded, after that.
const STARTING: Duration = Duration::from_secs(2);

const EVICTS: &str =
    "redis: maxmemory-policy is not noeviction: what it may have dropped is read from the ledger";
const UNPROVEN: &str =
    "feed: freshness is not proven: memory answers only what was just read from the ledger";

/// What is found, while it is gathered.
#[derive(Default)]
struct Found {
    words: ops::Readiness,
    degraded: Vec<Degraded>,
}

impl Found {
    fn not_ready(&mut self, words: impl Into<String>) {
        self.words.not_ready.push(words.into());
    }

    fn degraded(&mut self, reason: Degraded, words: impl Into<String>) {
        self.words.degraded.push(words.into());
        self.degraded.push(reason);
    }

    fn of_redis(&mut self, parts: &Assembled, redis: &Redis) {
        match (redis.link.trouble(), redis.link.session()) {
            (Some(reason), _) if redis.link.refused() => self.not_ready(format!("redis: {reason}")),
            (Some(reason), _) => self.degraded(Degraded::Redis, format!("redis: {reason}")),
            (None, Some(session)) if session.evicts => self.degraded(Degraded::Evicting, EVICTS),
            (None, Some(_) | None) => {}
        }
        if !parts.freshness.ever_proven() && parts.started.elapsed() < STARTING {
            self.not_ready("starting: the feed is read back");
        } else if !parts.freshness.proven(Instant::now()) {
            self.degraded(Degraded::Feed, UNPROVEN);
        }
    }
}

/// What keeps the parts from answering, and what they answer in spite of; the latter as labels, too.
pub(super) fn of(parts: &Assembled) -> (ops::Readiness, Vec<Degraded>) {
    let mut found = Found::default();
    if parts.shutdown.is_cancelled() {
        found.not_ready("stopping");
    }
    if let Some(reason) = parts
        .consumer
        .as_ref()
        .and_then(|consumer| consumer.trouble())
    {
        found.degraded(Degraded::Stream, format!("settlement stream: {reason}"));
    }
    match parts.source.readiness() {
        source::Readiness::Ready => {}
        source::Readiness::Failing(reason) => {
            found.degraded(Degraded::Source, format!("source: {reason}"));
        }
        source::Readiness::NotReady(reason) => found.not_ready(format!("source: {reason}")),
    }
    if let Some(redis) = &parts.redis {
        found.of_redis(parts, redis);
    }
    (found.words, found.degraded)
}
