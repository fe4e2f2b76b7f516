//! Kafka with TLS and users, and settings that cannot be used.

use crate::{
    settlement_support::{btc, values, whole},
    support::{
        eventually::eventually_async,
        kafka::{PASSWORD, SOON, USER, shared},
        redis::Redis,
        service::{Service, Setup},
        stage::readiness,
    },
};

const READER: u64 = 1004;

fn secured(
    setup: Setup,
    address: impl std::fmt::Display,
    mechanism: &str,
    password: &str,
) -> Setup {
    setup
        .with("settlement.kafka.brokers", address)
        .with("settlement.kafka.sasl", mechanism)
        .with("settlement.kafka.username", USER)
        .with("settlement.kafka.password", password)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_each_mechanism_is_followed_and_a_wrong_password_or_authority_is_told() {
    const TOPIC: &str = "secured";
    let kafka = shared().await;
    let redis = Redis::start();
    kafka.make_topic(TOPIC, 1, &[]).await;
    let address = kafka.secured_address();
    let setup = |mechanism: &str, password: &str| {
        secured(
            kafka.setup(&redis.url(), TOPIC),
            address,
            mechanism,
            password,
        )
        .with("settlement.kafka.tls_ca_file", kafka.ca_file().display())
        .with("redis.namespace", mechanism)
        .with("settlement.kafka.group", mechanism)
    };
    let wrong = setup("plain", "wrong").with("redis.namespace", "wrong");
    let wrong = Service::start_ready(wrong).await;
    readiness(&wrong, "degraded", "refuses the user or password").await;
    assert!(btc(&wrong, READER).await > 0, "reads go on");
    drop(wrong);
    let seq = 1_000_000;
    kafka
        .send(TOPIC, 0, None, Some(&values(READER, 1, seq, 1).to_string()))
        .await;
    for mechanism in ["plain", "scram_sha256", "scram_sha512"] {
        let service = Service::start_ready(setup(mechanism, PASSWORD)).await;
        eventually_async(SOON, mechanism, async || {
            (btc(&service, READER).await == seq).then_some(())
        })
        .await;
        whole(&service).await;
        eventually_async(SOON, "doctor sees the topic", async || {
            let (_, said, _) = service.run(&["doctor"]);
            said.contains("secured: 1 partitions").then_some(())
        })
        .await;
    }
    // The authority of another server, and no TLS where TLS is wanted.
    let other = Redis::start_with(crate::support::redis::Options {
        tls: true,
        ..Default::default()
    });
    let strange =
        setup("plain", PASSWORD).with("settlement.kafka.tls_ca_file", other.ca_file().display());
    eventually_async(SOON, "doctor tells of the authority", async || {
        let (code, said, _) = strange.run(&["doctor"]);
        (code != 0 && said.contains("TLS handshake")).then_some(())
    })
    .await;
}

#[test]
fn settings_that_cannot_be_used_are_refused_with_their_key() {
    let on = || Setup::default().with("settlement.kafka.brokers", "127.0.0.1:1");
    let folder = tempfile::TempDir::new().unwrap();
    let no_pem = folder.path().join("ca.pem");
    std::fs::write(&no_pem, "no certificate").unwrap();
    for (setup, key, code) in [
        (
            on().with("settlement.kafka.brokers", "kafka"),
            "settlement.kafka.brokers[0]",
            2,
        ),
        (
            on().with("settlement.kafka.topic", "a b"),
            "settlement.kafka.topic",
            2,
        ),
        (
            on().with("settlement.kafka.sasl", "plain"),
            "settlement.kafka.sasl",
            2,
        ),
        (
            on().with("settlement.kafka.username", "x"),
            "settlement.kafka.sasl",
            2,
        ),
        (
            on().with("settlement.kafka.sasl", "gssapi"),
            "settlement.kafka.sasl",
            2,
        ),
        (
            on().with("settlement.kafka.tls_key_file", "x"),
            "settlement.kafka.tls_",
            2,
        ),
        (
            on().with("settlement.fields.seq", "seq"),
            "settlement.fields.seq",
            2,
        ),
        (
            on().with("settlement.fields.seq", "/avail/x"),
            "settlement.fields.seq",
            2,
        ),
        (
            on().with("settlement.kafka.tls_ca_file", "nowhere.pem"),
            "settlement.kafka.tls_ca_file: nowhere.pem",
            1,
        ),
        (
            on().with("settlement.kafka.tls_ca_file", no_pem.display()),
            "holds no certificate",
            1,
        ),
    ] {
        let (ended, out, error) = setup
            .with("http.listen", "127.0.0.1:0")
            .with("ops.listen", "127.0.0.1:0")
            .run(&["serve"]);
        assert!(error.contains(key), "{key}: {out}{error}");
        assert_eq!(ended, code, "{key}: {error}");
    }
}
