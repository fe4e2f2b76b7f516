//! Notifications by a real Kafka of one broker: how many take effect in a second on one instance, and what reads beside it lose.
//!
//!     cargo bench --bench kafka --features kafka > benches/results/kafka.md
//!
//! `BALANCE_CACHE_BENCH_RECORDS` is the number of records (200,000), `BALANCE_CACHE_BENCH_SECONDS` how long reads are counted alone (10),
//! `BALANCE_CACHE_BENCH_READS` the reads a second that are offered, beside as many as can be (2,000).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a bench that cannot be set up fails; its table goes to the terminal"
)]

#[path = "shared/broker.rs"]
mod support;

/// The tests' setup of an instance; here it has the defaults.
mod settlement_support {
    use crate::support::service::Setup;

    pub fn short(redis_url: &str) -> Setup {
        Setup::default().with("redis.url", redis_url)
    }
}

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all, stream};
use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};
use serde_json::{Value, json};
use support::{
    eventually::{eventually_async, pause},
    kafka::{Kafka, shared},
    redis::Redis,
    service::Service,
};
use tokio::time::{interval, timeout};

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 4;
const USERS: usize = 10_000;
const ASSETS: [usize; 2] = [1, 2];
/// Entries and users of one request.
const REQUEST: usize = 1_000;
const READERS: usize = 8;
const DONE_MAX: Duration = Duration::from_mins(30);
const TRANSACTION_MAX: Duration = Duration::from_mins(1);

const HEADING: &str = "\
# Notifications by Kafka

For anyone who wants to know how fast one instance takes notifications from a topic, and what its readers notice. `cargo bench --bench kafka --features kafka >
benches/results/kafka.md` makes this file.

* One Kafka 4.3.1 broker, four partitions; one Redis; one instance with its embedded ledger; the bench reads by HTTP. All of them share the machine.
* Each record is one notification with seq and amounts. 10,000 users with two assets, all held in memory before.
* The records are produced in one Kafka transaction, and timed from its commit until the last of them took effect: the producer takes no time of the machine meanwhile.
* Reads: 8 connections; as many as can be, and at a rate that is offered.
";

#[expect(
    clippy::disallowed_methods,
    reason = "the size of a bench is told by the environment"
)]
fn number(name: &str, default: u64) -> u64 {
    let asked = std::env::var(format!("BALANCE_CACHE_BENCH_{name}")).ok();
    asked.map_or(default, |text| text.parse().unwrap())
}

/// Reads in some time.
#[derive(Default)]
struct Reads {
    times: Vec<Duration>,
    elapsed: Duration,
}

impl Reads {
    fn per_second(&self) -> f64 {
        f64::from(u32::try_from(self.times.len()).unwrap()) / self.elapsed.as_secs_f64()
    }

    fn quantile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(at).map_or(0.0, Duration::as_secs_f64) * 1_000.0
    }
}

struct Bench {
    kafka: &'static Kafka,
    service: Service,
    records: usize,
    /// The newest seq of each user's assets.
    seqs: Vec<usize>,
}

impl Bench {
    /// Writes a first row for each user's assets.
    async fn fill(&self) {
        let all: Vec<usize> = (0..USERS * ASSETS.len()).collect();
        for some in all.chunks(REQUEST) {
            let entries: Vec<Value> = some.iter().map(|at| values(*at, 1)).collect();
            let answer = self
                .service
                .post("/api/v1/ledger/entries", &json!(entries))
                .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    }

    /// Reads all users until memory holds them.
    async fn hold(&self) {
        let users: Vec<usize> = (1..=USERS).collect();
        for some in users.chunks(REQUEST) {
            let asked = json!({"user_ids": some});
            eventually_async(DONE_MAX, "a batch is read", async || {
                let answer = self.service.post("/api/v1/user/balances", &asked).await;
                (answer.status == 200).then_some(())
            })
            .await;
        }
    }

    /// Produces records that nobody sees before the commit, and commits them.
    fn produce(&mut self) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.kafka.address().to_string());
        config.set("transactional.id", "bench");
        config.set("transaction.timeout.ms", "600000");
        config.set("queue.buffering.max.messages", "2000000");
        config.set("linger.ms", "20");
        let producer: ThreadedProducer<_> = config.create().unwrap();
        producer.init_transactions(TRANSACTION_MAX).unwrap();
        producer.begin_transaction().unwrap();
        for number in 0..self.records {
            let newest = &mut self.seqs[number % (USERS * ASSETS.len())];
            *newest += 1;
            let value = values(number, *newest).to_string();
            let partition = i32::try_from(number).unwrap() % PARTITIONS;
            let record = BaseRecord::<(), _>::to(TOPIC).payload(&value);
            producer.send(record.partition(partition)).unwrap();
        }
        producer.flush(DONE_MAX).unwrap();
        producer.commit_transaction(TRANSACTION_MAX).unwrap();
    }

    /// A counter or gauge of the instance: the sum of its series that contain all of this.
    async fn metric(&self, parts: &[&str]) -> f64 {
        let page = self.service.get_ops("/metrics").await.body;
        let lines = page
            .lines()
            .filter(|line| parts.iter().all(|part| line.contains(part)));
        let numbers = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        numbers.sum()
    }

    async fn applied(&self) -> f64 {
        let of = ["notifications_total{", r#"via="kafka""#];
        self.metric(&of).await
    }

    /// Waits until so many records took effect; the largest lag that was told meanwhile.
    async fn all_applied(&self, expected: f64) -> f64 {
        let (mut lag, end) = (0.0_f64, Instant::now() + DONE_MAX);
        while self.applied().await < expected {
            assert!(Instant::now() < end, "not all took effect");
            lag = lag.max(self.metric(&["kafka_lag_entries "]).await);
            pause().await;
        }
        lag
    }

    /// Reads until it is over: as many as can be, or so many a second.
    async fn read(&self, rate: u64, over: impl Future<Output = ()>) -> Reads {
        let (begun, next) = (Instant::now(), AtomicUsize::new(0));
        let times = parking_lot::Mutex::new(Vec::new());
        let readers = (0..READERS).map(|_| async {
            let mut turns = (rate > 0).then(|| interval(every(rate)));
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if let Some(turns) = &mut turns {
                    turns.tick().await;
                }
                let user = u64::try_from(1 + number * 7_919 % USERS).unwrap();
                let asked = Instant::now();
                assert_eq!(self.service.balances(user).await.status, 200);
                times.lock().push(asked.elapsed());
            }
        });
        tokio::select! {
            () = over => {}
            _ = join_all(readers) => {}
        }
        Reads {
            elapsed: begun.elapsed(),
            times: times.into_inner(),
        }
    }

    /// Takes all records of a round, with reads beside it or without.
    async fn take(&mut self, rate: Option<u64>) -> (f64, f64, Reads) {
        let expected = self.applied().await + f64::from(u32::try_from(self.records).unwrap());
        self.hold().await;
        tokio::task::block_in_place(|| self.produce());
        let (begun, lag) = (Instant::now(), parking_lot::Mutex::new(0.0));
        let work = async { *lag.lock() = self.all_applied(expected).await };
        let reads = if let Some(rate) = rate {
            self.read(rate, work).await
        } else {
            work.await;
            Reads::default()
        };
        let records = f64::from(u32::try_from(self.records).unwrap());
        (
            records / begun.elapsed().as_secs_f64(),
            lag.into_inner(),
            reads,
        )
    }
}

/// The time between two reads of one reader, where all of them make so many a second.
fn every(rate: u64) -> Duration {
    Duration::from_secs(u64::try_from(READERS).unwrap()) / u32::try_from(rate).unwrap()
}

/// A notification or entry: the next user's next asset.
fn values(number: usize, seq: usize) -> Value {
    let (user, asset) = (
        1 + number / ASSETS.len() % USERS,
        ASSETS[number % ASSETS.len()],
    );
    json!({"user_id": user, "asset_id": asset, "seq": seq, "avail": seq * 1_000, "frozen": 0, "created_at": 1_765_352_441_955_i64})
}

async fn start(records: usize) -> Bench {
    let redis: &'static Redis = Box::leak(Box::new(Redis::start()));
    let kafka = Box::leak(Box::new(shared().await));
    kafka.make_topic(TOPIC, PARTITIONS, &[]).await;
    let setup = kafka
        .setup(&redis.url(), TOPIC)
        .with("embedded.sample_data", false)
        .with("memory.ttl_ms", 280_000)
        .with("redis.snapshot_ttl_ms", 300_000)
        .with("limits.deadline_ms", 10_000);
    let bench = Bench {
        kafka,
        service: Service::start_ready(setup).await,
        records,
        seqs: vec![1; USERS * ASSETS.len()],
    };
    bench.fill().await;
    bench
}

#[tokio::main]
async fn main() {
    let records = usize::try_from(number("RECORDS", 200_000)).unwrap();
    let time = Duration::from_secs(number("SECONDS", 10));
    let offered = number("READS", 2_000);
    let mut bench = start(records).await;
    // Connections, and the broker's compiler.
    let (whole, records_first) = (bench.records, bench.records.div_ceil(10));
    bench.records = records_first;
    bench.take(None).await;
    bench.records = whole;
    println!("{HEADING}* {records} records, after {records_first} that are not counted.\n");
    println!(
        "| reads | records/s | largest lag told | reads/s alone | reads/s beside | ratio | p50 ms alone | beside | p99 ms alone | beside |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let (rate, lag, _) = bench.take(None).await;
    println!("| none | {rate:.0} | {lag:.0} | | | | | | | |");
    for (what, reads) in [
        ("as many as can be".to_owned(), 0),
        (format!("{offered}/s offered"), offered),
    ] {
        bench.hold().await;
        let wait = async { drop(timeout(time, pending::<()>()).await) };
        let alone = bench.read(reads, wait).await;
        let (rate, lag, beside) = bench.take(Some(reads)).await;
        println!(
            "| {what} | {rate:.0} | {lag:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            alone.per_second(),
            beside.per_second(),
            beside.per_second() / alone.per_second(),
            alone.quantile(50),
            beside.quantile(50),
            alone.quantile(99),
            beside.quantile(99),
        );
    }
    check(&bench).await;
}

/// Every user shows the last seqs that were sent.
async fn check(bench: &Bench) {
    let shown = stream::iter(1..=USERS).then(async |user| {
        let data = bench.service.balances(u64::try_from(user).unwrap()).await;
        let seq = |balance: &Value| usize::try_from(balance["seq"].as_u64().unwrap()).unwrap();
        let data = data.data();
        data.as_array().unwrap().iter().map(seq).collect::<Vec<_>>()
    });
    let shown: Vec<Vec<usize>> = shown.collect().await;
    assert_eq!(shown.concat(), bench.seqs);
    let behind = bench.metric(&["kafka_lag_entries "]).await;
    println!("\nAll users show what was sent. `kafka_lag_entries` at the end: {behind:.0}.");
}
