//! Grafana's boards: every panel explains itself, and a tier has one colour everywhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{file, is_metric, list, names, text};

const BOARDS: [&str; 2] = ["overview", "consistency"];

fn board(name: &str) -> Value {
    serde_json::from_str(&file(&format!("config/grafana/boards/{name}.json"))).unwrap()
}

fn panels(board: &Value) -> Vec<&Value> {
    let panels: Vec<&Value> = list(&board["panels"])
        .filter(|panel| panel["type"] != "row")
        .collect();
    assert!(panels.len() > 10);
    panels
}

#[test]
fn every_panel_has_a_title_an_explanation_a_unit_and_a_question() {
    for name in BOARDS {
        let board = board(name);
        let mut titles = BTreeSet::new();
        for panel in panels(&board) {
            let title = text(&panel["title"]);
            assert!(titles.insert(title), "{name}: two panels {title}");
            assert!(
                text(&panel["description"]).len() > 10,
                "{name}: {title} explains nothing"
            );
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(defaults["unit"].is_string(), "{name}: {title} has no unit");
            assert!(
                list(&defaults["thresholds"]["steps"]).count() > 0,
                "{name}: {title}"
            );
            assert_eq!(
                panel["datasource"]["uid"], "${datasource}",
                "{name}: {title}"
            );
            let targets: Vec<&Value> = list(&panel["targets"]).collect();
            let ids: BTreeSet<&str> = targets
                .iter()
                .map(|target| text(&target["refId"]))
                .collect();
            assert!(
                !targets.is_empty() && ids.len() == targets.len(),
                "{name}: {title}"
            );
        }
    }
}

#[test]
fn every_question_is_of_metrics_that_there_are_and_of_the_instances_chosen() {
    for name in BOARDS {
        let board = board(name);
        for target in panels(&board)
            .into_iter()
            .flat_map(|panel| list(&panel["targets"]))
        {
            let expression = text(&target["expr"]);
            let asked = expression.matches("balance_cache_").count();
            let chosen = expression
                .matches(r#"{job="$job", instance=~"$instance""#)
                .count();
            assert_eq!((asked, asked > 0), (chosen, true), "{name}: {expression}");
            assert!(!expression.contains("le="), "{name}: {expression}");
            for metric in names(expression) {
                assert!(is_metric(&metric), "{name}: {metric}");
            }
        }
    }
}

#[test]
fn panels_stand_beside_each_other() {
    for name in BOARDS {
        let board = board(name);
        let mut taken = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for panel in list(&board["panels"]) {
            assert!(
                ids.insert(panel["id"].as_u64().unwrap()),
                "{name}: an id twice"
            );
            let at = |part: &str| panel["gridPos"][part].as_u64().unwrap();
            assert!(
                at("x") + at("w") <= 24,
                "{name}: {} is cut off",
                panel["title"]
            );
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    let other = taken.insert((x, y), text(&panel["title"]));
                    assert_eq!(other, None, "{name}: over each other: {}", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn a_word_has_one_colour_on_all_boards() {
    let mut colours = BTreeMap::new();
    for name in BOARDS {
        let board = board(name);
        for panel in panels(&board) {
            for at in list(&panel["fieldConfig"]["overrides"]) {
                let colour = list(&at["properties"]).find(|property| property["id"] == "color");
                let Some(colour) = colour.filter(|colour| colour["value"]["mode"] == "fixed")
                else {
                    continue;
                };
                let (word, colour) = (
                    text(&at["matcher"]["options"]),
                    text(&colour["value"]["fixedColor"]),
                );
                let before = colours.insert(word.to_owned(), colour.to_owned());
                assert!(
                    before.is_none_or(|before| before == colour),
                    "{name}: {word} is {colour}"
                );
            }
        }
    }
    for tier in ["memory", "redis", "source"] {
        assert!(
            colours.contains_key(&format!("/^{tier}\\b/")),
            "{tier} has no colour"
        );
    }
}

#[test]
fn boards_are_grafana_s_of_today_and_choose_source_job_and_instance() {
    let mut uids = BTreeSet::new();
    for name in BOARDS {
        let board = board(name);
        assert!(uids.insert(text(&board["uid"]).to_owned()));
        assert!(
            board["schemaVersion"].as_u64().unwrap() >= 39,
            "Grafana 11 and newer"
        );
        assert!(list(&board["tags"]).any(|tag| tag == "balance-cache"));
        let variables: Vec<&str> = list(&board["templating"]["list"])
            .map(|at| text(&at["name"]))
            .collect();
        assert_eq!(variables, ["datasource", "job", "instance"]);
    }
}
