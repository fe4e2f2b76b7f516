//! Cold reads: the source beside the driver with the same statement, and a long history beside a short one.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use balance_cache::{
    config::{LedgerSide, ReadFrom},
    domain::UserId,
    ledger::{Source, postgres::Postgres},
};
use tokio_postgres::{Client, Statement};

use crate::{connect_bare, new_database, number, open, support::postgres::PgServer};

const ASSETS: i64 = 10;
/// As the source sends them.
const NEWEST: &str = "WITH RECURSIVE newest AS ( \
     (SELECT asset_id, seq, avail, frozen, created_at FROM trading.balance_ledger WHERE user_id = $1 \
      ORDER BY asset_id DESC, seq DESC LIMIT 1) \
     UNION ALL \
     SELECT below.asset_id, below.seq, below.avail, below.frozen, below.created_at FROM newest CROSS JOIN LATERAL \
      (SELECT asset_id, seq, avail, frozen, created_at FROM trading.balance_ledger \
       WHERE user_id = $1 AND asset_id < newest.asset_id ORDER BY asset_id DESC, seq DESC LIMIT 1) AS below \
     ) SELECT asset_id, seq, avail, frozen, created_at FROM newest";
const CURRENT: &str = "SELECT asset_id, version, avail, frozen, updated_at FROM trading.user_balances WHERE user_id = $1";
/// The settings of a session of the source.
const SESSION: &str = "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off; \
     SET enable_bitmapscan = off; SET enable_sort = off";

type Row = (i32, i64, Option<i64>, Option<i64>, Option<i64>);

async fn read_bare(client: &Client, statement: &Statement, user: i64) -> Vec<Row> {
    let rows = client.query(statement, &[&user]).await.unwrap();
    let of =
        |row: &tokio_postgres::Row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    rows.iter().map(of).collect()
}

async fn read_source(source: &Arc<Postgres>, user: i64) {
    let user = UserId::new(user).unwrap();
    black_box(source.load_snapshot(user).await.unwrap());
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let begun = Instant::now();
    work.await;
    begun.elapsed()
}

/// In milliseconds.
fn quantile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(at).unwrap().as_secs_f64() * 1_000.0
}

pub async fn print_reads(server: &PgServer) {
    let settings = new_database(server, "reads").await;
    let newest = open(&settings, ReadFrom::View, LedgerSide::External).await;
    let current = open(&settings, ReadFrom::Table, LedgerSide::External).await;
    let client = connect_bare(server, "reads").await;
    let long = i64::try_from(number("ROWS", 100_000)).unwrap();
    let histories = [10, 1_000, long];
    for (user, rows) in (1_i64..).zip(histories) {
        let fill = format!(
            "INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, frozen, created_at) \
             SELECT {user}, asset, seq, seq, 0, 0 FROM generate_series(1, {ASSETS}) AS asset, generate_series(1, {rows}) AS seq; \
             INSERT INTO trading.user_balances (user_id, asset_id, version, avail, frozen, updated_at) \
             SELECT {user}, asset, {rows}, {rows}, 0, 0 FROM generate_series(1, {ASSETS}) AS asset"
        );
        client.batch_execute(&fill).await.unwrap();
    }
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    client.batch_execute(SESSION).await.unwrap();
    let count = number("READS", 1_500);
    println!("## A cold read\n");
    println!(
        "{ASSETS} assets, a sequential client, {count} reads of each in turn. This service: `Source::load_snapshot`.\n"
    );
    println!(
        "| read | rows per asset | bare driver, p50 ms | source, p50 ms | ratio | bare driver, p99 ms | source, p99 ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (what, text, source) in [
        ("newest rows of the ledger (`view`)", NEWEST, &newest),
        ("`user_balances` (`table`)", CURRENT, &current),
    ] {
        let statement = client.prepare(text).await.unwrap();
        for (user, rows) in (1_i64..).zip(histories) {
            let (mut bare, mut ours) = (Vec::new(), Vec::new());
            for round in 0..count + count / 10 {
                let by_bare = async {
                    black_box(read_bare(&client, &statement, user).await);
                };
                let (one, other) = (timed(by_bare).await, timed(read_source(source, user)).await);
                // The first tenth warms up.
                if round >= count / 10 {
                    bare.push(one);
                    ours.push(other);
                }
            }
            let (of_bare, of_ours) = (quantile(&mut bare, 50), quantile(&mut ours, 50));
            println!(
                "| {what} | {rows} | {of_bare:.3} | {of_ours:.3} | {:.2} | {:.3} | {:.3} |",
                of_ours / of_bare,
                quantile(&mut bare, 99),
                quantile(&mut ours, 99)
            );
        }
    }
    print_histories(&newest, &histories, count).await;
}

/// The same source, users in turn.
async fn print_histories(source: &Arc<Postgres>, histories: &[i64; 3], count: usize) {
    let mut times = vec![Vec::new(); histories.len()];
    for _ in 0..count {
        for (user, of_user) in (1_i64..).zip(&mut times) {
            of_user.push(timed(read_source(source, user)).await);
        }
    }
    println!("\n| rows per asset, users in turn | source, p50 ms | ratio |");
    println!("|---|---|---|");
    let mut first = None;
    for (rows, of_user) in histories.iter().zip(&mut times) {
        let p50 = quantile(of_user, 50);
        let first = *first.get_or_insert(p50);
        println!("| {rows} | {p50:.3} | {:.2} |", p50 / first);
    }
    println!();
}
