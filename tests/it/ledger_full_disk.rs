//! A disk that is full while the embedded ledger is written: it is said everywhere, and ends by itself.
//!
//! A small tmpfs where one can be mounted (as root), and a limit of the file's size, which everybody can set.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
    time::Duration,
};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    cli_support::Said,
    settlement_support::ENTRIES,
    support::{
        eventually::eventually_async,
        service::{Service, Setup},
        stage::{counted, readiness},
    },
};

const SOON: Duration = Duration::from_mins(1);

/// Each commit waits for the disk twice.
const FULL_MAX: Duration = Duration::from_mins(5);

/// Writes one entry; the HTTP code.
async fn write(service: &Service, user: i64, seq: i64) -> u16 {
    let entry = json!({"user_id": user, "asset_id": 1, "seq": seq, "avail": seq, "frozen": 0,
                       "event_type": "x".repeat(32)});
    let request = service.request(Method::POST, ENTRIES).json(&entry);
    service.send(request).await.status
}

/// Writes entries of users 1 to 8 at once until one fails; the last acknowledged seq of each.
async fn write_until_it_fails(service: &Service, from: i64) -> [i64; 8] {
    let writer = async |user: i64| {
        let mut acknowledged = 0;
        for seq in from.. {
            match write(service, user, seq).await {
                200 => acknowledged = seq,
                503 => break,
                other => panic!("HTTP {other}"),
            }
        }
        acknowledged
    };
    let writers: Vec<_> = (1..=8).map(writer).collect();
    let all = futures::future::join_all(writers);
    let acknowledged = tokio::time::timeout(FULL_MAX, all)
        .await
        .expect("the disk gets full");
    acknowledged.try_into().unwrap()
}

async fn shows(service: &Service, acknowledged: [i64; 8]) {
    for (user, seq) in (1..).zip(acknowledged) {
        let answer = service.balances(user).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let seen = answer.data()[0]["seq"].as_i64().unwrap_or(0);
        assert!(
            seen >= seq,
            "user {user}: {seq} was acknowledged, {seen} is shown"
        );
    }
}

/// The whole story: entries are written until the disk takes no more, everything says why, `heal` gives space, writes go on.
async fn story(mut service: Service, cause: &str, sentence: &str, heal: impl FnOnce(&Service)) {
    let acknowledged = write_until_it_fails(&service, 1).await;
    let label = format!("cause=\"{cause}\"");
    readiness(
        &service,
        "degraded",
        &format!("cannot be written: {sentence}"),
    )
    .await;
    shows(&service, acknowledged).await;
    eventually_async(SOON, "the metric says so", async || {
        let failing = counted(&service, "ledger_writes_failing", &[&label]).await;
        (failing == 1).then_some(())
    })
    .await;
    assert!(counted(&service, "ledger_write_failures_total", &[]).await > 0);
    let said = Said::of(service.run(&["doctor"]));
    let line = said.has(1, &[]).line(&["FAIL", "source.writes"]);
    assert!(line.contains(sentence) && line.contains("Fix: "), "{line}");
    heal(&service);
    eventually_async(SOON, "writes go on by themselves", async || {
        (write(&service, 9, 1).await == 200).then_some(())
    })
    .await;
    readiness(&service, "ready", "").await;
    assert!(counted(&service, "ledger_reopened_total", &[]).await > 0);
    shows(&service, acknowledged).await;
    let logs = service.process().stderr();
    assert!(
        logs.contains("the ledger cannot be written") && logs.contains(sentence),
        "{logs}"
    );
    assert!(!logs.contains("panicked"), "{logs}");
    service.restart().await;
    service.ready().await;
    shows(&service, acknowledged).await;
}

/// With time for a disk that is slow: writes are to fail when it is full.
fn patient() -> Setup {
    Setup::default()
        .with("limits.connections", 100)
        .with("limits.deadline_ms", 20_000)
        .with("source.timeout_ms", 20_000)
}

/// A file system of 3 MiB; none where it cannot be mounted.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = TempDir::with_prefix("small-").unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(folder.path())
            .output();
        mounted
            .is_ok_and(|done| done.status.success())
            .then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_everywhere_and_writes_go_on_when_there_is_space() {
    let Some(small) = Small::mount() else {
        println!("tmpfs cannot be mounted here: the limit of the file's size is tested instead");
        return;
    };
    let ledger = small.path().join("ledger.redb");
    let service = Service::start_ready(patient().with("embedded.path", ledger.display())).await;
    let filler = small.path().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    story(service, "full", "no space is left on its disk", |_| {
        drop(file);
        fs::remove_file(&filler).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_files_size_does_not_end_the_process() {
    let mut service = Service::start_ready(patient()).await;
    let path = service.setup().environment.into_iter();
    let path = path
        .rev()
        .find(|(key, _)| key.ends_with("EMBEDDED__PATH"))
        .unwrap()
        .1;
    let pid = service.process().pid();
    let limit = move |bytes: &str| {
        let set = Command::new("prlimit")
            .args(["--pid", &pid.to_string(), &format!("--fsize={bytes}")])
            .status();
        assert!(set.unwrap().success());
    };
    // The file grows next when its free pages are used; logs go to a file, too, and are shorter.
    let size = fs::metadata(path).unwrap().len();
    limit(&format!("{size}:"));
    story(
        service,
        "size_limit",
        "the process may not make the file larger",
        |_| {
            limit("unlimited:");
        },
    )
    .await;
}
