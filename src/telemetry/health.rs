//! Whether the process can answer, and what is wrong, as gauges: what `/readyz` tells in words.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Gauge, Label};

use super::{Degraded, Meters, counters::register_gauge, gauge_value};
use crate::diagnosis::Code;

/// The gauges.
pub(super) struct HealthMeters {
    ready: Gauge,
    degraded: Vec<(Degraded, Gauge)>,
    findings: Vec<(Code, Gauge)>,
    stream_lag: Gauge,
    /// In builds with the feature kafka.
    kafka_lag: Option<Gauge>,
    outbox_lag: Gauge,
    redis_memory: [(Gauge, AtomicU64); 2],
}

/// Bytes that the fullest master of Redis uses, and its limit; 0: none, or not known yet.
const REDIS_MEMORY: [&str; 2] = ["redis_memory_bytes", "redis_memory_max_bytes"];

impl HealthMeters {
    pub(super) fn register_health() -> Self {
        let of = |reason: &Degraded| {
            let labels = vec![Label::new("reason", reason.label_value())];
            (*reason, register_gauge("degraded", labels))
        };
        let of_code = |code: &Code| {
            let labels = vec![Label::new("code", code.label_value())];
            (*code, register_gauge("finding", labels))
        };
        Self {
            findings: Code::ALL.iter().map(of_code).collect(),
            ready: register_gauge("ready", vec![]),
            degraded: Degraded::ALL.iter().map(of).collect(),
            stream_lag: register_gauge("stream_lag_entries", vec![]),
            kafka_lag: cfg!(feature = "kafka").then(|| register_gauge("kafka_lag_entries", vec![])),
            outbox_lag: register_gauge("outbox_lag_entries", vec![]),
            redis_memory: REDIS_MEMORY
                .map(|name| (register_gauge(name, vec![]), AtomicU64::new(0))),
        }
    }
}

impl Meters {
    /// Whether it can answer, and what it answers in spite of, as parts and as findings.
    pub fn set_health(&self, ready: bool, degraded: &[Degraded], findings: &[Code]) {
        for (code, gauge) in &self.health.findings {
            gauge.set(f64::from(u8::from(findings.contains(code))));
        }
        self.health.ready.set(f64::from(u8::from(ready)));
        for (reason, gauge) in &self.health.degraded {
            gauge.set(f64::from(u8::from(degraded.contains(reason))));
        }
    }

    /// Bytes that the fullest master of Redis uses, and its limit (0: none).
    pub fn redis_memory(&self, used: u64, max: u64) {
        for ((gauge, held), bytes) in self.health.redis_memory.iter().zip([used, max]) {
            gauge.set(gauge_value(bytes));
            held.store(bytes, Ordering::Relaxed);
        }
    }

    /// Returns the bytes that were set last.
    pub fn last_redis_memory(&self) -> (u64, u64) {
        let [used, max] = &self.health.redis_memory;
        let bytes = |held: &AtomicU64| held.load(Ordering::Relaxed);
        (bytes(&used.1), bytes(&max.1))
    }

    /// How many entries of the settlement stream wait for their effect.
    pub fn stream_lag(&self, entries: u64) {
        self.health.stream_lag.set(gauge_value(entries));
    }

    /// How many rows of the outbox wait for their effect.
    pub fn outbox_lag(&self, rows: u64) {
        self.health.outbox_lag.set(gauge_value(rows));
    }

    /// How many records of the Kafka topic are not committed.
    pub fn kafka_lag(&self, records: u64) {
        if let Some(gauge) = &self.health.kafka_lag {
            gauge.set(gauge_value(records));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_one_and_what_is_right_again_is_zero() {
        let meters = Meters::new();
        meters.assert_shows(&["ready 0", "degraded{reason=\"feed\"} 0"]);
        let full = [Code::RedisFull];
        meters.set_health(true, &[Degraded::Redis, Degraded::Feed], &full);
        meters.stream_lag(12);
        meters.assert_shows(&[
            "finding{code=\"redis_full\"} 1",
            "ready 1",
            "degraded{reason=\"redis\"} 1",
            "degraded{reason=\"feed\"} 1",
            "degraded{reason=\"source\"} 0",
            "stream_lag_entries 12",
        ]);
        meters.set_health(false, &[], &[]);
        meters.assert_shows(&[
            "finding{code=\"redis_full\"} 0",
            "ready 0",
            "degraded{reason=\"redis\"} 0",
        ]);
    }
}
