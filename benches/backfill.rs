//! `ledger backfill` of a million rows on a real one-node Cassandra, killed −9 three times, beside reads.
//!
//!     cargo bench --bench backfill > benches/results/backfill.md
//!
//! prints a table. `BALANCE_CACHE_BENCH_TRADES` is the number of trades (500,000: two rows each); `BALANCE_CACHE_BENCH_RATE` the rate beside
//! which reads are measured. At the end every row is read and compared with what the trades say, without the tool that wrote it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up fails; its table goes to the terminal"
)]

#[path = "shared/database.rs"]
mod database;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use database::cassandra::{Cassandra, Compiled, Options};
use futures::{StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;

const USERS: i64 = 10_000;
const READERS: usize = 4;
const MEASURED: Duration = Duration::from_secs(20);
const PARTS: usize = 1_024;

const HEADING: &str = "\
# Backfill of a million rows

For anyone who has to fill `user_trades` beside customers who read. `cargo bench --bench backfill > benches/results/backfill.md` makes this file.

One Cassandra 5.0.6 (JDK 17), `balance-cache ledger backfill user_trades --from settled_trades` and the readers on the same machine. The run beside which reads
are measured is killed, and two more at full speed; the last one ends by itself.
";

/// user, symbol, `settled_at`, trade, role, price, quantity, cost, order
type Side = (i64, i32, i64, i64, i8, i64, i64, i64, Option<i64>);

fn sides(id: i64) -> [Side; 2] {
    let (symbol, at) = (if id % 2 == 0 { 1 } else { 2 }, 1_765_352_441_000 + id);
    let (buyer, seller) = (1 + id % USERS, 1 + id * 7 % USERS);
    let side = |user, role, order| (user, symbol, at, id, role, 1_000 + id, id, id * 3, order);
    [side(buyer, 0, Some(id)), side(seller, 1, None)]
}

fn number(name: &str, default: i64) -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a bench has no settings")]
    let value = std::env::var(name);
    value.map_or(default, |text| text.parse().unwrap())
}

struct Bench {
    node: Cassandra,
    session: Arc<Session>,
    folder: tempfile::TempDir,
    trades: i64,
}

impl Bench {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_balance-cache"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("BALANCE_CACHE__SOURCE__KIND", "scylla")
            .env("BALANCE_CACHE__SCYLLA__NODES", self.node.node())
            .env("BALANCE_CACHE__SCYLLA__KEYSPACE", "bench");
        command
    }

    fn backfill(&self, more: &[&str]) -> Command {
        let words = [
            "ledger",
            "backfill",
            "user_trades",
            "--from",
            "settled_trades",
        ];
        self.command(&[&words, more].concat())
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder
            .path()
            .join("backfill-user_trades-bench.checkpoint")
    }

    fn parts_done(&self) -> usize {
        let text = fs::read_to_string(self.checkpoint()).unwrap_or_default();
        text.lines().count().saturating_sub(1)
    }

    async fn fill(&self) {
        let mut apply = self.command(&["schema", "apply"]);
        let applied = apply.stdout(Stdio::null()).status().unwrap();
        assert!(applied.success());
        let trade = "INSERT INTO bench.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, buyer_user_id, \
                     seller_user_id, buyer_order_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let trade = &self.session.prepare(trade).await.unwrap();
        let session = &self.session;
        let writes = stream::iter(1..=self.trades).map(|id| async move {
            let [
                (buyer, symbol, at, _, _, price, quantity, cost, order),
                (seller, ..),
            ] = sides(id);
            let values = (id, symbol, price, quantity, cost, at, buyer, seller, order);
            session.execute_unpaged(trade, values).await.map(drop)
        });
        writes
            .buffer_unordered(128)
            .try_collect::<()>()
            .await
            .unwrap();
        let balance = "INSERT INTO bench.user_balances (user_id, asset_id, avail, frozen, version) VALUES (?, 1, ?, 0, 1)";
        let balance = &self.session.prepare(balance).await.unwrap();
        let writes = stream::iter(1..=USERS).map(|user| async move {
            session
                .execute_unpaged(balance, (user, user))
                .await
                .map(drop)
        });
        writes
            .buffer_unordered(128)
            .try_collect::<()>()
            .await
            .unwrap();
    }

    /// Reads of balances in a second: [`READERS`] of them, each after the other.
    async fn reads(&self) -> f64 {
        let text =
            "SELECT asset_id, version, avail, frozen FROM bench.user_balances WHERE user_id = ?";
        let statement = Arc::new(self.session.prepare(text).await.unwrap());
        let count = Arc::new(AtomicU64::new(0));
        let begun = Instant::now();
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (session, statement) = (Arc::clone(&self.session), Arc::clone(&statement));
                let count = Arc::clone(&count);
                async move {
                    let mut user = i64::try_from(reader).unwrap() * 1_000;
                    loop {
                        user = 1 + (user + 7_919) % USERS;
                        let rows = session.execute_unpaged(&statement, (user,)).await.unwrap();
                        assert_eq!(rows.into_rows_result().unwrap().rows_num(), 1);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
            .collect();
        let all = futures::future::join_all::<Vec<_>>(readers);
        let _: Result<Vec<()>, _> = tokio::time::timeout(MEASURED, all).await;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let reads = count.load(Ordering::Relaxed) as f64;
        reads / begun.elapsed().as_secs_f64()
    }

    /// Kills it when that many parts are done.
    async fn kill_at(&self, mut child: Child, parts: usize) {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        while self.parts_done() < parts {
            assert!(
                child.try_wait().unwrap().is_none(),
                "it was over before it was killed"
            );
            looks.tick().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let done = self.parts_done();
        println!("| killed −9 with so many of {PARTS} parts done | {done} |");
    }

    /// Reads every row, and compares it with what its trade says.
    async fn check(&self) {
        let text = "SELECT user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost, order_id FROM bench.user_trades";
        let rows = self.session.query_iter(text, ()).await.unwrap();
        let mut rows = rows.rows_stream::<Side>().unwrap();
        let mut count = 0;
        while let Some(row) = rows.try_next().await.unwrap() {
            assert!(
                sides(row.3).contains(&row) && row.3 <= self.trades,
                "{row:?}"
            );
            count += 1;
        }
        assert_eq!(count, self.trades * 2);
        println!(
            "| rows read one by one afterwards: each as its trade says, none missing, none more | {count} |"
        );
    }
}

#[tokio::main]
async fn main() {
    let trades = number("BALANCE_CACHE_BENCH_TRADES", 500_000);
    let rate = number("BALANCE_CACHE_BENCH_RATE", 1_000).to_string();
    let node = Cassandra::start(&Options {
        compiled: Compiled::Well,
        ..Options::default()
    });
    let session = Arc::new(node.session().await);
    let bench = Bench {
        node,
        session,
        folder: tempfile::tempdir().unwrap(),
        trades,
    };
    let begun = Instant::now();
    bench.fill().await;
    println!("{HEADING}\n| | |\n|---|---|");
    let filled = begun.elapsed();
    println!("| trades that were there, and the time to write them | {trades}, {filled:.0?} |");

    bench.reads().await;
    let alone = bench.reads().await;
    let quiet = |mut command: Command| command.stderr(Stdio::null()).spawn().unwrap();
    let beside = quiet(bench.backfill(&["--rate", &rate]));
    let with = bench.reads().await;
    bench.kill_at(beside, 1).await;
    println!("| reads/s of {READERS} readers alone | {alone:.0} |");
    println!(
        "| reads/s beside the backfill with `--rate {rate}`, and their ratio | {with:.0}, {:.2} |",
        with / alone
    );
    let begun = Instant::now();
    let done = bench.parts_done();
    for more in [PARTS / 4, PARTS / 2] {
        let child = quiet(bench.backfill(&["--rate", "0"]));
        bench.kill_at(child, done + more).await;
    }
    let (killed, parts) = (begun.elapsed(), bench.parts_done() - done);
    let of_parts = f64::from(u32::try_from(trades * 2).unwrap())
        * f64::from(u32::try_from(parts).unwrap())
        / f64::from(u32::try_from(PARTS).unwrap());
    println!(
        "| rows/s of the two runs without a rate that were killed | {:.0} |",
        of_parts / killed.as_secs_f64()
    );
    let begun = Instant::now();
    let finished = bench
        .backfill(&["--rate", "0"])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    println!(
        "| the last run, with its comparison of all rows both ways | {:.0?} |",
        begun.elapsed()
    );
    assert!(finished.status.success());
    bench.check().await;
    println!(
        "\nThe last run said:\n\n```\n{}\n```",
        String::from_utf8_lossy(&finished.stdout).trim_end()
    );
}
