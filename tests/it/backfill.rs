//! `ledger backfill` on a real Cassandra: killed and resumed, beside live writes, and what it refuses.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use scylla::client::session::Session;
use serde_json::Value;

use crate::{
    cli_support::{Apart, Said},
    support::{
        cassandra::shared,
        eventually::eventually_async,
        process::Process,
        service::{Service, Setup},
        stage::{SOON, Stage},
    },
};

pub const TRADES: i64 = 1_500;

/// A side of a trade: its key, and price, quantity, cost, order.
type Key = (i64, i32, i64, i64, i8);
type Content = (i64, i64, i64, Option<i64>);

/// The sides of trade `id`; every hundredth is with oneself.
fn sides(id: i64) -> [(Key, Content); 2] {
    let (symbol, settled_at) = (
        1 + i32::try_from(id % 2).unwrap(),
        1_765_352_441_000 + id % 7,
    );
    let buyer = 1 + id % 50;
    let seller = if id % 100 == 0 { buyer } else { 100 + id % 40 };
    let content = |order| (1_000 + id, id, id * 3, order);
    [
        ((buyer, symbol, settled_at, id, 0), content(Some(id + 7))),
        ((seller, symbol, settled_at, id, 1), content(None)),
    ]
}

/// Tables to fill, and the settings of the tool.
pub struct Ground {
    pub stage: Stage,
    session: Session,
    pub apart: Apart,
}

impl Ground {
    async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    /// With other settings of the tool.
    pub async fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let stage = Stage::new(shared()).await;
        let apart = Apart::new(change(stage.setup()));
        Self {
            session: shared().session().await,
            stage,
            apart,
        }
    }

    pub async fn cql(&self, text: &str) {
        self.stage.place().cql(&self.session, text).await;
    }

    fn checkpoint(&self) -> PathBuf {
        self.apart.folder.path().join("the.checkpoint")
    }

    /// Trades as another program left them.
    pub async fn fill_trades(&self, ids: impl Iterator<Item = i64>) {
        let keyspace = &self.stage.place().settings.keyspace;
        let text = format!(
            "INSERT INTO {keyspace}.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, \
             buyer_user_id, seller_user_id, buyer_order_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        );
        let insert = &self.session.prepare(text).await.unwrap();
        let session = &self.session;
        let writes = ids.map(|id| async move {
            let [(buyer, content), (seller, _)] = sides(id);
            let values = (
                id, buyer.1, content.0, content.1, content.2, buyer.2, buyer.0, seller.0, content.3,
            );
            session.execute_unpaged(insert, values).await
        });
        let writes = stream::iter(writes).buffer_unordered(64);
        writes.try_collect::<Vec<_>>().await.unwrap();
    }

    async fn user_trades(&self) -> BTreeMap<Key, Content> {
        type Stored = (i64, i32, i64, i64, i8, i64, i64, i64, Option<i64>);

        let keyspace = &self.stage.place().settings.keyspace;
        let text = format!(
            "SELECT user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost, order_id FROM {keyspace}.user_trades"
        );
        let rows = self.session.query_unpaged(text, ()).await.unwrap();
        let rows = rows.into_rows_result().unwrap();
        let rows = rows.rows::<Stored>().unwrap().map(|row| {
            let (user, symbol, at, id, role, price, quantity, cost, order) = row.unwrap();
            ((user, symbol, at, id, role), (price, quantity, cost, order))
        });
        rows.collect()
    }

    fn arguments<'a>(&self, table: &'a str, from: &'a str, more: &[&'a str]) -> Vec<String> {
        let words = [
            "ledger",
            "backfill",
            table,
            "--from",
            from,
            "--grace-ms",
            "0",
        ];
        let mut all: Vec<String> = words
            .iter()
            .chain(more)
            .map(|it| (*it).to_owned())
            .collect();
        all.extend([
            "--checkpoint".to_owned(),
            self.checkpoint().display().to_string(),
        ]);
        all
    }

    pub fn run(&self, table: &str, from: &str, more: &[&str]) -> Said {
        let arguments = self.arguments(table, from, more);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.apart.run(&words)
    }

    /// Begins to fill the trades by user.
    pub fn begin(&self, more: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_balance-cache"));
        command
            .args(self.arguments("user_trades", "settled_trades", more))
            .envs(self.apart.setup.environment.iter().cloned())
            .current_dir(self.apart.folder.path());
        Process::start(&command, self.apart.folder.path())
    }

    /// Starts it, and kills it when so many lines more are in the checkpoint.
    async fn run_and_kill(&self, more: &[&str], lines: usize) {
        let before = count_lines(&self.checkpoint());
        let mut tool = self.begin(more);
        eventually_async(SOON, "the checkpoint grows", async || {
            (count_lines(&self.checkpoint()) >= before + lines).then_some(())
        })
        .await;
        assert_eq!(tool.exited(), None, "it was over before it was killed");
        tool.kill9();
    }
}

fn count_lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_killed_three_times_ends_as_one_that_was_not() {
    let ground = Ground::new().await;
    ground.fill_trades(1..=TRADES).await;
    let dry = ground.run("user_trades", "settled_trades", &["--dry-run"]);
    dry.has(
        0,
        &["to be written: 3000 rows expected, 0 stand, 3000 missing"],
    );
    assert!(ground.user_trades().await.is_empty() && !ground.checkpoint().exists());
    // The whole takes fifteen seconds: a pause before each kill leaves parts for the next run.
    let parts = ["--parts", "48", "--rate", "100"];
    for _ in 0..3 {
        ground.run_and_kill(&parts, 4).await;
    }
    let begun = count_lines(&ground.checkpoint());
    assert!(begun >= 12, "{begun}");
    let last = ground.run(
        "user_trades",
        "settled_trades",
        &["--parts", "48", "--rate", "0"],
    );
    last.has(
        0,
        &[
            "user_trades: 1500 rows of the source, 3000 rows written",
            "the same: 3000 rows expected, 3000 stand, 0 missing, 0 different, 0 unexpected",
        ],
    );
    assert!(last.err.contains("goes on after"), "{last}");
    assert!(!ground.checkpoint().exists(), "it is over");
    let expected: BTreeMap<Key, Content> = (1..=TRADES).flat_map(sides).collect();
    assert_eq!(ground.user_trades().await, expected);
    // Once more changes nothing, and says the same to programs.
    let again = ground.run("user_trades", "settled_trades", &["--rate", "0", "--json"]);
    let page: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(
        (again.code, &page["same"], &page["source_rows"]),
        (0, &true.into(), &1500.into())
    );
    assert_eq!(ground.user_trades().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_row_stays_and_every_kind_of_difference_is_named() {
    let ground = Ground::new().await;
    ground.fill_trades(1..=20).await;
    let [((user, symbol, at, id, role), _), _] = sides(3);
    let live = format!(
        "INSERT INTO {{ks}}.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost) \
         VALUES ({user}, {symbol}, {at}, {id}, {role}, 5, 3, 9)"
    );
    ground.cql(&live).await;
    ground.cql("INSERT INTO {ks}.user_trades (user_id, symbol_id, settled_at, trade_id, role, price) VALUES (9, 1, 1, 77, 0, 1)").await;
    ground
        .cql("INSERT INTO {ks}.settled_trades (trade_id, symbol_id, price) VALUES (500, 1, 1)")
        .await;
    let said = ground.run("user_trades", "settled_trades", &[]);
    said.has(
        1,
        &[
            "different: trade 3, buyer 4, symbol 2, settled_at 1765352441003: (5, 3, 9, 10) instead of (1003, 3, 9, 10)",
            "unexpected: trade 77, buyer 9",
            "DIFFERENT: 40 rows expected, 41 stand, 0 missing, 1 different, 1 unexpected",
            "1 left out",
        ],
    );
    assert!(
        said.err
            .contains("left out: settled_trades, trade 500: it has no symbol_id or no settled_at"),
        "{said}"
    );
    ground.cql("TRUNCATE {ks}.user_trades").await;
    let left = ground.run("user_trades", "settled_trades", &[]);
    left.has(
        1,
        &["the same, but for rows that were left out: 40 rows expected, 40 stand"],
    );
    // A dry run says so too, and reads 21 rows of the source, and the rows that they became, no faster than it may.
    let begun = Instant::now();
    let dry = ground.run(
        "user_trades",
        "settled_trades",
        &["--dry-run", "--parts", "8", "--rate", "20"],
    );
    dry.has(
        1,
        &[
            "the same, but for rows that were left out: 40 rows expected, 40 stand",
            "1 left out",
        ],
    );
    assert!(
        dry.err.contains("left out: settled_trades, trade 500: "),
        "{dry}"
    );
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_900), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_that_is_claimed_and_not_finished_is_left_to_its_writer() {
    let ground = Ground::new().await;
    ground
        .cql(
            "INSERT INTO {ks}.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, buyer_user_id, \
             seller_user_id, content, balances) VALUES (8, 1, 1, 1, 1, 5, 21, 22, '{}', '[[21,1,1,10,0],[22,1,1,20,0]]') IF NOT EXISTS",
        )
        .await;
    let row = |user: i64, avail: i64| {
        format!(
            "INSERT INTO {{ks}}.balance_ledger (user_id, asset_id, seq, avail, frozen, created_at) VALUES ({user}, 1, 1, {avail}, 0, 5)"
        )
    };
    ground.cql(&row(21, 10)).await;
    let pending = ground.run("user_trades", "settled_trades", &[]);
    pending.has(
        0,
        &[
            "1 trades pending",
            "2 rows expected, 0 stand, 0 missing, 0 different, 0 unexpected, 2 of pending trades",
        ],
    );
    assert!(ground.user_trades().await.is_empty());
    ground.cql(&row(22, 20)).await;
    let whole = ground.run("user_trades", "settled_trades", &[]);
    whole.has(0, &["2 rows written", "the same: 2 rows expected, 2 stand"]);
    let balances = ground.run("user_balances", "ledger", &["--dry-run"]);
    balances.has(0, &["the same: 2 rows expected, 2 stand"]);
    let stood = ground.run("user_trades", "settled_trades", &[]);
    stood.has(0, &["0 rows written, 2 of finished trades stood already"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_state_is_filled_from_the_newest_rows_and_read_as_ever() {
    let ground = Ground::new().await;
    ground
        .stage
        .has(7, &[(1, 300_000_000), (2, 600_000_000)])
        .await;
    ground.stage.has(8, &[(1, 900_000_000)]).await;
    ground.cql("TRUNCATE {ks}.user_balances").await;
    // A live row that is newer than what the backfill will have read.
    ground.cql("INSERT INTO {ks}.user_balances (user_id, asset_id, avail, frozen, version) VALUES (8, 1, 5, 0, 4) USING TIMESTAMP 4").await;
    let ahead = ground.run("user_balances", "ledger", &[]);
    ahead.has(
        1,
        &[
            "different: user 8, asset 1: (4, 5, 0, ",
            "3 rows expected, 3 stand, 0 missing, 1 different",
        ],
    );
    ground.stage.row(8, 1, 4, 5).await;
    ground
        .run("user_balances", "ledger", &[])
        .has(0, &["3 rows written", "the same: 3 rows expected"]);
    let verified = ground.apart.run(&["verify", "--all", "--grace-ms", "0"]);
    verified.has(0, &["the same: 2 users, 3 assets"]);
    let table = ground.stage.setup().with("source.read_from", "table");
    let service = Service::start_ready(table).await;
    let answer = service.balances(7).await;
    assert_eq!(answer.data()[1]["avail"], "6", "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_filled_is_told_before_anything_is_written() {
    let ground = Ground::new().await;
    let said = ground.run("user_trades", "ledger", &[]);
    assert!(
        said.code == 2 && said.err.contains("say --from settled_trades"),
        "{said}"
    );
    fs::write(ground.checkpoint(), "my own list\n").unwrap();
    let said = ground.run("user_trades", "settled_trades", &[]);
    assert!(
        said.code == 2 && said.err.contains("not a checkpoint"),
        "{said}"
    );
    fs::remove_file(ground.checkpoint()).unwrap();
    ground.cql("DROP TABLE {ks}.user_trades").await;
    let said = ground.run("user_trades", "settled_trades", &[]);
    assert!(
        said.code == 1 && said.err.contains("user_trades is missing in keyspace"),
        "{said}"
    );
    let embedded = Apart::new(Setup::default());
    let said = embedded.run(&[
        "ledger",
        "backfill",
        "user_trades",
        "--from",
        "settled_trades",
    ]);
    assert!(
        said.code == 2 && said.err.contains("no backfill is needed"),
        "{said}"
    );
}
