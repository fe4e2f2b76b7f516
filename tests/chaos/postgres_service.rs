//! Transactions and trades whose seqs the service assigns, while PostgreSQL fails and instances are killed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    clients::{self, Workload},
    history::{Amounts, Row, Rules, Violation},
    ledger::LedgerWriter,
    nemesis::{Database, Fault, Nemesis},
    pace::pace,
    pg_faults::DatabaseFault,
    pg_writer::PgWriter,
    postgres::{PAUSE_MAX, REPLAY_DELAY, at_leisure, setup_on},
    run::{CATCH_UP, MAX_STALENESS, TURN, at_rest, end, report, rules, told},
    senders::{self, Book},
    stands::{
        StandingRow, each_stands_once_and_whole, ledger_rows, newest, rows_follow, tables_agree,
        torn_reads,
    },
    support::{
        eventually::eventually_async, pg_pair::PgPair, proxy::Proxy, redis::Redis, service::Service,
    },
    world::{INSTANCES, World},
};

const FAULTS: &[Fault] = &[
    Fault::Postgres(DatabaseFault::PrimaryKilled),
    Fault::Postgres(DatabaseFault::PrimaryPaused),
    Fault::Postgres(DatabaseFault::StandbyPaused),
    Fault::Postgres(DatabaseFault::SessionsEnded),
    Fault::Postgres(DatabaseFault::FailedOver),
    Fault::Postgres(DatabaseFault::TwoPrimaries),
    Fault::InstanceKilled,
    Fault::InstancePaused,
    Fault::RedisPaused,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_stand_once_while_postgresql_fails() {
    let _turn = TURN.lock().await;
    let (seconds, seed) = (
        told("BALANCE_CACHE_CHAOS_SECONDS", 15),
        told("BALANCE_CACHE_CHAOS_SEED", 1),
    );
    eprintln!("transactions in PostgreSQL for {seconds} s, seed {seed}");
    let load = Workload {
        users: 12,
        writers: 4,
        readers: 8,
        think: Duration::from_millis(25),
        lag_max: Duration::ZERO,
        all_ways: true,
        stream: false,
        outbox: false,
    };
    let (pair, redis) = (PgPair::start("service", REPLAY_DELAY).await, Redis::start());
    let proxies: Vec<_> = (0..INSTANCES)
        .map(|_| Proxy::start(redis.address()))
        .collect();
    let services = start_services(&pair, &proxies).await;
    let instances = [services[0].http(), services[1].http()];
    let (mut background, book) = (JoinSet::new(), Arc::new(Book::default()));
    let ledger = LedgerWriter::Postgres(PgWriter::new(&pair.place));
    let world = World::new(ledger, redis.url(), instances, &mut background);
    let mut nemesis = Nemesis {
        redis,
        database: Database::Postgres(Box::new(pair)),
        services,
        proxies,
        injected: BTreeMap::new(),
        users: load.users,
        faults: FAULTS,
        pause_max: PAUSE_MAX,
    };
    let clients = start(&world, load, &book, seed).await;
    let time = Duration::from_secs(seconds);
    nemesis.run(&world, time, seed).await;
    end(&world, clients).await;
    for service in &nemesis.services {
        service.ready().await;
    }
    let writer = world.ledger.postgres().unwrap();
    nothing_is_owed(writer).await;
    // Every instance has heard of the last of it by then.
    pace(MAX_STALENESS).await;
    let rows = ledger_rows(writer).await;
    rows_follow(&rows);
    each_stands_once_and_whole(&rows, &book.sent.lock());
    tables_agree(writer, &rows).await;
    let mut found = broken_promises(&world, &rows);
    at_rest(&world, load, &mut found).await;
    report(&world, &found, &nemesis.injected);
    assert!(found.is_empty(), "{} violations", found.len());
    api_agrees(&world, &rows).await;
    let verify = at_leisure(&nemesis.services[0].setup());
    let (code, said, wrong) = verify.run(&["verify", "--conservation"]);
    assert_eq!(code, 0, "{said}{wrong}");
    for word in ["written", "repeated", "refused"] {
        assert!(world.notifications.lock().contains_key(word), "{word}");
    }
    for service in &mut nemesis.services {
        assert_eq!(service.terminate(), 0);
    }
}

/// Instances that assign seqs, each behind its proxy.
async fn start_services(pair: &PgPair, proxies: &[Proxy]) -> Vec<Service> {
    let mut services = Vec::new();
    for proxy in proxies {
        let setup = setup_on(&pair.place, &format!("redis://{}", proxy.address()))
            .with("ledger.writer", "service")
            .with("ledger.recovery_ms", 1_000);
        if services.is_empty() {
            let (code, said, wrong) = at_leisure(&setup).run(&["schema", "apply"]);
            assert_eq!(code, 0, "{said}{wrong}");
        }
        services.push(Service::start_ready(setup).await);
    }
    services
}

/// Starts senders and readers, when every user has something.
async fn start(world: &Arc<World>, load: Workload, book: &Arc<Book>, seed: u64) -> JoinSet<()> {
    senders::first_deposits(world, load, book).await;
    world.caught_up(CATCH_UP).await;
    let mut clients = JoinSet::new();
    for me in 1..=load.writers {
        let (world, book) = (Arc::clone(world), Arc::clone(book));
        clients.spawn(senders::send(world, load, book, me, seed ^ (me << 8)));
    }
    for me in 1..=load.readers {
        let seed = seed ^ (me << 16);
        clients.spawn(clients::read(Arc::clone(world), load, seed));
    }
    clients
}

/// Waits until everything that stands is in effect everywhere.
async fn nothing_is_owed(writer: &PgWriter) {
    eventually_async(CATCH_UP, "nothing is owed", async || {
        let owed = writer.rows("SELECT 1 FROM trading.redis_outbox").await;
        owed.is_empty().then_some(())
    })
    .await;
}

/// P1 to P3, P6, P9 and P10 of all reads. Rows that stand without an answer are in the history afterwards.
fn broken_promises(world: &World, rows: &[StandingRow]) -> Vec<Violation> {
    let amounts = rows.iter().map(|row| ((row.key, row.seq), row.avail));
    let rules = Rules {
        amounts: Amounts::Stored(amounts.collect()),
        ..rules()
    };
    let now = world.now();
    let mut history = world.history.lock();
    let mut found = history.check(&rules);
    found.extend(torn_reads(rows, &history.reads));
    let last = newest(rows);
    history.rows.extend(last.values().map(|row| Row {
        key: row.key,
        seq: row.seq,
        at: now,
    }));
    found
}

/// Each instance answers what the ledger has.
async fn api_agrees(world: &World, rows: &[StandingRow]) {
    let mut expected: BTreeMap<u64, Vec<(String, String, String, i64)>> = BTreeMap::new();
    for ((user, asset), row) in newest(rows) {
        let (avail, frozen) = (row.avail.to_string(), row.frozen.to_string());
        let shown = (format!("A{asset}"), avail, frozen, row.seq);
        expected.entry(user).or_default().push(shown);
    }
    for host in world.instances {
        for (user, balances) in &expected {
            let url = format!("http://{host}/api/user/balance?user_id={user}");
            let answer = eventually_async(CATCH_UP, "it answers", async || {
                let answer = world.http.get(&url).send().await.ok()?;
                let is_good = answer.status() == 200;
                let answer = answer.json::<Value>().await.ok();
                answer.filter(|_| is_good)
            })
            .await;
            let text = |balance: &Value, field: &str| balance[field].as_str().unwrap().to_owned();
            let shown = answer["data"].as_array().unwrap().iter().map(|balance| {
                (
                    text(balance, "asset"),
                    text(balance, "avail"),
                    text(balance, "frozen"),
                    balance["seq"].as_i64().unwrap(),
                )
            });
            assert_eq!(shown.collect::<Vec<_>>(), *balances, "user {user}");
        }
    }
}
