//! Whether the process can answer, and what is wrong, as gauges: what `/readyz` tells in words.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Gauge, Label};

use super::{Degraded, Meters, gauge_value, metric_name};
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
        for (name, what) in [
            ("ready", "1 where /readyz says 200"),
            ("degraded", "1 where /readyz names this"),
            ("finding", "1 where /readyz says the sentence of this code"),
            (
                "stream_lag_entries",
                "Entries of the settlement stream that are not acknowledged",
            ),
            (
                "outbox_lag_entries",
                "Rows of the PostgreSQL outbox that wait for their effect",
            ),
            (
                REDIS_MEMORY[0],
                "Bytes that Redis uses, of the fullest master",
            ),
            (REDIS_MEMORY[1], "Its maxmemory; 0: no limit"),
        ] {
            metrics::describe_gauge!(metric_name(name), what);
        }
        let at_zero = |name, labels: Vec<Label>| {
            let gauge = metrics::gauge!(metric_name(name), labels);
            gauge.set(0.0);
            gauge
        };
        let of = |reason: &Degraded| {
            let labels = vec![Label::new("reason", reason.label_value())];
            (*reason, at_zero("degraded", labels))
        };
        let of_code = |code: &Code| {
            let labels = vec![Label::new("code", code.label_value())];
            (*code, at_zero("finding", labels))
        };
        Self {
            findings: Code::ALL.iter().map(of_code).collect(),
            ready: at_zero("ready", vec![]),
            degraded: Degraded::ALL.iter().map(of).collect(),
            stream_lag: at_zero("stream_lag_entries", vec![]),
            kafka_lag: cfg!(feature = "kafka").then(|| {
                let what = "Records of the Kafka topic behind what the consumer group committed";
                metrics::describe_gauge!(metric_name("kafka_lag_entries"), what);
                at_zero("kafka_lag_entries", vec![])
            }),
            outbox_lag: at_zero("outbox_lag_entries", vec![]),
            redis_memory: REDIS_MEMORY.map(|name| (at_zero(name, vec![]), AtomicU64::new(0))),
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

    fn has_line(meters: &Meters, line: &str) -> bool {
        meters.prometheus_page().lines().any(|at| at == line)
    }

    #[test]
    fn what_is_wrong_is_one_and_what_is_right_again_is_zero() {
        let meters = Meters::new();
        assert!(has_line(&meters, "balance_cache_ready 0"));
        assert!(has_line(
            &meters,
            "balance_cache_degraded{reason=\"feed\"} 0"
        ));
        let full = [Code::RedisFull];
        meters.set_health(true, &[Degraded::Redis, Degraded::Feed], &full);
        assert!(has_line(
            &meters,
            "balance_cache_finding{code=\"redis_full\"} 1"
        ));
        meters.stream_lag(12);
        assert!(has_line(&meters, "balance_cache_ready 1"));
        assert!(has_line(
            &meters,
            "balance_cache_degraded{reason=\"redis\"} 1"
        ));
        assert!(has_line(
            &meters,
            "balance_cache_degraded{reason=\"feed\"} 1"
        ));
        assert!(has_line(
            &meters,
            "balance_cache_degraded{reason=\"source\"} 0"
        ));
        assert!(has_line(&meters, "balance_cache_stream_lag_entries 12"));
        meters.set_health(false, &[], &[]);
        assert!(has_line(
            &meters,
            "balance_cache_finding{code=\"redis_full\"} 0"
        ));
        assert!(has_line(&meters, "balance_cache_ready 0"));
        assert!(has_line(
            &meters,
            "balance_cache_degraded{reason=\"redis\"} 0"
        ));
    }
}
