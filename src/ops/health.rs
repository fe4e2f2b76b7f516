//! Readiness, as probes read it.

use http::StatusCode;

/// The reasons that keep the service from answering, and those that it answers in spite of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadinessReasons {
    /// Reasons why the service cannot answer: load balancers should send it no traffic.
    pub not_ready: Vec<String>,
    /// Reasons why the service answers and is impaired.
    pub degraded: Vec<String>,
}

impl ReadinessReasons {
    /// Status and body. A body that is not ready names what is degraded too.
    pub fn render_readiness(&self) -> (StatusCode, String) {
        let (status, word) = match (self.not_ready.as_slice(), self.degraded.as_slice()) {
            ([], []) => return (StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
            ([], _) => (StatusCode::OK, "degraded"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
        };
        let reasons: serde_json::Value = self
            .not_ready
            .iter()
            .chain(&self.degraded)
            .map(String::as_str)
            .collect();
        (
            status,
            format!(r#"{{"status":"{word}","reasons":{reasons}}}"#),
        )
    }
}
