//! The binary from outside: its settings, its tokens, its end, and what it has after a crash.

use std::{io::Write as _, net::TcpStream, process::Command};

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
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000)]).await;
    let proxy = Proxy::start(stage.address());
    let mut service = Service::start_ready(
        // A connection to PostgreSQL asks several times before its first answer.
        stage
            .setup_at(proxy.address())
            .with("source.timeout_ms", 5_000)
            .with("limits.deadline_ms", 10_000),
    )
    .await;
    let pid = service.process().pid().to_string();
    proxy.set(Mode::Delay(std::time::Duration::from_millis(300)));
    let in_flight = service.balances(1);
    let stop = async {
        eventually_async(SOON, "the load is under way", async || {
            (counted(&service, "loads_in_flight", &[]).await > 0).then_some(())
        })
        .await;
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        eventually_async(SOON, "nobody is let in", async || {
            TcpStream::connect(service.http()).is_err().then_some(())
        })
        .await;
    };
    let (answer, ()) = tokio::join!(in_flight, stop);
    assert_eq!(shown(&answer), are(&[("BTC", "3", 3)]));
    assert_eq!(service.process().exit(SOON), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let mut service = Service::start_ready(Setup::default()).await;
    let mut half = TcpStream::connect(service.http()).unwrap();
    half.write_all(
        b"POST /api/v1/settlements HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n[",
    )
    .unwrap();
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
