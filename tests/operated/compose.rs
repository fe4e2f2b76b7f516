//! docker-compose.yml says what the compose specification allows, and what this service needs.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::support::{drain, file, is_setting, list, text, yaml};

const INSTANCES: [&str; 2] = ["balance-cache-1", "balance-cache-2"];

fn compose() -> Value {
    yaml("docker-compose.yml")
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
    for instance in INSTANCES {
        assert_eq!(needs(instance, "schema"), "service_completed_successfully");
        assert_eq!(needs(instance, "redis"), "service_healthy");
        assert_eq!(needs("load", instance), "service_healthy");
    }
    assert_eq!(needs("schema", "scylla"), "service_healthy");
    assert_eq!(needs("grafana", "prometheus"), "service_healthy");
    for (name, service) in services {
        let others = service["depends_on"].as_object().into_iter().flatten();
        for (other, _) in others {
            assert!(
                services.contains_key(other),
                "{name} depends on {other}, which is not there"
            );
        }
    }
    for server in ["scylla", "redis", "prometheus", "grafana"] {
        assert!(
            services[server]["healthcheck"]["test"].is_array(),
            "{server} has no healthcheck"
        );
    }
    assert!(file("Dockerfile").contains("HEALTHCHECK"));
}

#[test]
fn redis_and_valkey_evict_nothing() {
    for server in ["redis", "valkey"] {
        let command = compose()["services"][server]["command"].to_string();
        assert!(
            command.contains(r#""--maxmemory-policy","noeviction""#),
            "{command}"
        );
    }
}

#[test]
fn what_stands_beside_the_usual_servers_needs_its_profile_and_its_own_servers() {
    let services = &compose()["services"];
    for (profile, of_it) in [
        (
            "cassandra",
            &[
                "cassandra",
                "valkey",
                "schema-cassandra",
                "balance-cache-cassandra",
            ][..],
        ),
        ("kafka", &["kafka", "balance-cache-kafka"]),
    ] {
        for service in of_it {
            let profiles: Vec<&str> = list(&services[*service]["profiles"]).map(text).collect();
            assert_eq!(profiles, [profile], "{service}");
        }
    }
    let health = "service_healthy";
    let needs =
        |service: &str, other: &str| services[service]["depends_on"][other]["condition"].clone();
    assert_eq!(needs("schema-cassandra", "cassandra"), health);
    assert_eq!(needs("balance-cache-cassandra", "valkey"), health);
    assert_eq!(needs("balance-cache-kafka", "kafka"), health);
    let of_kafka = &services["balance-cache-kafka"]["environment"];
    let brokers = text(&of_kafka["BALANCE_CACHE__SETTLEMENT__KAFKA__BROKERS"]);
    let advertised = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].clone();
    assert_eq!(format!("PLAINTEXT://{brokers}"), text(&advertised));
}

#[test]
fn every_setting_by_environment_is_a_setting() {
    let compose = compose();
    let others = [
        "schema",
        "schema-cassandra",
        "balance-cache-cassandra",
        "balance-cache-kafka",
    ];
    for service in others.into_iter().chain(INSTANCES) {
        let environment = compose["services"][service]["environment"]
            .as_object()
            .unwrap();
        assert!(!environment.is_empty());
        for name in environment.keys() {
            is_setting(name);
        }
    }
}

#[test]
fn an_instance_may_take_its_drain_to_stop() {
    for instance in INSTANCES {
        let grace = compose()["services"][instance]["stop_grace_period"].clone();
        let grace: u64 = text(&grace).trim_end_matches('s').parse().unwrap();
        assert!(grace > drain(), "{instance}: {grace}");
    }
}

#[test]
fn ports_are_on_loopback_and_each_is_published_once() {
    let compose = compose();
    let mut published = BTreeSet::new();
    for (name, service) in compose["services"].as_object().unwrap() {
        for port in list(&service["ports"]) {
            let port = text(port);
            let (address, _) = port.rsplit_once(':').unwrap();
            assert!(address.starts_with("127.0.0.1:"), "{name}: {port}");
            assert!(published.insert(address.to_owned()), "{name}: {port} again");
        }
    }
    // The instances of the profiles cassandra, kafka and postgres, Prometheus and Grafana.
    assert_eq!(published.len(), 2 * (INSTANCES.len() + 3) + 2);
}

#[test]
fn images_of_others_are_of_one_version() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        let tag = text(&service["image"]).rsplit_once(':').map(|(_, tag)| tag);
        let pinned = tag.is_some_and(|tag| tag.contains('.'));
        assert!(
            pinned || service["build"] != Value::Null,
            "{name}: {}",
            service["image"]
        );
    }
}

#[test]
fn every_file_that_is_mounted_is_there() {
    let compose = compose();
    let mut mounted = 0;
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in list(&service["volumes"]) {
            let (from, _) = text(volume).split_once(':').unwrap();
            if let Some(path) = from.strip_prefix("./") {
                let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists();
                assert!(there, "{name}: {path} is not there");
                assert!(text(volume).ends_with(":ro"), "{name}: {volume}");
                mounted += 1;
            } else {
                assert!(
                    compose["volumes"].get(from).is_some(),
                    "{name}: {from} is no volume"
                );
            }
        }
    }
    assert_eq!(mounted, 4);
}

/// Where a service finds what is mounted from this path of the repository.
fn inside(service: &str, from: &str) -> String {
    let compose = compose();
    let volume = list(&compose["services"][service]["volumes"]).find_map(|volume| {
        text(volume)
            .strip_prefix(&format!("./{from}:"))
            .map(str::to_owned)
    });
    let volume = volume.unwrap_or_else(|| panic!("{service} is not given {from}"));
    volume.trim_end_matches(":ro").to_owned()
}

#[test]
fn prometheus_finds_its_rules_and_every_instance() {
    let config = inside("prometheus", "config/prometheus/prometheus.yml");
    let command = compose()["services"]["prometheus"]["command"].to_string();
    assert!(command.contains(&format!("--config.file={config}")));
    let folder = Path::new(&config).parent().unwrap().join("rules");
    assert_eq!(
        Path::new(&inside("prometheus", "config/prometheus/rules")),
        folder
    );
    let scraped = yaml("config/prometheus/prometheus.yml");
    let targets: Vec<String> = list(&scraped["scrape_configs"][0]["static_configs"][0]["targets"])
        .map(|target| text(target).to_owned())
        .collect();
    assert_eq!(
        targets,
        INSTANCES.map(|instance| format!("{instance}:3002"))
    );
}

#[test]
fn grafana_finds_its_boards_and_its_prometheus() {
    assert_eq!(
        inside("grafana", "config/grafana/provisioning"),
        "/etc/grafana/provisioning"
    );
    let boards = inside("grafana", "config/grafana/boards");
    let providers = yaml("config/grafana/provisioning/dashboards/balance-cache.yml");
    assert_eq!(text(&providers["providers"][0]["options"]["path"]), boards);
    let home = &compose()["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(text(home), format!("{boards}/overview.json"));
    let sources = yaml("config/grafana/provisioning/datasources/prometheus.yml");
    let source = &sources["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
    let scraped = yaml("config/prometheus/prometheus.yml");
    assert_eq!(
        source["jsonData"]["timeInterval"],
        scraped["global"]["scrape_interval"]
    );
}

#[test]
fn the_load_is_put_on_every_instance_and_only_when_asked_for() {
    let load = compose()["services"]["load"].clone();
    assert_eq!(load["profiles"][0], "load");
    let targets = INSTANCES
        .map(|instance| format!("http://{instance}:3001"))
        .join(" ");
    assert_eq!(text(&load["environment"]["LOAD_TARGETS"]), targets);
    let dockerfile = file("Dockerfile");
    let stage = text(&load["build"]["target"]).to_owned();
    assert!(dockerfile.contains(&format!(" AS {stage}\n")));
    assert!(dockerfile.contains("COPY config/deploy/load.sh "));
    let last = dockerfile.rsplit_once("\nFROM ").unwrap().1;
    assert!(
        last.contains("ENTRYPOINT [\"balance-cache\"]"),
        "the service is what is built by default"
    );
    let script = file("config/deploy/load.sh");
    for name in load["environment"].as_object().unwrap().keys() {
        assert!(
            script.contains(&format!("${{{name}:-")),
            "nobody reads {name}"
        );
    }
}
