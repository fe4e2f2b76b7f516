//! The outbox: from the statement that changes balances to their effect in a running service with Redis, and what the trigger costs the writer.

use std::time::{Duration, Instant};

use balance_cache::config::ReadFrom;
use balance_cache::ledger::postgres::schema;
use futures::future::join_all;
use tokio_postgres::Client;

use crate::{
    new_database, number, source_settings,
    support::{
        eventually,
        postgres::PgServer,
        redis::Redis,
        service::{Service, Setup},
    },
};

const CUSTOMERS: usize = 10_000;
const WRITERS: usize = 8;
const SETTINGS: &str = include_str!("../../examples/existing-ledger/balance-cache.toml");

/// Until no row waits.
async fn drain(client: &Client) {
    loop {
        let text = "SELECT NOT EXISTS (SELECT 1 FROM balance_outbox)";
        let row = client.query_one(text, &[]).await.unwrap();
        if row.get(0) {
            return;
        }
        eventually::pause().await;
    }
}

/// Changes of single customers by several writers, so many in all.
async fn write_single(server: &PgServer, database: &str, changes: usize) -> Duration {
    let clients = join_all((0..WRITERS).map(|_| server.client(database))).await;
    let begun = Instant::now();
    let writers = clients
        .iter()
        .enumerate()
        .map(|(writer, client)| async move {
            let text = "UPDATE wallets SET available = available + 1 WHERE currency = 'BTC' \
                    AND customer = (SELECT id FROM customers WHERE customer_no = $1)";
            let statement = client.prepare(text).await.unwrap();
            for at in (writer..changes).step_by(WRITERS) {
                let number = i64::try_from(1 + at * 7_919 % CUSTOMERS).unwrap();
                client.execute(&statement, &[&number]).await.unwrap();
            }
        });
    join_all(writers).await;
    begun.elapsed()
}

fn per_second(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / time.as_secs_f64()
}

pub async fn print_outbox(server: &PgServer) {
    let mut settings = new_database(server, "shop").await;
    "public".clone_into(&mut settings.schema);
    "wallets".clone_into(&mut settings.outbox.table);
    "customer".clone_into(&mut settings.outbox.user_column);
    "currency".clone_into(&mut settings.outbox.asset_column);
    let client = server.client("shop").await;
    for text in [
        include_str!("../../examples/existing-ledger/1-sample.sql"),
        include_str!("../../examples/existing-ledger/2-version.sql"),
    ] {
        client.batch_execute(text).await.unwrap();
    }
    let changes = number("CHANGES", 10_000);
    write_single(server, "shop", changes / 10).await;
    let without = write_single(server, "shop", changes).await;
    let source = source_settings(ReadFrom::View);
    schema::apply_outbox(&settings, &source).await.unwrap();
    let redis = Redis::start();
    let setup = Setup {
        file: SETTINGS.to_owned(),
        ..Setup::default()
    };
    let setup = setup
        .with("postgres.url", &settings.url)
        .with("redis.url", redis.url());
    let service = Service::start_ready(setup).await;
    println!("## The outbox\n");
    println!(
        "The sample of docs/EXISTING_LEDGER.md ({CUSTOMERS} customers with uuids, three wallets each), one instance with Redis. {WRITERS} writers change one wallet \
         a statement; in bulk, one statement changes a wallet of every customer. Applied: the outbox is empty, so every row took effect in Redis and in the instance.\n"
    );
    println!(
        "| what | changes | changes/s of the writers | rows/s from the first change to all applied |"
    );
    println!("|---|---|---|---|");
    println!(
        "| single changes, no trigger | {changes} | {:.0} | |",
        per_second(changes, without)
    );
    let begun = Instant::now();
    let with = write_single(server, "shop", changes).await;
    drain(&client).await;
    println!(
        "| single changes | {changes} | {:.0} | {:.0} |",
        per_second(changes, with),
        per_second(changes, begun.elapsed())
    );
    let begun = Instant::now();
    let text = "UPDATE wallets SET available = available + 1 WHERE currency = 'USDT'";
    client.batch_execute(text).await.unwrap();
    let written = begun.elapsed();
    drain(&client).await;
    println!(
        "| in bulk | {CUSTOMERS} | {:.0} | {:.0} |",
        per_second(CUSTOMERS, written),
        per_second(CUSTOMERS, begun.elapsed())
    );
    drop(service);
}
