//! Rules: each alert says what it means and where to read what to do, and has been seen to fire and to be silent.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{file, is_metric, list, names, text, yaml};

const RULES: [&str; 2] = [
    "config/prometheus/rules/recording.yml",
    "config/prometheus/rules/alerts.yml",
];
const TESTS: [&str; 7] = [
    "healthy",
    "reads",
    "redis",
    "right",
    "settlements",
    "source",
    "up",
];

fn rules() -> Vec<Value> {
    let of = |file: &str| -> Vec<Value> {
        let rules = yaml(file);
        list(&rules["groups"])
            .flat_map(|group| list(&group["rules"]))
            .cloned()
            .collect()
    };
    RULES.iter().flat_map(|file| of(file)).collect()
}

fn alerts() -> BTreeMap<String, Value> {
    let all = rules().into_iter();
    let alerts = all.filter(|rule| rule["alert"].is_string());
    alerts
        .map(|rule| (text(&rule["alert"]).to_owned(), rule))
        .collect()
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() {
    let document = file("docs/OPERATIONS.md");
    for (name, alert) in alerts() {
        let severity = text(&alert["labels"]["severity"]);
        assert!(
            ["page", "ticket", "info"].contains(&severity),
            "{name}: {severity}"
        );
        let said = &alert["annotations"];
        for part in ["summary", "description"] {
            assert!(text(&said[part]).len() > 10, "{name} has no {part}");
        }
        let url = text(&said["runbook_url"]);
        let section = format!("/docs/OPERATIONS.md#{}", name.to_lowercase());
        assert!(
            url.starts_with("http://") && url.ends_with(&section),
            "{name}: {url}"
        );
        assert!(
            document.contains(&format!("\n### {name}\n")),
            "{name}: no such section"
        );
    }
}

#[test]
fn the_document_has_every_alert_and_no_other() {
    let document = file("docs/OPERATIONS.md");
    let mut written = BTreeMap::new();
    for section in document.split("\n### ").skip(1) {
        let (heading, rest) = section.split_once('\n').unwrap();
        if heading.starts_with("BalanceCache") {
            let words = rest.trim_start().split_once(".*").unwrap();
            written.insert(
                heading.to_owned(),
                words.0.trim_start_matches('*').to_lowercase(),
            );
            assert!(
                rest.contains("**First:** "),
                "{heading}: what is to be done first?"
            );
        }
    }
    let severities: BTreeMap<String, String> = alerts()
        .into_iter()
        .map(|(name, alert)| (name, text(&alert["labels"]["severity"]).to_owned()))
        .collect();
    assert_eq!(written, severities);
}

#[test]
fn every_link_inside_the_document_leads_somewhere() {
    let document = file("docs/OPERATIONS.md");
    let headings: BTreeSet<String> = document
        .lines()
        .filter_map(|line| line.split_once("# "))
        .map(|(_, heading)| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let links: Vec<&str> = document
        .split("](#")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap())
        .collect();
    assert!(links.len() > 5);
    for link in links {
        assert!(headings.contains(link), "#{link}");
    }
}

#[test]
fn rules_ask_for_series_that_there_are() {
    let recorded: BTreeSet<String> = rules()
        .iter()
        .filter_map(|rule| rule["record"].as_str().map(str::to_owned))
        .collect();
    assert!(!recorded.is_empty());
    for rule in rules() {
        let expression = text(&rule["expr"]);
        assert!(
            !expression.contains("le="),
            "a bucket's bound is nobody's business: {expression}"
        );
        for name in names(expression) {
            assert!(
                recorded.contains(&name) || is_metric(&name),
                "{name} in {expression}"
            );
        }
    }
}

/// For one alert: whether it fired in some test that, before or after, saw it silent.
fn seen(alert: &str, test: &Value) -> bool {
    let label = format!("alertname=\"{alert}\"");
    let fires = |question: &Value| {
        list(&question["exp_samples"]).any(|sample| text(&sample["labels"]).contains(&label))
    };
    let all: Vec<bool> = list(&test["promql_expr_test"]).map(fires).collect();
    all.contains(&true) && (all.contains(&false) || list(&test["input_series"]).count() == 1)
}

#[test]
fn every_alert_fires_in_a_test_and_is_silent_in_another() {
    let tests: Vec<Value> = TESTS
        .iter()
        .map(|name| yaml(&format!("config/prometheus/tests/{name}.yml")))
        .inspect(|tests| assert_eq!(tests["rule_files"][0], "../rules/*.yml"))
        .flat_map(|tests| list(&tests["tests"]).cloned().collect::<Vec<_>>())
        .collect();
    for name in alerts().keys() {
        assert!(
            tests.iter().any(|test| seen(name, test)),
            "{name} was never seen to fire"
        );
    }
    let healthy = yaml("config/prometheus/tests/healthy.yml");
    let questions: Vec<&Value> = list(&healthy["tests"][0]["promql_expr_test"]).collect();
    assert!(questions.len() > 2);
    for question in questions {
        assert_eq!(
            text(&question["expr"]),
            "count by (alertname) (ALERTS{alertstate=\"firing\"})"
        );
        assert_eq!(question["exp_samples"], Value::Array(Vec::new()));
    }
}

#[test]
fn prometheus_is_told_of_the_rules() {
    let config = yaml("config/prometheus/prometheus.yml");
    assert_eq!(config["rule_files"][0], "rules/*.yml");
    assert_eq!(config["scrape_configs"][0]["job_name"], "balance-cache");
    let alerts = file("config/prometheus/rules/alerts.yml");
    assert!(
        alerts.contains("up{job=\"balance-cache\"}"),
        "the alerts name the job"
    );
}
