//! What goes wrong: one fault after another, by a seed.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::{
    pace::pace,
    pg_faults::DatabaseFault,
    support::{
        cassandra::Cassandra,
        pg_pair::PgPair,
        proxy::{Mode, Proxy, Way},
        redis::Redis,
        service::Service,
    },
    world::{INSTANCES, World},
};

/// All that can be done to the servers.
#[derive(Debug)]
pub struct Nemesis {
    pub redis: Redis,
    pub database: Database,
    pub services: Vec<Service>,
    pub proxies: Vec<Proxy>,
    pub injected: BTreeMap<Fault, u64>,
    pub users: u64,
    /// Every one of these goes wrong at least once.
    pub faults: &'static [Fault],
    /// The longest time between two of them.
    pub pause_max: Duration,
}

/// The server of the ledger.
#[derive(Debug)]
pub enum Database {
    Cassandra(&'static Cassandra),
    Postgres(Box<PgPair>),
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    RedisPaused,
    RedisRestartedEmpty,
    RedisRestartedOlder,
    RedisSaved,
    Flushall,
    KeysDeleted,
    FeedDeleted,
    Evicting,
    InstanceCutOff,
    InstanceBlackHoled,
    InstanceDelayed,
    ConnectionsKilled,
    CassandraPaused,
    InstanceKilled,
    InstancePaused,
    Invalidated,
    Postgres(DatabaseFault),
}

/// Everything that can go wrong beside a Cassandra.
pub const WITH_CASSANDRA: &[Fault] = &[
    Fault::RedisPaused,
    Fault::RedisRestartedEmpty,
    Fault::RedisRestartedOlder,
    Fault::RedisSaved,
    Fault::Flushall,
    Fault::KeysDeleted,
    Fault::FeedDeleted,
    Fault::Evicting,
    Fault::InstanceCutOff,
    Fault::InstanceBlackHoled,
    Fault::InstanceDelayed,
    Fault::ConnectionsKilled,
    Fault::CassandraPaused,
    Fault::InstanceKilled,
    Fault::InstancePaused,
    Fault::Invalidated,
];

impl Nemesis {
    /// Until the time is over and every kind has come; every kind once before any comes twice. All is healed when it returns,
    /// and after each of them something was written and read.
    pub async fn run(&mut self, world: &Arc<World>, time: Duration, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let end = world.now() + time;
        let mut round = Vec::new();
        while world.now() < end || self.injected.len() < self.faults.len() {
            if round.is_empty() {
                round = self.faults.to_vec();
                rand::seq::SliceRandom::shuffle(round.as_mut_slice(), &mut rng);
            }
            let Some(fault) = round.pop() else { continue };
            *self.injected.entry(fault).or_default() += 1;
            eprintln!("{:>9.3?} {fault:?}", world.now());
            self.inject(fault, world, &mut rng).await;
            world.goes_on().await;
            pace(self.pause_max.mul_f64(rng.random_range(0.05..1.0))).await;
        }
    }

    async fn inject(&mut self, fault: Fault, world: &Arc<World>, rng: &mut StdRng) {
        let time = Duration::from_millis(rng.random_range(50..2_000));
        let one = rng.random_range(0..INSTANCES);
        match fault {
            Fault::RedisPaused => {
                self.redis.pause();
                pace(time).await;
                self.redis.resume();
            }
            Fault::RedisRestartedEmpty => {
                self.redis.kill9();
                pace(time / 4).await;
                self.redis.restart_empty();
            }
            Fault::RedisRestartedOlder => {
                self.redis.kill9();
                pace(time / 4).await;
                self.redis.launch();
            }
            Fault::RedisSaved => self.redis.ask::<()>(&["SAVE"]),
            Fault::Flushall => self.redis.ask::<()>(&["FLUSHALL"]),
            Fault::KeysDeleted => self.delete_keys(rng),
            Fault::FeedDeleted => {
                self.redis.ask::<i64>(&["DEL", "balance:invalidations"]);
            }
            Fault::Evicting => self.evict(time, rng).await,
            Fault::InstanceCutOff => self.wire(one, Mode::Cut, time).await,
            Fault::InstanceBlackHoled => {
                let way = *[Way::Both, Way::ToServer, Way::ToClient]
                    .choose(rng)
                    .unwrap();
                let modes = [Mode::Swallow(way), Mode::Stall(way)];
                self.wire(one, *modes.choose(rng).unwrap(), time).await;
            }
            Fault::InstanceDelayed => {
                let delay = Duration::from_millis(rng.random_range(1..150));
                self.wire(one, Mode::Delay(delay), time).await;
            }
            Fault::ConnectionsKilled => {
                self.redis
                    .ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            }
            Fault::CassandraPaused => self.pause_cassandra(time).await,
            Fault::Postgres(fault) => self.break_postgres(fault, time, rng).await,
            Fault::InstanceKilled => {
                world.lives[one].fetch_add(1, SeqCst);
                self.services[one].kill9();
                pace(time / 2).await;
                self.services[one].restart().await;
                world.lives[one].fetch_add(1, SeqCst);
            }
            Fault::InstancePaused => {
                self.services[one].process().signal("STOP");
                pace(time).await;
                self.services[one].process().signal("CONT");
            }
            Fault::Invalidated => {
                let users: Vec<u64> = (0..20).map(|_| rng.random_range(1..=self.users)).collect();
                let body = serde_json::json!({"user_ids": users});
                let _ = world.post(one, "/api/v1/cache/invalidate", &body).await;
            }
        }
    }

    async fn pause_cassandra(&self, time: Duration) {
        let Database::Cassandra(cassandra) = self.database else {
            panic!("there is no Cassandra");
        };
        cassandra.pause();
        pace(time).await;
        cassandra.resume();
    }

    async fn break_postgres(&mut self, fault: DatabaseFault, time: Duration, rng: &mut StdRng) {
        let Database::Postgres(pair) = &mut self.database else {
            panic!("there is no PostgreSQL");
        };
        fault.inject(pair, time, rng).await;
    }

    fn delete_keys(&self, rng: &mut StdRng) {
        for _ in 0..self.users / 2 {
            let key = format!("balance:user:{}", rng.random_range(1..=self.users));
            self.redis.ask::<i64>(&["DEL", &key]);
        }
    }

    async fn wire(&self, one: usize, mode: Mode, time: Duration) {
        self.proxies[one].set(mode);
        pace(time).await;
        self.proxies[one].set(Mode::Pass);
    }

    /// Redis gets less memory than it uses, and takes whatever key it likes.
    async fn evict(&self, time: Duration, rng: &mut StdRng) {
        let policy = *["allkeys-lru", "allkeys-random"].choose(rng).unwrap();
        self.redis
            .ask::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]);
        // The instances look at the policy now and then (protocol rule 13).
        pace(Duration::from_millis(600)).await;
        let info: String = self.redis.ask(&["INFO", "memory"]);
        let used = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        let used: u64 = used.unwrap().trim().parse().unwrap();
        let less = used
            .saturating_sub(rng.random_range(10_000..60_000))
            .to_string();
        self.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", &less]);
        pace(time).await;
        self.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
        self.redis
            .ask::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    }
}
