//! Whether the process can answer, and what is wrong, as gauges: what `/readyz` tells in words.

use metrics::{Gauge, Label};

use super::{Degraded, Meters, gauge_value, named};
use crate::diagnosis::Code;

/// The gauges.
pub(super) struct Health {
    ready: Gauge,
    degraded: Vec<(Degraded, Gauge)>,
    findings: Vec<(Code, Gauge)>,
    stream_lag: Gauge,
}

impl Health {
    pub(super) fn register() -> Self {
        for (name, what) in [
            ("ready", "1 where /readyz says 200"),
            ("degraded", "1 where /readyz names this"),
            ("finding", "1 where /readyz says the sentence of this code"),
            (
                "stream_lag_entries",
                "Entries of the settlement stream that are not acknowledged",
            ),
        ] {
            metrics::describe_gauge!(named(name), what);
        }
        let at_zero = |name, labels: Vec<Label>| {
            let gauge = metrics::gauge!(named(name), labels);
            gauge.set(0.0);
            gauge
        };
        let of = |reason: &Degraded| {
            let labels = vec![Label::new("reason", reason.word())];
            (*reason, at_zero("degraded", labels))
        };
        let of_code = |code: &Code| {
            let labels = vec![Label::new("code", code.word())];
            (*code, at_zero("finding", labels))
        };
        Self {
            findings: Code::ALL.iter().map(of_code).collect(),
            ready: at_zero("ready", vec![]),
            degraded: Degraded::ALL.iter().map(of).collect(),
            stream_lag: at_zero("stream_lag_entries", vec![]),
        }
    }
}

impl Meters {
    /// Whether it can answer, and what it answers in spite of, as parts and as findings.
    pub fn health(&self, ready: bool, degraded: &[Degraded], findings: &[Code]) {
        for (code, gauge) in &self.health.findings {
            gauge.set(f64::from(u8::from(findings.contains(code))));
        }
        self.health.ready.set(f64::from(u8::from(ready)));
        for (reason, gauge) in &self.health.degraded {
            gauge.set(f64::from(u8::from(degraded.contains(reason))));
        }
    }

    /// How many entries of the settlement stream wait for their effect.
    pub fn stream_lag(&self, entries: u64) {
        self.health.stream_lag.set(gauge_value(entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(meters: &Meters, line: &str) -> bool {
        meters.page().lines().any(|at| at == line)
    }

    #[test]
    fn what_is_wrong_is_one_and_what_is_right_again_is_zero() {
        let meters = Meters::new();
        assert!(has(&meters, "balance_cache_ready 0"));
        assert!(has(&meters, "balance_cache_degraded{reason=\"feed\"} 0"));
        let full = [Code::RedisFull];
        meters.health(true, &[Degraded::Redis, Degraded::Feed], &full);
        assert!(has(&meters, "balance_cache_finding{code=\"redis_full\"} 1"));
        meters.stream_lag(12);
        assert!(has(&meters, "balance_cache_ready 1"));
        assert!(has(&meters, "balance_cache_degraded{reason=\"redis\"} 1"));
        assert!(has(&meters, "balance_cache_degraded{reason=\"feed\"} 1"));
        assert!(has(&meters, "balance_cache_degraded{reason=\"source\"} 0"));
        assert!(has(&meters, "balance_cache_stream_lag_entries 12"));
        meters.health(false, &[], &[]);
        assert!(has(&meters, "balance_cache_finding{code=\"redis_full\"} 0"));
        assert!(has(&meters, "balance_cache_ready 0"));
        assert!(has(&meters, "balance_cache_degraded{reason=\"redis\"} 0"));
    }
}
