//! Redis and Valkey as others run them: least rights, any password, client certificates, a far server, a server that hides who it
//! is, a stream that is deleted. `BALANCE_CACHE_TEST_REDIS_SERVER` chooses the server.

use std::fs;

use crate::{
    cli_support::{Apart, Said},
    settlement_support::{INVALIDATE, SETTLEMENTS, SOON, STREAM, embedded, short, values, whole},
    support::{
        eventually::{eventually, eventually_async},
        proxy::{Mode, Proxy},
        redis::{Options, Redis, is_valkey},
        rewrite::Rewriter,
        service::{Service, Setup},
        stage::{in_order, is_failure, readiness, way},
    },
};

/// All that a password may have: printable ASCII without the blank, and more.
const PASSWORD: &str = "!\"#$%&'()*+,-./0:;<=>?@A[\\]^_`a{|}~äπ✓";

/// Sent until it is acknowledged: a Redis that was just changed, or stood still for a second, refuses for a moment.
pub async fn acknowledged(service: &Service, path: &str, body: &serde_json::Value) {
    let answer = service.post_until_taken(path, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// A settlement by HTTP and one by the stream take effect, and the second read is a hit.
async fn works(service: &Service, redis: &Redis, seq: i64) {
    acknowledged(service, SETTLEMENTS, &values(1, 1, seq, 5)).await;
    let seq = (seq + 1).to_string();
    let event = [
        "user_id", "1", "asset_id", "1", "seq", &seq, "avail", "6", "frozen", "0",
    ];
    let _: String = redis.ask(&[&["XADD", STREAM, "*"][..], &event].concat());
    eventually_async(SOON, "the stream's entry takes effect", async || {
        let shown = service.balances(1).await;
        shown.body.contains(&format!("\"seq\":{seq}")).then_some(())
    })
    .await;
}

/// The rules of a user in `config/deploy/redis-acl.conf`, as `ACL SETUSER` takes them.
fn rules(user: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/deploy/redis-acl.conf");
    let text = fs::read_to_string(path).unwrap();
    let begin = format!("user {user} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap().split(' ').map(str::to_owned).collect()
}

pub fn make_user(redis: &Redis, user: &str) {
    let rules = rules(user);
    let mut words = vec!["ACL", "SETUSER", user];
    words.extend(rules.iter().map(String::as_str));
    let _: String = redis.ask(&words);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_suffice_for_service_tools_and_producer_and_none_is_too_much() {
    let redis = Redis::start_with(Options {
        appendonly: true,
        ..Options::default()
    });
    for user in ["balance-cache", "balance-cache-tools", "settlement"] {
        make_user(&redis, user);
    }
    let with = |user: &str, password: &str| {
        short(&redis.url())
            .with("redis.username", user)
            .with("redis.password", password)
    };
    let setup =
        with("balance-cache", "service-password").with("memory.warm_on_start", "background");
    let mut service = Service::start_ready(setup).await;
    whole(&service).await;
    works(&service, &redis, 1).await;
    let ended = ["CREATECONSUMER", STREAM, "balance-cache", "ended"];
    let _: u64 = redis.ask(&[&["XGROUP"][..], &ended].concat());
    eventually(SOON, "the most-read users are listed", || {
        let lists: Vec<String> = redis.ask(&["KEYS", "balance:most_read:*"]);
        (!lists.is_empty()).then_some(())
    });
    let _: String = redis.ask(&["XADD", STREAM, "*", "unreadable", "1"]);
    eventually(SOON, "what cannot be read is put aside", || {
        let dead: u64 = redis.ask(&["XLEN", &format!("{STREAM}:dead")]);
        (dead >= 1).then_some(())
    });
    let invalidate = serde_json::json!({"user_ids": [1], "floors": true});
    acknowledged(&service, INVALIDATE, &invalidate).await;
    works(&service, &redis, 11).await;
    in_order(&service).await;

    let tools = service
        .setup()
        .with("redis.username", "balance-cache-tools")
        .with("redis.password", "tools-password");
    let doctor = Said::of(tools.run(&["doctor"]));
    doctor.line(&["ok", "redis.settle"]);
    doctor.line(&["ok", "redis.stream"]);
    assert!(!format!("{doctor}").contains("NOPERM"), "{doctor}");
    let product = if is_valkey() { "valkey" } else { "redis" };
    assert!(
        doctor.line(&["ok", "redis.version"]).contains(product),
        "{doctor}"
    );
    let traced = Said::of(tools.run(&["get", "1", "--trace"]));
    assert!(!format!("{traced}").contains("NOPERM"), "{traced}");

    let mut producer = redis.connection();
    let login: redis::RedisResult<String> = redis::cmd("AUTH")
        .arg(&["settlement", "settlement-password"])
        .query(&mut producer);
    login.unwrap();
    let event = ["user_id", "1", "asset_id", "1"];
    let told: redis::RedisResult<String> = redis::cmd("XADD")
        .arg(STREAM)
        .arg("*")
        .arg(&event)
        .query(&mut producer);
    told.unwrap();
    let refused: redis::RedisResult<String> =
        redis::cmd("GET").arg("balance:source").query(&mut producer);
    assert_eq!(refused.unwrap_err().code(), Some("NOPERM"));
    eventually(SOON, "the consumer that ended is removed", || {
        let consumers: Vec<redis::Value> =
            redis.ask(&["XINFO", "CONSUMERS", STREAM, "balance-cache"]);
        (consumers.len() == 1).then_some(())
    });
    let log = service.process().stderr();
    assert!(!log.contains("NOPERM"), "{log}");
}

#[test]
fn doctor_fails_where_the_stream_cannot_be_followed() {
    let redis = Redis::start_with(Options {
        appendonly: true,
        ..Options::default()
    });
    let _: String = redis.ask(&["XADD", STREAM, "*", "a", "b"]);
    for command in ["xreadgroup", "xack", "xautoclaim"] {
        let _: String = redis.ask(&["ACL", "SETUSER", "default", "+@all", &format!("-{command}")]);
        let said = Apart::new(short(&redis.url())).run(&["doctor", "--before-start"]);
        let line = said.has(1, &[]).line(&["FAIL", "redis.follow"]);
        let right = format!("+{}", command.to_uppercase());
        assert!(line.contains(&right), "{line}");
    }
    let _: String = redis.ask(&["ACL", "SETUSER", "default", "+@all"]);
    let said = Apart::new(short(&redis.url())).run(&["doctor", "--before-start"]);
    said.has(0, &[" 0 faults"]);
    assert_eq!(
        redis.ask::<u64>(&["XLEN", STREAM]),
        1,
        "nothing was written"
    );
    assert_eq!(
        redis
            .ask::<Vec<redis::Value>>(&["XINFO", "GROUPS", STREAM])
            .len(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_may_have_any_character_in_its_setting_or_as_percent_codes() {
    let redis = Redis::start();
    let password = format!(">{PASSWORD}");
    let _: String = redis.ask(&[
        "ACL", "SETUSER", "us:er@x", "on", &password, "~*", "&*", "+@all",
    ]);
    let by_setting = short(&redis.url())
        .with("redis.username", "us:er@x")
        .with("redis.password", PASSWORD);
    let codes: Vec<_> = PASSWORD
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let percent_coded = codes.concat();
    let url = format!("valkey://us%3Aer%40x:{percent_coded}@{}/2", redis.address());
    for setup in [by_setting, short(&url)] {
        let (_, shown, _) = setup.run(&["config", "show"]);
        assert!(
            !shown.contains("a{|}~") && !shown.contains("%7B") && shown.contains("***"),
            "{shown}"
        );
        let service = Service::start_ready(setup).await;
        whole(&service).await;
        acknowledged(&service, SETTLEMENTS, &values(1, 1, 2, 5)).await;
    }
    let clients: u64 = redis.ask(&["HLEN", "balance:user:1"]);
    assert!(clients > 0, "the first one uses database 0");
    let both = short(&url).with("redis.password", PASSWORD);
    let (code, out, err) = both.run(&["config", "check"]);
    assert!(
        code == 2 && format!("{out}{err}").contains("leave one of them out"),
        "{out}{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_asks_for_a_clients_certificate_gets_it_on_every_connection() {
    let redis = Redis::start_with(Options {
        tls: true,
        tls_clients: true,
        ..Options::default()
    });
    let [cert, key] = redis.client_files();
    let url = redis.url().replace("rediss://", "valkeys://");
    let without = short(&url).with("redis.ca_file", redis.ca_file().display());
    let with = without.clone().with("redis.cert_file", cert.display());
    let (code, out, err) = with.run(&["config", "check"]);
    assert!(
        code == 2 && format!("{out}{err}").contains("need each other"),
        "{out}{err}"
    );
    let service = Service::start_ready(with.clone().with("redis.key_file", key.display())).await;
    whole(&service).await;
    acknowledged(&service, SETTLEMENTS, &values(1, 1, 2, 5)).await;
    let refused = Service::start_ready(without).await;
    readiness(&refused, "degraded", "redis.cert_file").await;
    let wrong = with.with("redis.key_file", redis.ca_file().display());
    let (code, _, err) = wrong.run(&["serve"]);
    assert!(
        code != 0 && err.contains("redis.key_file: holds no private key"),
        "{err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hides_who_it_is_is_not_trusted_and_named() {
    for (word, other) in [
        ("run_id:", "run_ix:"),
        ("role:", "rolx:"),
        ("master_replid:", "master_replix:"),
    ] {
        let redis = Redis::start();
        let relay = Rewriter::start(redis.address(), &[(word, other)]);
        let service = Service::start_ready(short(&format!("redis://{}", relay.address()))).await;
        let line = word.trim_end_matches(':');
        readiness(&service, "degraded", &format!("leaves {line} out of INFO")).await;
        let refused = service.post(SETTLEMENTS, &values(1, 1, 2, 5)).await;
        is_failure(&refused, 503, 5033);
        assert_eq!(service.balances(1).await.status, 200, "reads go on");
        let said = Said::of(service.run(&["doctor"]));
        assert!(
            said.line(&["FAIL", "redis.identity"]).contains(line),
            "{said}"
        );
        relay.switch(false);
        whole(&service).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_far_away_is_used_with_its_timeouts_raised() {
    let redis = Redis::start();
    let wire = Proxy::start(redis.address());
    // There and back: 100 ms.
    wire.set(Mode::Delay(std::time::Duration::from_millis(50)));
    let far = Setup::default()
        .with("redis.url", format!("redis://{}", wire.address()))
        .with("redis.timeout_ms", 1_000)
        .with("redis.connect_timeout_ms", 20_000)
        .with("settlement.max_staleness_ms", 5_000)
        .with("memory.ttl_ms", 1);
    let service = Service::start_ready(far).await;
    in_order(&service).await;
    acknowledged(&service, SETTLEMENTS, &values(1, 1, 2, 5)).await;
    eventually_async(SOON, "Redis answers", async || {
        let answer = service.balances(1).await;
        (way(&answer) == "redis; hit, memory; fwd=miss").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_or_a_change_of_role_is_no_refusal_of_the_stream_and_a_deleted_stream_is_logged() {
    let redis = Redis::start();
    let mut service = embedded(&redis).await;
    works(&service, &redis, 1).await;
    for _ in 0..3 {
        let _: String = redis.ask(&["FLUSHALL"]);
        eventually_async(SOON, "the feed is followed again", async || {
            let ready = service.get_ops("/readyz").await;
            assert!(!ready.body.contains("UNBLOCKED"), "{}", ready.body);
            (ready.json()["status"] == "ready").then_some(())
        })
        .await;
    }
    works(&service, &redis, 11).await;
    let _: u64 = redis.ask(&["DEL", STREAM]);
    let log = service.process();
    eventually(SOON, "the deletion is logged", || {
        log.stderr()
            .contains("the settlement stream or its group was deleted")
            .then_some(())
    });
    works(&service, &redis, 21).await;
    let other = Redis::start();
    let port = other.address().port().to_string();
    let _: String = redis.ask(&["REPLICAOF", "127.0.0.1", &port]);
    readiness(&service, "degraded", "is a replica").await;
    let _: String = redis.ask(&["REPLICAOF", "NO", "ONE"]);
    whole(&service).await;
    let log = service.process().stderr();
    assert!(!log.contains("UNBLOCKED"), "{log}");
    for word in [
        "duty=Follow",
        "error=open",
        "error=error",
        ": open",
        ": error",
    ] {
        assert!(!log.contains(word), "{word} in {log}");
    }
}
