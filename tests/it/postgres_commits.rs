//! Commits that wait for a standby which is away: each is answered 503, and takes nothing from those who read.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    ledger_settle::{TRANSACTIONS, result, written},
    settlement_support::short,
    support::{
        eventually::eventually_async,
        pg_pair::PgPair,
        service::Service,
        stage::{SOON, shown},
    },
};

const CONNECTIONS: i64 = 8;
/// A connection that is not answered keeps its place for twice as long: a read that waits for that would be late.
const READ_MAX: Duration = Duration::from_secs(30);
/// At the same time, and how often.
const SENDERS: u64 = 12;
const ROUNDS: u64 = 4;
const SESSIONS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'balance-cache'";

fn deposit(user: u64) -> Value {
    json!({"transaction_id": user, "entries": [{"user_id": user, "asset_id": 1, "delta_avail": 5}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_for_a_standby_leave_connections_to_reads_and_to_others() {
    let mut pair = PgPair::start("waiting", Duration::ZERO).await;
    let setup = short("")
        .with("source.kind", "postgres")
        .with("source.timeout_ms", 2_000)
        .with("postgres.url", pair.place.url())
        .with("postgres.connections", CONNECTIONS)
        .with("ledger.writer", "service");
    let (code, said, wrong) = setup.run(&["schema", "apply"]);
    assert_eq!(code, 0, "{said}{wrong}");
    let service = Service::start_ready(setup).await;
    written(&service, TRANSACTIONS, &deposit(1)).await;
    pair.standby().kill9();
    for round in 0..ROUNDS {
        let users = (0..SENDERS).map(|nth| 2 + round * SENDERS + nth);
        let bodies: Vec<Value> = users.map(deposit).collect();
        let answers = bodies.iter().map(|body| service.post(TRANSACTIONS, body));
        for answer in join_all(answers).await {
            assert_eq!(answer.status, 503, "{}", answer.body);
        }
        let read = eventually_async(READ_MAX, "a read is answered", async || {
            let read = service
                .request(Method::GET, "/api/user/balance?user_id=1")
                .header("cache-control", "no-cache");
            let read = service.send(read).await;
            (read.status == 200).then_some(read)
        });
        assert_eq!(shown(&read.await)[0].1, "0.00000005");
        // Two more while all servers are looked at. The server notices late that a client left in the middle of something else.
        let primary = pair.primary().client("postgres").await;
        eventually_async(SOON, "the sessions are no more than that", async || {
            let row = primary.query_one(SESSIONS, &[]).await.unwrap();
            (row.get::<_, i64>(0) <= CONNECTIONS + 2).then_some(())
        })
        .await;
    }
    pair.standby().launch();
    for user in 2..2 + ROUNDS * SENDERS {
        // When the standby has it.
        let stands = service.post_until_taken(TRANSACTIONS, &deposit(user)).await;
        assert_eq!(stands.status, 200, "{}", stands.body);
        let again = service.post_until_taken(TRANSACTIONS, &deposit(user)).await;
        assert_eq!(
            (result(&again), again.data()["balances"][0]["seq"].as_i64()),
            ("repeated".to_owned(), Some(1))
        );
    }
}
