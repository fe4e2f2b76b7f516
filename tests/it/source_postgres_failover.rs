//! A replica in PostgreSQL whose replication stands still.

use std::time::Duration;

use balance_cache::{config::ReadFrom, ledger::Source};

use crate::{
    source_postgres_outages::{NEXT_ROW, has_rows, shows, with_a_row},
    support::{
        cql::user,
        eventually::eventually_async,
        postgres::{PgOptions, PgServer},
    },
};

/// Longer than the time by which a replica may lag, and the time between two looks at it.
const LEFT_OUT: Duration = Duration::from_mins(3);

/// Replication that stopped is nothing that a read of the replica shows.
#[tokio::test]
async fn a_replica_that_stands_still_for_long_is_left_out_until_it_has_caught_up() {
    let primary = PgServer::start(&PgOptions::default());
    let place = with_a_row(&primary).await;
    let standby = PgServer::start_standby(&primary, &PgOptions::default());
    let replica = standby.url(&place.database);
    let place = place.with(|settings| settings.read_urls = vec![replica]);
    let running = place.open(ReadFrom::View).await;
    shows(&running, 1).await;
    standby
        .execute(&place.database, "SELECT pg_wal_replay_pause()")
        .await;
    primary.execute(&place.database, NEXT_ROW).await;
    // From the primary, once the replica is too late.
    eventually_async(LEFT_OUT, "the replica is left out", async || {
        let read = running.source.load_snapshot(user(1)).await.unwrap();
        (read.balances()[0].seq.get() == 2).then_some(())
    })
    .await;
    standby
        .execute(&place.database, "SELECT pg_wal_replay_resume()")
        .await;
    has_rows(&standby, &place, 2).await;
    standby
        .execute(&place.database, "SELECT pg_wal_replay_pause()")
        .await;
    let third = NEXT_ROW.replace("2, 6", "3, 7");
    primary.execute(&place.database, &third).await;
    shows(&running, 2).await;
}
