//! The parts of the service as the operators' page names them: the same facts that readiness is made of.

use tokio::time::Instant;

use super::{assembled::Assembled, warm_state::Progress};
use crate::{
    clock,
    config::{ReadFrom, SourceKind, ViewCheck},
    ledger::Readiness,
    ops::dashboard::{MemoryUse, Part, PartState, Parts},
};

/// From here on, in thousandths of its limit, Redis refuses what it has to hold, or soon will.
const REDIS_FULL_PERMILLE: u64 = 990;
const REDIS_NEARLY_FULL_PERMILLE: u64 = 900;

impl Assembled {
    pub(super) fn parts(&self) -> Parts {
        let (entries, bytes) = self.memory.size();
        Parts {
            started: self.fixed.started,
            now: clock::wall(),
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
            .chain(self.kafka_part())
            .collect(),
        }
    }

    /// Kafka, where notifications come by it.
    #[cfg(feature = "kafka")]
    fn kafka_part(&self) -> Option<Part> {
        let kafka = self.kafka.as_ref()?;
        Some(match kafka.trouble().first() {
            Some(finding) => part("Kafka", PartState::Warn, "in trouble", &finding.cause()),
            None => part("Kafka", PartState::Good, "consuming", ""),
        })
    }

    #[cfg(not(feature = "kafka"))]
    #[expect(clippy::unused_self, reason = "the form with the feature needs it")]
    const fn kafka_part(&self) -> Option<Part> {
        None
    }

    /// How far the users are loaded that were read most.
    fn warm_part(&self) -> Part {
        let name = "Warm start";
        let (users, loaded, failed) = self.warm.counts();
        let of_all = format!("{loaded} of {users} users loaded, {failed} not");
        match self.warm.progress() {
            Progress::Off => part(name, PartState::Off, "off", "memory.warm_on_start"),
            Progress::Waiting => part(name, PartState::Warn, "waits", "for Redis and the source"),
            Progress::Loading => part(name, PartState::Warn, "loading", &of_all),
            Progress::Done if users == 0 => {
                part(name, PartState::Good, "done", "nobody was read lately")
            }
            Progress::Done => part(name, PartState::Good, "done", &of_all),
        }
    }

    fn redis_part(&self) -> Part {
        let Some(redis) = &self.redis else {
            return part(
                "Redis",
                PartState::Off,
                "not configured",
                "this is the only instance",
            );
        };
        match (redis.link.trouble(), redis.link.session()) {
            (Some(finding), _) if redis.link.refused() => {
                part("Redis", PartState::Bad, "refused", &finding.cause())
            }
            (Some(finding), _) => part("Redis", PartState::Bad, "down", &finding.cause()),
            (None, Some(session)) if session.evicts => part(
                "Redis",
                PartState::Warn,
                "may evict",
                "maxmemory-policy is not noeviction",
            ),
            (None, Some(_) | None) => match redis.link.unsettled() {
                Some(finding) => part("Redis", PartState::Bad, "takes no writes", &finding.cause()),
                None => self.redis_memory_part(),
            },
        }
    }

    /// A Redis that can be used, by how full it is.
    fn redis_memory_part(&self) -> Part {
        let (used, max) = self.meters.last_redis_memory();
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let permille = used.saturating_mul(1_000).checked_div(max).unwrap_or(0);
        let detail = match (used, max) {
            (0, _) => String::new(),
            (used, 0) => format!("{} MB used, no limit", megabytes(used)),
            (used, max) => format!("{} MB of {} MB used", megabytes(used), megabytes(max)),
        };
        match permille {
            REDIS_FULL_PERMILLE.. => part("Redis", PartState::Bad, "full", &detail),
            REDIS_NEARLY_FULL_PERMILLE.. => part("Redis", PartState::Warn, "nearly full", &detail),
            _ => part("Redis", PartState::Good, "connected", &detail),
        }
    }

    fn breaker_part(&self) -> Part {
        let name = "Redis' breaker";
        match &self.redis {
            None => part(name, PartState::Off, "not used", "no Redis"),
            Some(redis) if redis.link.session().is_some() => {
                part(name, PartState::Good, "closed", "")
            }
            Some(_) => part(name, PartState::Bad, "open", "reads do not wait for Redis"),
        }
    }

    fn feed_part(&self) -> Part {
        let name = "Invalidation feed";
        if self.redis.is_none() {
            return part(
                name,
                PartState::Off,
                "not needed",
                "this is the only instance",
            );
        }
        let now = Instant::now();
        let limit = self.fixed.max_staleness.as_millis();
        match self.freshness.age(now) {
            Some(age) if self.freshness.proven(now) => {
                let detail = format!("{} ms old, limit {limit} ms", age.as_millis());
                part(name, PartState::Good, "fresh", &detail)
            }
            Some(age) => {
                let detail = format!("{} ms old, limit {limit} ms", age.as_millis());
                part(name, PartState::Warn, "late", &detail)
            }
            None => part(
                name,
                PartState::Warn,
                "not proven",
                "memory answers only what was just read",
            ),
        }
    }

    fn stream_part(&self) -> Part {
        let name = "Settlement stream";
        match &self.consumer {
            None => part(name, PartState::Off, "not used", "no Redis"),
            Some(consumer) => match consumer.trouble().first() {
                Some(finding) => part(name, PartState::Warn, "in trouble", &finding.cause()),
                None if self
                    .redis
                    .as_ref()
                    .is_some_and(|redis| redis.link.session().is_none()) =>
                {
                    part(name, PartState::Warn, "waiting", "for Redis")
                }
                None => part(name, PartState::Good, "consuming", ""),
            },
        }
    }

    fn source_part(&self) -> Part {
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
        let writes = self.ledger_finding();
        match self.source.readiness() {
            Readiness::Ready if writes.is_some() => {
                let why =
                    writes.map(|finding| format!("{}; {}", finding.cause(), finding.remedy()));
                part(
                    "Source",
                    PartState::Bad,
                    "read only",
                    &why.unwrap_or_default(),
                )
            }
            Readiness::Ready => part("Source", PartState::Good, "ready", what),
            Readiness::Failing(reason) => part("Source", PartState::Bad, "failing", &reason),
            Readiness::NotReady(reason) => part("Source", PartState::Bad, "not ready", &reason),
        }
    }

    fn view_part(&self) -> Part {
        let name = "View build";
        match (self.fixed.kind, self.fixed.read_from, self.fixed.view_check) {
            (SourceKind::Embedded | SourceKind::Postgres, _, _)
            | (_, ReadFrom::Table | ReadFrom::Ledger, _) => {
                part(name, PartState::Off, "not used", "")
            }
            (SourceKind::Scylla, ReadFrom::View, ViewCheck::Off) => part(
                name,
                PartState::Off,
                "not checked",
                "scylla.view_check is off",
            ),
            (SourceKind::Scylla, ReadFrom::View, check) => match self.source.readiness() {
                Readiness::Ready if check == ViewCheck::Required => {
                    part(name, PartState::Good, "built", "on every node")
                }
                Readiness::Ready => part(
                    name,
                    PartState::Good,
                    "there",
                    "the log says if it is not built",
                ),
                Readiness::Failing(_) => part(
                    name,
                    PartState::Warn,
                    "unknown",
                    "the source does not answer",
                ),
                Readiness::NotReady(reason) => part(name, PartState::Warn, "unknown", &reason),
            },
        }
    }
}

pub(super) fn part(
    name: &'static str,
    state: PartState,
    word: &str,
    detail: &(impl AsRef<str> + ?Sized),
) -> Part {
    Part {
        name,
        state,
        word: word.to_owned(),
        detail: detail.as_ref().to_owned(),
    }
}
