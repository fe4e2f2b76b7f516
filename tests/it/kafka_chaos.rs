//! Many records while instances and the broker are killed and the group is rebalanced: every notification takes effect, and readers
//! see the promises kept.
//!
//! `BALANCE_CACHE_TEST_KAFKA_RECORDS` asks for more records, and the faults go on until all of them are sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use futures::{StreamExt as _, stream};
use rdkafka::producer::{FutureProducer, FutureRecord};
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    settlement_pair::Pair,
    settlement_support::{MAX_STALENESS, SETTLEMENTS, values, whole},
    support::{
        eventually::{eventually_async, pause},
        kafka::{Kafka, SOON, alone},
        redis::Redis,
        service::{Service, Setup},
        stage::Database,
    },
};

const TOPIC: &str = "chaos";
const PARTITIONS: i32 = 6;
/// Users that every record moves on, one after the other, in two assets at once.
const HOT: u64 = 16;
/// The user of record `n` alone is this and `n`.
const OWN: u64 = 1_000_000;
/// A record of so many cannot be read.
const POISON_EVERY: u64 = 500;
/// Records that are under way to the broker.
const UNDER_WAY: usize = 300;

/// Where an instance answers, and how often it was begun.
struct Instance {
    address: String,
    life: AtomicU64,
}

/// What all tasks share.
struct World {
    instances: [Instance; 2],
    client: Client,
    over: AtomicBool,
    reads: AtomicU64,
    settled: AtomicU64,
    sent: AtomicU64,
    calm: AtomicBool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long it runs is told by the environment"
)]
fn records_wanted() -> u64 {
    let told = env::var("BALANCE_CACHE_TEST_KAFKA_RECORDS").ok();
    told.map_or(4_000, |told| told.parse().unwrap())
}

/// The seqs of a user's two assets, as an instance shows them.
struct Shown {
    life: u64,
    seqs: [i64; 2],
    /// Redis did not answer in time: it was read from the ledger, which has no row of what was only told.
    past_redis: bool,
}

impl World {
    /// None where the instance did not answer in one life, or with a reservation.
    async fn shown(&self, at: usize, user: u64) -> Option<Shown> {
        let instance = &self.instances[at];
        let life = instance.life.load(SeqCst);
        let url = format!(
            "http://{}/api/user/balance?user_id={user}",
            instance.address
        );
        let answer = self.client.get(url).send().await.ok()?;
        let status = answer.headers().get("cache-status");
        let says = |word: &str| status.is_some_and(|it| it.to_str().unwrap().contains(word));
        let (marked, past_redis) = (says("detail="), says("redis; fwd=bypass"));
        if answer.status() != 200 {
            return None;
        }
        let body: Value = answer.json().await.ok()?;
        let seq = |asset: &str| {
            let all = body["data"].as_array().unwrap().iter();
            let mut found = all.filter(|it| it["asset"] == asset);
            found.next().map_or(0, |it| it["seq"].as_i64().unwrap())
        };
        let shown = Shown {
            life,
            seqs: [seq("BTC"), seq("USDT")],
            past_redis,
        };
        (instance.life.load(SeqCst) == life && !marked).then_some(shown)
    }
}

/// Reads the hot users of an instance: whole, and never backwards within a life.
async fn read(world: Arc<World>, at: usize) {
    let mut seen: BTreeMap<(u64, u64), i64> = BTreeMap::new();
    while !world.over.load(SeqCst) {
        for user in 1..=HOT {
            let Some(Shown { life, seqs, .. }) = world.shown(at, user).await else {
                pause().await;
                continue;
            };
            let [btc, usdt] = seqs;
            assert_eq!(btc, usdt, "user {user}: a record shows whole");
            let before = seen.insert((life, user), btc).unwrap_or(0);
            assert!(btc >= before, "user {user}: {btc} after {before}");
            world.reads.fetch_add(1, SeqCst);
        }
    }
}

/// Settles by HTTP beside Kafka: what was acknowledged shows at once there, and within `max_staleness` elsewhere, where Redis is
/// reached.
async fn settle(world: Arc<World>) {
    let (user, mut seq) = (HOT + 1, 1);
    while !world.over.load(SeqCst) {
        seq += 1;
        let at = usize::try_from(seq % 2).unwrap();
        let life = world.instances[at].life.load(SeqCst);
        let url = format!("http://{}{SETTLEMENTS}", world.instances[at].address);
        let body = json!([values(user, 1, seq, seq), values(user, 2, seq, seq)]);
        let answer = world.client.post(url).json(&body).send().await;
        if !answer.is_ok_and(|answer| answer.status() == 200) {
            pause().await;
            continue;
        }
        let acknowledged = Instant::now();
        // A life is odd while the instance starts: it may not have reached Redis yet.
        let other = world.instances[1 - at].life.load(SeqCst);
        if let Some(shown) = world.shown(at, user).await
            && shown.life == life
        {
            let [btc, _] = shown.seqs;
            assert!(btc >= seq, "read after settlement: {btc}, not {seq}");
        }
        while acknowledged.elapsed() < MAX_STALENESS {
            pause().await;
        }
        if let Some(shown) = world.shown(1 - at, user).await
            && shown.life == other
            && other.is_multiple_of(2)
            && !shown.past_redis
        {
            let [btc, _] = shown.seqs;
            assert!(btc >= seq, "the other instance: {btc}, not {seq}");
        }
        world.settled.fetch_add(1, SeqCst);
    }
}

/// Record `n`: a hot user's two balances and a balance of a user of its own, or what cannot be read.
fn record(n: u64) -> String {
    if n.is_multiple_of(POISON_EVERY) {
        return format!("poison {n}");
    }
    let seq = i64::try_from(n).unwrap() + 10;
    let hot = n % HOT + 1;
    json!([
        values(hot, 1, seq, seq),
        values(hot, 2, seq, seq),
        values(OWN + n, 1, seq, seq)
    ])
    .to_string()
}

/// Sends until enough was sent and the faults are over; each record is with the broker on return.
async fn send(world: Arc<World>, producer: FutureProducer, wanted: u64) {
    let numbers = stream::iter(1..);
    let world = &world;
    let producer = &producer;
    numbers
        .take_while(|n| {
            let more = *n <= wanted || !world.calm.load(SeqCst);
            async move { more }
        })
        .map(|n| async move {
            let (key, value) = (n.to_string(), record(n));
            let partition = i32::try_from(n % u64::try_from(PARTITIONS).unwrap()).unwrap();
            let record = FutureRecord::to(TOPIC)
                .key(&key)
                .payload(&value)
                .partition(partition);
            producer.send(record, SOON).await.unwrap();
            if n > wanted {
                pause().await;
            }
            n
        })
        .buffer_unordered(UNDER_WAY)
        .for_each(|n| async move {
            world.sent.fetch_max(n, SeqCst);
        })
        .await;
}

/// Kills an instance and starts it again.
async fn kill(world: &World, services: &mut [Service], at: usize) {
    world.instances[at].life.fetch_add(1, SeqCst);
    services[at].kill9();
    services[at].restart().await;
    services[at].ready().await;
    world.instances[at].life.fetch_add(1, SeqCst);
}

async fn moves_on(world: &World, more: u64) {
    let from = world.sent.load(SeqCst);
    eventually_async(SOON, "records are sent", async || {
        (world.sent.load(SeqCst) >= from + more).then_some(())
    })
    .await;
}

fn setup(kafka: &Kafka, pair: &Pair, wire: usize) -> Setup {
    let mut setup = pair.setup(wire);
    setup.environment.extend(kafka.setup("", TOPIC).environment);
    setup
        .with(
            "redis.url",
            format!("redis://{}", pair.wires[wire].address()),
        )
        .with("settlement.floor_ttl_ms", 600_000)
}

#[expect(
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "one story, told in order; tasks of the test"
)]
#[tokio::test(flavor = "multi_thread")]
async fn no_record_is_lost_and_no_promise_broken_while_everything_is_killed() {
    let wanted = records_wanted();
    let mut kafka = alone().await;
    kafka.make_topic(TOPIC, PARTITIONS, &[]).await;
    let redis = Redis::start();
    let users = i64::try_from(HOT + 1).unwrap();
    let pair = Pair::without_services(Database::Cassandra.shared_server(), redis, users).await;
    let mut services = Vec::new();
    for wire in 0..2 {
        let service = Service::start_ready(setup(&kafka, &pair, wire)).await;
        whole(&service).await;
        services.push(service);
    }
    let instance = |at: usize| Instance {
        address: services[at].http().to_string(),
        life: AtomicU64::new(0),
    };
    let world = Arc::new(World {
        instances: [instance(0), instance(1)],
        client: Client::builder().no_proxy().timeout(SOON).build().unwrap(),
        over: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        settled: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        calm: AtomicBool::new(false),
    });
    let sender = tokio::spawn(send(Arc::clone(&world), kafka.producer(), wanted));
    let watchers = [
        tokio::spawn(read(Arc::clone(&world), 0)),
        tokio::spawn(read(Arc::clone(&world), 1)),
        tokio::spawn(settle(Arc::clone(&world))),
    ];

    let mut rounds = 0;
    while rounds == 0 || world.sent.load(SeqCst) < wanted {
        moves_on(&world, 100).await;
        kill(&world, &mut services, rounds % 2).await;
        moves_on(&world, 100).await;
        // Joining and leaving are a rebalance each.
        let mut guest = Service::start_ready(setup(&kafka, &pair, rounds % 2)).await;
        moves_on(&world, 100).await;
        guest.terminate();
        kafka.kill9();
        kafka.start_again();
        rounds += 1;
    }
    world.calm.store(true, SeqCst);
    sender.await.unwrap();
    let sent = world.sent.load(SeqCst);
    kafka.all_committed(TOPIC).await;

    // Each record has a user of its own: all of them are in effect.
    let mut connection = pair.redis.connection();
    let mut missing = Vec::new();
    for n in (1..=sent).filter(|n| !n.is_multiple_of(POISON_EVERY)) {
        let key = format!("balance:user:{}", OWN + n);
        let balance: Option<String> = redis::cmd("HGET")
            .arg(key)
            .arg("b:1")
            .query(&mut connection)
            .unwrap();
        let seq = format!("{} ", n + 10);
        if !balance.is_some_and(|text| text.starts_with(&seq)) {
            missing.push(n);
        }
    }
    assert!(
        missing.is_empty(),
        "{} of {sent}: {missing:?}",
        missing.len()
    );
    let last = sent + 10;
    for at in 0..2 {
        for user in 1..=HOT {
            let newest = (0..=2 * HOT).map(|back| last - back).find(|seq| {
                let n = seq - 10;
                n % HOT + 1 == user && !n.is_multiple_of(POISON_EVERY)
            });
            eventually_async(SOON, &format!("user {user} on instance {at}"), async || {
                let [btc, _] = world.shown(at, user).await?.seqs;
                (u64::try_from(btc).ok() == newest).then_some(())
            })
            .await;
        }
    }
    let dead = kafka.records("chaos.dead");
    let values: BTreeSet<_> = dead
        .into_iter()
        .map(|record| record.value.unwrap())
        .collect();
    let poison = sent / POISON_EVERY;
    assert_eq!(u64::try_from(values.len()).unwrap(), poison);
    world.over.store(true, SeqCst);
    for watcher in watchers {
        watcher.await.unwrap();
    }
    let (reads, settled) = (world.reads.load(SeqCst), world.settled.load(SeqCst));
    println!(
        "{sent} records, {poison} of them poison, {rounds} rounds, {reads} reads, {settled} settlements by HTTP"
    );
    assert!(
        reads > 100 && settled > 2,
        "{reads} reads, {settled} settlements"
    );
}
