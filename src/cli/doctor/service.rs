//! The running service: its probes, an ordinary read, its version.

use std::time::Duration;

use anyhow::Result;
use balance_cache::{config::Settings, domain::UserId};
use serde::Deserialize;
use url::Url;

use super::{Report, latency::Times};
use crate::cli::{
    arguments::Doctor,
    client::{Client, Unanswered, reachable},
    output::Unable,
    service_view::Envelope,
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
pub(super) struct Asked {
    api: Client,
    operators: Client,
    token: bool,
    expected: bool,
    deadline: (&'static str, Duration),
}

impl Asked {
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
        let api = Client::new(url, settings.http.listen, token)?;
        let operators = Client::new(operators.as_deref(), reachable(settings.ops.listen), None)?;
        Ok(Self {
            api: api.within(SILENT),
            operators: operators.within(SILENT),
            token: reach.token.is_some(),
            expected: !what.before_start,
            deadline: ("limits.deadline_ms", settings.limits.deadline_ms.0),
        })
    }

    /// Whether it runs.
    pub(super) async fn check(&self, report: &mut Report) -> bool {
        let Self { api, operators, .. } = self;
        let probed = operators.get("/readyz").await;
        let answer = match probed {
            Ok(answer) => answer,
            Err(unanswered) if self.expected => {
                let remedy = "start it, or correct ops.listen or --url; --before-start checks the rest without it";
                report.fail("service", unanswered.to_string(), remedy);
                return false;
            }
            Err(_) => {
                report.ok(
                    "service",
                    format!(
                        "none at {}, and none is expected (--before-start)",
                        operators.base()
                    ),
                );
                return false;
            }
        };
        let ready: Option<Ready> = serde_json::from_slice(&answer.body).ok();
        let base = operators.base();
        match ready {
            Some(ready) if ready.status == "ready" => {
                report.ok("service", format!("{base} is ready"));
            }
            Some(ready) if ready.status == "degraded" => {
                report.warn(
                    "service",
                    format!("{base} is degraded: {}", ready.reasons.join("; ")),
                    "it answers, less well than it could: see the reasons, and the other lines here",
                );
                let reasons = ready.reasons.iter();
                let writes = reasons.filter(|reason| reason.starts_with("source: the ledger "));
                for (said, remedy) in writes.filter_map(|reason| reason.split_once("; ")) {
                    report.fail("source.writes", said, remedy);
                }
            }
            Some(ready) => report.fail(
                "service",
                format!("{base} is not ready: {}", ready.reasons.join("; ")),
                "see the reasons, and the other lines here",
            ),
            None => report.fail(
                "service",
                format!(
                    "{base}/readyz says HTTP {}: it is no balance-cache that answers",
                    answer.status
                ),
                "correct ops.listen or --url, or stop what listens there",
            ),
        }
        self.version(report).await;
        if let Err(unanswered) = self.reads(report).await {
            let remedy = format!(
                "probes are answered and clients are not: see http.listen and the log of {}",
                api.base()
            );
            report.fail("service.api", unanswered.to_string(), remedy);
        }
        true
    }

    /// An instance of another version reads settings and Redis otherwise.
    async fn version(&self, report: &mut Report) {
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
            Some(theirs) if theirs != ours => report.warn(
                "service.version",
                format!("the service is {theirs}, this program is {ours}"),
                "ask with the program of the same version",
            ),
            Some(theirs) => report.ok("service.version", theirs),
            None => {}
        }
    }

    async fn reads(&self, report: &mut Report) -> Result<(), Unanswered> {
        let path = format!("/api/v1/user/balance?user_id={}", UserId::MAX);
        let answer = self.api.get(&path).await?;
        let envelope: Envelope<serde_json::Value> = Envelope::of(&answer);
        let said = format!(
            "a read says HTTP {}, status {}: {}",
            answer.status, envelope.status, envelope.msg
        );
        match answer.status {
            200 => {}
            401 if !self.token => {
                let remedy = "set BALANCE_CACHE_TOKEN to a token with the scope read";
                report.warn(
                    "service.api",
                    "reads want a token and none was given: not measured",
                    remedy,
                );
                return Ok(());
            }
            401 | 403 => {
                let remedy = "the token given is not among auth.tokens there, or lacks the scope read: balance-cache auth token makes one";
                report.fail("service.token", said, remedy);
                return Ok(());
            }
            _ => {
                report.fail(
                    "service.api",
                    said,
                    "see the line of service, the source's and the log",
                );
                return Ok(());
            }
        }
        let times =
            Times::of(async || Ok::<_, Unanswered>(self.api.get(&path).await?.took)).await?;
        let remedy = "see Cache-Status of a read (balance-cache get 1001) and the source's latency";
        times.tell(report, "service.latency", "a read", self.deadline, remedy);
        Ok(())
    }
}
