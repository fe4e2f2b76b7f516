//! The CQL source when its database is away, silent, secured, or without views. Each test has a node of its own.

use std::{fs, net::Ipv4Addr};

use balance_cache::{
    config::ReadFrom,
    ledger::{
        LedgerError, Source, SourceReadiness, WriteError,
        scylla::{Scylla, schema},
    },
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use std::time::Duration;
use tokio::time::Instant;

use crate::support::{
    cassandra::{Cassandra, Options},
    cql::{Place, asset, catalogue, entry, until, user},
};

/// A statement that takes as long does not end by its own time.
const HANGS: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_08_a_database_that_is_down_or_silent_is_an_error_and_never_an_empty_balance() {
    let mut node = Cassandra::start(&Options {
        durable: true,
        ..Options::default()
    });
    let place = Place::new(&node).applied().await;
    let known = catalogue([1]);
    let before = place.open(ReadFrom::View, &known).await;
    before.writes(&[entry(1, 1, 1, 10)]).await;
    before.shows(1, &[(1, 1, 10)]).await;
    let identity = before.scylla.identity().unwrap();
    drop(before);

    // Away at start: it lives, says so at once, and comes by itself.
    node.stop();
    let mut impatient = place.clone();
    impatient.timeout = Duration::from_secs(2);
    let source = impatient.begin(ReadFrom::View, &known);
    source
        .not_ready("the database cannot be reached: the connection is refused")
        .await;
    let asked = Instant::now();
    assert!(matches!(
        source.scylla.load_snapshot(user(1)).await,
        Err(LedgerError::Unavailable(_))
    ));
    let latest = source.scylla.load_latest(user(1), &[asset(1)]).await;
    assert!(matches!(latest, Err(LedgerError::Unavailable(_))));
    let written = source.scylla.write_entries(&[entry(1, 1, 2, 2)]).await;
    assert!(matches!(
        written,
        Err(WriteError::Source(LedgerError::Unavailable(_)))
    ));
    assert!(asked.elapsed() < HANGS, "at once");
    assert_eq!(source.scylla.identity(), None);
    node.start_again();
    source.ready().await;
    assert_eq!(source.scylla.identity().unwrap(), identity);
    source.shows(1, &[(1, 1, 10)]).await;

    // Silent: the statement's own time, not more. Its connection may be given up before.
    node.pause();
    let asked = Instant::now();
    assert!(matches!(
        source.scylla.load_snapshot(user(1)).await,
        Err(LedgerError::Timeout | LedgerError::Unavailable(_))
    ));
    let took = asked.elapsed();
    assert!(took < HANGS, "{took:?}");
    failing(&source.scylla).await;
    node.resume();
    source.ready().await;
    source.shows(1, &[(1, 1, 10)]).await;

    // Killed: fails fast, and comes back by itself.
    node.stop();
    until("a load fails", async || {
        source.scylla.load_snapshot(user(1)).await.is_err()
    })
    .await;
    failing(&source.scylla).await;
    let asked = Instant::now();
    assert!(source.scylla.load_snapshot(user(1)).await.is_err());
    let took = asked.elapsed();
    assert!(took < HANGS, "{took:?}");
    node.start_again();
    source.ready().await;
    source.shows(1, &[(1, 1, 10)]).await;
    assert_eq!(source.scylla.identity().unwrap(), identity);
}

async fn failing(scylla: &Scylla) {
    until("failing", async || {
        matches!(scylla.readiness(), SourceReadiness::Failing(_))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cassandra_without_views_is_told_by_name_over_tls_and_with_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(own_names()).unwrap();
    let (keystore, authority) = (folder.path().join("node.pem"), folder.path().join("ca.pem"));
    fs::write(&keystore, key.signing_key.serialize_pem() + &key.cert.pem()).unwrap();
    fs::write(&authority, key.cert.pem()).unwrap();
    let node = Cassandra::start(&Options {
        without_views: true,
        password: true,
        tls: Some(keystore),
        ..Options::default()
    });
    let place = Place::new(&node).with(|s| {
        s.tls_ca_file = authority;
        s.username = "cassandra".to_owned();
        s.password = "cassandra".to_owned();
    });

    let mut refused = String::new();
    until("views are refused", async || {
        // Before the first user is made, it is the password that is refused.
        let applied = schema::apply_schema(&place.settings, &place.source(ReadFrom::View)).await;
        refused = applied.unwrap_err().to_string();
        refused.contains("materialized_views_enabled")
    })
    .await;
    let source = place.begin(ReadFrom::View, &catalogue([1]));
    let reason = source.not_ready("materialized_views_enabled").await;
    for text in [refused, reason] {
        assert!(text.contains("materialized_views_enabled: true"), "{text}");
        assert!(text.contains("source.read_from = \"table\""), "{text}");
    }

    // The way out that the text names.
    let applied = schema::apply_schema(&place.settings, &place.source(ReadFrom::Table))
        .await
        .unwrap();
    assert!(applied.to_string().contains("left out"), "{applied}");
    let status = schema::read_status(&place.settings, &place.source(ReadFrom::Table))
        .await
        .unwrap();
    assert!(status.is_ready(), "{status}");
    let table = place.open(ReadFrom::Table, &catalogue([1])).await;
    table.writes(&[entry(1, 1, 4, 40)]).await;
    table.shows(1, &[(1, 4, 40)]).await;

    // Neither without the password nor without the authority.
    let without = place.clone().with(|s| s.password = "wrong".to_owned());
    without
        .begin(ReadFrom::Table, &catalogue([1]))
        .not_ready("the database refuses the user or password")
        .await;
    let without = place.with(|s| s.tls_ca_file = "".into());
    let plain = without.begin(ReadFrom::Table, &catalogue([1]));
    plain.not_ready("the database cannot be reached").await;
    assert!(plain.scylla.load_snapshot(user(1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_revoked_is_named_until_it_is_granted_again() {
    let node = Cassandra::start(&Options {
        password: true,
        ..Options::default()
    });
    let mut admin = None;
    until("the first user is made", async || {
        let builder = SessionBuilder::new().known_node(node.node());
        admin = builder.user("cassandra", "cassandra").build().await.ok();
        admin.is_some()
    })
    .await;
    let admin = admin.unwrap();
    let place = Place::new(&node).with(|s| {
        s.username = "cassandra".to_owned();
        s.password = "cassandra".to_owned();
    });
    let place = place.applied().await;
    for statement in [
        "CREATE ROLE app WITH PASSWORD = 'app' AND LOGIN = true",
        "GRANT SELECT ON KEYSPACE {ks} TO app",
        "GRANT SELECT ON system_distributed.view_build_status TO app",
    ] {
        place.cql(&admin, statement).await;
    }
    let app = place.clone().with(|s| {
        s.username = "app".to_owned();
        s.password = "app".to_owned();
    });
    let known = catalogue([1]);

    documented_grants_suffice(&admin, &place).await;

    // A user that only reads is in order, until a client wants to write.
    let reads_only = app.open(ReadFrom::Ledger, &known).await;
    let refused = reads_only.scylla.write_entries(&[entry(1, 1, 1, 10)]).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("the right MODIFY on table"), "{said}");
    failing_with(&reads_only.scylla, "the right MODIFY on table").await;

    place
        .cql(&admin, "GRANT MODIFY ON KEYSPACE {ks} TO app")
        .await;
    reads_only.ready().await;
    reads_only.writes(&[entry(1, 1, 1, 10)]).await;

    // One that could is told without a write.
    place
        .cql(&admin, "REVOKE MODIFY ON KEYSPACE {ks} FROM app")
        .await;
    let reason = failing_with(&reads_only.scylla, "the right MODIFY on table").await;
    assert!(
        reason.contains(&node.node()) && reason.contains("GRANT"),
        "{reason}"
    );
    assert_eq!(
        reads_only
            .scylla
            .load_latest(user(1), &[asset(1)])
            .await
            .unwrap()
            .balances()
            .len(),
        1,
        "it answers reads as ever"
    );
}

/// The roles of `config/deploy/grants.cql`: the service writes and reads by the view, the tools look at everything.
async fn documented_grants_suffice(admin: &Session, place: &Place) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/deploy/grants.cql");
    let text = fs::read_to_string(path).unwrap();
    let keyspace = format!("KEYSPACE \"{}\"", place.settings.keyspace);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect();
    let text = lines.join("\n").replace("KEYSPACE trading", &keyspace);
    for statement in text.split(';').map(str::trim).filter(|it| !it.is_empty()) {
        admin.query_unpaged(statement, ()).await.unwrap();
    }
    let role = |name: &str, password: &str| {
        place.clone().with(|settings| {
            name.clone_into(&mut settings.username);
            password.clone_into(&mut settings.password);
        })
    };
    let service = role("balance_cache", "service-password");
    let view = service.open(ReadFrom::View, &catalogue([1])).await;
    view.writes(&[entry(9, 1, 1, 10)]).await;
    view.shows(9, &[(1, 1, 10)]).await;
    let tools = role("balance_cache_tools", "tools-password");
    let status = schema::read_status(&tools.settings, &tools.source(ReadFrom::View))
        .await
        .unwrap();
    assert!(status.is_ready(), "{status}");
    let refused = tools.open(ReadFrom::Ledger, &catalogue([1])).await;
    let refused = refused.scylla.write_entries(&[entry(9, 1, 2, 10)]).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("the right MODIFY")
    );
}

/// Waits until it is failing with a reason that contains this.
async fn failing_with(scylla: &Scylla, part: &str) -> String {
    let mut said = String::new();
    until(&format!("failing: {part}"), async || {
        if let SourceReadiness::Failing(reason) = scylla.readiness() {
            said = reason.to_string();
        }
        said.contains(part)
    })
    .await;
    said
}

/// Every address that a node of these tests may have.
fn own_names() -> Vec<String> {
    let [.., high, low] = std::process::id().to_be_bytes();
    (1..=u8::MAX)
        .map(|last| Ipv4Addr::new(127, high.max(1), low, last).to_string())
        .collect()
}
