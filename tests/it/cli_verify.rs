//! `verify`: each kind of difference, planted in real tables, and what cannot be compared.

use std::sync::atomic::{AtomicBool, Ordering};

use balance_cache::config::ReadFrom;
use redb::TableDefinition;
use serde_json::{Value, json};

use crate::{
    cli_support::{Apart, Said, run_behind},
    support::{
        cassandra::shared,
        cql::{Place, entry},
        databases::on_each_database,
        eventually::eventually_async,
        service::{Service, Setup},
        stage::{Database, SOON, Stage},
        tables::make_tables,
    },
};

/// `user_balances` as the embedded ledger keeps it.
type CurrentBalance = TableDefinition<'static, (i64, i32), (i64, i64, i64, Option<i64>)>;

const ALL: [&str; 4] = ["verify", "--all", "--grace-ms", "0"];

/// Tables with a plain one as the view: five users with two assets each, the same everywhere.
async fn place() -> (Place, Apart) {
    let place =
        Place::new(shared()).with(|settings| settings.keyspace = settings.keyspace.to_lowercase());
    let session = shared().session().await;
    make_tables(&session, &place.settings.keyspace, 1).await;
    for (user, asset) in (1..=5).flat_map(|user| [(user, 1), (user, 99)]) {
        for seq in 1..=3 {
            write(
                &place,
                "balance_ledger",
                "seq",
                (user, asset, seq, seq * 10),
            )
            .await;
            write(
                &place,
                "user_balances_by_user",
                "seq",
                (user, asset, seq, seq * 10),
            )
            .await;
        }
        write(&place, "user_balances", "version", (user, asset, 3, 30)).await;
    }
    let apart = Apart::new(
        Setup::default()
            .with("source.kind", "scylla")
            .with("scylla.nodes", shared().node())
            .with("scylla.keyspace", &place.settings.keyspace)
            .with("scylla.view_check", "off"),
    );
    (place, apart)
}

async fn write(
    place: &Place,
    table: &str,
    seq_column: &str,
    (user, asset, seq, avail): (i64, i32, i64, i64),
) {
    let session = shared().session().await;
    let text = format!(
        "INSERT INTO {{ks}}.{table} (user_id, asset_id, {seq_column}, avail, frozen) VALUES ({user}, {asset}, {seq}, {avail}, 0)"
    );
    place.cql(&session, &text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_tables_are_the_same_by_every_way_to_choose_users() {
    let (_place, apart) = place().await;
    let same = "the same: 5 users, 10 assets, 30 rows compared, 0 differences, 0 settled (lag)";
    apart.run(&["verify", "--all"]).has(0, &[same]);
    apart.run(&["verify", "--sample", "1000"]).has(0, &[same]);
    apart.run(&["verify"]).has(0, &[same]);
    let listed = run_behind(
        &apart.setup,
        "exec",
        "1\n2\n4711\n",
        &["verify", "--users", "-"],
    );
    listed.has(0, &["the same: 3 users, 4 assets, 12 rows compared"]);
    let few = apart.run(&["verify", "--sample", "2"]);
    few.has(0, &["the same: 2 users, 4 assets, 12 rows compared"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_difference_is_named_and_counted() {
    let (place, apart) = place().await;
    write(&place, "balance_ledger", "seq", (1, 1, 4, 40)).await; // view and table behind
    write(&place, "user_balances_by_user", "seq", (2, 99, 8, 80)).await; // view ahead
    write(&place, "user_balances_by_user", "seq", (3, 1, 3, 31)).await; // other amounts
    write(&place, "user_balances", "version", (4, 1, 3, 31)).await;
    write(&place, "user_balances", "version", (6, 1, 1, 1)).await; // of nobody in the ledger
    write(&place, "user_balances_by_user", "seq", (6, 1, 1, 1)).await;
    let said = apart.run(&ALL);
    said.has(
        1,
        &[
            "view behind  user 1: the view has seq 3 (avail 0.0000003, frozen 0) of BTC, the ledger has seq 4 (avail 0.0000004, frozen 0)",
            "table behind  user 1: user_balances has seq 3",
            "view ahead  user 2: the view has seq 8 (avail 80, frozen 0) of 99",
            "view amounts differ  user 3:",
            "table amounts differ  user 4:",
            "table ahead  user 6: user_balances has seq 1 (avail 0.00000001, frozen 0) of BTC, the ledger has nothing",
            "DIFFERENT: 6 users",
            "7 differences, view behind: 1, view ahead: 2, view amounts differ: 1, table behind: 1, table ahead: 1, table amounts differ: 1",
        ],
    );
    let mut arguments = ALL.to_vec();
    arguments.push("--json");
    let page: Value = serde_json::from_str(&apart.run(&arguments).out).unwrap();
    assert_eq!(
        (
            &page["same"],
            &page["view_ahead"],
            &page["table_ahead"],
            page["shown"].as_array().map(Vec::len)
        ),
        (&json!(false), &json!(2), &json!(1), Some(7))
    );
    let users = run_behind(
        &apart.setup,
        "exec",
        "5\n",
        &["verify", "--users", "-", "--grace-ms", "0"],
    );
    users.has(0, &["the same: 1 users"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_view_is_the_same_as_its_ledger_and_an_unused_table_is_left_out() {
    let stage = Stage::new(shared()).await;
    stage.has(7, &[(1, 300_000_000), (2, 600_000_000)]).await;
    let apart = Apart::new(stage.setup());
    apart
        .run(&["verify", "--all"])
        .has(0, &["the same: 1 users, 2 assets, 6 rows compared"]);
    let session = shared().session().await;
    stage
        .place()
        .cql(&session, "TRUNCATE {ks}.user_balances")
        .await;
    let said = apart.run(&["verify", "--all"]);
    said.has(0, &["the same: 1 users, 2 assets, 4 rows compared"]);
    assert!(said.err.contains("user_balances is empty"), "{said}");
    let read = Apart::new(stage.setup().with("source.read_from", "table"));
    read.run(&ALL).has(1, &["table behind: 2"]);
}

async fn a_ledger_that_is_written_meanwhile_is_the_same(database: Database) {
    let stage = Stage::on(database).await;
    stage.has(7, &[(1, 300_000_000)]).await;
    let apart = Apart::new(stage.setup());
    let writer = stage.open(ReadFrom::View).await;
    let done = AtomicBool::new(false);
    let write = async {
        let mut seq = 3;
        while !done.load(Ordering::SeqCst) {
            seq += 1;
            let row = [entry(7, 1, seq, seq)];
            // A database that paused is asked again: the row is the same.
            eventually_async(SOON, "a row is written", async || {
                writer.source.write_entries(&row).await.ok()
            })
            .await;
        }
        seq
    };
    let compare = async {
        let mut said = Vec::new();
        for _ in 0..3 {
            let setup = apart.setup.clone();
            let ran = tokio::task::spawn_blocking(move || {
                setup.run(&["verify", "--all", "--grace-ms", "8000"])
            });
            said.push(Said::of(ran.await.unwrap()));
        }
        done.store(true, Ordering::SeqCst);
        said
    };
    let (seq, all) = tokio::join!(write, compare);
    assert!(seq > 3, "nothing was written");
    for said in all {
        said.has(0, &["the same: 1 users, 1 assets", " 0 differences"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_exit_code_1_and_a_setting_that_cannot_be_used_2() {
    let stage = Stage::new(shared()).await;
    for (setup, code, part) in [
        (
            stage.setup().with("scylla.keyspace", "nowhere"),
            1,
            "there is no keyspace nowhere",
        ),
        (
            stage.setup().with("scylla.nodes", "127.0.0.1:1"),
            1,
            "the database cannot be reached: the connection is refused",
        ),
        (
            stage
                .setup()
                .with("scylla.username", "x")
                .with("scylla.password", "hush")
                .with("scylla.tls_ca_file", "/nowhere.pem"),
            2,
            "scylla.tls_ca_file",
        ),
    ] {
        let said = Apart::new(setup).run(&["verify"]);
        assert!(
            said.code == code && said.err.contains(part) && !said.err.contains("hush"),
            "{part}: {said}"
        );
    }
    let service = Service::start_ready(Setup::default()).await;
    Said::of(service.run(&["verify"])).has(
        0,
        &["the same: 10 users, 30 assets, 60 rows compared, 0 differences"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_ledger_is_compared_with_its_own_current_state() {
    let mut service = Service::start_ready(Setup::default()).await;
    assert_eq!(service.terminate(), 0);
    Said::of(service.run(&["verify"])).has(
        0,
        &["the same: 10 users, 30 assets, 60 rows compared, 0 differences"],
    );
    let balances: CurrentBalance = TableDefinition::new("user_balances");
    let path = service
        .setup()
        .environment
        .into_iter()
        .rfind(|(key, _)| key.ends_with("EMBEDDED__PATH"))
        .unwrap()
        .1;
    let file = redb::Database::open(&path).unwrap();
    let transaction = file.begin_write().unwrap();
    {
        let mut table = transaction.open_table(balances).unwrap();
        table.insert((1001, 1), (1, 0, 17, None)).unwrap();
        table.insert((1002, 1), (1, 0, 12, None)).unwrap();
        table.insert((1003, 9), (1, 0, 1, None)).unwrap();
        table.remove((1004, 2)).unwrap();
    }
    transaction.commit().unwrap();
    drop(file);
    Said::of(service.run(&["verify", "--all"])).has(
        1,
        &[
            "table amounts differ  user 1001: user_balances has seq 17 (avail 0.00000001, frozen 0) of BTC, the ledger has seq 17 (avail 9100, frozen 0)",
            "table behind  user 1002:",
            "table ahead  user 1003:",
            "table behind  user 1004: user_balances has nothing of USDT",
            "4 differences",
        ],
    );
    run_behind(
        &service.setup(),
        "exec",
        "1001\n",
        &["verify", "--users", "-"],
    )
    .has(1, &["1 users, 3 assets", "1 differences"]);
    Said::of(service.run(&["get", "1001", "--trace", "--no-service"])).has(
        0,
        &["! user_balances and the ledger differ in the amounts of BTC"],
    );
}

on_each_database! {
    a_ledger_that_is_written_meanwhile_is_the_same,
}
