//! What clients share: where the instances are and which life they are in, the ledger, the late view, the history.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::{Rng, rngs::StdRng};
use scylla::{
    client::session::Session,
    statement::{Consistency, prepared::PreparedStatement},
};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    history::{Ack, At, History, Key, Read, Row, amount},
    pace::pace,
};

/// Instances in every run.
pub const INSTANCES: usize = 2;
/// How long one statement of a client may take.
const STATEMENT: Duration = Duration::from_secs(1);
/// Rows of the view that are inserted at the same time.
const FILLERS: usize = 16;

/// One row for the view, and when.
type Late = (tokio::time::Instant, Key, i64);

/// What clients share.
#[derive(Debug)]
pub struct World {
    base: Instant,
    pub instances: [SocketAddr; INSTANCES],
    /// Even while it lives.
    pub lives: [AtomicU32; INSTANCES],
    pub http: reqwest::Client,
    pub redis_url: String,
    session: Session,
    ledger: PreparedStatement,
    view: PreparedStatement,
    late: mpsc::Sender<Late>,
    pub unfilled: AtomicU64,
    /// When each row was made, by the clock on the wall.
    made: Mutex<BTreeMap<(Key, i64), i64>>,
    pub history: Mutex<History>,
    pub failures: Mutex<BTreeMap<String, u64>>,
    pub notifications: Mutex<BTreeMap<&'static str, u64>>,
    pub over: AtomicBool,
}

impl World {
    pub async fn new(
        session: Session,
        keyspace: &str,
        redis_url: String,
        instances: [SocketAddr; INSTANCES],
        tasks: &mut JoinSet<()>,
    ) -> std::sync::Arc<Self> {
        let prepare = async |table: &str| {
            let text = format!(
                "INSERT INTO {keyspace}.{table} (user_id, asset_id, seq, avail, frozen, created_at) \
                 VALUES (?, ?, ?, ?, 0, ?)"
            );
            let mut insert = session.prepare(text).await.unwrap();
            insert.set_consistency(Consistency::LocalQuorum);
            insert.set_is_idempotent(true);
            insert.set_request_timeout(Some(STATEMENT));
            insert
        };
        let (ledger, view) = (
            prepare("balance_ledger").await,
            prepare("user_balances_by_user").await,
        );
        let (late, queue) = mpsc::channel(1_000_000);
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let world = std::sync::Arc::new(Self {
            base: Instant::now(),
            instances,
            lives: [const { AtomicU32::new(0) }; INSTANCES],
            http,
            redis_url,
            session,
            ledger,
            view,
            late,
            unfilled: AtomicU64::new(0),
            made: Mutex::default(),
            history: Mutex::default(),
            failures: Mutex::default(),
            notifications: Mutex::default(),
            over: AtomicBool::new(false),
        });
        tasks.spawn(fill(std::sync::Arc::clone(&world), queue));
        world
    }

    pub fn now(&self) -> At {
        self.base.elapsed()
    }

    pub fn over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// The instance's life, if it lives.
    pub fn life(&self, instance: usize) -> Option<u32> {
        let life = self.lives[instance].load(SeqCst);
        life.is_multiple_of(2).then_some(life)
    }

    /// The row's `created_at`: when it was asked for first.
    pub fn made(&self, key: Key, seq: i64) -> i64 {
        let mut made = self.made.lock();
        *made
            .entry((key, seq))
            .or_insert_with(|| balance_cache::clock::wall_now().0)
    }

    /// Tries to write the row to the ledger.
    pub async fn write(&self, key: Key, seq: i64) -> bool {
        self.insert(&self.ledger, key, seq).await
    }

    async fn insert(&self, statement: &PreparedStatement, key: Key, seq: i64) -> bool {
        let (user, asset) = (i64::try_from(key.0).unwrap(), i32::try_from(key.1).unwrap());
        let values = (user, asset, seq, amount(key, seq), self.made(key, seq));
        self.session
            .execute_unpaged(statement, values)
            .await
            .is_ok()
    }

    /// The ledger has acknowledged the row; the view gets it later.
    pub fn written(&self, key: Key, seq: i64, lag: Duration) {
        let at = self.now();
        self.history.lock().rows.push(Row { key, seq, at });
        self.unfilled.fetch_add(1, SeqCst);
        self.late
            .try_send((tokio::time::Instant::now() + lag, key, seq))
            .unwrap();
    }

    pub fn acknowledged(&self, key: Key, seq: i64, by: Option<(usize, u32)>, form: &'static str) {
        let at = self.now();
        self.history.lock().acks.push(Ack {
            key,
            seq,
            by,
            form,
            at,
        });
    }

    pub fn read(&self, read: Read) {
        self.history.lock().reads.push(read);
    }

    pub fn failed(&self, what: impl Into<String>) {
        *self.failures.lock().entry(what.into()).or_default() += 1;
    }

    /// A POST; its code, 0 where there was no answer.
    pub async fn post(&self, instance: usize, path: &str, body: &serde_json::Value) -> u16 {
        let url = format!("http://{}{path}", self.instances[instance]);
        match self.http.post(url).json(body).send().await {
            Ok(answer) => answer.status().as_u16(),
            Err(_) => 0,
        }
    }
}

/// How late the view gets a row: often soon, often very late.
pub fn lag(rng: &mut StdRng, max: Duration) -> Duration {
    let max = if rng.random_bool(0.5) { max / 50 } else { max };
    Duration::from_millis(rng.random_range(0..=u64::try_from(max.as_millis()).unwrap()))
}

/// Fills the view, late.
async fn fill(world: std::sync::Arc<World>, mut queue: mpsc::Receiver<Late>) {
    let mut waiting = JoinSet::new();
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(FILLERS));
    loop {
        tokio::select! {
            Some(_) = waiting.join_next() => {}
            late = queue.recv() => {
                let Some((due, key, seq)) = late else { return };
                let (world, permits) = (std::sync::Arc::clone(&world), std::sync::Arc::clone(&permits));
                waiting.spawn(async move {
                    pace(due.saturating_duration_since(tokio::time::Instant::now())).await;
                    let _permit = permits.acquire().await.unwrap();
                    while !world.insert(&world.view, key, seq).await {
                        pace(Duration::from_millis(50)).await;
                    }
                    world.unfilled.fetch_sub(1, SeqCst);
                });
            }
        }
    }
}
