//! `doctor`: faults of the database and of the ledger's file, planted in the real thing.

use std::{fs, time::Duration};

use scylla::statement::{Consistency, Statement};

use crate::{
    cli_support::{Apart, Said},
    support::{
        cassandra::shared,
        cql::until,
        eventually::eventually,
        proxy::{Mode, Proxy},
        redis::Redis,
        rewrite::Rewriter,
        service::{Service, Setup},
        stage::{SOON, Stage},
    },
};

const CHECK: [&str; 2] = ["doctor", "--before-start"];

#[track_caller]
fn fails(said: &Said, check: &str, parts: &[&str]) {
    let line = said.has(1, &[]).line(&["FAIL", check]);
    for part in parts.iter().chain(&["Fix: "]) {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

async fn stage() -> Stage {
    let stage = Stage::new(shared()).await;
    stage.has(7, &[(1, 300_000_000)]).await;
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_as_it_should_be_has_no_fault_and_owns_its_redis() {
    let stage = stage().await;
    let redis = Redis::start();
    let service =
        Service::start_ready(stage.setup().and(&redis).with("limits.connections", 100)).await;
    // The group is made with the stream.
    until(
        "Redis knows whose it is, and the stream is followed",
        async || redis.ask::<i64>(&["EXISTS", "balance:source", "settlement:events"]) == 2,
    )
    .await;
    let said = Said::of(service.run(&["doctor"]));
    said.has(
        0,
        &[
            "a read of the view: p50",
            "a read of the ledger: p50",
            "all that is needed is there",
            "100 % of the ledger",
        ],
    );
    assert!(
        said.line(&["ok", "source.version"]).contains("Cassandra"),
        "{said}"
    );
    let owner = said.line(&["ok", "redis.owner"]);
    assert!(owner.contains(&stage.place().settings.keyspace), "{owner}");
    said.line(&["warn", "redis.epoch"]);
    let stream = said.line(&["ok", "redis.stream"]);
    assert!(stream.contains("0 waiting, 0 not acknowledged"), "{stream}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_database_that_is_down() {
    let setup = Setup::default()
        .with("source.kind", "scylla")
        .with("scylla.nodes", "127.0.0.1:1");
    fails(
        &Apart::new(setup).run(&CHECK),
        "source",
        &[
            "127.0.0.1:1: the database cannot be reached: the connection is refused",
            "scylla.nodes",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_wrong_keyspace() {
    let stage = stage().await;
    let said = Apart::new(stage.setup().with("scylla.keyspace", "tradign")).run(&CHECK);
    fails(
        &said,
        "source.keyspace",
        &["there is no keyspace tradign", "scylla.keyspace"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_no_view() {
    let stage = stage().await;
    let session = shared().session().await;
    stage
        .place()
        .cql(
            &session,
            "DROP MATERIALIZED VIEW {ks}.user_balances_by_user",
        )
        .await;
    let said = Apart::new(stage.setup()).run(&CHECK);
    fails(
        &said,
        "source.view",
        &["user_balances_by_user is missing", "schema apply"],
    );
    Apart::new(stage.setup().with("source.read_from", "ledger"))
        .run(&CHECK)
        .has(0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_view_that_is_half_built() {
    let stage = stage().await;
    let session = shared().session().await;
    let host = session.get_cluster_state().get_nodes_info()[0].host_id;
    let mut started = Statement::new(format!(
        "UPDATE system_distributed.view_build_status SET status = 'STARTED' WHERE keyspace_name = '{}' \
         AND view_name = 'user_balances_by_user' AND host_id = {host}",
        stage.place().settings.keyspace
    ));
    started.set_consistency(Consistency::One);
    session.query_unpaged(started, ()).await.unwrap();
    let said = Apart::new(stage.setup()).run(&CHECK);
    fails(
        &said,
        "source.view",
        &[
            "still being built on 1 of 1 nodes",
            "wait until it is built",
        ],
    );
    let careless = Apart::new(stage.setup().with("scylla.view_check", "warn")).run(&CHECK);
    careless.has(0, &[]).line(&["warn", "source.view"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_an_empty_table_that_is_read() {
    let stage = stage().await;
    let session = shared().session().await;
    stage
        .place()
        .cql(&session, "TRUNCATE {ks}.user_balances")
        .await;
    let said = Apart::new(stage.setup().with("source.read_from", "table")).run(&CHECK);
    fails(
        &said,
        "source.schema",
        &["user_balances is empty and balance_ledger is not"],
    );
    let unread = Apart::new(stage.setup()).run(&CHECK);
    unread.has(0, &[]).line(&["warn", "source.table"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_view_that_lacks_rows() {
    let stage = stage().await;
    let session = shared().session().await;
    stage
        .place()
        .cql(
            &session,
            "DROP MATERIALIZED VIEW {ks}.user_balances_by_user",
        )
        .await;
    let plain = "CREATE TABLE {ks}.user_balances_by_user (user_id bigint, asset_id int, seq bigint, avail bigint, \
                 frozen bigint, created_at bigint, PRIMARY KEY ((user_id), asset_id, seq)) \
                 WITH CLUSTERING ORDER BY (asset_id ASC, seq DESC)";
    stage.place().cql(&session, plain).await;
    let said = Apart::new(stage.setup().with("scylla.view_check", "off")).run(&CHECK);
    let line = said.has(0, &[]).line(&["warn", "source.sample"]);
    assert!(
        line.contains("about 0 % of the ledger") && line.contains("verify"),
        "{line}"
    );
    fails(
        &Apart::new(stage.setup()).run(&CHECK),
        "source.view",
        &["is a plain table"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_cassandra_that_is_too_old() {
    let stage = stage().await;
    let session = shared().session().await;
    let asked = session
        .query_unpaged("SELECT release_version FROM system.local", ())
        .await
        .unwrap();
    let (version,) = asked
        .into_rows_result()
        .unwrap()
        .single_row::<(String,)>()
        .unwrap();
    let old = format!("3.0{}", &version[3..]);
    let relay = Rewriter::start(shared().node().parse().unwrap(), &[(&version, &old)]);
    let said = Apart::new(stage.setup_at(relay.address())).run(&CHECK);
    fails(
        &said,
        "source.version",
        &[&format!("Cassandra {old}: older than 4.1"), "upgrade it"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_database_that_is_slow() {
    let stage = stage().await;
    let proxy = Proxy::start(shared().node().parse().unwrap());
    proxy.set(Mode::Delay(Duration::from_millis(100)));
    // One question that is answered too late ends the measurement.
    let measured = |timeout: u64| {
        let slow = stage.setup_at(proxy.address());
        let slow = Apart::new(slow.with("source.timeout_ms", timeout));
        eventually(SOON, "all questions are answered", || {
            let said = slow.run(&CHECK);
            println!("{said}");
            said.out.contains("a read of the view: p50").then_some(said)
        })
    };
    let said = measured(700);
    assert!(said.find(&["ok", "source.latency"]).is_none(), "{said}");
    said.has(said.code, &["source.timeout_ms"]);
    let strict = measured(10);
    fails(
        &strict,
        "source.latency",
        &["longer than source.timeout_ms (10.0 ms)"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_a_ledger_that_another_process_has() {
    let service = Service::start_ready(Setup::default()).await;
    let path = service
        .setup()
        .environment
        .into_iter()
        .rfind(|(key, _)| key.ends_with("EMBEDDED__PATH"))
        .unwrap()
        .1;
    let said = Apart::new(Setup::default().with("embedded.path", path)).run(&CHECK);
    fails(
        &said,
        "source.file",
        &["it is in use", "stop the other process"],
    );
}

#[test]
fn fault_a_file_that_is_no_ledger() {
    let apart = Apart::new(Setup::default());
    let path = apart.folder.path().join("ledger.redb");
    assert!(
        apart
            .run(&CHECK)
            .has(0, &[])
            .line(&["ok", "source.file"])
            .contains("the first start makes it")
    );
    fs::write(&path, vec![7; 100_000]).unwrap();
    fails(
        &apart.run(&CHECK),
        "source.file",
        &["it is no ledger", "balance-cache ledger restore"],
    );
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fails(
        &apart.run(&CHECK),
        "source.file",
        &["it is a folder and no file", "name a file"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_not_closed_is_whole_and_stays_as_it_is() {
    let mut service = Service::start_ready(Setup::default().with("limits.connections", 100)).await;
    service.kill9();
    let said = Said::of(service.run(&CHECK));
    assert!(
        said.has(0, &[])
            .line(&["ok", "source.file"])
            .contains("30 balances, whole"),
        "{said}"
    );
    service.restart().await;
    assert_eq!(service.terminate(), 0);
    Said::of(service.run(&CHECK))
        .has(0, &[])
        .line(&["ok", "source.file"]);
}
