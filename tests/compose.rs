//! docker-compose.yml says what the compose specification allows, and what this service needs.

#![cfg(test)]

use std::fs;

use serde_json::Value;

fn file(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The file with its anchors resolved, as JSON.
fn compose() -> Value {
    serde_yaml_ng::from_str(&file("docker-compose.yml")).unwrap()
}

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&file("tests/fixtures/compose-spec.json")).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn docker_compose_is_valid_by_the_specification() {
    let compose = compose();
    let faults: Vec<String> = schema()
        .iter_errors(&compose)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_specification_finds_a_mistake() {
    let mut compose = compose();
    compose["services"]["redis"]["helthcheck"] = Value::from("typing");
    assert!(!schema().is_valid(&compose));
}

#[test]
fn the_service_starts_after_its_schema_and_its_redis() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let needs = |service: &str, other: &str| {
        compose["services"][service]["depends_on"][other]["condition"].clone()
    };
    assert_eq!(
        needs("balance-cache", "schema"),
        "service_completed_successfully"
    );
    assert_eq!(needs("balance-cache", "redis"), "service_healthy");
    assert_eq!(needs("schema", "scylla"), "service_healthy");
    for (name, service) in services {
        for other in service["depends_on"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(other, _)| other)
        {
            assert!(
                services.contains_key(other),
                "{name} depends on {other}, which is not there"
            );
        }
    }
    for server in ["scylla", "redis"] {
        assert!(
            services[server]["healthcheck"]["test"].is_array(),
            "{server} has no healthcheck"
        );
    }
    assert!(file("Dockerfile").contains("HEALTHCHECK"));
}

#[test]
fn redis_evicts_nothing() {
    let command = compose()["services"]["redis"]["command"].to_string();
    assert!(
        command.contains(r#""--maxmemory-policy","noeviction""#),
        "{command}"
    );
}

#[test]
fn every_setting_by_environment_is_a_setting() {
    let defaults: toml::Table = toml::from_str(&file("config/default.toml")).unwrap();
    let compose = compose();
    for service in ["schema", "balance-cache"] {
        let environment = compose["services"][service]["environment"]
            .as_object()
            .unwrap();
        assert!(!environment.is_empty());
        for name in environment.keys() {
            let path = name.strip_prefix("BALANCE_CACHE__").unwrap().to_lowercase();
            let (section, key) = path.split_once("__").unwrap();
            assert!(
                defaults[section].get(key).is_some(),
                "{name}: no such setting"
            );
        }
    }
}
