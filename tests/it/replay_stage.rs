//! What the model's counterexamples are replayed on: instances in this process that can be stopped between two steps, a
//! real Redis, and a real database: Cassandra whose view nobody fills, or PostgreSQL whose `user_balances` nobody fills.
//!
//! As in the model, Redis' epoch is old, so that the view is trusted, and a proof is good for a while (a tick).

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use balance_cache::{config, service::RunningService};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    replay_gates::Gates,
    settlement_pair::Pair,
    settlement_support::{INVALIDATE, SETTLEMENTS, SOON, seq_of, settled, values},
    support::{
        eventually::eventually_async,
        port::Port,
        redis::Redis,
        service::{Answer, Setup, answer, in_time},
        stage::Database,
    },
};

/// `settlement.max_staleness_ms`: long enough for a few steps of a test.
pub const MAX_STALENESS: Duration = Duration::from_millis(2_500);
/// The user with whom it happens. BTC and USDT are at 1 in the ledger and in the view.
pub const USER: u64 = 1;
pub const KEY: &str = "balance:user:1";
pub const FEED: &str = "balance:invalidations";

/// Of each instance; who stops is replaced by another.
const THREADS: usize = 2;

/// Longer than any deadline.
const ANSWER: Duration = Duration::from_secs(30);
/// Shorter than the service keeps an idle connection: a request may cross its end.
const IDLE: Duration = Duration::from_secs(5);

/// Redis, the database and the wires between.
pub struct Stage {
    pub pair: Pair,
}

impl Stage {
    /// On Cassandra, for what does not depend on the database.
    pub async fn new() -> Self {
        Self::over(Database::Cassandra).await
    }

    pub async fn over(database: Database) -> Self {
        Self::on(database, Redis::start()).await
    }

    pub async fn on(database: Database, redis: Redis) -> Self {
        let pair = Pair::without_services(database.shared_server(), redis, 1).await;
        let stage = Self { pair };
        stage.old_epoch();
        stage
    }

    /// As if this Redis were used for an hour.
    fn old_epoch(&self) {
        let redis = &self.pair.redis;
        let info = |section: &str, field: &str| -> String {
            let info: String = redis.ask(&["INFO", section]);
            let found = info.lines().find_map(|line| line.strip_prefix(field));
            found.unwrap().trim().to_owned()
        };
        let servers = format!(
            "{}/{}",
            info("server", "run_id:"),
            info("replication", "master_replid:")
        );
        let (seconds, _): (i64, i64) = redis.ask(&["TIME"]);
        let birth = ((seconds - 3_600) * 1_000).to_string();
        let _: redis::Value = redis.ask(&[
            "HSET",
            "balance:epoch",
            "id",
            "old",
            "birth",
            &birth,
            "servers",
            &servers,
        ]);
        let _: redis::Value = redis.ask(&["XADD", FEED, "*", "p", "0-0", "e", "old"]);
    }

    /// What an instance on this wire is given.
    fn setup(&self, wire: usize) -> Setup {
        self.pair
            .setup(wire)
            .with("memory.ttl_ms", 30_000)
            .with("redis.snapshot_ttl_ms", 30_000)
            .with("limits.deadline_ms", 20_000)
            .with("source.timeout_ms", 5_000)
            .with("redis.timeout_ms", 1_000)
            .with("redis.lease_wait_ms", 50)
            .with("settlement.floor_ttl_ms", 600_000)
            .with("settlement.max_staleness_ms", MAX_STALENESS.as_millis())
    }

    /// Started, and not waited for.
    pub async fn newborn(&self, wire: usize) -> Instance {
        Instance::start(self.setup(wire)).await
    }

    /// Fresh and without reservations.
    pub async fn instance(&self, wire: usize) -> Instance {
        let instance = self.newborn(wire).await;
        instance.whole().await;
        instance
    }

    /// One whose memory keeps nothing.
    pub async fn forgetful(&self, wire: usize) -> Instance {
        let setup = self.setup(wire).with("memory.ttl_ms", 1);
        let instance = Instance::start(setup).await;
        instance.whole().await;
        instance
    }

    pub async fn both(&self) -> (Instance, Instance) {
        (self.instance(0).await, self.instance(1).await)
    }

    /// BTC comes to 2 in the ledger, and not in the view.
    pub async fn row(&self) {
        self.pair.ledger(1, 1, 2).await;
    }

    /// Somebody deletes it.
    pub fn delete(&self, key: &str) {
        self.pair.redis.ask::<i64>(&["DEL", key]);
    }

    /// The feed is trimmed to nothing.
    pub fn trim(&self) {
        self.pair.redis.ask::<i64>(&["XTRIM", FEED, "MAXLEN", "0"]);
    }
}

/// BTC is at 2, in every form.
pub fn with_values() -> Value {
    values(USER, 1, 2, 2)
}

pub fn with_seq() -> Value {
    json!({"user_id": USER, "asset_id": 1, "seq": 2})
}

pub fn with_asset() -> Value {
    json!({"user_id": USER, "asset_id": 1})
}

/// The whole service, in a runtime of its own.
#[derive(Debug)]
pub struct Instance {
    pub gates: Gates,
    http: String,
    ops: String,
    client: Client,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    runtime: Option<Runtime>,
}

/// A request under way.
pub struct Begun(JoinHandle<Answer>);

impl Begun {
    pub async fn answer(self) -> Answer {
        self.0.await.unwrap()
    }

    /// BTC's seq of a read.
    pub async fn seq(self) -> i64 {
        shown(&self.answer().await)
    }

    /// A notification's 200.
    pub async fn settled(self) {
        settled(&self.answer().await);
    }
}

/// BTC's seq, beside the other asset (P6).
#[track_caller]
pub fn shown(answer: &Answer) -> i64 {
    let seqs = (seq_of(answer, "BTC"), seq_of(answer, "USDT"));
    assert_eq!(seqs.1, 1, "{}", answer.body);
    seqs.0
}

impl Instance {
    async fn start(setup: Setup) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("replay-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (http, ops) = (Port::reserve(), Port::reserve());
        let setup = setup
            .with("http.listen", http.address())
            .with("ops.listen", ops.address());
        // As for a process: of two with one name the later.
        let environment: BTreeMap<_, _> = setup.environment.into_iter().collect();
        let settings = config::load_settings(None, environment).unwrap();
        let gates = Gates::new(name.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name(name)
            .enable_all()
            .build()
            .unwrap();
        let shutdown = CancellationToken::new();
        let service = {
            let _inside = runtime.enter();
            RunningService::open_service(settings, shutdown.clone()).unwrap()
        };
        let (http, ops) = service.bound_addresses();
        let tasks = TaskTracker::new();
        tasks.spawn_on(service.run_until_shutdown(), runtime.handle());
        let instance = Self {
            gates,
            http: format!("http://{http}"),
            ops: format!("http://{ops}"),
            client: Client::builder()
                .no_proxy()
                .timeout(ANSWER)
                .pool_idle_timeout(IDLE)
                .build()
                .unwrap(),
            tasks,
            shutdown,
            runtime: Some(runtime),
        };
        eventually_async(SOON, "it can answer", async || {
            let said = instance.readiness().await?;
            (said.status == 200).then_some(())
        })
        .await;
        instance
    }

    /// What `/readyz` says.
    pub async fn readiness(&self) -> Option<Answer> {
        let request = self.client.get(format!("{}/readyz", self.ops));
        answer(request).await.ok()
    }

    /// Waits until `/readyz` says this.
    pub async fn says(&self, part: &str) {
        eventually_async(SOON, part, async || {
            let said = self.readiness().await?;
            said.body.contains(part).then_some(())
        })
        .await;
    }

    /// Waits until freshness is proven.
    pub async fn whole(&self) {
        eventually_async(SOON, "it is whole", async || {
            let said = self.readiness().await?;
            let reasons = said.body.replace("redis: maxmemory-policy", "");
            let proven = !reasons.contains("feed: ") && !reasons.contains("redis: ");
            (proven && said.status == 200).then_some(())
        })
        .await;
    }

    /// Gaps and other Redises that it noticed.
    pub async fn resyncs(&self) -> u64 {
        let page = answer(self.client.get(format!("{}/metrics", self.ops)));
        let body = page.await.unwrap().body;
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix("balance_cache_bus_resyncs_total "));
        line.unwrap().parse().unwrap()
    }

    fn begin(&self, request: RequestBuilder) -> Begun {
        Begun(self.tasks.spawn(async { in_time(request).await.0 }))
    }

    fn get(&self) -> RequestBuilder {
        let url = format!("{}/api/user/balance?user_id={USER}", self.http);
        self.client.request(Method::GET, url)
    }

    pub fn begin_read(&self) -> Begun {
        self.begin(self.get())
    }

    /// A read of the ledger, whatever is held.
    pub fn begin_fresh(&self) -> Begun {
        self.begin(self.get().header("cache-control", "no-cache"))
    }

    /// A read that waits for a load by now, its own or another's.
    pub async fn begin_boarded(&self) -> Begun {
        let before = self.gates.arrived("boarded");
        let begun = self.begin_read();
        eventually_async(SOON, "it boards", async || {
            (self.gates.arrived("boarded") > before).then_some(())
        })
        .await;
        begun
    }

    pub fn begin_tell(&self, notification: &Value) -> Begun {
        let url = format!("{}{SETTLEMENTS}", self.http);
        self.begin(self.client.post(url).json(notification))
    }

    /// The user's floors are forgotten; acknowledged.
    pub async fn forget(&self) {
        let url = format!("{}{INVALIDATE}", self.http);
        let body = json!({"user_ids": [USER], "floors": true});
        let answer = self.begin(self.client.post(url).json(&body)).answer().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Waits until what is in the feed by now has taken effect here.
    pub async fn follows(&self) {
        let before = self.gates.arrived("feed-read");
        eventually_async(SOON, "it reads on in the feed", async || {
            // The first page may have been asked for before; the third is asked for after the second took effect.
            (self.gates.arrived("feed-read") > before + 2).then_some(())
        })
        .await;
    }

    pub async fn ask(&self) -> Answer {
        self.begin_read().answer().await
    }

    /// BTC's seq, now.
    pub async fn read(&self) -> i64 {
        self.begin_read().seq().await
    }

    /// The notification is acknowledged; since then.
    pub async fn tell(&self, notification: &Value) -> Acknowledged {
        self.begin_tell(notification).settled().await;
        Acknowledged(Instant::now())
    }

    /// Stops at this place, and has come there.
    pub async fn stop(&self, place: &'static str) {
        self.gates.shut(place);
        self.gates.stopped(place).await;
    }

    /// What comes into the feed from now on is not seen here, until it goes on.
    pub async fn stop_following(&self) {
        self.stop("feed-read").await;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// When a notification was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged(Instant);

impl Acknowledged {
    /// Waits until it holds everywhere (P2).
    pub async fn everywhere(self) {
        eventually_async(SOON, "max_staleness is over", async || {
            (self.0.elapsed() > MAX_STALENESS).then_some(())
        })
        .await;
    }
}
