//! Signals: what a running service takes over on SIGHUP, what it refuses, and what it ignores.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use reqwest::Method;

use crate::support::{
    eventually::eventually_async,
    redis::{Options, Redis},
    service::{Service, Setup},
    stage::{SOON, counted, readiness, shown},
    tokens::token_block,
};

const READ: &str = "/api/user/balance?user_id=1001";
const REREAD: &str = "config_reloads_total";

/// A file with these tokens, all of them readers.
fn with_tokens(tokens: &[&str]) -> String {
    let blocks = tokens.iter().map(|token| token_block(token, "\"read\""));
    format!("[auth]\nmode = \"token\"\n{}", blocks.collect::<String>())
}

async fn status(service: &Service, token: &str) -> u16 {
    let request = service.request(Method::GET, READ).bearer_auth(token);
    service.send(request).await.status
}

/// Sends SIGHUP and waits until it is counted with this result.
async fn reload(service: &mut Service, result: &str) {
    let label = format!("result=\"{result}\"");
    let before = counted(service, REREAD, &[&label]).await;
    service.process().signal("HUP");
    let what = format!("a reload is counted as {result}");
    eventually_async(SOON, &what, async || {
        let now = counted(service, REREAD, &[&label]).await;
        (now > before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_under_load_takes_new_tokens_and_fails_no_request() {
    let setup = Setup {
        file: with_tokens(&["lasting", "old"]),
        ..Setup::default()
    };
    let mut service = Service::start_ready(setup).await;
    assert_eq!(status(&service, "old").await, 200);
    assert_eq!(status(&service, "new").await, 401);
    let (asked, failed, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let pid = service.process().pid();
    let client = || async {
        while !done.load(Ordering::SeqCst) {
            if status(&service, "lasting").await != 200 {
                failed.fetch_add(1, Ordering::SeqCst);
            }
            asked.fetch_add(1, Ordering::SeqCst);
        }
    };
    let reload = async {
        // Requests come before, during and after each of several reloads.
        for turn in 1..=5 {
            let (old, new) = if turn % 2 == 1 {
                ("old", "new")
            } else {
                ("new", "old")
            };
            service.rewrite(&with_tokens(&["lasting", new]));
            let sent = std::process::Command::new("sh")
                .args(["-c", &format!("kill -HUP {pid}")])
                .status();
            assert!(sent.unwrap().success());
            eventually_async(SOON, "the new token works", async || {
                (status(&service, new).await == 200).then_some(())
            })
            .await;
            assert_eq!(status(&service, old).await, 401, "the old one does not");
            let enough = 300 * turn;
            eventually_async(SOON, "requests go on", async || {
                (asked.load(Ordering::SeqCst) >= enough).then_some(())
            })
            .await;
        }
        done.store(true, Ordering::SeqCst);
    };
    let clients = futures::future::join_all((0..8).map(|_| client()));
    tokio::join!(clients, reload);
    assert_eq!(failed.load(Ordering::SeqCst), 0);
    assert!(asked.load(Ordering::SeqCst) >= 1_500);
    // A reload is counted when it is over: a moment after its tokens are in force.
    eventually_async(SOON, "five reloads are counted", async || {
        (counted(&service, REREAD, &["result=\"done\""]).await == 5).then_some(())
    })
    .await;
    assert!(counted(&service, "config_last_reload_timestamp_seconds", &[]).await > 0);
    let said = service.process().stderr();
    assert!(
        said.contains("settings are reloaded") && said.contains("auth.tokens"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_assets_and_the_log_filter_and_names_what_needs_a_restart() {
    let btc = "[[assets]]\nid = 1\nname = \"BTC\"\ndecimals = 8\n";
    let usdt = "[[assets]]\nid = 2\nname = \"USDT\"\ndecimals = 8\n";
    let setup = Setup {
        file: format!("{btc}{usdt}"),
        ..Setup::default()
    };
    let mut service = Service::start_ready(setup).await;
    let names = async |service: &Service| -> Vec<String> {
        let balances = shown(&service.balances(1001).await);
        balances.into_iter().map(|(asset, ..)| asset).collect()
    };
    assert_eq!(names(&service).await, ["BTC", "USDT", "3"]);
    assert_eq!(
        names(&service).await,
        ["BTC", "USDT", "3"],
        "a hit in memory"
    );
    // One more name, one less, another filter; and two keys that wait for a restart.
    let eth = "[[assets]]\nid = 3\nname = \"ETH\"\ndecimals = 8\n";
    let other =
        "[telemetry]\nlog = \"warn\"\n[memory]\nttl_ms = 9000\n[limits]\nbody_bytes = 4096\n";
    service.rewrite(&format!("{other}{btc}{eth}"));
    reload(&mut service, "partial").await;
    assert_eq!(names(&service).await, ["BTC", "2", "ETH"]);
    let gone = service
        .get("/api/user/balance?user_id=1001&asset=USDT")
        .await;
    assert_eq!(gone.status, 400, "{}", gone.body);
    let described = service.get("/openapi.json").await.body;
    assert!(described.contains("\"ETH\"") && !described.contains("\"USDT\""));
    let said = service.process().stderr();
    for part in [
        "assets",
        "telemetry.log",
        "memory.ttl_ms",
        "limits.body_bytes",
    ] {
        assert!(said.contains(part), "{part} is not named\n{said}");
    }
    // The same file again: what waits for a restart is named again.
    reload(&mut service, "partial").await;
    // Amounts must not change their meaning while the service runs.
    service.rewrite(&format!(
        "{}{eth}",
        btc.replace("decimals = 8", "decimals = 6")
    ));
    reload(&mut service, "partial").await;
    assert_eq!(names(&service).await, ["BTC", "2", "ETH"]);
    assert_eq!(shown(&service.balances(1001).await)[0].1, "9100");
    let said = service.process().stderr();
    assert!(said.contains("decimals of BTC (8 to 6)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_used_leave_everything_as_it_was() {
    let setup = Setup {
        file: with_tokens(&["lasting"]),
        ..Setup::default()
    };
    let mut service = Service::start_ready(setup).await;
    for (file, part) in [
        ("[auth\nmode = ", "line 1"),
        ("[auth]\nmode = \"token\"\n", "auth.tokens"),
        ("[telemetry]\nlog = \"verbose\"\n", "telemetry.log"),
    ] {
        service.rewrite(file);
        reload(&mut service, "failed").await;
        assert_eq!(status(&service, "lasting").await, 200, "{file}");
        let said = service.process().stderr();
        assert!(
            said.contains("everything stays as it was") && said.contains(part),
            "{part} is not named\n{said}"
        );
    }
    service.rewrite("");
    reload(&mut service, "partial").await;
    assert_eq!(status(&service, "lasting").await, 200);
    assert_eq!(
        status(&service, "other").await,
        401,
        "auth.mode waits for a restart"
    );
    let said = service.process().stderr();
    assert!(said.contains("auth.mode"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_authorities_of_redis_again() {
    let tls = || {
        Redis::start_with(Options {
            tls: true,
            ..Options::default()
        })
    };
    let (redis, stranger) = (tls(), tls());
    let folder = tempfile::TempDir::with_prefix("authorities-").unwrap();
    let file = folder.path().join("ca.pem");
    fs::copy(stranger.ca_file(), &file).unwrap();
    let setup = Setup::default()
        .and(&redis)
        .with("redis.ca_file", file.display());
    let mut service = Service::start_ready(setup).await;
    readiness(&service, "degraded", "redis: ").await;
    fs::write(&file, "no certificate").unwrap();
    reload(&mut service, "failed").await;
    let said = service.process().stderr();
    assert!(
        said.contains("redis.ca_file: holds no certificate"),
        "{said}"
    );
    fs::copy(redis.ca_file(), &file).unwrap();
    reload(&mut service, "done").await;
    readiness(&service, "ready", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_without_a_meaning_are_ignored() {
    let mut service = Service::start_ready(Setup::default()).await;
    for signal in ["USR1", "USR2", "PIPE", "ALRM", "IO", "XFSZ", "HUP"] {
        service.process().signal(signal);
        assert_eq!(service.balances(1001).await.status, 200, "{signal}");
    }
    // The last one is handled: the others were before it.
    eventually_async(SOON, "SIGHUP is handled", async || {
        (counted(&service, REREAD, &[]).await == 1).then_some(())
    })
    .await;
    assert_eq!(service.process().exited(), None);
    assert_eq!(service.terminate(), 0);
}
