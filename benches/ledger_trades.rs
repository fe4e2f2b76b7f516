//! What transactions cost on a real one-node Cassandra, beside the bare driver, in one run.
//!
//!     cargo bench --bench ledger_trades > benches/results/ledger.md
//!
//! Both take turns, so that both see the same machine. `BALANCE_CACHE_BENCH_TRADES` is the number of trades of a turn (1,000),
//! `BALANCE_CACHE_BENCH_ROUNDS` the number of turns of each (3), `BALANCE_CACHE_BENCH_SECONDS` how long reads are counted (10).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot be set up fails; its table goes to the terminal"
)]

#[path = "ledger_trades/bare.rs"]
mod bare;
#[path = "shared/database.rs"]
mod database;
#[path = "ledger_trades/market.rs"]
mod market;
#[path = "ledger_trades/turns.rs"]
mod turns;

use std::{future::pending, sync::Arc, time::Duration};

use balance_cache::{
    config::{self, LedgerSide, Millis, ReadFrom, SourceKind},
    domain::{Catalogue, Notification, SettleOutcome, UserId},
    ledger::{
        Source, SourceReadiness,
        scylla::{Scylla, schema},
    },
};
use bare::Bare;
use database::{cassandra, eventually};
use futures::{StreamExt as _, stream};
use market::{Deal, Market, USERS};
use tokio::time::interval;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use turns::{Turn, count_reads, print_header, print_line, run_turn};

const CLIENTS: usize = 64;
/// Transactions of a request while the accounts are filled.
const FUNDING: usize = 8;
/// Trades a second beside which reads are counted, apart from as many as can be.
const PACED: u64 = 100;

const HEADING: &str = "\
# What a transaction costs on Cassandra

For anyone who wants to know what the journal costs, and what it saves. `cargo bench --bench ledger_trades > benches/results/ledger.md` makes this file.

* One Cassandra 5.0.6 (JDK 17) on the same machine, tables and view as `schema apply` makes them. This service: `Source::settle` in the process of the
  bench, one transaction a call, each announced; without HTTP and Redis. 10,000 users by Zipf(0.99).
* `external`, and bare driver *with journal*: the same statements, an append of its own for each trade; appends follow one another, for each needs the tail.
  *Without journal*: the same statements but for the append and the removal, so no lightweight transaction: what a trade costs that may stay half written.
* `service`, and bare driver: the lightweight transactions that a trade needs without a journal, one after the other: one that claims the id, one for the next row of each
  (user, asset), again where another trade took its seq (four, and five where a fee is paid to one account). It writes no current state and no history of trades, and undoes nothing.
* deposit: one entry of a new user; bare driver: one lightweight transaction.
* CPU: of this process, for each transaction; the database's is not in it.
";

#[expect(
    clippy::disallowed_methods,
    reason = "the size of a bench is told by the environment"
)]
fn number(name: &str, default: usize) -> usize {
    let asked = std::env::var(format!("BALANCE_CACHE_BENCH_{name}")).ok();
    asked.map_or(default, |text| text.parse().unwrap())
}

/// Settles one, and announces it, so that its record is removed.
async fn settle(scylla: &Scylla, deal: &Deal) {
    let outcomes = scylla
        .settle_transactions(std::slice::from_ref(&deal.transaction))
        .await;
    let outcomes = outcomes.unwrap();
    assert!(
        matches!(outcomes[..], [SettleOutcome::Written(_)]),
        "{outcomes:?}"
    );
    if let Some(SettleOutcome::Written(receipt)) = outcomes.first() {
        let news: Vec<Notification> = receipt.notifications().collect();
        scylla.note_announced(&news);
    }
}

async fn open(
    settings: &config::ScyllaSettings,
    source: &config::SourceSettings,
    catalogue: &Arc<Catalogue>,
    writer: LedgerSide,
) -> Arc<Scylla> {
    schema::apply_schema(settings, source).await.unwrap();
    let scylla = Scylla::new(settings, source, Arc::clone(catalogue)).unwrap();
    let scylla = Arc::new(scylla.with_writer(writer));
    TaskTracker::new().spawn(Arc::clone(&scylla).run_watch(CancellationToken::new()));
    while scylla.readiness() != SourceReadiness::Ready {
        eventually::pause().await;
    }
    scylla
}

struct Bench {
    bare: Bare,
    external: Arc<Scylla>,
    service: Arc<Scylla>,
    market: Market,
    trades: usize,
    rounds: usize,
}

impl Bench {
    /// Turns of both, after one that is not counted.
    async fn contest(
        &mut self,
        (what, clients, count): (&str, usize, usize),
        deals: impl Fn(&mut Market, usize) -> Vec<Deal>,
        by_bare: impl AsyncFn(&Bare, &Deal),
        ours: &Arc<Scylla>,
    ) {
        let (mut of_bare, mut of_ours) = (Turn::default(), Turn::default());
        for round in 0..=self.rounds {
            let count = if round == 0 { count.div_ceil(5) } else { count };
            let (first, second) = (
                deals(&mut self.market, count),
                deals(&mut self.market, count),
            );
            let bare = &self.bare;
            let theirs = run_turn(clients, first.iter().map(|deal| by_bare(bare, deal))).await;
            let own = run_turn(clients, second.iter().map(|deal| settle(ours, deal))).await;
            if round > 0 {
                of_bare.add(theirs);
                of_ours.add(own);
            }
        }
        print_line(what, clients, &of_bare, &of_ours);
    }

    async fn print_contests(&mut self) {
        let (external, service) = (Arc::clone(&self.external), Arc::clone(&self.service));
        let one = self.trades.div_ceil(4);
        print_header();
        for (clients, count) in [(1, one), (CLIENTS, self.trades)] {
            self.contest(
                ("`external`; with journal", clients, count),
                Market::given_trades,
                async |bare, deal| bare.write_given(deal, true).await,
                &external,
            )
            .await;
            self.contest(
                ("`external`; without journal", clients, count),
                Market::given_trades,
                async |bare, deal| bare.write_given(deal, false).await,
                &external,
            )
            .await;
            for (what, fee) in [
                ("`service`", false),
                ("`service`, each pays a fee to one account", true),
            ] {
                self.contest(
                    (what, clients, count),
                    |market, count| market.trades(count, fee),
                    async |bare, deal| bare.settle_row_by_row(deal).await,
                    &service,
                )
                .await;
            }
            self.contest(
                ("deposit", clients, count),
                |market, count| (0..count).map(|_| market.deposit()).collect(),
                async |bare, deal| bare.deposit(deal).await,
                &service,
            )
            .await;
        }
    }

    /// Reads from the source beside trades, and alone.
    async fn print_reads(&mut self, time: Duration) {
        let service = Arc::clone(&self.service);
        let read = |number: u64| {
            let user = 1 + i64::try_from(number * 7_919).unwrap() % USERS;
            let service = &service;
            async move {
                service
                    .load_snapshot(UserId::new(user).unwrap())
                    .await
                    .unwrap();
            }
        };
        count_reads(read, within(time / 5, pending())).await;
        let alone = count_reads(read, within(time, pending())).await;
        println!("\n| reads of balances from the database, 4 readers | reads/s | ratio |");
        println!("|---|---|---|");
        println!("| alone | {alone:.0} | 1.00 |");
        let deals = self.market.trades(self.trades * 20, false);
        let paced = async {
            let turns = interval(Duration::from_secs(1) / u32::try_from(PACED).unwrap());
            let service = &service;
            let trades = stream::unfold((turns, deals.iter()), async |(mut turns, mut left)| {
                turns.tick().await;
                let deal = left.next()?;
                Some((settle(service, deal), (turns, left)))
            });
            let trades = trades.buffer_unordered(CLIENTS);
            trades.for_each(async |()| {}).await;
        };
        let beside = count_reads(read, within(time, paced)).await;
        println!(
            "| beside {PACED} trades/s of `service` | {beside:.0} | {:.2} |",
            beside / alone
        );
        let deals = self.market.trades(self.trades * 20, false);
        let trades = deals.iter().map(|deal| settle(&service, deal));
        let all = async { drop(run_turn(CLIENTS, trades).await) };
        let beside = count_reads(read, within(time, all)).await;
        println!(
            "| beside as many trades as {CLIENTS} clients of `service` make | {beside:.0} | {:.2} |",
            beside / alone
        );
        let deals = self.market.trades(self.trades * 20, false);
        let trades = deals.iter().map(|deal| self.bare.settle_row_by_row(deal));
        let all = async { drop(run_turn(CLIENTS, trades).await) };
        let beside = count_reads(read, within(time, all)).await;
        println!(
            "| beside as many trades as {CLIENTS} clients of the bare driver make | {beside:.0} | {:.2} |",
            beside / alone
        );
    }
}

/// The work, for that long at most.
async fn within(time: Duration, work: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(time, work).await;
}

#[tokio::main]
async fn main() {
    let node = cassandra::Cassandra::start(&cassandra::Options {
        compiled: cassandra::Compiled::Well,
        ..cassandra::Options::default()
    });
    let source = config::SourceSettings {
        kind: SourceKind::Scylla,
        read_from: ReadFrom::Table,
        timeout_ms: Millis(Duration::from_secs(30)),
    };
    let in_keyspace = |keyspace: &str| {
        let mut settings = config::default_settings().unwrap().scylla;
        settings.nodes = vec![node.node()];
        keyspace.clone_into(&mut settings.keyspace);
        settings
    };
    let mut market = Market::new();
    let catalogue = Arc::clone(&market.catalogue);
    schema::apply_schema(&in_keyspace(bare::KEYSPACE), &source)
        .await
        .unwrap();
    let external = in_keyspace("given");
    let external = open(&external, &source, &catalogue, LedgerSide::External).await;
    let service = open(
        &in_keyspace("assigned"),
        &source,
        &catalogue,
        LedgerSide::Service,
    )
    .await;
    let funds = market.funds();
    run_turn(FUNDING, funds.iter().map(|deal| settle(&service, deal))).await;
    let mut bench = Bench {
        bare: Bare::new(node.session().await).await,
        external,
        service,
        market,
        trades: number("TRADES", 1_000),
        rounds: number("ROUNDS", 3),
    };
    let turns = format!("{} turns of {} trades", bench.rounds, bench.trades);
    println!("{HEADING}* {turns}; a quarter of that with one client.\n");
    bench.print_contests().await;
    let seconds = u64::try_from(number("SECONDS", 10)).unwrap();
    bench.print_reads(Duration::from_secs(seconds)).await;
}
