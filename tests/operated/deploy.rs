//! systemd and Kubernetes: their times fit the service's, their limits its limits, their variables its settings.
//! `tests/it/deployments.rs` has the service read what they give it.

use serde::Deserialize as _;
use serde_json::Value;

use crate::support::{drain, file, is_setting, list, number_of, text, yaml};

// === systemd ===

/// All values of a key of the unit.
fn unit(key: &str) -> Vec<String> {
    let unit = file("config/deploy/balance-cache.service");
    let values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{key}=")));
    values.map(str::to_owned).collect()
}

#[test]
fn systemd_waits_for_the_drain_and_gives_a_file_to_every_connection() {
    let [stop] = &unit("TimeoutStopSec")[..] else {
        panic!("TimeoutStopSec")
    };
    let stop: u64 = stop.trim_end_matches('s').parse().unwrap();
    assert!(stop > drain(), "{stop}");
    let [files] = &unit("LimitNOFILE")[..] else {
        panic!("LimitNOFILE")
    };
    let files: u64 = files.parse().unwrap();
    assert!(
        files >= number_of("limits", "connections") + 1_000,
        "{files}"
    );
}

#[test]
fn systemd_sets_settings_and_does_not_repeat_wrong_ones() {
    for pair in unit("Environment") {
        is_setting(pair.split_once('=').unwrap().0);
    }
    assert_eq!(unit("RestartPreventExitStatus"), ["2"]);
    let check =
        "/usr/local/bin/balance-cache config check --config /etc/balance-cache/balance-cache.toml";
    assert_eq!(unit("ExecStartPre"), [check]);
    assert_eq!(unit("ExecStart"), [check.replace("config check", "serve")]);
}

#[test]
fn systemd_gives_the_process_nothing_that_it_does_not_need() {
    for (key, value) in [
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("LimitCORE", "0"),
    ] {
        assert_eq!(unit(key), [value], "{key}");
    }
}

// === kubernetes ===

fn kubernetes() -> Vec<Value> {
    let text = file("config/deploy/kubernetes.yaml");
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn one(kind: &str) -> Value {
    let mut of_kind = kubernetes()
        .into_iter()
        .filter(|object| object["kind"] == kind);
    let found = of_kind.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(of_kind.next().is_none(), "two of {kind}");
    assert_eq!(found["metadata"]["name"], "balance-cache");
    found
}

fn container() -> Value {
    one("Deployment")["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn kubernetes_waits_for_the_drain() {
    let before = &container()["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(before[0], "sleep");
    let before: u64 = text(&before[1]).parse().unwrap();
    let grace = &one("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    assert!(grace.as_u64().unwrap() > before + drain(), "{grace}");
}

#[test]
fn kubernetes_asks_the_operators_port_whether_it_lives_and_is_ready() {
    let container = container();
    for (probe, path) in [
        ("startupProbe", "/livez"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(
            (text(&asked["path"]), text(&asked["port"])),
            (path, "ops"),
            "{probe}"
        );
    }
    let ports: Vec<(&str, u64)> = list(&container["ports"])
        .map(|port| (text(&port["name"]), port["containerPort"].as_u64().unwrap()))
        .collect();
    assert_eq!(ports, [("http", 3001), ("ops", 3002)]);
    let service = one("Service");
    let shown: Vec<&str> = list(&service["spec"]["ports"])
        .map(|port| text(&port["targetPort"]))
        .collect();
    assert_eq!(shown, ["http"], "the operators' port asks for no token");
    let scraped = &one("Deployment")["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(scraped["prometheus.io/port"], "3002");
    let monitor = yaml("config/deploy/kubernetes-podmonitor.yaml");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "ops");
}

#[test]
fn everything_in_kubernetes_finds_the_pods() {
    let pods = one("Deployment")["spec"]["template"]["metadata"]["labels"].clone();
    assert_eq!(one("Deployment")["spec"]["selector"]["matchLabels"], pods);
    assert_eq!(one("Service")["spec"]["selector"], pods);
    assert_eq!(
        one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        pods
    );
    let monitor = yaml("config/deploy/kubernetes-podmonitor.yaml");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], pods);
    let label = text(&monitor["spec"]["jobLabel"]).to_owned();
    assert_eq!(
        pods[label], "balance-cache",
        "the job's name, as the alerts have it"
    );
    assert_eq!(
        one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"],
        "balance-cache"
    );
}

#[test]
fn kubernetes_runs_it_as_the_image_s_user_with_nothing_to_write_to() {
    let pod = one("Deployment")["spec"]["template"]["spec"].clone();
    let user = pod["securityContext"]["runAsUser"].as_u64().unwrap();
    assert!(file("Dockerfile").contains(&format!("USER {user}")));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let security = &container()["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
}

#[test]
fn kubernetes_gives_settings_and_more_memory_than_the_cache_may_take() {
    let secret = one("Secret");
    for name in secret["stringData"].as_object().unwrap().keys() {
        is_setting(name);
    }
    let settings: toml::Table =
        toml::from_str(text(&one("ConfigMap")["data"]["balance-cache.toml"])).unwrap();
    let bytes = |section: &str, key: &str| settings[section][key].as_integer().unwrap();
    let cache = bytes("memory", "max_bytes") + bytes("settlement", "change_log_max_bytes");
    let limit = container()["resources"]["limits"]["memory"].clone();
    let limit: i64 = text(&limit).strip_suffix("Mi").unwrap().parse().unwrap();
    assert!(limit * 1024 * 1024 >= cache + cache / 2, "{limit}");
    let mounted = container()["volumeMounts"][0]["mountPath"].clone();
    let read = container()["args"][2].clone();
    assert_eq!(
        text(&read),
        format!("{}/balance-cache.toml", text(&mounted))
    );
}
