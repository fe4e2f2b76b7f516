//! A Redis that answers and takes no settlements: `/readyz`, the metric and `doctor` name it with address, cause and cure.

use std::collections::BTreeSet;

use crate::{
    cli_support::Said,
    redis_compat::acknowledged,
    settlement_support::{SETTLEMENTS, SOON, embedded, short, values},
    support::{
        eventually::{eventually, eventually_async},
        redis::{Options, Redis},
        service::Service,
        stage::{counted, in_order, is_failure, readiness},
    },
};

/// What is done to Redis, what is said of it, the code of the metric, and what mends it.
const CASES: [(&[&str], &str, &str, &[&str]); 6] = [
    (
        &["CONFIG", "SET", "min-replicas-to-write", "1"],
        "takes no writes: it has fewer good replicas than min-replicas-to-write (NOREPLICAS)",
        "redis_no_replicas",
        &["CONFIG", "SET", "min-replicas-to-write", "0"],
    ),
    (
        &["CONFIG", "SET", "maxmemory", "1"],
        "is full: maxmemory is used up (OOM)",
        "redis_full",
        &["CONFIG", "SET", "maxmemory", "0"],
    ),
    (
        &["ACL", "SETUSER", "default", "-evalsha"],
        "forbids this user the command EVALSHA (NOPERM)",
        "redis_forbidden",
        &["ACL", "SETUSER", "default", "+@all"],
    ),
    (
        &["ACL", "SETUSER", "default", "-xadd"],
        "forbids this user the command XADD (NOPERM)",
        "redis_forbidden",
        &["ACL", "SETUSER", "default", "+@all"],
    ),
    (
        &["ACL", "SETUSER", "default", "-hset"],
        "forbids this user the command HSET (NOPERM)",
        "redis_forbidden",
        &["ACL", "SETUSER", "default", "+@all"],
    ),
    (
        &[
            "ACL",
            "SETUSER",
            "default",
            "resetkeys",
            "~balance:*",
            "~settlement:events",
        ],
        "",
        "",
        &["ACL", "SETUSER", "default", "allkeys"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_settlements_from_succeeding_is_named_and_goes_away_by_itself() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let address = redis.address().to_string();
    for (seq, (breaks, said, code, mends)) in (1..).zip(CASES) {
        let _: redis::Value = redis.ask(breaks);
        if said.is_empty() {
            // These keys are all that is needed.
            acknowledged(&service, SETTLEMENTS, &values(1, 1, seq, 5)).await;
            let _: redis::Value = redis.ask(mends);
            continue;
        }
        // The settlement stream may be told of first.
        readiness(&service, "degraded", "settlements: ").await;
        let ready = readiness(&service, "degraded", said).await.body;
        assert!(
            ready.contains(&address) && ready.contains("settlements: "),
            "{ready}"
        );
        assert!(!ready.contains("extension error"), "{ready}");
        let of_code = format!("code=\"{code}\"");
        assert_eq!(counted(&service, "finding", &[&of_code]).await, 1);
        assert_eq!(counted(&service, "degraded", &["settlements"]).await, 1);
        is_failure(
            &service.post(SETTLEMENTS, &values(1, 1, seq, 5)).await,
            503,
            5033,
        );
        let doctor = Said::of(service.run(&["doctor"]));
        let line = doctor
            .has(1, &[])
            .line(&["FAIL", "redis.settle"])
            .to_owned();
        assert!(line.contains(said) && line.contains("Fix: "), "{line}");
        let _: redis::Value = redis.ask(mends);
        eventually_async(SOON, "nothing is said any more", async || {
            let ready = service.get_ops("/readyz").await.body;
            (!ready.contains("settlements: ")).then_some(())
        })
        .await;
        acknowledged(&service, SETTLEMENTS, &values(1, 1, seq, 5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trying_a_settlement_changes_nothing() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    acknowledged(&service, SETTLEMENTS, &values(1, 1, 1, 5)).await;
    let feed: i64 = redis.ask(&["XLEN", "balance:invalidations"]);
    let tried = || {
        let stats: String = redis.ask(&["INFO", "commandstats"]);
        let line = stats
            .lines()
            .find(|line| line.starts_with("cmdstat_pexpireat:"));
        line.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let first = tried();
    eventually(SOON, "it was tried twice more", || {
        (tried() >= first + 2).then_some(())
    });
    let mut keys: BTreeSet<String> = redis.ask(&["KEYS", "*"]);
    // Made on their own clock.
    keys.retain(|key| !key.starts_with("balance:total"));
    let known = [
        "balance:epoch",
        "balance:invalidations",
        "balance:source",
        "balance:user:1",
        "settlement:events",
    ];
    let known = BTreeSet::from(known.map(str::to_owned));
    assert!(keys.is_subset(&known), "{keys:?}");
    assert_eq!(redis.ask::<i64>(&["XLEN", "balance:invalidations"]), feed);
    Said::of(service.run(&["doctor"])).line(&["ok", "redis.settle"]);
    assert_eq!(redis.ask::<i64>(&["EXISTS", "balance:user:0"]), 0);
    assert_eq!(redis.ask::<i64>(&["XLEN", "balance:invalidations"]), feed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_may_not_be_looked_at_is_named_and_not_filled() {
    let redis = Redis::start();
    let service = embedded(&redis).await;
    let _: String = redis.ask(&["ACL", "SETUSER", "default", "-xinfo|stream"]);
    let said = readiness(&service, "degraded", "feed: ").await;
    readiness(&service, "degraded", "XINFO|STREAM").await;
    assert!(said.body.contains("degraded"));
    let length: i64 = redis.ask(&["XLEN", "balance:invalidations"]);
    let looks = || {
        let stats: String = redis.ask(&["INFO", "commandstats"]);
        let line = stats.lines().find(|line| line.starts_with("cmdstat_info:"));
        line.and_then(|line| line.split(['=', ',']).nth(1)?.parse::<u64>().ok())
            .unwrap()
    };
    let first = looks();
    eventually(SOON, "it went on for a while", || {
        (looks() >= first + 10).then_some(())
    });
    let after: i64 = redis.ask(&["XLEN", "balance:invalidations"]);
    assert!(after <= length + 1, "{length} entries became {after}");
    let _: String = redis.ask(&["ACL", "SETUSER", "default", "+@all"]);
    in_order(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_in_single_mode_is_named() {
    let redis = Redis::start_with(Options {
        cluster: true,
        ..Options::default()
    });
    let _: String = redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    eventually(SOON, "its slots are served", || {
        let info: String = redis.ask(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok").then_some(())
    });
    let service = Service::start_ready(short(&redis.url())).await;
    readiness(
        &service,
        "degraded",
        "is a node of a Redis Cluster and redis.mode is single",
    )
    .await;
    is_failure(
        &service.post(SETTLEMENTS, &values(1, 1, 1, 5)).await,
        503,
        5033,
    );
    let doctor = Said::of(service.run(&["doctor"]));
    doctor.has(1, &[]).line(&["FAIL", "redis.settle"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_be_used_is_named_with_its_address_and_the_cure() {
    let redis = Redis::start();
    let _: String = redis.ask(&["CONFIG", "SET", "requirepass", "right"]);
    let wrong = redis.url().replace("redis://", "redis://:hush-hush@");
    let address = redis.address().to_string();
    let cases = [
        (
            redis.url(),
            "wants a user or password and none was given (NOAUTH)",
        ),
        (wrong, "refuses the user or password (WRONGPASS)"),
    ];
    for (url, said) in cases {
        let mut service = Service::start_ready(short(&url)).await;
        let ready = readiness(&service, "degraded", said).await.body;
        assert!(
            ready.contains(&address) && ready.contains("redis.url"),
            "{ready}"
        );
        let log = service.process().stderr();
        assert!(log.contains(said), "{log}");
        assert!(!ready.contains("hush") && !log.contains("hush"), "{log}");
    }
}
