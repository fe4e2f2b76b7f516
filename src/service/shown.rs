//! The parts of the service as the operators' page names them: the same facts that readiness is made of.

use tokio::time::Instant;

use super::{assembled::Assembled, warm_state::WarmProgress};
use crate::{
    clock,
    config::{ReadFrom, SourceKind, ViewCheck},
    ledger::SourceReadiness,
    ops::dashboard::{DashboardParts, MemoryUse, PartState, ServicePart},
};

/// Thousandths of its limit from which Redis refuses writes, or soon will.
const REDIS_FULL_PERMILLE: u64 = 990;
const REDIS_NEARLY_FULL_PERMILLE: u64 = 900;

impl Assembled {
    pub(super) fn describe_parts(&self) -> DashboardParts {
        let (entries, bytes) = self.memory.measure_size();
        DashboardParts {
            started: self.fixed.started,
            now: clock::wall_now(),
            api_port: self.fixed.api_port,
            user_lookup: self.lookup.is_some(),
            memory: MemoryUse {
                entries,
                bytes,
                bytes_max: self.fixed.bytes_max,
            },
            parts: vec![
                self.redis_part(),
                self.breaker_part(),
                self.feed_part(),
                self.stream_part(),
                self.source_part(),
                self.view_part(),
                self.warm_part(),
                self.totals_part(),
            ]
            .into_iter()
            .chain(self.backfill_parts())
            .chain(self.kafka_part())
            .collect(),
        }
    }

    /// Kafka, where notifications come by it.
    #[cfg(feature = "kafka")]
    fn kafka_part(&self) -> Option<ServicePart> {
        let kafka = self.kafka.as_ref()?;
        Some(match kafka.consumer_findings().first() {
            Some(finding) => warn_part("Kafka", "in trouble", &finding.cause_text()),
            None => good_part("Kafka", "consuming", ""),
        })
    }

    #[cfg(not(feature = "kafka"))]
    #[expect(clippy::unused_self, reason = "the form with the feature needs it")]
    const fn kafka_part(&self) -> Option<ServicePart> {
        None
    }

    /// How far the users are loaded that were read most.
    fn warm_part(&self) -> ServicePart {
        let name = "Warm start";
        let (users, loaded, failed) = self.warm.user_counts();
        let of_all = format!("{loaded} of {users} users loaded, {failed} not");
        match self.warm.load_progress() {
            WarmProgress::Off => off_part(name, "off", "memory.warm_on_start"),
            WarmProgress::Waiting => warn_part(name, "waits", "for Redis and the source"),
            WarmProgress::Loading => warn_part(name, "loading", &of_all),
            WarmProgress::Done if users == 0 => good_part(name, "done", "nobody was read lately"),
            WarmProgress::Done => good_part(name, "done", &of_all),
        }
    }

    fn redis_part(&self) -> ServicePart {
        let Some(redis) = &self.redis else {
            return off_part("Redis", "not configured", "this is the only instance");
        };
        match (redis.link.session_trouble(), redis.link.open_session()) {
            (Some(finding), _) if redis.link.is_refused() => {
                bad_part("Redis", "refused", &finding.cause_text())
            }
            (Some(finding), _) => bad_part("Redis", "down", &finding.cause_text()),
            (None, Some(session)) if session.evicts => {
                warn_part("Redis", "may evict", "maxmemory-policy is not noeviction")
            }
            (None, Some(_) | None) => match redis.link.settlement_trouble() {
                Some(finding) => bad_part("Redis", "takes no writes", &finding.cause_text()),
                None => self.redis_memory_part(),
            },
        }
    }

    /// A Redis that can be used, by how full it is.
    fn redis_memory_part(&self) -> ServicePart {
        let (used, max) = self.meters.last_redis_memory();
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let permille = used.saturating_mul(1_000).checked_div(max).unwrap_or(0);
        let detail = match (used, max) {
            (0, _) => String::new(),
            (used, 0) => format!("{} MB used, no limit", megabytes(used)),
            (used, max) => format!("{} MB of {} MB used", megabytes(used), megabytes(max)),
        };
        match permille {
            REDIS_FULL_PERMILLE.. => bad_part("Redis", "full", &detail),
            REDIS_NEARLY_FULL_PERMILLE.. => warn_part("Redis", "nearly full", &detail),
            _ => good_part("Redis", "connected", &detail),
        }
    }

    fn breaker_part(&self) -> ServicePart {
        let name = "Redis' breaker";
        match &self.redis {
            None => off_part(name, "not used", "no Redis"),
            Some(redis) if redis.link.open_session().is_some() => good_part(name, "closed", ""),
            Some(_) => bad_part(name, "open", "reads do not wait for Redis"),
        }
    }

    fn feed_part(&self) -> ServicePart {
        let name = "Invalidation feed";
        if self.redis.is_none() {
            return off_part(name, "not needed", "this is the only instance");
        }
        let now = Instant::now();
        let limit = self.fixed.max_staleness.as_millis();
        match self.freshness.proof_age(now) {
            Some(age) if self.freshness.is_proven(now) => {
                let detail = format!("{} ms old, limit {limit} ms", age.as_millis());
                good_part(name, "fresh", &detail)
            }
            Some(age) => {
                let detail = format!("{} ms old, limit {limit} ms", age.as_millis());
                warn_part(name, "late", &detail)
            }
            None => warn_part(name, "not proven", "memory answers only what was just read"),
        }
    }

    fn stream_part(&self) -> ServicePart {
        let name = "Settlement stream";
        match &self.consumer {
            None => off_part(name, "not used", "no Redis"),
            Some(consumer) => match consumer.consumer_findings().first() {
                Some(finding) => warn_part(name, "in trouble", &finding.cause_text()),
                None if self
                    .redis
                    .as_ref()
                    .is_some_and(|redis| redis.link.open_session().is_none()) =>
                {
                    warn_part(name, "waiting", "for Redis")
                }
                None => good_part(name, "consuming", ""),
            },
        }
    }

    fn source_part(&self) -> ServicePart {
        let what = match self.fixed.kind {
            SourceKind::Embedded => "embedded ledger",
            SourceKind::Scylla => match self.fixed.read_from {
                ReadFrom::View => "CQL, read from the view",
                ReadFrom::Table => "CQL, read from user_balances",
                ReadFrom::Ledger => "CQL, read from the ledger",
            },
            SourceKind::Postgres => match self.fixed.read_from {
                ReadFrom::View | ReadFrom::Ledger => "PostgreSQL, read from the ledger by its key",
                ReadFrom::Table => "PostgreSQL, read from user_balances",
            },
        };
        let writes = self.source.write_trouble();
        match self.source.readiness() {
            SourceReadiness::Ready if writes.is_some() => {
                let why = writes
                    .map(|finding| format!("{}; {}", finding.cause_text(), finding.remedy_text()));
                bad_part("Source", "read only", &why.unwrap_or_default())
            }
            SourceReadiness::Ready => good_part("Source", "ready", what),
            SourceReadiness::Failing(reason) => bad_part("Source", "failing", &reason),
            SourceReadiness::NotReady(reason) => bad_part("Source", "not ready", &reason),
        }
    }

    fn view_part(&self) -> ServicePart {
        let name = "View build";
        match (self.fixed.kind, self.fixed.read_from, self.fixed.view_check) {
            (SourceKind::Embedded | SourceKind::Postgres, _, _)
            | (_, ReadFrom::Table | ReadFrom::Ledger, _) => off_part(name, "not used", ""),
            (SourceKind::Scylla, ReadFrom::View, ViewCheck::Off) => {
                off_part(name, "not checked", "scylla.view_check is off")
            }
            (SourceKind::Scylla, ReadFrom::View, check) => match self.source.readiness() {
                SourceReadiness::Ready if check == ViewCheck::Required => {
                    good_part(name, "built", "on every node")
                }
                SourceReadiness::Ready => {
                    good_part(name, "there", "the log says if it is not built")
                }
                SourceReadiness::Failing(_) => {
                    warn_part(name, "unknown", "the source does not answer")
                }
                SourceReadiness::NotReady(reason) => warn_part(name, "unknown", &reason),
            },
        }
    }
}

pub(super) fn good_part(name: &'static str, word: &str, detail: &str) -> ServicePart {
    describe_part(name, PartState::Good, word, detail)
}

pub(super) fn warn_part(name: &'static str, word: &str, detail: &str) -> ServicePart {
    describe_part(name, PartState::Warn, word, detail)
}

fn bad_part(name: &'static str, word: &str, detail: &str) -> ServicePart {
    describe_part(name, PartState::Bad, word, detail)
}

pub(super) fn off_part(name: &'static str, word: &str, detail: &str) -> ServicePart {
    describe_part(name, PartState::Off, word, detail)
}

fn describe_part(name: &'static str, state: PartState, word: &str, detail: &str) -> ServicePart {
    ServicePart {
        name,
        state,
        word: word.to_owned(),
        detail: detail.to_owned(),
    }
}
