//! What is told of settings, and of a Redis, that work and could hurt.

use crate::support::{
    redis::{Options, Redis},
    service::{Service, Setup},
    stage::readiness,
};

#[test]
fn config_check_gives_advice_with_the_keys_and_is_content() {
    let setup = Setup::default()
        .with("source.kind", "scylla")
        .with("scylla.consistency", "one")
        .with("audit.samples_per_second", 0);
    let (code, out, _) = setup.run(&["config", "check"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("the settings are right"), "{out}");
    for key in ["  scylla.consistency: ", "  audit.samples_per_second: "] {
        assert_eq!(out.matches(key).count(), 1, "{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_is_given_once_at_start_and_about_redis_when_the_link_comes_up() {
    let redis = Redis::start_with(Options {
        settings: vec![("maxmemory-policy", "allkeys-lru".to_owned())],
        ..Options::default()
    });
    let setup = Setup::default()
        .and(&redis)
        .with("limits.connections", 10_000_000);
    let mut service = Service::start_ready(setup).await;
    readiness(&service, "degraded", "maxmemory-policy").await;
    let log = service.process().stderr();
    for line in [
        "the settings work, and could hurt",
        "  source.kind: is embedded",
        "  limits.connections: is 10000000",
        "this redis works, and could hurt",
        "  redis: maxmemory-policy is allkeys-lru",
        "  redis: appendonly is no",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
}
