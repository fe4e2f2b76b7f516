//! CQL as others run it: a dead first node, a name with several addresses, rows that end and rows that were deleted, other consistency levels.

use balance_cache::{
    config::{Consistency, ReadFrom},
    ledger::{LedgerError, Source},
};

use crate::support::{
    cassandra::shared,
    cql::{Place, asset, catalogue, entry, told, until, user},
    names::{NAME, Names},
    port::Port,
    service::{Service, Setup},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_first_node_that_is_dead_is_passed_over() {
    let dead = Port::reserve();
    let place = Place::new(shared()).applied().await.with(|settings| {
        settings.nodes.insert(0, dead.address().to_string());
        settings
            .nodes
            .insert(0, "no-such-host.invalid:9042".to_owned());
    });
    let source = place.open(ReadFrom::Ledger, &catalogue([1])).await;
    source
        .scylla
        .write_entries(&[entry(1, 1, 1, 10)])
        .await
        .unwrap();
    source.shows(1, &[(1, 1, 10)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_several_addresses_is_asked_at_each() {
    let place = Place::new(shared())
        .with(|settings| settings.keyspace = settings.keyspace.to_lowercase() + "_n")
        .applied()
        .await;
    let node = shared().node();
    let (address, port) = node.split_once(':').unwrap();
    // Nobody listens at that port of the first two.
    let names = Names::compile();
    let setup = Setup::default()
        .with("source.kind", "scylla")
        .with("source.read_from", "table")
        .with("scylla.nodes", format!("{NAME}:{port}"))
        .with("scylla.keyspace", &place.settings.keyspace);
    for addresses in [
        ["127.0.0.2", "127.0.0.3", address],
        [address, "127.0.0.2", "127.0.0.3"],
    ] {
        let service = Service::start_ready(names.tell(setup.clone(), &addresses)).await;
        assert_eq!(service.balances(1).await.status, 200);
    }
    let nowhere = names.tell(setup, &["127.0.0.2", "127.0.0.3"]);
    let service = Service::start(nowhere).await;
    let said = service.get_ops("/readyz").await;
    assert_eq!(said.status, 503);
    let answer = service.balances(1).await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (503, &5031.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_end_and_rows_that_were_deleted_leave_the_newest_that_stands() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    let view = place.open(ReadFrom::View, &catalogue([1])).await;
    let ledger = place.open(ReadFrom::Ledger, &catalogue([1])).await;
    let entries: Vec<_> = (1..=300).map(|seq| entry(1, 1, seq, seq * 10)).collect();
    view.scylla.write_entries(&entries).await.unwrap();
    view.shows(1, &[(1, 300, 3000)]).await;
    // More deleted rows before the newest than a page of the view has.
    place
        .cql(
            &session,
            "DELETE FROM {ks}.balance_ledger WHERE user_id = 1 AND asset_id = 1 AND seq > 100",
        )
        .await;
    place
        .cql(
            &session,
            "INSERT INTO {ks}.balance_ledger (user_id, asset_id, seq, avail, frozen) VALUES (1, 1, 101, 7, 0) USING TTL 2",
        )
        .await;
    for source in [&view, &ledger] {
        until("the row ended", async || {
            told(&source.scylla.load_snapshot(user(1)).await.unwrap()) == [(1, 100, 1000)]
        })
        .await;
        let newest = source
            .scylla
            .load_latest(user(1), &[asset(1)])
            .await
            .unwrap();
        assert_eq!(told(&newest), [(1, 100, 1000)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_consistency_level_works_and_one_that_cannot_be_had_is_named() {
    let place = Place::new(shared()).applied().await;
    let levels = [
        Consistency::One,
        Consistency::LocalOne,
        Consistency::Quorum,
        Consistency::LocalQuorum,
        Consistency::All,
    ];
    for (seq, level) in (1..).zip(levels) {
        let place = place.clone().with(|settings| settings.consistency = level);
        let source = place.open(ReadFrom::Ledger, &catalogue([1])).await;
        source
            .scylla
            .write_entries(&[entry(1, 1, seq, seq)])
            .await
            .unwrap();
        source.shows(1, &[(1, seq, seq)]).await;
    }
    let place = place.with(|settings| settings.consistency = Consistency::Two);
    let source = place.begin(ReadFrom::Ledger, &catalogue([1]));
    until("two replicas of one are asked for", async || {
        match source.scylla.load_snapshot(user(1)).await {
            Err(LedgerError::Unavailable(reason)) => {
                println!("{reason}");
                reason.contains("too few nodes") && reason.contains("1 of 2 replicas")
            }
            other => panic!("{other:?}"),
        }
    })
    .await;
}
