//! The real program reads what compose, systemd and Kubernetes would give it.

use std::fs;

use serde::Deserialize as _;
use serde_json::Value;

use crate::support::service::Setup;

fn file(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The variables of an object, as they are.
fn with_all(mut setup: Setup, variables: &Value) -> Setup {
    for (name, value) in variables.as_object().unwrap() {
        let value = value.as_str().unwrap().to_owned();
        setup.environment.push((name.clone(), value));
    }
    setup
}

#[track_caller]
fn is_accepted(setup: &Setup) {
    let (code, said, wrong) = setup.run(&["config", "check"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "the settings are right\n"),
        "{wrong}"
    );
}

#[test]
fn compose_gives_settings_that_are_right() {
    let compose: Value = serde_yaml_ng::from_str(&file("docker-compose.yml")).unwrap();
    let variables = &compose["services"]["balance-cache-1"]["environment"];
    is_accepted(&with_all(Setup::default(), variables));
}

#[test]
fn kubernetes_gives_settings_that_are_right() {
    let text = file("config/deploy/kubernetes.yaml");
    let objects: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect();
    let one = |kind: &str| {
        objects
            .iter()
            .find(|object| object["kind"] == kind)
            .unwrap()
    };
    let file = one("ConfigMap")["data"]["balance-cache.toml"]
        .as_str()
        .unwrap()
        .to_owned();
    let setup = Setup {
        file,
        ..Setup::default()
    };
    is_accepted(&with_all(setup, &one("Secret")["stringData"]));
}

#[test]
fn systemd_gives_settings_that_are_right() {
    let unit = file("config/deploy/balance-cache.service");
    let token = "\n[[auth.tokens]]\nname = \"wallet\"\nscopes = [\"read\"]\nsha256 = \"";
    let mut setup = Setup {
        file: file("config/production.toml") + token + &"0".repeat(64) + "\"\n",
        ..Setup::default()
    };
    for pair in unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="))
    {
        let (name, value) = pair.split_once('=').unwrap();
        setup.environment.push((name.to_owned(), value.to_owned()));
    }
    assert!(!setup.environment.is_empty());
    is_accepted(&setup);
}
