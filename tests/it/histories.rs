//! Pages of trades and statements on real ledgers, while others write, over several instances and restarts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::{
    histories_support::{DEADLINE_MS, STATEMENT, TRADES, Tables, over, trade},
    ledger_service::setup,
    ledger_settle::TRANSACTIONS,
    support::{
        eventually::pause,
        ground::{Ground, on_each_ground},
        service::{Service, Setup},
    },
};

/// The name of a row: a trade and its side, or a seq.
fn name(row: &Value) -> (i64, String) {
    match row["seq"].as_i64() {
        Some(seq) => (seq, String::new()),
        None => (
            row["trade_id"].as_i64().unwrap(),
            row["role"].as_str().unwrap().to_owned(),
        ),
    }
}

/// The row's place in the order of its pages, ascending.
fn rank(row: &Value) -> (i64, i64, bool) {
    match row["seq"].as_i64() {
        Some(seq) => (seq, 0, false),
        None => (
            row["settled_at"].as_i64().unwrap(),
            row["trade_id"].as_i64().unwrap(),
            row["role"] == "BUYER",
        ),
    }
}

/// Pages to the end, each by the next of `services`; the first one is killed and started again in the middle. Every row of `stood` is
/// there once, no row twice, all in order.
async fn page_through(
    services: &mut [Service],
    query: &str,
    stood: &BTreeSet<(i64, String)>,
    random: &mut StdRng,
    pages: &AtomicU64,
) {
    let (mut seen, mut cursor) = (BTreeMap::new(), String::new());
    let mut last: Option<(i64, i64, bool)> = None;
    for page in 0.. {
        if page == 4 {
            services[0].restart().await;
            services[0].ready().await;
        }
        let at = page % services.len();
        let limit = random.random_range(1..40);
        let answer = services[at]
            .get(&format!("{query}&limit={limit}{cursor}"))
            .await;
        assert_eq!(answer.status, 200, "{query}{cursor}: {}", answer.body);
        pages.fetch_add(1, Ordering::Relaxed);
        let answer = answer.json();
        for row in answer["data"].as_array().unwrap() {
            let rank = rank(row);
            if let Some(last) = last {
                let falls = rank < last;
                assert!(
                    falls != query.contains("order=asc") && rank != last,
                    "{row} after {last:?}"
                );
            }
            last = Some(rank);
            let before = seen.insert(name(row), page);
            assert_eq!(before, None, "{query}: {row} came twice");
        }
        let Some(next) = answer["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
        // What is written at the end of an ascending query could lead on for ever.
        if page > 60 && stood.iter().all(|row| seen.contains_key(row)) {
            break;
        }
    }
    let missed: Vec<_> = stood
        .iter()
        .filter(|row| !seen.contains_key(*row))
        .collect();
    assert!(missed.is_empty(), "{query}: never shown: {missed:?}");
}

/// Writes for as long as it lives, once for each `pages_each` pages that were read: pages have to get ahead of it, whatever the
/// machine's speed.
struct Writer {
    pages: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    fn start<F: Future<Output = u64> + Send>(
        pages_each: u64,
        mut write: impl FnMut() -> F + Send + 'static,
    ) -> Self {
        let pages = Arc::<AtomicU64>::default();
        let read = Arc::clone(&pages);
        let (ends, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stop, count) = (Arc::clone(&ends), Arc::clone(&written));
        let task = TaskTracker::new().spawn(async move {
            let mut turns = 0;
            while !stop.load(Ordering::Relaxed) {
                if turns * pages_each > read.load(Ordering::Relaxed) {
                    pause().await;
                    continue;
                }
                turns += 1;
                count.fetch_add(write().await, Ordering::Relaxed);
            }
        });
        Self {
            pages,
            ends,
            written,
            task,
        }
    }

    async fn stop(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

on_each_ground! {
    every_row_that_stood_is_shown_once_whichever_instance_is_asked_while_others_write,
    every_row_that_stood_is_shown_once_over_a_restart_while_the_service_writes_trades,
}

async fn every_row_that_stood_is_shown_once_whichever_instance_is_asked_while_others_write(
    ground: Ground,
) {
    let tables = Arc::new(Tables::of(&ground).await);
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut sides, mut rows) = (BTreeSet::new(), BTreeSet::new());
    for trade in 1..=150 {
        let settled_at = random.random_range(0..60);
        let roles = [(0, "BUYER"), (1, "SELLER")];
        // Every third is a trade with oneself.
        let own = if trade % 3 == 0 {
            &roles[..]
        } else {
            &roles[trade % 2..=trade % 2]
        };
        for (role, word) in own {
            let trade = i64::try_from(trade).unwrap();
            tables.side(settled_at, trade, *role).await;
            sides.insert((trade, (*word).to_owned()));
        }
    }
    for seq in (2..=300).step_by(2) {
        tables.row(seq, Some(seq)).await;
        rows.insert((seq, String::new()));
    }
    let others = Arc::clone(&tables);
    let (mut next, mut dice) = (1_000_i64, StdRng::seed_from_u64(seed));
    let writer = Writer::start(1, move || {
        let tables = Arc::clone(&others);
        let writes: Vec<_> = (0..8)
            .map(|_| {
                next += 1;
                (
                    next,
                    dice.random_range(-5..60),
                    dice.random_range(0..150) * 2 + 1,
                )
            })
            .collect();
        async move {
            let all = writes.iter().map(|(id, settled_at, seq)| async {
                tables.side(*settled_at, *id, 0).await;
                tables.row(*seq, None).await;
                tables.row(*id, None).await;
            });
            futures::future::join_all(all).await;
            8
        }
    });
    let mut services = [
        Service::start_ready(over(&ground)).await,
        Service::start_ready(over(&ground)).await,
    ];
    for order in ["", "&order=asc"] {
        for (query, stood) in [(TRADES, &sides), (STATEMENT, &rows)] {
            let query = format!("{query}{order}");
            page_through(&mut services, &query, stood, &mut random, &writer.pages).await;
        }
    }
    println!("{} trades were written meanwhile", writer.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_embedded_ledger_every_row_that_stood_is_shown_once_over_a_restart_while_trades_are_written()
 {
    let setup = Setup::default().with("limits.deadline_ms", DEADLINE_MS);
    page_beside_trades(Service::start_ready(setup).await).await;
}

async fn every_row_that_stood_is_shown_once_over_a_restart_while_the_service_writes_trades(
    ground: Ground,
) {
    let service = Service::start_ready(setup(&ground, "")).await;
    let rich = |id: i64, user: i64| {
        let entry =
            |asset: i32| json!({"user_id": user, "asset_id": asset, "delta_avail": 1_000_000_000});
        json!({"transaction_id": id, "entries": [entry(1), entry(2)]})
    };
    let deposits = json!([rich(1, 1001), rich(2, 1002)]);
    let answer = service.post_until_taken(TRANSACTIONS, &deposits).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    page_beside_trades(service).await;
}

/// Users 1001 and 1002 can pay.
async fn page_beside_trades(service: Service) {
    let (mut sides, mut first) = (BTreeSet::new(), Vec::new());
    for id in 1..=150 {
        let seller = if id % 3 == 0 { 1001 } else { 1002 };
        first.push(trade(id, id % 40, seller));
        sides.insert((id, "BUYER".to_owned()));
        if seller == 1001 {
            sides.insert((id, "SELLER".to_owned()));
        }
    }
    let answer = service
        .post_until_taken("/api/v1/ledger/trades", &json!(first))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(!answer.body.contains("refused"), "{}", answer.body);
    let rows: BTreeSet<_> = service
        .get(&format!("{STATEMENT}&limit=1000"))
        .await
        .data()
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect();
    assert!(rows.len() > 150);
    let (client, url) = (
        reqwest::Client::new(),
        format!("http://{}/api/v1/ledger/trades", service.http()),
    );
    let mut next = 1_000;
    let writer = Writer::start(4, move || {
        let trades: Vec<_> = (0..20)
            .map(|_| {
                next += 1;
                trade(next, next % 43, 1001)
            })
            .collect();
        let sent = client.post(&url).json(&json!(trades)).send();
        async move {
            // While the service is started again there is nobody to take them.
            let taken = sent.await.is_ok_and(|answer| answer.status() == 200);
            if taken {
                20
            } else {
                tokio::task::yield_now().await;
                0
            }
        }
    });
    let mut services = [service];
    let mut random = StdRng::seed_from_u64(7);
    // Each reading starts the service again: all writes of one round may meet that.
    for round in 0.. {
        for order in ["", "&order=asc"] {
            for (query, stood) in [(TRADES, &sides), (STATEMENT, &rows)] {
                let query = format!("{query}{order}");
                page_through(&mut services, &query, stood, &mut random, &writer.pages).await;
            }
        }
        if writer.written.load(Ordering::Relaxed) > 0 {
            break;
        }
        assert!(round < 20, "nobody wrote meanwhile");
    }
    let written = writer.stop().await;
    println!("{written} trades were written meanwhile");
}
