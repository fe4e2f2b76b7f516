//! The schema commands and the check at start, on a real Cassandra.

use balance_cache::{
    config::{ReadFrom, ViewCheck},
    ledger::{
        LedgerError, Source, SourceReadiness,
        scylla::schema::{self, Dropped, Problem, RelationState, SchemaStep},
    },
};

use scylla::statement::{Consistency, Statement};

use crate::support::{
    cassandra::shared,
    cql::{Place, asset, catalogue, entry, told, until, user},
};

const PLAIN_VIEW: &str = "CREATE TABLE {ks}.user_balances_by_user (user_id bigint, asset_id int, seq bigint, \
    avail bigint, frozen bigint, created_at bigint, PRIMARY KEY ((user_id), asset_id, seq)) \
    WITH CLUSTERING ORDER BY (asset_id ASC, seq DESC)";

async fn state_of_the_view(place: &Place, state: &str) {
    let session = shared().session().await;
    let host = session.get_cluster_state().get_nodes_info()[0].host_id;
    let keyspace = &place.settings.keyspace;
    let update = format!(
        "UPDATE system_distributed.view_build_status SET status = '{state}' WHERE keyspace_name = '{keyspace}' \
         AND view_name = 'user_balances_by_user' AND host_id = {host}"
    );
    // One replica of this table is here and two are nowhere.
    let mut update = Statement::new(update);
    update.set_consistency(Consistency::One);
    session.query_unpaged(update, ()).await.unwrap();
}

/// `schema status` once the view is built.
async fn built(place: &Place) -> schema::Status {
    let source = place.source(ReadFrom::View);
    let mut last = None;
    until("the view is built", async || {
        last = schema::read_status(&place.settings, &source).await.ok();
        last.as_ref().is_some_and(schema::Status::is_ready)
    })
    .await;
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_apply_makes_everything_once_and_may_be_repeated() {
    let place = Place::new(shared());
    let source = place.source(ReadFrom::View);
    let first = schema::apply_schema(&place.settings, &source)
        .await
        .unwrap();
    assert_eq!(first.steps.len(), 8);
    assert!(
        first.steps.iter().all(|(_, o)| *o == SchemaStep::Created),
        "{first}"
    );
    let again = schema::apply_schema(&place.settings, &source)
        .await
        .unwrap();
    assert!(
        again.steps.iter().all(|(_, o)| *o == SchemaStep::Present),
        "{again}"
    );
    let text = built(&place).await.to_string();
    for part in [
        "balance_ledger: there",
        "SUCCESS",
        "the ledger is empty",
        "\nready",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_schema_the_reason_says_what_to_do_and_the_source_comes_by_itself() {
    let place = Place::new(shared());
    let settings = place.source(ReadFrom::View);
    let status = schema::read_status(&place.settings, &settings)
        .await
        .unwrap();
    assert!(!status.is_ready());
    let source = place.begin(ReadFrom::View, &catalogue([1]));
    source.not_ready("schema apply").await;
    let answer = source.scylla.load_snapshot(user(1)).await;
    assert!(
        matches!(answer, Err(LedgerError::Unavailable(_))),
        "{answer:?}"
    );
    let place = place.applied().await;
    source.ready().await;
    assert!(
        source
            .scylla
            .load_snapshot(user(1))
            .await
            .unwrap()
            .balances()
            .is_empty()
    );
    drop(place);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_view_refuses_loads_and_comes_back_by_schema_apply() {
    let place = Place::new(shared()).applied().await;
    let view = place.open(ReadFrom::View, &catalogue([1])).await;
    view.writes(&[entry(1, 1, 5, 50)]).await;
    view.shows(1, &[(1, 5, 50)]).await;
    let source = place.source(ReadFrom::View);
    let drop_view = async || schema::drop_view(&place.settings, &source).await.unwrap();
    assert_eq!(drop_view().await, Dropped::Dropped);
    assert_eq!(drop_view().await, Dropped::Absent);
    let _ = view.scylla.load_snapshot(user(1)).await;
    view.not_ready("user_balances_by_user is missing").await;
    let latest = view.scylla.load_latest(user(1), &[asset(1)]).await.unwrap();
    assert_eq!(
        told(&latest),
        [(1, 5, 50)],
        "the ledger can be read all the while"
    );
    schema::apply_schema(&place.settings, &source)
        .await
        .unwrap();
    view.ready().await;
    view.shows(1, &[(1, 5, 50)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_fault_11_a_view_that_exists_and_is_not_built_is_not_ready() {
    let place = Place::new(shared()).applied().await;
    let writer = place.open(ReadFrom::View, &catalogue([1])).await;
    let entries: Vec<_> = (1..=20).map(|user_id| entry(user_id, 1, 3, 1)).collect();
    writer.writes(&entries).await;
    for user_id in 1..=20 {
        writer.shows(user_id, &[(1, 3, 1)]).await;
    }
    let status = built(&place).await;
    assert_eq!(status.sample.unwrap().present_percent(), Some(100));

    state_of_the_view(&place, "STARTED").await;
    let status = schema::read_status(&place.settings, &place.source(ReadFrom::View))
        .await
        .unwrap();
    assert_eq!(status.found.view, RelationState::View);
    assert!(!status.is_ready());
    assert!(matches!(
        status.first_problem(),
        Some(Problem::ViewNotBuilt(_))
    ));
    let source = place.begin(ReadFrom::View, &catalogue([1]));
    source.not_ready("still being built on 1 of 1 nodes").await;
    assert!(source.scylla.load_snapshot(user(20)).await.is_err());
    let careless = place.clone().with(|s| s.view_check = ViewCheck::Warn);
    careless
        .open(ReadFrom::View, &catalogue([1]))
        .await
        .shows(20, &[(1, 3, 1)])
        .await;
    let ledger = place.open(ReadFrom::Ledger, &catalogue([1])).await;
    ledger.shows(20, &[(1, 3, 1)]).await;

    state_of_the_view(&place, "SUCCESS").await;
    source.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_table_of_the_views_shape_is_taken_only_with_the_check_off() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    let source = place.source(ReadFrom::View);
    let strict = place.open(ReadFrom::View, &catalogue([1])).await;
    strict
        .writes(&[entry(1, 1, 1, 10), entry(2, 1, 1, 10)])
        .await;
    schema::drop_view(&place.settings, &source).await.unwrap();
    place.cql(&session, PLAIN_VIEW).await;
    place
        .cql(&session, "INSERT INTO {ks}.user_balances_by_user (user_id, asset_id, seq, avail) VALUES (1, 1, 1, 10)")
        .await;

    let _ = strict.scylla.load_snapshot(user(1)).await;
    strict.not_ready("is a plain table").await;
    assert!(
        schema::apply_schema(&place.settings, &source)
            .await
            .is_err()
    );
    assert!(schema::drop_view(&place.settings, &source).await.is_err());

    let lenient = place.clone().with(|s| s.view_check = ViewCheck::Off);
    let steps = schema::apply_schema(&lenient.settings, &source)
        .await
        .unwrap()
        .steps;
    assert!(matches!(steps[7].1, SchemaStep::Skipped(_)), "{steps:?}");
    let status = schema::read_status(&lenient.settings, &source)
        .await
        .unwrap();
    assert!(status.is_ready());
    assert_eq!(
        status.sample.unwrap().present_percent(),
        Some(50),
        "{status}"
    );
    let source = lenient.open(ReadFrom::View, &catalogue([1])).await;
    source.shows(1, &[(1, 1, 10)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_another_shape_is_named_with_the_difference() {
    let place = Place::new(shared());
    let session = shared().session().await;
    place
        .cql(&session, "CREATE KEYSPACE {ks} WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        .await;
    place
        .cql(
            &session,
            "CREATE TABLE {ks}.user_balances (user_id bigint, asset_id int, avail decimal, \
            frozen bigint, version bigint, updated_at bigint, PRIMARY KEY ((user_id), asset_id))",
        )
        .await;
    let refused = schema::apply_schema(&place.settings, &place.source(ReadFrom::View)).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("avail decimal"), "{text}");
    let source = place.begin(ReadFrom::Table, &catalogue([1]));
    source.not_ready("avail decimal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_current_state_beside_a_ledger_that_is_not_is_not_ready() {
    let place = Place::new(shared()).applied().await;
    let session = shared().session().await;
    let table = place.open(ReadFrom::Table, &catalogue([1])).await;
    assert!(
        table
            .scylla
            .load_snapshot(user(1))
            .await
            .unwrap()
            .balances()
            .is_empty()
    );
    place
        .cql(&session, "INSERT INTO {ks}.balance_ledger (user_id, asset_id, seq, avail, frozen) VALUES (1, 1, 1, 1, 1)")
        .await;
    table.not_ready("user_balances is empty").await;
    assert!(table.scylla.load_snapshot(user(1)).await.is_err());
    table.writes(&[entry(1, 1, 1, 1)]).await;
    table.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_keyspace_and_each_ledger_is_another_source_and_a_restart_is_none() {
    let (one, other) = (
        Place::new(shared()).applied().await,
        Place::new(shared()).applied().await,
    );
    let identity = async |place: &Place| {
        let source = place.open(ReadFrom::Ledger, &catalogue([1])).await;
        source.scylla.identity().unwrap()
    };
    let first = identity(&one).await;
    assert_eq!(first, identity(&one).await);
    assert_ne!(first, identity(&other).await);

    let running = one.open(ReadFrom::Ledger, &catalogue([1])).await;
    let session = shared().session().await;
    one.cql(
        &session,
        "DROP MATERIALIZED VIEW {ks}.user_balances_by_user",
    )
    .await;
    one.cql(&session, "DROP TABLE {ks}.balance_ledger").await;
    let one = one.applied().await;
    assert_ne!(first, identity(&one).await);
    running.not_ready("another database").await;
    assert!(
        running
            .scylla
            .write_entries(&[entry(1, 1, 1, 1)])
            .await
            .is_err()
    );
    assert!(
        running
            .scylla
            .load_latest(user(1), &[asset(1)])
            .await
            .is_err()
    );
    assert!(!matches!(
        running.scylla.readiness(),
        SourceReadiness::Ready
    ));
}
