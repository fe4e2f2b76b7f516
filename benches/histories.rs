//! What a page of trades and a page of a statement cost, by length of history, on a real one-node Cassandra and on the embedded ledger.
//!
//!     cargo bench --bench histories
//!
//! loads users with 1,000 and with 1,000,000 rows (`BALANCE_CACHE_BENCH_ROWS` for another number), starts the node again so that the rows
//! are in files, and prints p50 and p99 of a sequential client: both users in turn, so that both see the same machine. Beside them
//! stand the same pages from a table whose key has a time bucket (docs/adr/0024).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up fails; its table goes to the terminal"
)]

#[path = "shared/database.rs"]
mod database;
#[path = "histories/report.rs"]
mod report;

use std::{
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use balance_cache::{
    config::{self, Consistency, Millis, ReadFrom, SourceKind},
    domain::{
        Amount, AssetId, Catalogue, Entry, Order, Reference, Seq, StatementQuestion, TradeId,
        TradePlace, TradeSideRole, TradesQuestion, UnixMillis, UserId,
    },
    ledger::{
        Source, SourceReadiness,
        embedded::Embedded,
        scylla::{Scylla, schema},
    },
    read::HistoryReader,
    telemetry::Meters,
};
use database::{cassandra, eventually};
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    client::session::Session,
    statement::{batch::Batch, batch::BatchType, prepared::PreparedStatement},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const FEW: i64 = 1_000;
const ROUNDS: usize = 500;
const WARM_UP: usize = 100;
const PAGE: usize = 100;
/// The first trade was settled then; one follows each second.
const BEGAN: i64 = 1_700_000_000_000;
/// A month of the bucketed table.
const BUCKET: i64 = 30 * 24 * 3_600_000;

#[expect(
    clippy::disallowed_methods,
    reason = "another history is asked for by the environment"
)]
fn many() -> i64 {
    let rows = std::env::var("BALANCE_CACHE_BENCH_ROWS").ok();
    rows.map_or(1_000_000, |rows| {
        i64::try_from(rows.parse::<NonZeroU64>().unwrap().get()).unwrap()
    })
}

fn settings() -> config::Settings {
    let mut settings = config::load_settings(None, std::iter::empty::<(String, String)>()).unwrap();
    settings.limits.deadline_ms = Millis(Duration::from_secs(30));
    settings.source.timeout_ms = Millis(Duration::from_secs(30));
    settings
}

const fn settled_at(trade: i64) -> i64 {
    BEGAN + trade * 1_000
}

/// Writes rows of one partition in unlogged batches, several at once.
async fn write<V>(
    session: &Session,
    insert: &PreparedStatement,
    rows: i64,
    values: impl Fn(i64) -> V,
) where
    V: scylla::serialize::row::SerializeRow,
{
    const BATCH: usize = 50;
    let numbers: Vec<i64> = (1..=rows).collect();
    let writes = numbers.chunks(BATCH).map(|numbers| {
        let mut batch = Batch::new(BatchType::Unlogged);
        for _ in numbers {
            batch.append_statement(insert.clone());
        }
        let values: Vec<V> = numbers.iter().map(|number| values(*number)).collect();
        async move { session.batch(&batch, values).await.map(drop) }
    });
    let writes: Vec<_> = writes.collect();
    let written = stream::iter(writes).buffer_unordered(32);
    written.try_collect::<()>().await.unwrap();
}

async fn load_cassandra(session: &Session, histories: [i64; 2]) {
    let prepare = async |text: &str| session.prepare(text).await.unwrap();
    session.query_unpaged("CREATE TABLE bench.bucketed (user_id bigint, symbol_id int, bucket bigint, settled_at bigint, trade_id bigint, \
        role tinyint, price bigint, quantity bigint, cost bigint, order_id bigint, PRIMARY KEY ((user_id, symbol_id, bucket), settled_at, trade_id, role)) \
        WITH CLUSTERING ORDER BY (settled_at DESC, trade_id DESC, role ASC)", ()).await.unwrap();
    let side = prepare("INSERT INTO bench.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost, order_id) VALUES (?, 1, ?, ?, 0, 5000000000000, 1000000, 50000000000, ?)").await;
    let bucketed = prepare("INSERT INTO bench.bucketed (user_id, symbol_id, bucket, settled_at, trade_id, role, price, quantity, cost, order_id) VALUES (?, 1, ?, ?, ?, 0, 5000000000000, 1000000, 50000000000, ?)").await;
    let row = prepare("INSERT INTO bench.balance_ledger (user_id, asset_id, seq, delta_avail, delta_frozen, avail, frozen, event_type, ref_id, created_at) VALUES (?, 1, ?, 1, 0, ?, 0, 'trade', ?, ?)").await;
    for rows in histories {
        let begun = Instant::now();
        write(session, &side, rows, |n| (rows, settled_at(n), n, n)).await;
        let trades = begun.elapsed();
        write(session, &bucketed, rows, |n| {
            (rows, settled_at(n) / BUCKET, settled_at(n), n, n)
        })
        .await;
        let begun = Instant::now();
        write(session, &row, rows, |n| (rows, n, n, n, settled_at(n))).await;
        println!(
            "loaded {rows} rows: trades in {:.1} s, the ledger in {:.1} s",
            trades.as_secs_f64(),
            begun.elapsed().as_secs_f64()
        );
    }
}

/// The embedded ledger takes trades with everything that they write; the statement is of rows with their own seqs.
async fn load_embedded(ledger: &Embedded, catalogue: &Catalogue, histories: [i64; 2]) {
    const GROUP: usize = 1_000;
    for rows in histories {
        let begun = Instant::now();
        let numbers: Vec<i64> = (1..=rows).collect();
        for numbers in numbers.chunks(GROUP) {
            let trades: Vec<_> = numbers
                .iter()
                .map(|n| {
                    let mut trade = balance_cache::domain::Trade::parse_trade(&format!(
                        r#"{{"trade_id":{n},"symbol":"BTC_USDT","buyer_user_id":{rows},"seller_user_id":{},"price":5000000000000,"quantity":1000000,"settled_at":{}}}"#,
                        rows + 2,
                        settled_at(*n)
                    ), catalogue).unwrap();
                    trade.reference = Reference::Trade(TradeId::new(rows * 10 + *n).unwrap());
                    trade.overdraft = true;
                    trade
                })
                .collect();
            ledger.settle_transactions(&trades).await.unwrap();
            let entries: Vec<_> = numbers.iter().map(|n| entry(rows + 1, *n)).collect();
            ledger.write_entries(&entries).await.unwrap();
        }
        println!(
            "loaded {rows} rows into the embedded ledger in {:.1} s",
            begun.elapsed().as_secs_f64()
        );
    }
}

fn entry(user: i64, seq: i64) -> Entry {
    Entry {
        user: UserId::new(user).unwrap(),
        asset: AssetId::new(1).unwrap(),
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(seq),
        frozen: Amount::default(),
        delta_avail: Some(Amount::from_raw(1)),
        delta_frozen: Some(Amount::default()),
        event_type: Some("trade".to_owned()),
        ref_id: Some(seq),
        created_at: Some(UnixMillis(settled_at(seq))),
    }
}

/// The pages that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    TradesNewest,
    TradesInside,
    TradesOldest,
    StatementNewest,
    StatementInside,
    StatementAt,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::TradesNewest, "trades, newest"),
    (Kind::TradesInside, "trades, from a random cursor"),
    (Kind::TradesOldest, "trades, oldest"),
    (Kind::StatementNewest, "statement, newest"),
    (Kind::StatementInside, "statement, from a random cursor"),
    (Kind::StatementAt, "statement, `at` a random time"),
];

/// Reads one page of a user with so many rows; where it begins is chosen evenly among them.
async fn page(
    reader: &HistoryReader,
    kind: Kind,
    (of_trades, holder): (i64, i64),
    rows: i64,
) -> Duration {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let place = i64::try_from(PAGE).unwrap()
        + rand::random_range(0..rows - 2 * i64::try_from(PAGE).unwrap());
    let mut trades = TradesQuestion {
        user: UserId::new(of_trades).unwrap(),
        symbol_id: 1,
        from: None,
        to: None,
        order: Order::NewestFirst,
        limit: PAGE,
        after: None,
    };
    let mut statement = StatementQuestion {
        user: UserId::new(holder).unwrap(),
        asset: AssetId::new(1).unwrap(),
        at: None,
        order: Order::NewestFirst,
        limit: PAGE,
        after: None,
    };
    match kind {
        Kind::TradesInside => {
            trades.after = Some(TradePlace {
                settled_at: UnixMillis(settled_at(place)),
                trade_id: TradeId::new(place).unwrap(),
                role: TradeSideRole::Buyer,
            });
        }
        Kind::TradesOldest => trades.order = Order::OldestFirst,
        Kind::StatementInside => statement.after = Some(Seq::new(place).unwrap()),
        Kind::StatementAt => statement.at = Some(UnixMillis(settled_at(place))),
        Kind::TradesNewest | Kind::StatementNewest => {}
    }
    let begun = Instant::now();
    let rows = match kind {
        Kind::TradesNewest | Kind::TradesInside | Kind::TradesOldest => reader
            .trades_page(&trades, deadline)
            .await
            .unwrap()
            .rows
            .len(),
        _ => reader
            .statement_page(&statement, deadline)
            .await
            .unwrap()
            .rows
            .len(),
    };
    let took = begun.elapsed();
    assert!(rows >= PAGE - 1, "{kind:?}: {rows} rows");
    took
}

fn reader(source: &Arc<dyn Source>) -> HistoryReader {
    HistoryReader::new(source, &Meters::new(), &settings())
}

/// One line for each kind of page: both histories in turn.
async fn table(
    name: &str,
    source: Arc<dyn Source>,
    histories: [i64; 2],
    holder: impl Fn(i64) -> i64,
) {
    let reader = reader(&source);
    for (kind, what) in KINDS {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS + WARM_UP {
            for (rows, times) in histories.into_iter().zip(&mut times) {
                let took = page(&reader, kind, (rows, holder(rows)), rows).await;
                if round >= WARM_UP {
                    times.push(took);
                }
            }
        }
        report::line(&format!("{name}: {what}"), times);
    }
}

/// The newest page from the bucketed table by the driver, beside the same from the table as it is: buckets are walked from the newest
/// of the user down, which the client has to know.
async fn buckets(session: &Session, histories: [i64; 2]) {
    let prepare = async |text: &str| session.prepare(text).await.unwrap();
    let columns = "settled_at, trade_id, role, price, quantity, cost, order_id";
    let whole = prepare(&format!(
        "SELECT {columns} FROM bench.user_trades WHERE user_id = ? AND symbol_id = 1 LIMIT 103"
    ))
    .await;
    let bucket = prepare(&format!("SELECT {columns} FROM bench.bucketed WHERE user_id = ? AND symbol_id = 1 AND bucket = ? LIMIT 103")).await;
    let (mut plain, mut bucketed) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..ROUNDS + WARM_UP {
        for (at, rows) in histories.into_iter().enumerate() {
            let begun = Instant::now();
            session.execute_unpaged(&whole, (rows,)).await.unwrap();
            let first = begun.elapsed();
            let (begun, mut found, mut walked) = (Instant::now(), 0, settled_at(rows) / BUCKET);
            while found < PAGE && walked >= BEGAN / BUCKET {
                let result = session
                    .execute_unpaged(&bucket, (rows, walked))
                    .await
                    .unwrap();
                found += result.into_rows_result().unwrap().rows_num();
                walked -= 1;
            }
            if round >= WARM_UP {
                plain.get_mut(at).unwrap().push(first);
                bucketed.get_mut(at).unwrap().push(begun.elapsed());
            }
        }
    }
    report::line("bare driver: trades, newest", plain);
    report::line("bare driver: trades, newest, with a bucket", bucketed);
    let text = "SELECT table_name, mebibytes FROM system_views.max_partition_size WHERE keyspace_name = 'bench' ALLOW FILTERING";
    let sizes = session
        .query_unpaged(text, ())
        .await
        .unwrap()
        .into_rows_result()
        .unwrap();
    println!();
    for row in sizes.rows::<(String, i64)>().unwrap() {
        let (table, mebibytes) = row.unwrap();
        println!("largest partition of {table}: {mebibytes} MiB in files");
    }
    println!();
}

async fn open(settings: &config::ScyllaSettings, source: &config::SourceSettings) -> Arc<Scylla> {
    let scylla = Arc::new(Scylla::new(settings, source, Arc::new(Catalogue::default())).unwrap());
    TaskTracker::new().spawn(Arc::clone(&scylla).run_watch(CancellationToken::new()));
    while scylla.readiness() != SourceReadiness::Ready {
        eventually::pause().await;
    }
    scylla
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let histories = [FEW, many()];
    let options = cassandra::Options {
        compiled: cassandra::Compiled::Well,
        durable: true,
        without_views: true,
        ..cassandra::Options::default()
    };
    let mut node = cassandra::Cassandra::start(&options);
    let mut of_node = settings().scylla;
    of_node.nodes = vec![node.node()];
    "bench".clone_into(&mut of_node.keyspace);
    of_node.consistency = Consistency::LocalQuorum;
    of_node.replication_factor = 1;
    let source = config::SourceSettings {
        kind: SourceKind::Scylla,
        read_from: ReadFrom::Ledger,
        ..settings().source
    };
    runtime.block_on(async {
        schema::apply_schema(&of_node, &source).await.unwrap();
        load_cassandra(&node.session().await, histories).await;
    });
    // What was in memory is in files afterwards.
    node.stop();
    node.start_again();
    runtime.block_on(async {
        report::header([FEW, many()], PAGE);
        let scylla = open(&of_node, &source).await;
        table("Cassandra", scylla, histories, |rows| rows).await;
        buckets(&node.session().await, histories).await;
    });
    drop(node);
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let of_file = config::EmbeddedSettings {
            path: folder.path().join("ledger.redb"),
            sample_data: false,
            check_at_start: false,
        };
        let catalogue = Catalogue::new(&settings().assets, &settings().symbols).unwrap();
        let ledger = Embedded::open_ledger(&of_file, Duration::from_secs(30), 1).unwrap();
        load_embedded(&ledger, &catalogue, histories).await;
        report::header([FEW, many()], PAGE);
        table("embedded", Arc::new(ledger), histories, |rows| rows + 1).await;
    });
}
