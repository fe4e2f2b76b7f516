//! `get`, `warm`, `completions` and the manners of the command line, against the real service.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cli_support::{Apart, Said, fill_redis, run_behind},
    support::{
        databases::on_each_database,
        proxy::{Mode, Proxy},
        redis::Redis,
        service::{Service, Setup},
        stage::{Database, Stage, in_order},
    },
};

/// Memory holds what was read for longer than any of these tests.
fn lasting() -> Setup {
    Setup::default().with("memory.ttl_ms", 60_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn get_shows_the_balances_and_tells_who_answered() {
    let mut service = Service::start_ready(lasting()).await;
    let cold = Said::of(service.run(&["get", "1001"]));
    cold.has(
        0,
        &[
            "the source answered; memory held nothing that lasts",
            "(source; hit, memory; fwd=miss)",
        ],
    );
    let btc = cold.line(&["BTC", "9100", "0", "17", "2025-12-10T07:40:41.955Z"]);
    assert!(btc.ends_with(" d"), "{btc}");
    let warm = Said::of(service.run(&["get", "1001", "--asset", "BTC"]));
    warm.has(0, &["memory answered and may go on to for"]);
    assert!(
        !warm.out.contains("USDT") && !warm.out.contains('\u{1b}'),
        "{warm}"
    );

    let json = Said::of(service.run(&["get", "1001", "--json"]));
    let page: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        page["balances"][0],
        json!({"asset": "BTC", "avail": "9100", "frozen": "0", "seq": 17, "updated_at": 1_765_352_441_955_i64})
    );
    Said::of(service.run(&["get", "7"])).has(0, &["has nothing"]);
    let unknown = Said::of(service.run(&["get", "1001", "--asset", "DOGE"]));
    assert!(
        unknown.code == 1 && unknown.err.contains("HTTP 400, status 1001"),
        "{unknown}"
    );
    service.kill9();
    let gone = Said::of(service.run(&["get", "1001"]));
    assert!(
        gone.code == 1
            && gone.err.contains("nothing listens there")
            && gone.err.lines().count() == 1,
        "{gone}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn history_shows_the_statement_and_the_trades_page_by_page() {
    let service = Service::start_ready(Setup::default()).await;
    let statement = ["history", "statement", "1001", "--asset", "BTC"];
    let with = |more: &[&str]| Said::of(service.run(&[&statement, more].concat()));
    let all = with(&[]);
    all.has(0, &["user 1001 at http://", "DELTA AVAIL"]);
    let newest = "17 2025-12-10T07:40:41.955Z deposit 1001017 2100 0 9100 0";
    all.line(&newest.split(' ').collect::<Vec<_>>());
    assert!(!all.out.contains("there are more"), "{all}");
    let json: Value = serde_json::from_str(&with(&["--json", "--limit", "2"]).out).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["seq"]), (2, &json!(17)));
    let next = json["next"].as_str().unwrap();
    let rest: Value = serde_json::from_str(&with(&["--json", "--cursor", next]).out).unwrap();
    assert!(rest["rows"][0]["seq"].as_i64() < rows[1]["seq"].as_i64());
    with(&["--limit", "1"]).has(0, &["there are more: --cursor "]);
    let oldest = with(&["--oldest-first", "--limit", "1", "--json"]);
    let oldest: Value = serde_json::from_str(&oldest.out).unwrap();
    assert!(oldest["rows"][0]["seq"].as_i64() < Some(17));
    let trades = |symbol| {
        let words = [
            "history", "trades", "1001", "--symbol", symbol, "--from", "1",
        ];
        Said::of(service.run(&words))
    };
    assert_eq!(trades("BTC_USDT").code, 0);
    let unknown = trades("BTC_DOGE");
    assert!(
        unknown.code == 1 && unknown.err.contains("HTTP 400, status 1001"),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_show_their_token_to_the_service_and_to_nobody_else() {
    let (_, made, _) =
        Setup::default().run(&["auth", "token", "--name", "tool", "--scopes", "read,admin"]);
    let (token, block) = made.split_once('\n').unwrap();
    let setup = Setup {
        file: format!("[auth]\nmode = \"token\"\n{block}"),
        ..Setup::default()
    };
    let service = Service::start_ready(setup).await;
    let without = Said::of(service.run(&["get", "1001"]));
    assert!(
        without.code == 1 && without.err.contains("HTTP 401, status 2001"),
        "{without}"
    );
    Said::of(service.run(&["get", "1001", "--token", token])).has(0, &["9100"]);
    let by_name = service.setup().raw("BALANCE_CACHE_TOKEN", token.to_owned());
    Said::of(by_name.run(&["get", "1001"])).has(0, &["9100"]);
    let help = Said::of(by_name.run(&["get", "--help"]));
    assert!(!help.out.contains(token), "{help}");
    run_behind(
        &by_name,
        "exec",
        "1001\n",
        &[
            "warm",
            "--users",
            "-",
            "--url",
            &format!("http://{}", service.http()),
        ],
    )
    .has(0, &["1 users, 1 loaded, 0 failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_loads_users_from_a_list_and_names_every_bad_line() {
    let service = Service::start_ready(lasting()).await;
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("users");
    fs::write(&list, "1001\n# a remark\n\n1002 # another\n1001\n").unwrap();
    let list = list.to_str().unwrap();
    let warmed = Said::of(service.run(&["warm", "--users", list, "--batch", "1"]));
    warmed.has(0, &["2 users, 2 loaded, 0 failed"]);
    let answer = service.balances(1002).await;
    assert!(
        answer.cache_status().starts_with("memory; hit"),
        "{answer:?}"
    );

    fs::write(list, "1001\n01\nx y\n1002\n").unwrap();
    let bad = Said::of(service.run(&["warm", "--users", list]));
    assert!(
        bad.code == 2
            && bad.err.contains("users:2: \"01\"")
            && bad.err.contains("users:3: \"x y\""),
        "{bad}"
    );
    let missing = Said::of(service.run(&["warm", "--users", "nowhere"]));
    assert!(
        missing.code == 2 && missing.err.contains("nowhere: No such file"),
        "{missing}"
    );
    let top = Said::of(service.run(&["warm", "--top", "10"]));
    assert!(
        top.code == 2 && top.err.contains("redis.url is empty"),
        "{top}"
    );
    let neither = Said::of(service.run(&["warm"]));
    assert!(
        neither.code == 2 && neither.err.contains("--users <FILE>"),
        "{neither}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_top_takes_the_users_that_redis_was_asked_for_last() {
    let redis = Redis::start();
    // A pause costs neither an entry nor the proof that memory is fresh.
    let setup = lasting()
        .and(&redis)
        .with("redis.namespace", "a-b")
        .with("redis.snapshot_ttl_ms", 300_000)
        .with("settlement.max_staleness_ms", 30_000);
    let mut service = Service::start_ready(setup).await;
    for user in [1001, 1002, 1003] {
        fill_redis(&service, &redis, "a-b:", user).await;
    }
    // Somebody else's keys, and one that is no user's.
    redis.ask::<String>(&["SET", "balance:user:9", "x"]);
    redis.ask::<String>(&["SET", "a-b:balance:user:me", "x"]);
    service.restart().await;
    in_order(&service).await;
    Said::of(service.run(&["warm", "--top", "2"])).has(0, &["2 users, 2 loaded, 0 failed"]);
    Said::of(service.run(&["warm", "--top", "50"])).has(0, &["3 users, 3 loaded, 0 failed"]);
    let answer = service.balances(1003).await;
    assert!(
        answer.cache_status().starts_with("memory; hit"),
        "{answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_cannot_be_loaded_is_counted_and_the_exit_code_says_so() {
    let apart = Apart::new(Setup::default());
    let refused = run_behind(&apart.setup, "exec", "1\n2\n", &["warm", "--users", "-"]);
    refused.has(1, &["2 users, 0 loaded, 2 failed"]);
    assert!(refused.err.contains("nothing listens there"), "{refused}");
}

async fn users_that_a_source_cannot_give_are_asked_for_again_and_then_counted(database: Database) {
    let stage = Stage::on(database).await;
    let proxy = Proxy::start(stage.address());
    let setup = stage.setup_at(proxy.address());
    let service = Service::start_ready(setup.with("source.timeout_ms", 2_000)).await;
    let warm = ["warm", "--users", "-", "--json"];
    let all = run_behind(&service.setup(), "exec", "1\n2\n", &warm);
    all.has(0, &["\"loaded\": 2", "\"failed\": 0"]);
    proxy.set(Mode::Cut);
    let some = run_behind(&service.setup(), "exec", "1\n2\n3\n", &warm);
    some.has(1, &["\"users\": 3", "some users could not be loaded"]);
    assert!(!some.out.contains("\"failed\": 0"), "{some}");
}

#[test]
fn help_has_examples_for_every_command_and_completions_name_them_all() {
    let commands = [
        "serve",
        "config",
        "schema",
        "auth",
        "get",
        "warm",
        "verify",
        "doctor",
        "completions",
    ];
    let whole = Said::of(Setup::default().run(&["--help"]));
    for command in commands {
        whole.has(0, &[command]);
        Said::of(Setup::default().run(&[command, "--help"]))
            .has(0, &["xample", &format!("balance-cache {command}")]);
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        Said::of(Setup::default().run(&["completions", shell])).has(0, &["doctor", "verify"]);
    }
    let wrong = Said::of(Setup::default().run(&["completions", "ksh"]));
    assert!(wrong.code == 2 && wrong.err.contains("ksh"), "{wrong}");
}

#[test]
fn mistakes_of_the_command_line_are_exit_code_2_and_say_what_to_do() {
    for (arguments, part) in [
        (&["get", "0"][..], "user_id must be a whole number"),
        (
            &["get", "1", "--url", "https://cache"],
            "must begin with http://",
        ),
        (&["get", "1", "--no-service"], "--trace"),
        (
            &["get", "1", "--trace", "--asset", "NONE"],
            "neither in the catalogue",
        ),
        (&["verify", "--all", "--sample", "5"], "cannot be used with"),
        (&["warm", "--top", "0"], "0 is not in"),
        (&["doctor", "--url", "nonsense"], "--url nonsense"),
        (&["schema", "status"], "source.kind is embedded"),
    ] {
        let said = Said::of(Setup::default().run(arguments));
        assert_eq!(
            (said.code, said.out.as_str()),
            (2, ""),
            "{arguments:?}: {said}"
        );
        assert!(said.err.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let apart = Apart::new(Setup::default());
    for command in [
        "completions bash",
        "config show",
        "doctor --before-start --json",
        "--help",
    ] {
        let before =
            format!("{{ trap '' PIPE; \"$@\" {command}; echo \"code $?\" >&2; }} | head -c 1 #");
        let said = run_behind(&apart.setup, &before, "", &[]);
        assert_eq!(said.out.len(), 1, "{command}: {said}");
        assert_eq!(said.err.trim(), "code 0", "{command}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_service_has_open_is_left_to_it_and_looked_into_when_it_is_free() {
    let mut service = Service::start_ready(Setup::default()).await;
    let entry = json!({"user_id": 1001, "asset_id": 77, "seq": 5, "avail": 12, "frozen": 0});
    let request = service
        .request(Method::POST, "/api/v1/ledger/entries")
        .json(&entry);
    assert_eq!(service.send(request).await.status, 200);
    let running = Said::of(service.run(&["get", "1001", "--trace"]));
    running.has(0, &["all that were asked agree"]);
    running.line(&["BTC", "ledger", "17", "9100"]);
    running.line(&["77", "ledger", "5", "12"]);
    running.line(&["service", "5", "12"]);
    let other = Setup {
        file: "symbols = []\n[[assets]]\nid = 1\nname = \"XBT\"\ndecimals = 8\n".to_owned(),
        ..service.setup()
    };
    Said::of(other.run(&["get", "1001", "--trace"])).has(
        0,
        &["! the service shows BTC, which [[assets]] here does not name"],
    );
    assert_eq!(service.terminate(), 0);
    let alone = Said::of(service.run(&["get", "1001", "--trace"]));
    alone.has(
        1,
        &["! the service could not be asked", "nothing listens there"],
    );
    let quiet = Said::of(service.run(&["get", "1001", "--trace", "--no-service", "--asset", "77"]));
    quiet.has(0, &["all that were asked agree"]);
    quiet.line(&["77", "ledger", "5", "12"]);
    assert!(!quiet.out.contains("BTC"), "{quiet}");
}

on_each_database! {
    users_that_a_source_cannot_give_are_asked_for_again_and_then_counted,
}
