//! A real Prometheus with our rules, scraping instances that a test started, and the boards as it would be asked by them.
//!
//! **Invariants.** It scrapes and judges every [`STEP`], so that a test sees the end of it. The rules are those of
//! `config/prometheus/rules`, unless they are changed on the way in.

use std::{
    collections::BTreeMap, fs, net::SocketAddr, path::Path, process::Command, time::Duration,
};

use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;

use super::{eventually::eventually_async, port::Port, process::Process};

/// Between two scrapes, and the longest that one may take: an instance on a busy machine is not down before.
const STEP: &str = "1s";
/// How long anything may take here that comes by itself.
pub const SOON: Duration = Duration::from_mins(1);

/// One series of an answer, and its value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: String,
}

impl Sample {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    pub fn number(&self) -> f64 {
        self.value.parse().unwrap()
    }
}

/// A running Prometheus, killed when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    port: Port,
    client: Client,
    /// How many it scrapes.
    instances: usize,
    _folder: TempDir,
}

/// A rule as it runs.
#[derive(Debug)]
pub struct Rule {
    /// Of the series or of the alert.
    pub name: String,
    /// `ok` where it could be computed.
    pub health: String,
    /// `firing`, `pending` or `inactive`; empty where it is no alert.
    pub state: String,
    /// Summary and description of what fires, filled in.
    pub texts: Vec<String>,
}

impl Prometheus {
    /// Scrapes these as the job of the alerts, with our rules.
    pub async fn start(targets: &[SocketAddr]) -> Self {
        Self::start_with(targets, str::to_owned).await
    }

    /// The same with the rules changed. Returns when it has seen each target once.
    pub async fn start_with(targets: &[SocketAddr], change: impl Fn(&str) -> String) -> Self {
        let folder = TempDir::with_prefix("prometheus-").unwrap();
        for name in ["recording.yml", "alerts.yml"] {
            let rules =
                fs::read_to_string(repository("config/prometheus/rules").join(name)).unwrap();
            fs::write(folder.path().join(name), change(&rules)).unwrap();
        }
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let config = format!(
            "global: {{scrape_interval: {STEP}, evaluation_interval: {STEP}}}\n\
             rule_files: [recording.yml, alerts.yml]\n\
             scrape_configs:\n  - job_name: balance-cache\n    static_configs: [{{targets: {targets:?}}}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let port = Port::reserve();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={}", port.address()))
            .args(["--log.level=warn", "--query.lookback-delta=30s"]);
        let prometheus = Self {
            process: Process::start(&command, folder.path()),
            port,
            client: Client::builder().no_proxy().timeout(SOON).build().unwrap(),
            instances: targets.len(),
            _folder: folder,
        };
        prometheus.sees().await;
        prometheus
    }

    async fn sees(&self) {
        eventually_async(SOON, "prometheus sees all instances", async || {
            let up = self.try_ask("query", &[("query", "up == 1")]).await?;
            (samples(&up).len() == self.instances).then_some(())
        })
        .await;
    }

    async fn try_ask(&self, path: &str, parameters: &[(&str, &str)]) -> Option<Value> {
        let url = format!("http://{}/api/v1/{path}", self.port.address());
        let url = url::Url::parse_with_params(&url, parameters).unwrap();
        let answer: Value = self.client.get(url).send().await.ok()?.json().await.ok()?;
        assert_eq!(
            answer["status"],
            "success",
            "{parameters:?}: {answer}\n{}",
            self.process.logs()
        );
        Some(answer["data"].clone())
    }

    /// What this expression is now: a vector.
    pub async fn query(&self, expression: &str) -> Vec<Sample> {
        let data = self
            .try_ask("query", &[("query", expression)])
            .await
            .unwrap();
        assert_eq!(data["resultType"], "vector", "{expression}");
        samples(&data)
    }

    /// Waits for an answer that is taken.
    pub async fn eventually<T>(
        &self,
        expression: &str,
        take: impl Fn(Vec<Sample>) -> Option<T>,
    ) -> T {
        eventually_async(SOON, expression, async || {
            take(self.query(expression).await)
        })
        .await
    }

    /// Waits until every instance was scraped after now.
    pub async fn scraped(&self) {
        let now = balance_cache::clock::wall_now().0;
        let later = format!("timestamp(balance_cache_build_info) * 1000 > {now}");
        self.eventually(&later, |found| {
            (found.len() == self.instances).then_some(())
        })
        .await;
    }

    /// All rules, as they stand.
    pub async fn rules(&self) -> Vec<Rule> {
        let data = self.try_ask("rules", &[]).await.unwrap();
        let groups = data["groups"].as_array().unwrap().iter();
        groups
            .flat_map(|group| group["rules"].as_array().unwrap())
            .map(rule)
            .collect()
    }

    /// Waits until this alert fires, and says what it says.
    pub async fn fires(&self, alert: &str) -> Vec<String> {
        eventually_async(SOON, &format!("{alert} fires"), async || {
            let rule = self
                .rules()
                .await
                .into_iter()
                .find(|rule| rule.name == alert)
                .unwrap();
            (rule.state == "firing").then_some(rule.texts)
        })
        .await
    }
}

fn rule(rule: &Value) -> Rule {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = rule["alerts"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|alert| ["summary", "description"].map(|name| text(&alert["annotations"][name])));
    Rule {
        name: text(&rule["name"]),
        health: text(&rule["health"]),
        state: text(&rule["state"]),
        texts: texts.collect(),
    }
}

fn samples(data: &Value) -> Vec<Sample> {
    let sample = |at: &Value| Sample {
        labels: serde_json::from_value(at["metric"].clone()).unwrap(),
        value: at["value"][1].as_str().unwrap().to_owned(),
    };
    data["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(sample)
        .collect()
}

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What one panel of a board asks.
#[derive(Debug)]
pub struct Question {
    /// Board and panel.
    pub of: String,
    /// With the variables filled in.
    pub expression: String,
}

/// Every question of every panel, as Grafana would ask it of all instances.
pub fn questions() -> Vec<Question> {
    let mut found = Vec::new();
    for board in ["overview", "consistency"] {
        let path = repository("config/grafana/boards").join(format!("{board}.json"));
        let board: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let title = |of: &Value| of["title"].as_str().unwrap().to_owned();
                found.push(Question {
                    of: format!("{}: {}", title(&board), title(panel)),
                    expression: filled(target["expr"].as_str().unwrap()),
                });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn filled(expression: &str) -> String {
    let values = [
        ("$job", "balance-cache"),
        ("$instance", ".*"),
        ("$__rate_interval", "1m"),
        ("$__range", "1h"),
    ];
    let filled = values
        .iter()
        .fold(expression.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        });
    assert!(
        !filled.contains('$'),
        "a variable that nobody fills in: {filled}"
    );
    filled
}
