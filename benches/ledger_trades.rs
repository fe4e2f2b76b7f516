//! What a trade costs on a real one-node Cassandra whose seqs are assigned elsewhere, beside the bare driver with the same
//! statements in the same order.
//!
//!     cargo bench --bench ledger_trades
//!
//! prints a table: p50 and p99 of one client after the other (both alternate, so that both see the same machine), then trades per
//! second of 16 clients. `BALANCE_CACHE_BENCH_TRADES=2000` makes more of them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up fails; its table goes to the terminal"
)]

#[path = "../tests/it/support/cassandra.rs"]
#[expect(
    dead_code,
    clippy::expect_used,
    reason = "shared with the tests, which use more of it"
)]
mod cassandra;
#[path = "../tests/it/support/eventually.rs"]
#[expect(
    dead_code,
    clippy::panic,
    reason = "shared with the tests, which use more of it"
)]
mod eventually;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use balance_cache::{
    config::{self, Millis, ReadFrom, SourceKind},
    domain::{Asset, Catalogue, Outcome, PostedBalance, Symbol, Trade, Transaction},
    ledger::{
        Readiness, Source,
        scylla::{Scylla, schema},
    },
};
use futures::{StreamExt, future::try_join_all, stream};
use scylla::{client::session::Session, statement::prepared::PreparedStatement};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const KEYSPACE: &str = "bench";
const CLIENTS: usize = 16;
const WARM: i64 = 50;

/// The driver alone, with the statements of a trade.
struct Bare {
    session: Session,
    claimed: PreparedStatement,
    row: PreparedStatement,
    claim: PreparedStatement,
    ledger: PreparedStatement,
    table: PreparedStatement,
    side: PreparedStatement,
}

impl Bare {
    async fn new(session: Session) -> Self {
        let prepare = async |text: &str| {
            let mut statement = session.prepare(text).await.unwrap();
            statement.set_is_idempotent(true);
            statement
        };
        Self {
            claimed: prepare("SELECT symbol_id, buyer_user_id, settled_at, content, balances FROM bench.settled_trades WHERE trade_id = ?").await,
            row: prepare("SELECT avail, frozen, created_at FROM bench.balance_ledger WHERE user_id = ? AND asset_id = ? AND seq = ?").await,
            claim: prepare("INSERT INTO bench.settled_trades (trade_id, symbol_id, price, quantity, cost, settled_at, buyer_user_id, seller_user_id, content, balances) VALUES (?, 1, 200000000, 10, 20, 77, ?, ?, ?, ?) IF NOT EXISTS").await,
            ledger: prepare("INSERT INTO bench.balance_ledger (user_id, asset_id, seq, delta_avail, delta_frozen, avail, frozen, event_type, ref_id, created_at) VALUES (?, ?, ?, 1, 0, ?, 0, 'trade', ?, 77)").await,
            table: prepare("INSERT INTO bench.user_balances (user_id, asset_id, avail, frozen, version, updated_at) VALUES (?, ?, ?, 0, ?, 77) USING TIMESTAMP ?").await,
            side: prepare("INSERT INTO bench.user_trades (user_id, symbol_id, settled_at, trade_id, role, price, quantity, cost) VALUES (?, 1, 77, ?, ?, 200000000, 10, 20)").await,
            session,
        }
    }

    async fn trade(&self, id: i64, transaction: &Transaction) {
        let balances = transaction.balances.as_deref().unwrap();
        let session = &self.session;
        let key = |one: &PostedBalance| (one.user_id.get(), one.asset_id.get(), one.seq.get());
        let read_rows = || {
            let reads = balances
                .iter()
                .map(|one| session.execute_unpaged(&self.row, key(one)));
            try_join_all(reads)
        };
        session.execute_unpaged(&self.claimed, (id,)).await.unwrap();
        read_rows().await.unwrap();
        let (buyer, seller) = (id * 2, id * 2 + 1);
        let claim = (id, buyer, seller, transaction.content.as_str(), "[]");
        session.execute_unpaged(&self.claim, claim).await.unwrap();
        read_rows().await.unwrap();
        let rows = balances.iter().map(|one| {
            let (user, asset, seq) = key(one);
            session.execute_unpaged(&self.ledger, (user, asset, seq, one.avail.raw(), id))
        });
        try_join_all(rows).await.unwrap();
        let rows = balances.iter().map(|one| {
            let (user, asset, seq) = key(one);
            session.execute_unpaged(&self.table, (user, asset, one.avail.raw(), seq, seq))
        });
        try_join_all(rows).await.unwrap();
        for (user, role) in [(seller, 1_i8), (buyer, 0)] {
            session
                .execute_unpaged(&self.side, (user, id, role))
                .await
                .unwrap();
        }
    }
}

fn catalogue() -> Arc<Catalogue> {
    let asset = |id, name: &str| Asset {
        id,
        name: name.to_owned(),
        decimals: 8,
    };
    let symbol = Symbol {
        id: 1,
        name: "BTC_USDT".to_owned(),
        base: "BTC".to_owned(),
        quote: "USDT".to_owned(),
    };
    Arc::new(Catalogue::new(&[asset(1, "BTC"), asset(2, "USDT")], &[symbol]).unwrap())
}

/// A trade of two users of its own.
fn trade(id: i64, catalogue: &Catalogue) -> Transaction {
    let (buyer, seller) = (id * 2, id * 2 + 1);
    let balance = |user: i64, asset: i32| {
        format!(r#"{{"user_id":{user},"asset_id":{asset},"seq":1,"avail":100,"frozen":0}}"#)
    };
    let balances = [
        balance(buyer, 1),
        balance(buyer, 2),
        balance(seller, 1),
        balance(seller, 2),
    ];
    let json = format!(
        r#"{{"trade_id":{id},"symbol":"BTC_USDT","buyer_user_id":{buyer},"seller_user_id":{seller},"price":200000000,"quantity":10,"settled_at":77,"balances":[{}]}}"#,
        balances.join(",")
    );
    Trade::parse(&json, catalogue).unwrap()
}

async fn ours(scylla: &Scylla, transaction: &Transaction) {
    let outcomes = scylla
        .settle(std::slice::from_ref(transaction))
        .await
        .unwrap();
    assert!(
        matches!(outcomes[..], [Outcome::Written(_)]),
        "{outcomes:?}"
    );
}

async fn timed(work: impl Future<Output = ()>) -> Duration {
    let begun = Instant::now();
    work.await;
    begun.elapsed()
}

/// In milliseconds: the time that so many percent do not exceed.
fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(at).unwrap().as_secs_f64() * 1_000.0
}

async fn one_after_the_other(bare: &Bare, scylla: &Scylla, catalogue: &Catalogue, trades: i64) {
    let (mut of_ours, mut of_bare) = (Vec::new(), Vec::new());
    for round in 1..=trades + WARM {
        let (first, second) = (trade(round * 2, catalogue), trade(round * 2 + 1, catalogue));
        let one = timed(ours(scylla, &first)).await;
        let other = timed(bare.trade(round * 2 + 1, &second)).await;
        if round > WARM {
            of_ours.push(one);
            of_bare.push(other);
        }
    }
    println!("| one client | bare driver | this service | ratio |");
    println!("|---|---|---|---|");
    for percent in [50, 99] {
        let (bare, ours) = (
            percentile(&mut of_bare, percent),
            percentile(&mut of_ours, percent),
        );
        println!(
            "| p{percent}, ms | {bare:.2} | {ours:.2} | {:.2} |",
            ours / bare
        );
    }
}

/// Trades per second of several clients, in turns.
async fn together(bare: &Bare, scylla: &Scylla, catalogue: &Catalogue, trades: i64) {
    const TURNS: i64 = 6;
    let (mut of_ours, mut of_bare) = (0.0_f64, 0.0_f64);
    let mut next = 1_000_000;
    for turn in 0..TURNS {
        let all: Vec<(i64, Transaction)> = (next..next + trades)
            .map(|id| (id, trade(id, catalogue)))
            .collect();
        next += trades;
        let by_us = turn % 2 == 0;
        let took = timed(async {
            let work = all.iter().map(|(id, transaction)| async move {
                if by_us {
                    ours(scylla, transaction).await;
                } else {
                    bare.trade(*id, transaction).await;
                }
            });
            stream::iter(work)
                .buffer_unordered(CLIENTS)
                .collect::<Vec<()>>()
                .await;
        });
        let seconds = took.await.as_secs_f64();
        let count = f64::from(i32::try_from(trades).unwrap());
        let best = if by_us { &mut of_ours } else { &mut of_bare };
        *best = best.max(count / seconds);
    }
    println!("\n| {CLIENTS} clients, best of 3 turns | bare driver | this service | ratio |");
    println!("|---|---|---|---|");
    println!(
        "| trades/s | {of_bare:.0} | {of_ours:.0} | {:.2} |",
        of_ours / of_bare
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "more trades are asked for by the environment"
)]
fn trades() -> i64 {
    let asked = std::env::var("BALANCE_CACHE_BENCH_TRADES").ok();
    asked.map_or(500, |text| text.parse().unwrap())
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = cassandra::Cassandra::start(&cassandra::Options {
        compiled: cassandra::Compiled::Well,
        ..cassandra::Options::default()
    });
    let mut settings = config::defaults().unwrap().scylla;
    settings.nodes = vec![node.node()];
    KEYSPACE.clone_into(&mut settings.keyspace);
    let source = config::Source {
        kind: SourceKind::Scylla,
        read_from: ReadFrom::Table,
        timeout_ms: Millis(Duration::from_secs(30)),
    };
    let catalogue = catalogue();
    runtime.block_on(async {
        schema::apply(&settings, &source).await.unwrap();
        let bare = Bare::new(node.session().await).await;
        let scylla = Scylla::new(&settings, &source, Arc::clone(&catalogue)).unwrap();
        let scylla = Arc::new(scylla);
        TaskTracker::new().spawn(Arc::clone(&scylla).run(CancellationToken::new()));
        while scylla.readiness() != Readiness::Ready {
            eventually::pause().await;
        }
        one_after_the_other(&bare, &scylla, &catalogue, trades()).await;
        together(&bare, &scylla, &catalogue, trades()).await;
    });
}
