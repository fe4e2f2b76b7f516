//! What a cold read costs at the source, by length of history and by the three ways of reading, beside the bare driver
//! statements that it uses, in one run, on a real one-node Cassandra (see `tests/it/support/cassandra.rs`).
//!
//!     cargo bench --bench view_read
//!
//! prints a table (p50 of a sequential client; source and bare statements alternate, so that both see the same
//! machine) and then runs the same under criterion. `BALANCE_CACHE_BENCH_ROWS=100000` adds that history.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up fails; its table goes to the terminal"
)]

#[path = "shared/database.rs"]
mod database;

use std::{
    hint::black_box,
    num::NonZeroU64,
    sync::Arc,
    time::{Duration, Instant},
};

use balance_cache::{
    cache::memory::Memory,
    cache_status::Tier,
    config::{self, Millis, ReadFrom, SourceKind},
    domain::{Asset, Catalogue, UserId},
    ledger::{
        Source, SourceReadiness,
        scylla::{Scylla, schema},
    },
    protocol::{ChangeLog, Freshness},
    read::{ReadOptions, Reader, ReaderParts},
    telemetry::Meters,
};
use criterion::{BenchmarkId, Criterion};
use database::{cassandra, eventually};
use futures::{StreamExt, TryStreamExt, stream};
use scylla::{
    client::session::Session,
    serialize::row::SerializeRow,
    statement::{batch::Batch, batch::BatchType, prepared::PreparedStatement},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const ASSETS: i32 = 10;
const ROUNDS: usize = 1_500;
const WAYS: [ReadFrom; 3] = [ReadFrom::View, ReadFrom::Table, ReadFrom::Ledger];
type Row = (i32, i64, Option<i64>, Option<i64>, Option<i64>);

/// The driver alone, with the statements of a load.
struct Bare {
    session: Session,
    jump: PreparedStatement,
    table: PreparedStatement,
    ledger: PreparedStatement,
}

impl Bare {
    async fn new(session: Session) -> Self {
        let prepare = async |text: &str| {
            let mut statement = session.prepare(text).await.unwrap();
            statement.set_is_idempotent(true);
            statement
        };
        Self {
            jump: prepare("SELECT asset_id, seq, avail, frozen, created_at FROM bench.user_balances_by_user WHERE user_id = ? AND asset_id >= ? LIMIT 1").await,
            table: prepare("SELECT asset_id, version, avail, frozen, updated_at FROM bench.user_balances WHERE user_id = ?").await,
            ledger: prepare("SELECT asset_id, seq, avail, frozen, created_at FROM bench.balance_ledger WHERE user_id = ? AND asset_id IN ? PER PARTITION LIMIT 1").await,
            session,
        }
    }

    async fn read(&self, way: ReadFrom, user: i64) -> usize {
        match way {
            // Boxed: three statements make a large future.
            ReadFrom::View => {
                Box::pin(async {
                    let assets: Vec<i32> = (1..=ASSETS).collect();
                    let named = self.rows(&self.ledger, (user, assets));
                    let below = self.rows(&self.jump, (user, i32::MIN));
                    let beyond = self.rows(&self.jump, (user, ASSETS + 1));
                    let (named, below, beyond) = futures::join!(named, below, beyond);
                    named + below + beyond
                })
                .await
            }
            ReadFrom::Table => self.rows(&self.table, (user,)).await,
            ReadFrom::Ledger => {
                let assets: Vec<i32> = (1..=ASSETS).collect();
                self.rows(&self.ledger, (user, assets)).await
            }
        }
    }

    async fn rows(&self, statement: &PreparedStatement, values: impl SerializeRow) -> usize {
        let result = self
            .session
            .execute_unpaged(statement, values)
            .await
            .unwrap();
        let rows = result.into_rows_result().unwrap();
        rows.rows::<Row>()
            .unwrap()
            .map(Result::unwrap)
            .collect::<Vec<_>>()
            .len()
    }
}

/// `rows` per asset, in batches of one partition; the current state beside them.
async fn history(session: &Session, user: i64, rows: i64) {
    const BATCH: usize = 50;
    let insert = session.prepare("INSERT INTO bench.balance_ledger (user_id, asset_id, seq, avail, frozen, created_at) VALUES (?, ?, ?, ?, 0, 0)").await.unwrap();
    let current = session.prepare("INSERT INTO bench.user_balances (user_id, asset_id, avail, frozen, version, updated_at) VALUES (?, ?, ?, 0, ?, 0) USING TIMESTAMP ?").await.unwrap();
    let mut batches = Vec::new();
    for asset in 1..=ASSETS {
        session
            .execute_unpaged(&current, (user, asset, rows, rows, rows))
            .await
            .unwrap();
        let seqs: Vec<i64> = (1..=rows).collect();
        for seqs in seqs.chunks(BATCH) {
            let values: Vec<_> = seqs.iter().map(|seq| (user, asset, *seq, *seq)).collect();
            batches.push(values);
        }
    }
    let writes = batches.into_iter().map(|values| {
        let mut batch = Batch::new(BatchType::Unlogged);
        for _ in &values {
            batch.append_statement(insert.clone());
        }
        async move { session.batch(&batch, values).await.map(drop) }
    });
    let writes: Vec<_> = writes.collect();
    stream::iter(writes)
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .unwrap();
}

fn settings(node: &cassandra::Cassandra) -> config::ScyllaSettings {
    config::ScyllaSettings {
        nodes: vec![node.node()],
        keyspace: "bench".to_owned(),
        ..config::default_settings().unwrap().scylla
    }
}

fn source(read_from: ReadFrom) -> config::SourceSettings {
    config::SourceSettings {
        kind: SourceKind::Scylla,
        read_from,
        timeout_ms: Millis(Duration::from_secs(30)),
    }
}

fn catalogue() -> Arc<Catalogue> {
    let assets: Vec<_> = (1..=ASSETS)
        .map(|id| Asset::new(id, format!("A{id}"), 8))
        .collect();
    Arc::new(Catalogue::new(&assets, &[]).unwrap())
}

async fn open(settings: &config::ScyllaSettings, way: ReadFrom) -> Arc<Scylla> {
    let scylla = Arc::new(Scylla::new(settings, &source(way), catalogue()).unwrap());
    TaskTracker::new().spawn(Arc::clone(&scylla).run_watch(CancellationToken::new()));
    while scylla.readiness() != SourceReadiness::Ready {
        eventually::pause().await;
    }
    scylla
}

async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let start = Instant::now();
    black_box(work.await);
    start.elapsed()
}

fn p50(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).unwrap().as_secs_f64() * 1_000.0
}

/// The whole cold read over a source: memory, the shared load, the source; without Redis and without HTTP.
struct Cold {
    reader: Arc<Reader>,
    memory: Arc<Memory>,
}

impl Cold {
    fn new(scylla: &Arc<Scylla>, way: ReadFrom) -> Self {
        let mut settings =
            config::load_settings(None, std::iter::empty::<(String, String)>()).unwrap();
        settings.source = source(way);
        settings.limits.deadline_ms = Millis(Duration::from_secs(30));
        let (catalogue, meters) = (catalogue(), Meters::new());
        let memory = Arc::new(Memory::new(
            1 << 24,
            Duration::from_secs(10),
            Arc::clone(&catalogue),
            Arc::clone(&meters),
        ));
        let parts = ReaderParts {
            catalogue,
            memory: Arc::clone(&memory),
            redis: None,
            source: scylla.clone(),
            change_log: Arc::new(ChangeLog::new(Duration::from_mins(10), 1_000)),
            freshness: Arc::new(Freshness::always_fresh()),
            meters,
            tasks: TaskTracker::new(),
            sampler: balance_cache::audit::Sampler::new().0,
        };
        Self {
            reader: Reader::new(parts, &settings),
            memory,
        }
    }

    async fn read(&self, user: UserId) -> Duration {
        self.memory.forget_user(user);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let start = Instant::now();
        let answer = self
            .reader
            .read_user(user, ReadOptions::default(), deadline)
            .await
            .unwrap();
        assert_eq!(answer.cache_status.answered, Tier::Source);
        start.elapsed()
    }
}

/// One line of the table: p50 of the source, of the whole cold read and of the bare statements, in turn.
async fn line(bare: &Bare, scylla: &Arc<Scylla>, way: ReadFrom, rows: i64) {
    let user = UserId::new(rows).unwrap();
    let cold = Cold::new(scylla, way);
    let (mut ours, mut whole, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + 200 {
        let load = timed(scylla.load_snapshot(user)).await;
        let read = cold.read(user).await;
        let driver = timed(bare.read(way, rows)).await;
        if round >= 200 {
            ours.push(load);
            whole.push(read);
            theirs.push(driver);
        }
    }
    let (ours, whole, theirs) = (p50(ours), p50(whole), p50(theirs));
    let (ratio, cold) = (ours / theirs, whole / theirs);
    println!(
        "| {way:?} | {rows} | {theirs:.3} | {ours:.3} | {ratio:.2} | {whole:.3} | {cold:.2} |"
    );
}

/// First loads of users that were never seen: page and jumps, or the page alone.
async fn unseen(settings: &config::ScyllaSettings, histories: &[i64]) {
    let mut times = vec![Vec::new(); histories.len()];
    for _ in 0..100 {
        let scylla = open(settings, ReadFrom::View).await;
        scylla.load_snapshot(UserId::MAX).await.unwrap();
        for (rows, times) in histories.iter().zip(&mut times) {
            times.push(timed(scylla.load_snapshot(UserId::new(*rows).unwrap())).await);
        }
    }
    for (rows, times) in histories.iter().zip(times) {
        println!("| View, never seen | {rows} | | {:.3} | | | |", p50(times));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a longer history is asked for by the environment"
)]
fn histories() -> Vec<i64> {
    let longer = std::env::var("BALANCE_CACHE_BENCH_ROWS").ok();
    let longer =
        longer.map(|rows| i64::try_from(rows.parse::<NonZeroU64>().unwrap().get()).unwrap());
    [10, 1_000, 20_000].into_iter().chain(longer).collect()
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = cassandra::Cassandra::start(&cassandra::Options {
        compiled: cassandra::Compiled::Well,
        ..cassandra::Options::default()
    });
    let settings = settings(&node);
    let histories = histories();
    let (bare, sources) = runtime.block_on(async {
        schema::apply_schema(&settings, &source(ReadFrom::View))
            .await
            .unwrap();
        let bare = Bare::new(node.session().await).await;
        for rows in &histories {
            history(&bare.session, *rows, *rows).await;
        }
        let mut sources = Vec::new();
        for way in WAYS {
            sources.push((way, open(&settings, way).await));
        }
        println!("| read | rows per asset | bare driver, p50 ms | source, p50 ms | ratio | cold read, p50 ms | ratio |");
        println!("|---|---|---|---|---|---|---|");
        for (way, scylla) in &sources {
            for rows in &histories {
                line(&bare, scylla, *way, *rows).await;
            }
        }
        unseen(&settings, &histories).await;
        (bare, sources)
    });
    let mut criterion = Criterion::default().configure_from_args();
    for (way, scylla) in &sources {
        let mut group = criterion.benchmark_group(format!("{way:?}"));
        for rows in &histories {
            let user = UserId::new(*rows).unwrap();
            group.bench_function(BenchmarkId::new("source", rows), |b| {
                b.to_async(&runtime).iter(|| scylla.load_snapshot(user));
            });
            group.bench_function(BenchmarkId::new("bare driver", rows), |b| {
                b.to_async(&runtime).iter(|| bare.read(*way, *rows));
            });
        }
    }
    criterion.final_summary();
}
