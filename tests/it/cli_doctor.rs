//! `doctor`: faults of Redis, of the machine and of the service, planted in the real thing, each named with its remedy.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use serde_json::{Value, json};

use crate::{
    cli_support::{Apart, Said, run_behind},
    support::{
        eventually::eventually,
        proxy::{Mode, Proxy},
        redis::{Options, Redis},
        redis_cluster::RedisCluster,
        rewrite::Rewriter,
        service::{Service, Setup},
        stage::{SOON, in_order, readiness},
    },
};

const CHECK: [&str; 2] = ["doctor", "--before-start"];

/// What is said with this Redis before a ledger that is not there yet.
fn beside(setup: Setup) -> Said {
    Apart::new(setup).run(&CHECK)
}

fn with(settings: &[(&'static str, &str)]) -> Redis {
    let settings = settings
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect();
    Redis::start_with(Options {
        settings,
        ..Options::default()
    })
}

#[track_caller]
fn fails(said: &Said, check: &str, parts: &[&str]) {
    let line = said.has(1, &[]).line(&["FAIL", check]);
    for part in parts.iter().chain(&["Fix: "]) {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn a_redis_as_it_should_be_has_no_fault() {
    let redis = Redis::start_with(Options {
        appendonly: true,
        ..Options::default()
    });
    let said = beside(Setup::default().and(&redis));
    said.has(0, &[" 0 faults"]);
    for check in [
        "redis.version",
        "redis.eviction",
        "redis.persistence",
        "redis.clock",
        "redis.owner",
        "redis.stream",
        "redis.settle",
    ] {
        said.line(&["ok", check]);
    }
}

#[test]
fn fault_a_redis_that_is_down() {
    let mut redis = Redis::start();
    redis.kill9();
    fails(
        &beside(Setup::default().and(&redis)),
        "redis",
        &["cannot be reached: the connection is refused", "start it"],
    );
}

#[test]
fn fault_a_redis_that_is_silent() {
    let mut redis = Redis::start();
    redis.pause();
    fails(
        &beside(Setup::default().and(&redis)),
        "redis",
        &["does not answer in 2000 ms"],
    );
    redis.resume();
}

#[test]
fn fault_a_wrong_password_of_redis() {
    let redis = Redis::start();
    redis.ask::<String>(&["CONFIG", "SET", "requirepass", "right"]);
    for (user, word) in [("", "NOAUTH"), (":hush-hush@", "WRONGPASS")] {
        let url = redis.url().replace("redis://", &format!("redis://{user}"));
        let said = beside(Setup::default().with("redis.url", url));
        fails(&said, "redis", &[word, "redis://user:password@host"]);
        assert!(!said.out.contains("hush"), "{said}");
    }
}

#[test]
fn fault_a_redis_that_evicts() {
    let redis = with(&[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")]);
    fails(
        &beside(Setup::default().and(&redis)),
        "redis.eviction",
        &["maxmemory-policy is allkeys-lru", "noeviction"],
    );
    let harmless = with(&[("maxmemory-policy", "volatile-ttl")]);
    let said = beside(Setup::default().and(&harmless));
    assert!(
        said.has(0, &[])
            .line(&["warn", "redis.eviction"])
            .contains("volatile-ttl"),
        "{said}"
    );
}

#[test]
fn fault_a_redis_that_forgets_over_a_restart() {
    let said = beside(Setup::default().and(&Redis::start()));
    let line = said.has(0, &[]).line(&["warn", "redis.persistence"]);
    assert!(
        line.contains("appendonly is no") && line.contains("appendfsync always"),
        "{line}"
    );
    let careless = with(&[("appendonly", "yes"), ("appendfsync", "no")]);
    let said = beside(Setup::default().and(&careless));
    assert!(
        said.line(&["warn", "redis.persistence"])
            .contains("appendfsync is no"),
        "{said}"
    );
}

#[test]
fn fault_a_clock_that_is_wrong() {
    let redis = Redis::start();
    let now = balance_cache::clock::wall_now().0 / 1000;
    // The reply to TIME: its seconds, ten digits, of which the first four do not change in a month.
    let (right, wrong) = (
        format!("$10\r\n{}", now / 1_000_000),
        format!("$10\r\n{}", now / 1_000_000 - 1),
    );
    let relay = Rewriter::start(redis.address(), &[(&right, &wrong)]);
    let said = beside(Setup::default().with("redis.url", format!("redis://{}", relay.address())));
    fails(&said, "redis.clock", &["differ by 11 d", "chrony"]);
}

#[test]
fn fault_a_redis_that_is_too_old() {
    let redis = Redis::start();
    for (version, state, code) in [
        ("redis_version:5.", "FAIL", 1),
        ("redis_version:6.", "FAIL", 1),
    ] {
        let relay = Rewriter::start(redis.address(), &[("redis_version:7.", version)]);
        let said =
            beside(Setup::default().with("redis.url", format!("redis://{}", relay.address())));
        assert!(
            said.has(code, &[])
                .line(&[state, "redis.version"])
                .contains("upgrade"),
            "{said}"
        );
    }
}

#[test]
fn fault_a_replica_takes_no_writes() {
    let master = Redis::start();
    let replica = with(&[(
        "replicaof",
        &format!("127.0.0.1 {}", master.address().port()),
    )]);
    fails(
        &beside(Setup::default().and(&replica)),
        "redis.role",
        &["replica", "master"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_redis_of_another_source() {
    let redis = Redis::start();
    let first = Service::start_ready(Setup::default().and(&redis)).await;
    in_order(&first).await;
    let mut second = Service::start(Setup::default().and(&redis)).await;
    readiness(&second, "not_ready", "another source").await;
    // While it runs nobody else can ask its file who it is; the probes tell.
    let said = Said::of(second.run(&["doctor"]));
    fails(&said, "service", &["is not ready", "another source"]);
    assert_eq!(second.terminate(), 0);
    let said = Said::of(second.run(&CHECK));
    fails(
        &said,
        "redis.owner",
        &["another source: embedded:", "redis.namespace"],
    );
    let apart = second.setup().with("redis.namespace", "mine");
    Said::of(apart.run(&CHECK)).line(&["ok", "redis.owner"]);
}

#[test]
fn fault_a_redis_that_is_slow() {
    let redis = Redis::start();
    let proxy = Proxy::start(redis.address());
    proxy.set(Mode::Delay(Duration::from_millis(100)));
    let setup = Setup::default().with("redis.url", format!("redis://{}", proxy.address()));
    // One answer that comes too late ends the measurement; a quarter of the timeout is worth a word, on a busy machine it is more.
    let measured = |timeout: u64| {
        eventually(SOON, "all questions are answered", || {
            let said = beside(setup.clone().with("redis.timeout_ms", timeout));
            println!("{said}");
            said.out.contains("PING: p50").then_some(said)
        })
    };
    let said = measured(700);
    assert!(said.find(&["ok", "redis.latency"]).is_none(), "{said}");
    said.has(said.code, &["redis.timeout_ms"]);
    let strict = measured(10);
    fails(
        &strict,
        "redis.latency",
        &["PING: p50", "longer than redis.timeout_ms (10.0 ms)"],
    );
}

#[test]
fn unread_notifications_and_floors_that_end_early_are_warnings() {
    let redis = Redis::start();
    redis.ask::<String>(&["XADD", "settlement:events:dead", "*", "reason", "x"]);
    let said = beside(
        Setup::default()
            .and(&redis)
            .with("settlement.floor_ttl_ms", 80_000),
    );
    let line = said.has(0, &[]).line(&["warn", "redis.dead"]);
    assert!(line.contains("1 notifications could not be read"), "{line}");
    let line = said.line(&["warn", "settings.floors"]);
    assert!(
        line.contains("by 7 s") && line.contains("settlement.floor_ttl_ms"),
        "{line}"
    );
}

#[test]
fn fault_too_few_open_files() {
    let apart = Apart::new(Setup::default().with("limits.connections", 5_000));
    let said = run_behind(&apart.setup, "ulimit -n 300; exec", "", &CHECK);
    fails(
        &said,
        "machine.files",
        &[
            "300 open files",
            "limits.connections is 5000",
            "ulimit -n 5064",
        ],
    );
}

#[test]
fn secrets_that_everybody_may_read_are_a_warning() {
    let apart = Apart::new(Setup::default());
    let file = apart.folder.path().join("settings.toml");
    fs::write(&file, "[scylla]\nusername = \"u\"\npassword = \"hush\"\n").unwrap();
    let arguments = [
        "doctor",
        "--before-start",
        "--config",
        file.to_str().unwrap(),
    ];
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = apart.run(&arguments);
    assert!(
        said.line(&["warn", "settings.file"]).contains("chmod 640") && !said.out.contains("hush"),
        "{said}"
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    apart.run(&arguments).line(&["ok", "settings.file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_service_that_does_not_answer() {
    let mut service = Service::start_ready(Setup::default().with("limits.connections", 100)).await;
    let good = Said::of(service.run(&["doctor"]));
    good.has(0, &["in use by the running service", " 0 faults"]);
    good.has(0, &["a read: p50"]);
    for check in ["service", "service.version"] {
        good.line(&["ok", check]);
    }
    service.kill9();
    fails(
        &Said::of(service.run(&["doctor"])),
        "service",
        &["nothing listens there", "start it"],
    );
    let elsewhere = Said::of(service.run(&["doctor", "--url", "http://127.0.0.1:1"]));
    fails(&elsewhere, "service", &["http://127.0.0.1:"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_service_that_is_degraded_and_one_that_is_none() {
    let mut redis = Redis::start();
    let service =
        Service::start_ready(Setup::default().and(&redis).with("limits.connections", 100)).await;
    in_order(&service).await;
    redis.kill9();
    readiness(&service, "degraded", "redis").await;
    let said = Said::of(service.run(&["doctor"]));
    assert!(
        said.has(1, &[])
            .line(&["warn", "service"])
            .contains("is degraded: redis"),
        "{said}"
    );
    fails(&said, "redis", &["cannot be reached"]);
    // Clients' port where operators' should be.
    let crossed = service
        .setup()
        .with("redis.url", "")
        .with("ops.listen", service.http())
        .with("http.listen", service.ops());
    fails(
        &Said::of(crossed.run(&["doctor"])),
        "service",
        &["HTTP 404", "no balance-cache that answers"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_token_that_is_refused() {
    let (_, made, _) = Setup::default().run(&["auth", "token"]);
    let (token, block) = made.split_once('\n').unwrap();
    let setup = Setup {
        file: format!("[auth]\nmode = \"token\"\n{block}"),
        ..Setup::default()
    };
    let service = Service::start_ready(setup.with("limits.connections", 100)).await;
    let wrong = Said::of(service.run(&["doctor", "--token", "wrong"]));
    fails(&wrong, "service.token", &["HTTP 401", "auth.tokens"]);
    let none = Said::of(service.run(&["doctor"]));
    none.has(0, &["BALANCE_CACHE_TOKEN"])
        .line(&["warn", "service.api"]);
    none.line(&["warn", "auth"]);
    Said::of(service.run(&["doctor", "--token", token])).has(0, &["a read: p50"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_service_that_is_silent() {
    let mut service = Service::start_ready(Setup::default()).await;
    service.process().signal("STOP");
    let said = Said::of(service.run(&["doctor"]));
    fails(&said, "service", &["no answer in 5 s"]);
    service.process().signal("CONT");
}

#[test]
fn a_cluster_is_looked_at_through_all_its_masters() {
    let cluster = RedisCluster::start();
    let setup = Setup::default()
        .with("redis.url", cluster.url())
        .with("redis.mode", "cluster");
    let apart = Apart::new(setup);
    // A master that pauses for a second is out of the cluster for some more.
    let whole = |arguments: &[&str]| {
        eventually(SOON, "the cluster is whole", || {
            let said = apart.run(arguments);
            (said.code == 0).then_some(said)
        })
    };
    let said = whole(&CHECK);
    said.has(0, &[" 0 faults"]).line(&["ok", "redis.owner"]);
    assert_eq!(said.out.matches("redis.version").count(), 3, "{said}");
    let trace = ["get", "1001", "--trace", "--no-service"];
    whole(&trace).has(0, &["Redis holds nothing of this user"]);
    let top = apart.run(&["warm", "--top", "5"]);
    assert!(top.err.contains("a cluster is not walked through"), "{top}");
}

#[test]
fn programs_get_every_check_as_json() {
    let mut redis = Redis::start();
    redis.kill9();
    let apart = Apart::new(Setup::default().and(&redis));
    let said = apart.run(&["doctor", "--before-start", "--json"]);
    let page: Value = serde_json::from_str(&said.has(1, &[]).out).unwrap();
    assert_eq!(page["fail"], json!(1));
    let failed = page["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["state"] == json!("fail"))
        .unwrap();
    assert!(
        failed["name"] == json!("redis") && failed["remedy"].as_str().unwrap().contains("start it"),
        "{failed}"
    );
}
