//! Backup, restore and the look at a ledger while its service runs; and that a new ledger is announced.

use std::fs;

use reqwest::Method;
use serde_json::json;

use crate::{
    cli_support::Said,
    settlement_support::ENTRIES,
    support::service::{Service, Setup},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_service_is_restored_and_verified() {
    let mut service = Service::start_ready(Setup::default().with("limits.connections", 100)).await;
    let entry = json!({"user_id": 7, "asset_id": 1, "seq": 5, "avail": 12, "frozen": 0});
    let request = service.request(Method::POST, ENTRIES).json(&entry);
    assert_eq!(service.send(request).await.status, 200);
    let folder = tempfile::tempdir().unwrap();
    let (backup, restored) = (
        folder.path().join("backup"),
        folder.path().join("restored.redb"),
    );
    let (backup, restored) = (backup.to_str().unwrap(), restored.to_str().unwrap());
    let said = Said::of(service.run(&["ledger", "backup", backup]));
    said.has(0, &["from the running service, read back and verified"]);
    let again = Said::of(service.run(&["ledger", "backup", backup]));
    assert!(
        again.code == 2 && again.err.contains("overwrites none"),
        "{again}"
    );
    let doctor = Said::of(service.run(&["doctor"]));
    doctor.has(0, &["in use by the running service, which was asked"]);
    let trace = Said::of(service.run(&["get", "7", "--trace"]));
    trace.has(0, &["all that were asked agree"]);
    trace.line(&["BTC", "ledger", "5"]);
    // What is there is not overwritten, neither by the service's own file.
    let over = Said::of(service.run(&["ledger", "restore", backup]));
    assert!(
        over.code == 1 && over.err.contains("overwrites none"),
        "{over}"
    );
    let said = Said::of(service.run(&["ledger", "restore", backup, "--to", restored]));
    said.has(0, &["31 balances, checked", "It has a new id"]);
    assert_eq!(service.terminate(), 0);
    let other = service.setup().with("embedded.path", restored);
    Said::of(other.run(&["ledger", "check"])).has(0, &["31 balances"]);
    Said::of(other.run(&["verify"])).has(0, &["the same: 11 users, 31 assets"]);
    // A service that does not run is backed up from its file.
    let second = folder.path().join("second");
    let said = Said::of(service.run(&["ledger", "backup", second.to_str().unwrap()]));
    said.has(0, &["from the file"]);
    assert_eq!(
        fs::read(&second).unwrap(),
        fs::read(backup).unwrap(),
        "the same rows"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_new_is_announced_with_what_is_in_it() {
    let mut sample = Service::start_ready(Setup::default()).await;
    assert!(
        sample
            .process()
            .stdout()
            .contains("NEW, with SAMPLE balances"),
        "{}",
        sample.process().stdout()
    );
    let mut empty =
        Service::start_ready(Setup::default().with("embedded.sample_data", "false")).await;
    assert!(empty.process().stdout().contains("NEW and EMPTY"));
    assert!(
        empty
            .process()
            .logs()
            .contains("a new, empty ledger was made")
    );
    // Standard output is that of both lives.
    empty.restart().await;
    assert_eq!(empty.process().stdout().matches("NEW").count(), 1);
}
