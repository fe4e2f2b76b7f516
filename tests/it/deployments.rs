//! The real program reads what compose, systemd and Kubernetes would give it.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde::Deserialize as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    eventually::eventually_async,
    process::Process,
    service::{Service, Setup},
    stage::{SOON, counted, shown},
};

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
    let accepted = code == 0 && said.starts_with("the settings are right");
    assert!(accepted, "{code}: {said}{wrong}");
}

#[test]
fn compose_gives_settings_that_are_right() {
    let compose: Value = serde_yaml_ng::from_str(&file("docker-compose.yml")).unwrap();
    for service in ["balance-cache-1", "balance-cache-postgres"] {
        let variables = &compose["services"][service]["environment"];
        is_accepted(&with_all(Setup::default(), variables));
    }
}

#[test]
fn kubernetes_gives_settings_that_are_right() {
    for name in ["kubernetes.yaml", "kubernetes-postgres.yaml"] {
        objects_are_right(&file(&format!("config/deploy/{name}")));
    }
}

fn objects_are_right(text: &str) {
    let objects: Vec<Value> = serde_yaml_ng::Deserializer::from_str(text)
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
    let drop_in = file("config/deploy/balance-cache-postgres.conf");
    for pair in drop_in
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="))
    {
        let (name, value) = pair.split_once('=').unwrap();
        // systemd's own escape.
        let value = value.replace("%%", "%");
        setup.environment.push((name.to_owned(), value));
    }
    is_accepted(&setup);
}

/// A stand-in for oha: says what it was asked, and lasts until the load is said to be over, or its folder is gone.
const OHA: &str = "#!/bin/sh\necho \"$@\"\nwhile [ -e \"$0\" ] && [ ! -e \"$0.over\" ]; do timeout 0.1 tail -f /dev/null; done\nexit 0\n";

#[tokio::test]
async fn the_load_script_writes_its_users_settles_and_loads_every_target() {
    let service = Service::start_ready(Setup::default()).await;
    let folder = TempDir::with_prefix("load-").unwrap();
    let oha = folder.path().join("oha");
    fs::write(&oha, OHA).unwrap();
    fs::set_permissions(&oha, fs::Permissions::from_mode(0o755)).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/config/deploy/load.sh");
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"PATH=$0:$PATH exec bash "$1""#])
        .arg(folder.path())
        .arg(script)
        .env(
            "LOAD_TARGETS",
            format!("http://{0} http://{0}", service.http()),
        )
        .env("LOAD_USERS", "701")
        .env("LOAD_SECONDS", "1");
    let mut script = Process::start(&command, folder.path());
    let applied = [r#"via="ledger""#, r#"result="applied""#];
    eventually_async(SOON, "settlements come during the load", async || {
        let count = counted(&service, "notifications_total", &applied).await;
        (count > 3 * 701).then_some(())
    })
    .await;
    fs::write(folder.path().join("oha.over"), "").unwrap();
    let code = script.exit(SOON);
    assert_eq!(code, 0, "{}", script.logs());
    let asked = script.stdout();
    let reads = asked
        .lines()
        .filter(|line| line.contains("--rand-regex-url"));
    assert!(reads.count() >= 2, "{asked}");
    for user in [1, 300, 301, 701] {
        let shown = shown(&service.balances(user).await);
        assert_eq!(shown.len(), 3, "{user}: {shown:?}");
    }
}
