//! PostgreSQL that is away, silent, refusing, failed over or behind: an error and never an empty snapshot, and back by itself.

use std::{fs, path::PathBuf, time::Duration};

use balance_cache::{
    config::{ReadFrom, SslMode},
    ledger::{LedgerError, Source, SourceReadiness},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::support::{
    cql::{asset, told, until, user},
    pg_place::{PgPlace, PgRunning},
    postgres::{PgOptions, PgServer, SUPERUSER, shared},
};

const ROW: &str =
    "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail) VALUES (1, 1, 1, 5)";
pub const NEXT_ROW: &str =
    "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail) VALUES (1, 1, 2, 6)";

pub async fn with_a_row(server: &PgServer) -> PgPlace {
    let place = PgPlace::create(server).await.applied().await;
    server.execute(&place.database, ROW).await;
    place
}

/// Loads until the row of this seq is shown; everything before it is an error or an older row, never nothing.
pub async fn shows(running: &PgRunning, seq: i64) {
    until(&format!("a load shows seq {seq}"), async || {
        match running.source.load_snapshot(user(1)).await {
            Ok(snapshot) => {
                assert_eq!(snapshot.balances().len(), 1, "an empty snapshot");
                snapshot.balances()[0].seq.get() == seq
            }
            Err(_) => false,
        }
    })
    .await;
}

/// Waits until a standby shows so many rows.
pub async fn has_rows(standby: &PgServer, place: &PgPlace, count: i64) {
    let client = standby.client(&place.database).await;
    until(&format!("the standby has {count} rows"), async || {
        let counted = "SELECT count(*) FROM trading.balance_ledger";
        let row = client.query_one(counted, &[]).await;
        row.unwrap().get::<_, i64>(0) == count
    })
    .await;
}

async fn failing(running: &PgRunning) {
    until("the source is failing", async || {
        matches!(running.source.readiness(), SourceReadiness::Failing(_))
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_is_used_again_by_itself() {
    let mut server = PgServer::start(&PgOptions::default());
    let place = with_a_row(&server).await;
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    for end in [PgServer::kill9, PgServer::stop] {
        end(&mut server);
        let refused = running.source.load_snapshot(user(1)).await;
        assert!(
            matches!(refused, Err(LedgerError::Unavailable(_))),
            "{refused:?}"
        );
        failing(&running).await;
        server.launch();
        shows(&running, 1).await;
        running.ready().await;
    }
    // At the start of an instance, too.
    server.stop();
    let later = place.begin(ReadFrom::View);
    let reason = later.not_ready("the connection is refused").await;
    assert!(reason.contains("correct postgres.url"), "{reason}");
    assert!(later.source.load_snapshot(user(1)).await.is_err());
    server.launch();
    later.ready().await;
    shows(&later, 1).await;
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_and_its_connections_are_not_used_again() {
    let server = PgServer::start(&PgOptions::default());
    let mut place = with_a_row(&server)
        .await
        .with(|settings| settings.connections = 2);
    place.timeout = Duration::from_secs(2);
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    server.pause();
    for _ in 0..3 {
        let silent = running.source.load_snapshot(user(1)).await;
        assert!(
            matches!(
                silent,
                Err(LedgerError::Timeout | LedgerError::Unavailable(_))
            ),
            "{silent:?}"
        );
    }
    failing(&running).await;
    server.resume();
    shows(&running, 1).await;
    running.ready().await;
}

#[tokio::test]
async fn a_statement_that_waits_for_a_lock_ends_by_itself() {
    let mut place = with_a_row(shared()).await;
    place.timeout = Duration::from_secs(2);
    let running = place.open(ReadFrom::View).await;
    let mut client = shared().client(&place.database).await;
    let holder = client.transaction().await.unwrap();
    holder
        .batch_execute("LOCK TABLE trading.balance_ledger IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let waiting = running.source.load_snapshot(user(1)).await;
    assert!(matches!(waiting, Err(LedgerError::Timeout)), "{waiting:?}");
    holder.rollback().await.unwrap();
    shows(&running, 1).await;
}

#[tokio::test]
async fn a_wrong_password_a_missing_database_and_a_missing_right_are_said() {
    let server = PgServer::start(&PgOptions {
        password: true,
        ..PgOptions::default()
    });
    let place = with_a_row(&server).await;
    server
        .execute(
            &place.database,
            "CREATE ROLE app LOGIN PASSWORD 'a p@ss/word'",
        )
        .await;
    let as_app = |password: &str| {
        let url = format!("postgresql://{}/{}", server.address(), place.database);
        place.clone().with(|settings| {
            settings.url = url;
            settings.username = "app".to_owned();
            settings.password = password.to_owned();
        })
    };
    let wrong = as_app("wrong").begin(ReadFrom::View);
    let reason = wrong.not_ready("refuses the user or password").await;
    assert!(!reason.contains("wrong"), "{reason}");
    let right = as_app("a p@ss/word");
    let forbidden = right.begin(ReadFrom::View);
    let reason = forbidden.not_ready("refuses this user").await;
    assert!(reason.contains("GRANT"), "{reason}");
    let grant =
        "GRANT USAGE ON SCHEMA trading TO app; GRANT SELECT ON ALL TABLES IN SCHEMA trading TO app";
    server.execute(&place.database, grant).await;
    forbidden.ready().await;
    shows(&forbidden, 1).await;
    let elsewhere = place
        .clone()
        .with(|settings| settings.url = server.url("nowhere"));
    elsewhere
        .begin(ReadFrom::View)
        .not_ready("there is no such database")
        .await;
}

/// An authority's file, and certificate and key of 127.0.0.1 that it signed.
fn certificates(folder: &TempDir, name: &str) -> (PathBuf, (PathBuf, PathBuf)) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let write = |kind: &str, text: String| {
        let path = folder.path().join(format!("{name}-{kind}.pem"));
        fs::write(&path, text).unwrap();
        path
    };
    let pair = (
        write("cert", certificate.pem()),
        write("key", key.serialize_pem()),
    );
    (write("ca", authority.pem()), pair)
}

#[tokio::test]
async fn tls_is_used_where_it_is_asked_for_and_the_certificate_is_checked() {
    let folder = TempDir::with_prefix("pg-tls-").unwrap();
    let (ca, pair) = certificates(&folder, "good");
    let (other_ca, _) = certificates(&folder, "other");
    let server = PgServer::start(&PgOptions {
        tls: Some(pair),
        ..PgOptions::default()
    });
    let by_tls = |place: PgPlace, ca: &PathBuf| {
        place.with(|settings| {
            settings.sslmode = SslMode::VerifyFull;
            settings.tls_ca_file.clone_from(ca);
        })
    };
    let place = by_tls(PgPlace::create(&server).await, &ca).applied().await;
    server.execute(&place.database, ROW).await;
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'balance-cache'";
    let client = server.client("postgres").await;
    let count: i64 = client.query_one(encrypted, &[]).await.unwrap().get(0);
    assert!(count > 0);
    let strange = by_tls(place.clone(), &other_ca).begin(ReadFrom::View);
    strange.not_ready("the TLS handshake").await;
    let plain = place
        .clone()
        .with(|settings| settings.sslmode = SslMode::Disable);
    plain
        .begin(ReadFrom::View)
        .not_ready("refuses the user or password")
        .await;
    let without = by_tls(PgPlace::create(shared()).await, &ca).begin(ReadFrom::View);
    without.not_ready("the TLS handshake").await;
}

#[tokio::test]
async fn a_failover_to_a_standby_is_survived_and_a_standby_alone_is_refused() {
    let mut primary = PgServer::start(&PgOptions::default());
    let place = with_a_row(&primary).await;
    let standby = PgServer::start_standby(&primary, &PgOptions::default());
    let hosts = format!("{},{}", standby.address(), primary.address());
    let place = place.clone().with(|settings| {
        settings.url = format!("postgresql://{SUPERUSER}@{hosts}/{}", place.database);
    });
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    let alone = place
        .clone()
        .with(|settings| settings.url = standby.url(&place.database));
    let alone = alone.begin(ReadFrom::View);
    alone.not_ready("takes writes").await;
    // What was acknowledged is on the standby before the primary dies.
    has_rows(&standby, &place, 1).await;
    primary.kill9();
    assert!(running.source.load_snapshot(user(1)).await.is_err());
    standby.promote();
    running.ready().await;
    alone.ready().await;
    standby.execute(&place.database, NEXT_ROW).await;
    shows(&running, 2).await;
    shows(&alone, 2).await;
    assert_eq!(running.source.identity(), alone.source.identity());
}

#[tokio::test]
async fn an_old_primary_that_stands_still_delays_no_failover() {
    let (primary, standby, mut place) = pair_with_a_row().await;
    place.timeout = Duration::from_secs(2);
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    primary.pause();
    standby.promote();
    standby.execute(&place.database, NEXT_ROW).await;
    shows(&running, 2).await;
    running.ready().await;
    primary.resume();
}

/// A primary and its standby, both with the row, and what leads to both.
async fn pair_with_a_row() -> (PgServer, PgServer, PgPlace) {
    let primary = PgServer::start(&PgOptions::default());
    let mut place = with_a_row(&primary).await;
    let standby = PgServer::start_standby(&primary, &PgOptions::default());
    let hosts = format!("{},{}", primary.address(), standby.address());
    place.settings.url = format!("postgresql://{SUPERUSER}@{hosts}/{}", place.database);
    has_rows(&standby, &place, 1).await;
    (primary, standby, place)
}

/// Loads again and again on connections that are opened for each: nothing but the second row is shown.
async fn shows_only_the_second_row(running: &PgRunning, server: &PgServer) {
    const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'balance-cache'";
    for _ in 0..20 {
        until("a load succeeds", async || {
            let loaded = running.source.load_snapshot(user(1)).await;
            let seq = loaded.map(|snapshot| snapshot.balances()[0].seq.get());
            assert_ne!(seq.as_ref().ok(), Some(&1), "the old primary's");
            seq.is_ok()
        })
        .await;
        server.execute("postgres", END_SESSIONS).await;
    }
}

#[tokio::test]
async fn an_old_primary_that_comes_back_as_it_was_is_not_used() {
    let (mut primary, standby, place) = pair_with_a_row().await;
    let replica = primary.url(&place.database);
    let place = place.with(|settings| settings.read_urls = vec![replica]);
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    primary.kill9();
    standby.promote();
    standby.execute(&place.database, NEXT_ROW).await;
    shows(&running, 2).await;
    primary.launch();
    shows_only_the_second_row(&running, &standby).await;
    running.ready().await;
    // At the start of an instance, too, unless the new primary takes longer than a second to answer: not twice in a row.
    let mut later = place.open(ReadFrom::View).await;
    if first_seq(&later).await == 1 {
        later = place.open(ReadFrom::View).await;
    }
    shows_only_the_second_row(&later, &standby).await;
}

/// The seq that the first load shows.
async fn first_seq(running: &PgRunning) -> i64 {
    let mut seq = 0;
    until("a load succeeds", async || {
        let loaded = running.source.load_snapshot(user(1)).await;
        seq = loaded.map_or(0, |snapshot| snapshot.balances()[0].seq.get());
        seq > 0
    })
    .await;
    seq
}

#[tokio::test]
async fn an_old_primary_that_goes_on_is_left_when_the_new_one_is_seen() {
    let (primary, standby, place) = pair_with_a_row().await;
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    primary.pause();
    standby.promote();
    primary.resume();
    standby.execute(&place.database, NEXT_ROW).await;
    shows(&running, 2).await;
    shows_only_the_second_row(&running, &standby).await;
}

#[tokio::test]
async fn loads_are_read_from_a_replica_that_may_lag_and_everything_else_from_the_primary() {
    let primary = PgServer::start(&PgOptions::default());
    let place = with_a_row(&primary).await;
    let mut standby = PgServer::start_standby(&primary, &PgOptions::default());
    let replica = standby.url(&place.database);
    let place = place.with(|settings| settings.read_urls = vec![replica]);
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    standby
        .execute(&place.database, "SELECT pg_wal_replay_pause()")
        .await;
    primary.execute(&place.database, NEXT_ROW).await;
    let seq = async || {
        let loaded = running.source.load_snapshot(user(1)).await;
        loaded.unwrap().balances()[0].seq.get()
    };
    for _ in 0..5 {
        assert_eq!(seq().await, 1, "the replica's");
    }
    let latest = running
        .source
        .load_latest(user(1), &[asset(1)])
        .await
        .unwrap();
    assert_eq!(told(&latest), [(1, 2, 6)]);
    let ledger = place.open(ReadFrom::Ledger).await;
    assert_eq!(
        told(&ledger.source.load_snapshot(user(1)).await.unwrap()),
        [(1, 2, 6)],
        "never lags"
    );
    standby
        .execute(&place.database, "SELECT pg_wal_replay_resume()")
        .await;
    shows(&running, 2).await;
    // Without the replica the primary answers at once, and the replica is used again when it is back.
    standby.kill9();
    assert_eq!(seq().await, 2);
    assert_eq!(running.source.readiness(), SourceReadiness::Ready);
    standby.launch();
    // A standby that starts answers before it has replayed all that it has.
    has_rows(&standby, &place, 2).await;
    standby
        .execute(&place.database, "SELECT pg_wal_replay_pause()")
        .await;
    let third = NEXT_ROW.replace("2, 6", "3, 7");
    primary.execute(&place.database, &third).await;
    until("the replica is read from again", async || seq().await == 2).await;
}
