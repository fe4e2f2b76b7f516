//! The binary from outside: its settings, its tokens, its end, and what it has after a crash.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use reqwest::Method;
use serde_json::json;

use crate::support::{
    databases::on_each_database,
    eventually::eventually_async,
    proxy::{Mode, Proxy},
    service::{Answer, Service, Setup},
    stage::{Database, SOON, Stage, are, counted, is_failure, shown},
};

#[test]
fn right_settings_are_said_to_be_right() {
    let (code, out, _) = Setup::default().run(&["config", "check"]);
    assert_eq!((code, out.trim()), (0, "the settings are right"));
    let (code, out, _) = Setup::default().run(&["config", "show"]);
    assert_eq!(code, 0);
    assert!(out.contains("max_staleness_ms = 500"), "{out}");
    let (code, _, err) = Setup::default().run(&["serv"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn every_mistake_is_in_one_message_with_its_key_and_no_subcommand_starts() {
    let wrong = Setup {
        file: "[memory]\nttl_ms = \"soon\"\nsize = 5\n[http]\nlisten = \"0.0.0.0:0\"\n".to_owned(),
        ..Setup::default()
    }
    .with("redis.mode", "both")
    .with("settlement.floor_ttl_ms", 1_000)
    .with("source.kinds", "embedded");
    for arguments in [
        &["config", "check"][..],
        &["config", "show"],
        &["serve"],
        &[],
        &["schema", "status"],
    ] {
        let (code, out, err) = wrong.run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        for key in ["memory.ttl_ms", "memory.size", "redis.mode", "source.kinds"] {
            assert!(err.contains(key), "{key} is not named:\n{err}");
        }
    }
    // What is only wrong together is looked at when each is right alone.
    let together = Setup::default()
        .with("http.listen", "0.0.0.0:0")
        .with("settlement.floor_ttl_ms", 1_000);
    let (code, _, err) = together.run(&["config", "check"]);
    assert_eq!(code, 2);
    for key in ["auth.mode", "settlement.floor_ttl_ms"] {
        assert!(err.contains(key), "{key} is not named:\n{err}");
    }
}

#[test]
fn shown_settings_hide_secrets() {
    let secret = Setup::default()
        .with("redis.url", "redis://someone:hush-one@127.0.0.1:1")
        .with("scylla.username", "reader")
        .with("scylla.password", "hush-two");
    let (code, out, err) = secret.run(&["config", "show"]);
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("hush") && out.contains("reader"), "{out}");
}

/// The token, and its block for the file.
fn token(name: &str, scopes: &str) -> (String, String) {
    let (code, out, _) =
        Setup::default().run(&["auth", "token", "--name", name, "--scopes", scopes]);
    assert_eq!(code, 0);
    let (token, rest) = out.split_once('\n').unwrap();
    assert!(!rest.contains(token), "the file has the digest only");
    (token.trim().to_owned(), rest.to_owned())
}

async fn ask(service: &Service, method: Method, path: &str, token: &str) -> Answer {
    let request = service.request(method.clone(), path);
    let request = if method == Method::POST {
        request.json(&json!([]))
    } else {
        request
    };
    let request = if token.is_empty() {
        request
    } else {
        request.bearer_auth(token)
    };
    service.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_23_tokens_open_what_their_scopes_say() {
    let (reader, first) = token("wallet", "read");
    let (settler, second) = token("engine", "settle,read");
    let setup = Setup {
        file: format!("[auth]\nmode = \"token\"\n{first}\n{second}"),
        ..Setup::default()
    };
    let service = Service::start_ready(setup.clone()).await;
    let read = "/api/user/balance?user_id=1001";
    for bad in ["", "nonsense", &reader[1..]] {
        let answer = ask(&service, Method::GET, read, bad).await;
        is_failure(&answer, 401, 2001);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    assert_eq!(
        shown(&ask(&service, Method::GET, read, &reader).await).len(),
        3
    );
    is_failure(
        &ask(&service, Method::POST, "/api/v1/settlements", &reader).await,
        403,
        2003,
    );
    assert_eq!(
        ask(&service, Method::POST, "/api/v1/settlements", &settler)
            .await
            .status,
        200
    );
    assert_eq!(ask(&service, Method::GET, read, &settler).await.status, 200);
    is_failure(
        &ask(&service, Method::POST, "/api/v1/cache/warm", &settler).await,
        403,
        2003,
    );
    assert_eq!(
        service.get_ops("/readyz").await.status,
        200,
        "operators need none"
    );
    let (_, shown, _) = setup.run(&["config", "show"]);
    let digest = first
        .split("sha256 = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(
        !shown.contains(digest) && shown.contains("wallet"),
        "{shown}"
    );
}

on_each_database! {
    sigterm_lets_requests_in_flight_finish_and_takes_no_new_ones,
}

async fn sigterm_lets_requests_in_flight_finish_and_takes_no_new_ones(database: Database) {
    const USERS: [u64; 3] = [1, 2, 3];

    let stage = Stage::on(database).await;
    for user in USERS {
        let user = i64::try_from(user).unwrap();
        stage.has(user, &[(1, 300_000_000)]).await;
    }
    let proxy = Proxy::start(stage.address());
    let mut service = Service::start_ready(
        // A connection to PostgreSQL asks several times before its first answer.
        stage
            .setup_at(proxy.address())
            .with("source.timeout_ms", 10_000)
            .with("limits.deadline_ms", 20_000)
            .with("limits.drain_ms", 20_000),
    )
    .await;
    let pid = service.process().pid().to_string();
    proxy.set(Mode::Delay(std::time::Duration::from_millis(300)));
    // After a pause here a load may be over before it is seen: then another user is read.
    for user in USERS {
        if is_stopped_while_it_loads(&service, &pid, user).await {
            assert_eq!(service.process().exit(SOON), 0);
            return;
        }
    }
    panic!("no load was seen under way");
}

/// Reads a user and sends SIGTERM meanwhile. False where the load was over before that.
async fn is_stopped_while_it_loads(service: &Service, pid: &str, user: u64) -> bool {
    let is_over = AtomicBool::new(false);
    let in_flight = async {
        let answer = service.balances(user).await;
        is_over.store(true, SeqCst);
        answer
    };
    let stop = async {
        let is_seen = eventually_async(SOON, "the load is under way", async || {
            if is_over.load(SeqCst) {
                return Some(false);
            }
            (counted(service, "loads_in_flight", &[]).await > 0).then_some(true)
        });
        if !is_seen.await {
            return false;
        }
        let sent = Command::new("kill").args(["-TERM", pid]).status();
        assert!(sent.unwrap().success());
        eventually_async(SOON, "nobody is let in", async || {
            TcpStream::connect(service.http()).is_err().then_some(())
        })
        .await;
        true
    };
    let (answer, is_stopped) = tokio::join!(in_flight, stop);
    assert_eq!(shown(&answer), are(&[("BTC", "3", 3)]));
    is_stopped
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    // Longer than all that follows.
    let setup = Setup::default()
        .with("limits.header_timeout_ms", 60_000)
        .with("limits.drain_ms", 60_000);
    let mut service = Service::start_ready(setup).await;
    let mut half = TcpStream::connect(service.http()).unwrap();
    half.write_all(
        b"POST /api/v1/settlements HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n",
    )
    .unwrap();
    // The request is under way when its body is asked for.
    let mut told = [0; 12];
    half.set_read_timeout(Some(SOON)).unwrap();
    half.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100");
    half.write_all(b"[").unwrap();
    shown(&service.balances(1001).await);
    service.process().signal("TERM");
    let gone = "nobody is let in";
    eventually_async(SOON, gone, async || {
        TcpStream::connect(service.http()).is_err().then_some(())
    })
    .await;
    assert_eq!(service.process().exited(), None, "it waits for the request");
    service.process().signal("INT");
    assert_eq!(service.process().exit(SOON), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_ledger_loses_nothing_acknowledged_when_it_is_killed() {
    let mut service = Service::start_ready(Setup::default()).await;
    for life in 1_i64..=3 {
        let pid = service.process().pid().to_string();
        let mut acknowledged = 0;
        loop {
            let seq = life * 1_000_000 + acknowledged + 1;
            let entry = |user: i64| json!({"user_id": user, "asset_id": 1, "seq": seq, "avail": seq, "frozen": 0});
            let request = service.request(Method::POST, "/api/v1/ledger/entries");
            let answer = service
                .try_send(request.json(&json!([entry(1), entry(2)])))
                .await;
            match answer {
                Some(answer) => assert_eq!(
                    answer.data(),
                    json!({"written": 2, "repeated": 0}),
                    "{}",
                    answer.body
                ),
                None => break,
            }
            acknowledged += 1;
            if acknowledged == 20 {
                // It may come before, in or after any of the next requests.
                assert!(
                    Command::new("sh")
                        .args(["-c", &format!("kill -9 {pid} &")])
                        .status()
                        .unwrap()
                        .success()
                );
            }
        }
        service.restart().await;
        service.ready().await;
        for user in [1, 2] {
            let seen = shown(&service.balances(user).await);
            let least = life * 1_000_000 + acknowledged;
            assert!(
                (least..=least + 1).contains(&seen[0].2),
                "life {life}: {seen:?}, acknowledged {least}"
            );
        }
        let both = (service.balances(1).await, service.balances(2).await);
        assert_eq!(
            both.0.body, both.1.body,
            "a request is written whole or not at all"
        );
    }
}
