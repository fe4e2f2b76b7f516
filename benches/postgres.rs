//! The cost of reads, transactions and the outbox on a real PostgreSQL, beside the bare driver, in one run.
//!
//!     cargo bench --bench postgres > benches/results/postgres.md
//!
//! Both take turns, so that both see the same machine. `BALANCE_CACHE_BENCH_ROWS` is the length of the long history (100,000),
//! `BALANCE_CACHE_BENCH_READS` the reads of a line (1,500), `BALANCE_CACHE_BENCH_TRADES` the transactions of a turn (2,000),
//! `BALANCE_CACHE_BENCH_ROUNDS` the turns of each (5), `BALANCE_CACHE_BENCH_CHANGES` the changes that writers make for the outbox (10,000).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a bench that cannot be set up fails; its table goes to the terminal"
)]

#[path = "postgres/bare.rs"]
mod bare;
#[path = "ledger_trades/market.rs"]
#[expect(dead_code, reason = "shared with the bench on Cassandra")]
mod market;
#[path = "postgres/outbox.rs"]
mod outbox;
#[path = "postgres/reads.rs"]
mod reads;
#[path = "postgres/settles.rs"]
mod settles;
#[path = "shared/pg_server.rs"]
mod support;
#[path = "ledger_trades/turns.rs"]
#[expect(dead_code, reason = "shared with the bench on Cassandra")]
mod turns;

use std::{sync::Arc, time::Duration};

use balance_cache::{
    config::{self, LedgerSide, Millis, ReadFrom, SourceKind},
    ledger::{
        Source, SourceReadiness,
        postgres::{Postgres, schema},
    },
};
use support::{
    eventually,
    postgres::{PgOptions, PgServer},
};
use tokio_postgres::{Client, NoTls};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections of each side.
const CONNECTIONS: usize = 64;

const HEADING: &str = "\
# What PostgreSQL costs

For anyone who wants to know what this service adds to the driver. `cargo bench --bench postgres > benches/results/postgres.md` makes this file.

One PostgreSQL on the same machine, tables as `schema apply` makes them, `fsync` and `synchronous_commit` on. The bare driver is tokio-postgres with
statements prepared once, 64 connections by TCP on either side. Both sides take turns.
";

#[expect(
    clippy::disallowed_methods,
    reason = "the size of a bench is told by the environment"
)]
fn number(name: &str, default: usize) -> usize {
    let asked = std::env::var(format!("BALANCE_CACHE_BENCH_{name}")).ok();
    asked.map_or(default, |text| text.parse().unwrap())
}

/// A database of its own, with the settings that lead there.
async fn new_database(server: &PgServer, name: &str) -> config::PostgresSettings {
    server
        .execute("postgres", &format!("CREATE DATABASE {name}"))
        .await;
    let mut settings = config::default_settings().unwrap().postgres;
    settings.url = server.url(name);
    settings.connections = CONNECTIONS;
    settings
}

fn source_settings(read_from: ReadFrom) -> config::SourceSettings {
    config::SourceSettings {
        kind: SourceKind::Postgres,
        read_from,
        timeout_ms: Millis(Duration::from_secs(30)),
    }
}

/// The driver alone, by TCP as the source is.
async fn connect_bare(server: &PgServer, database: &str) -> Client {
    let opened = tokio_postgres::connect(&server.url(database), NoTls).await;
    let (client, connection) = opened.unwrap();
    TaskTracker::new().spawn(connection);
    client
}

/// A source that is ready.
async fn open(
    settings: &config::PostgresSettings,
    read_from: ReadFrom,
    writer: LedgerSide,
) -> Arc<Postgres> {
    let source = source_settings(read_from);
    schema::apply_migrations(settings, &source).await.unwrap();
    let postgres = Postgres::new(settings, &source).unwrap();
    let postgres = Arc::new(postgres.with_writer(writer));
    TaskTracker::new().spawn(Arc::clone(&postgres).run_watch(CancellationToken::new()));
    while postgres.readiness() != SourceReadiness::Ready {
        eventually::pause().await;
    }
    postgres
}

#[tokio::main]
async fn main() {
    let server = PgServer::start(&PgOptions {
        durable: true,
        settings: vec!["max_connections = 300".to_owned()],
        ..PgOptions::default()
    });
    println!("{HEADING}");
    reads::print_reads(&server).await;
    settles::print_settles(&server).await;
    outbox::print_outbox(&server).await;
}
