//! The running service: its probes, an ordinary read, its version.

use std::time::Duration;

use anyhow::Result;
use balance_cache::{config::Settings, domain::UserId};
use serde::Deserialize;
use url::Url;

use super::{DoctorReport, latency::SortedTimes};
use crate::cli::{
    arguments::Doctor,
    client::{ServiceClient, Unanswered, reachable_address},
    output::Unable,
    service_view::ServiceEnvelope,
};

/// How long a service may be silent.
const SILENT: Duration = Duration::from_secs(5);

/// The answer of `/readyz`.
#[derive(Debug, Deserialize)]
struct Ready {
    status: String,
    #[serde(default)]
    reasons: Vec<String>,
}

/// Where it is asked.
#[derive(Debug)]
pub(super) struct ServiceTarget {
    api: ServiceClient,
    operators: ServiceClient,
    token: bool,
    expected: bool,
    deadline: (&'static str, Duration),
}

impl ServiceTarget {
    /// At the addresses of the settings; with `--url` at that host, and at the port of `ops.listen` there.
    pub(super) fn new(what: &Doctor, settings: &Settings) -> Result<Self, Unable> {
        let reach = &what.reach;
        let operators = match &reach.url {
            None => None,
            Some(url) => {
                let mut url =
                    Url::parse(url).map_err(|error| Unable(format!("--url {url}: {error}")))?;
                let port = Some(settings.ops.listen.port());
                url.set_port(port)
                    .map_err(|()| Unable(format!("--url {url}: takes no port")))?;
                url.set_path("");
                Some(url.to_string())
            }
        };
        let (url, token) = (reach.url.as_deref(), reach.token.as_deref());
        let api = ServiceClient::new(url, settings.http.listen, token)?;
        let operators = ServiceClient::new(
            operators.as_deref(),
            reachable_address(settings.ops.listen),
            None,
        )?;
        Ok(Self {
            api: api.with_patience(SILENT),
            operators: operators.with_patience(SILENT),
            token: reach.token.is_some(),
            expected: !what.before_start,
            deadline: ("limits.deadline_ms", settings.limits.deadline_ms.0),
        })
    }

    /// Whether it runs.
    pub(super) async fn check_service(&self, report: &mut DoctorReport) -> bool {
        let Self { api, operators, .. } = self;
        let probed = operators.get("/readyz").await;
        let answer = match probed {
            Ok(answer) => answer,
            Err(unanswered) if self.expected => {
                let remedy = "start it, or correct ops.listen or --url; --before-start checks the rest without it";
                report.report_failure("service", unanswered.to_string(), remedy);
                return false;
            }
            Err(_) => {
                report.report_ok(
                    "service",
                    format!(
                        "none at {}, and none is expected (--before-start)",
                        operators.base_url()
                    ),
                );
                return false;
            }
        };
        let ready: Option<Ready> = serde_json::from_slice(&answer.body).ok();
        let base = operators.base_url();
        match ready {
            Some(ready) if ready.status == "ready" => {
                report.report_ok("service", format!("{base} is ready"));
            }
            Some(ready) if ready.status == "degraded" => {
                report.report_warning(
                    "service",
                    format!("{base} is degraded: {}", ready.reasons.join("; ")),
                    "it answers, less well than it could: see the reasons, and the other lines here",
                );
                let reasons = ready.reasons.iter();
                let writes = reasons.filter(|reason| reason.starts_with("source: the ledger "));
                for (said, remedy) in writes.filter_map(|reason| reason.split_once("; ")) {
                    report.report_failure("source.writes", said, remedy);
                }
            }
            Some(ready) => report.report_failure(
                "service",
                format!("{base} is not ready: {}", ready.reasons.join("; ")),
                "see the reasons, and the other lines here",
            ),
            None => report.report_failure(
                "service",
                format!(
                    "{base}/readyz says HTTP {}: it is no balance-cache that answers",
                    answer.status
                ),
                "correct ops.listen or --url, or stop what listens there",
            ),
        }
        self.check_version(report).await;
        if let Err(unanswered) = self.check_read(report).await {
            let remedy = format!(
                "probes are answered and clients are not: see http.listen and the log of {}",
                api.base_url()
            );
            report.report_failure("service.api", unanswered.to_string(), remedy);
        }
        true
    }

    /// An instance of another version reads settings and Redis otherwise.
    async fn check_version(&self, report: &mut DoctorReport) {
        let Ok(answer) = self.operators.get("/metrics").await else {
            return;
        };
        let page = String::from_utf8_lossy(&answer.body).into_owned();
        let runs = page.lines().find_map(|line| {
            let rest = line.strip_prefix("balance_cache_build_info{")?;
            rest.split_once("version=\"")?.1.split('"').next()
        });
        let ours = env!("CARGO_PKG_VERSION");
        match runs {
            Some(theirs) if theirs != ours => report.report_warning(
                "service.version",
                format!("the service is {theirs}, this program is {ours}"),
                "ask with the program of the same version",
            ),
            Some(theirs) => report.report_ok("service.version", theirs),
            None => {}
        }
    }

    async fn check_read(&self, report: &mut DoctorReport) -> Result<(), Unanswered> {
        let path = format!("/api/v1/user/balance?user_id={}", UserId::MAX);
        let answer = self.api.get(&path).await?;
        let envelope: ServiceEnvelope<serde_json::Value> = ServiceEnvelope::from_answer(&answer);
        let said = format!(
            "a read says HTTP {}, status {}: {}",
            answer.status, envelope.status, envelope.msg
        );
        match answer.status {
            200 => {}
            401 if !self.token => {
                let remedy = "set BALANCE_CACHE_TOKEN to a token with the scope read";
                report.report_warning(
                    "service.api",
                    "reads want a token and none was given: not measured",
                    remedy,
                );
                return Ok(());
            }
            401 | 403 => {
                let remedy = "the token given is not among auth.tokens there, or lacks the scope read: balance-cache auth token makes one";
                report.report_failure("service.token", said, remedy);
                return Ok(());
            }
            _ => {
                report.report_failure(
                    "service.api",
                    said,
                    "see the line of service, the source's and the log",
                );
                return Ok(());
            }
        }
        let times = SortedTimes::measure_times(async || {
            Ok::<_, Unanswered>(self.api.get(&path).await?.took)
        })
        .await?;
        let remedy = "see Cache-Status of a read (balance-cache get 1001) and the source's latency";
        times.report_times(report, "service.latency", "a read", self.deadline, remedy);
        Ok(())
    }
}
