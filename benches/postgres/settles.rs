//! Transactions and trades with `ledger.writer = "service"`, beside the driver with the same transaction.

use balance_cache::{
    config::{LedgerSide, ReadFrom},
    domain::{Notification, SettleOutcome},
    ledger::{Source, postgres::Postgres},
};

use crate::{
    CONNECTIONS,
    bare::Bare,
    market::{Deal, Market},
    new_database, number, open,
    support::postgres::PgServer,
    turns::{Turn, print_header, print_line, run_turn},
};

const FUNDING: usize = 8;

/// Settles one, and announces it, so that its row of the outbox is removed.
async fn settle(postgres: &Postgres, deal: &Deal) {
    let one = std::slice::from_ref(&deal.transaction);
    let outcomes = postgres.settle_transactions(one).await.unwrap();
    let Some(SettleOutcome::Written(receipt)) = outcomes.first() else {
        panic!("{outcomes:?}");
    };
    let news: Vec<Notification> = receipt.notifications().collect();
    postgres.note_announced(&news);
}

pub async fn print_settles(server: &PgServer) {
    let settings = new_database(server, "assigned").await;
    let service = open(&settings, ReadFrom::Table, LedgerSide::Service).await;
    let settings = new_database(server, "bare").await;
    drop(open(&settings, ReadFrom::Table, LedgerSide::Service).await);
    let bare = Bare::open(server, "bare").await;
    let mut market = Market::new();
    let funds = market.funds();
    run_turn(FUNDING, funds.iter().map(|deal| settle(&service, deal))).await;
    run_turn(FUNDING, funds.iter().map(|deal| bare.settle(deal))).await;
    let (count, rounds) = (number("TRADES", 2_000), number("ROUNDS", 5));
    println!("## A transaction\n");
    println!(
        "`ledger.writer = \"service\"`, one transaction a call, each announced; without HTTP and Redis. 10,000 users by Zipf(0.99). The bare driver: balances locked \
         and read, the id looked up, one ledger row for each balance, the current state, the record; in two round trips, without an outbox. \
         {rounds} turns of {count}; a quarter of that with one client. CPU: of this process, for each transaction.\n"
    );
    print_header();
    for (clients, count) in [(1, count.div_ceil(4)), (CONNECTIONS, count)] {
        for what in ["deposit", "trade", "trade, each pays a fee to one account"] {
            let (mut of_bare, mut of_ours) = (Turn::default(), Turn::default());
            for round in 0..=rounds {
                let count = if round == 0 { count.div_ceil(5) } else { count };
                let deals = |market: &mut Market| match what {
                    "deposit" => (0..count).map(|_| market.deposit()).collect(),
                    "trade" => market.trades(count, false),
                    _ => market.trades(count, true),
                };
                let (first, second) = (deals(&mut market), deals(&mut market));
                let theirs = run_turn(clients, first.iter().map(|deal| bare.settle(deal))).await;
                let own = run_turn(clients, second.iter().map(|deal| settle(&service, deal))).await;
                if round > 0 {
                    of_bare.add(theirs);
                    of_ours.add(own);
                }
            }
            print_line(what, clients, &of_bare, &of_ours);
        }
    }
    println!();
}
