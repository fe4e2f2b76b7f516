//! What clients share: where the instances are and which life they are in, the ledger, the late view, the history.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::{Rng, rngs::StdRng};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    history::{Ack, At, History, Key, Read, Row, amount},
    ledger::{LedgerWriter, NewRow},
    pace::pace,
    support::eventually::eventually_async,
};

/// Instances in every run.
pub const INSTANCES: usize = 2;
/// How long it may take until something is written and read again once a fault is over.
const GOES_ON: Duration = Duration::from_mins(2);
/// How long an answer may take: longer than any deadline of the service, and than a machine stands still.
const ANSWER: Duration = Duration::from_secs(30);
/// Rows of the view that are inserted at the same time.
const FILLERS: usize = 16;

/// One row for the view, and when.
type FastPathResponse = (tokio::time::Instant, Key, i64);

/// What clients share.
#[derive(Debug)]
pub struct World {
    base: Instant,
    pub instances: [SocketAddr; INSTANCES],
    /// Even while it lives.
    pub lives: [AtomicU32; INSTANCES],
    pub http: reqwest::Client,
    pub redis_url: String,
    pub ledger: LedgerWriter,
    late: mpsc::Sender<FastPathResponse>,
    pub unfilled: AtomicU64,
    /// When each row was made, by the clock on the wall.
    made: Mutex<BTreeMap<(Key, i64), i64>>,
    pub history: Mutex<History>,
    pub failures: Mutex<BTreeMap<String, u64>>,
    pub notifications: Mutex<BTreeMap<&'static str, u64>>,
    pub over: AtomicBool,
}

impl World {
    pub fn new(
        ledger: LedgerWriter,
        redis_url: String,
        instances: [SocketAddr; INSTANCES],
        tasks: &mut JoinSet<()>,
    ) -> std::sync::Arc<Self> {
        let (late, queue) = mpsc::channel(1_000_000);
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER)
            .build()
            .unwrap();
        let world = std::sync::Arc::new(Self {
            base: Instant::now(),
            instances,
            lives: [const { AtomicU32::new(0) }; INSTANCES],
            http,
            redis_url,
            ledger,
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

    /// The row as it is whenever it is written: its `created_at` is when it was asked for first.
    pub fn row(&self, key: Key, seq: i64) -> NewRow {
        let mut made = self.made.lock();
        let created_at = made
            .entry((key, seq))
            .or_insert_with(|| balance_cache::clock::wall_now().0);
        NewRow {
            key,
            seq,
            avail: amount(key, seq),
            created_at: *created_at,
        }
    }

    /// Tries to write the row to the ledger.
    pub async fn write(&self, key: Key, seq: i64) -> bool {
        self.ledger.write_row(self.row(key, seq)).await
    }

    /// Waits until loads see all rows of the ledger.
    pub async fn caught_up(&self, within: Duration) {
        eventually_async(within, "the view has all rows", async || {
            (self.unfilled.load(SeqCst) == 0).then_some(())
        })
        .await;
        if let Some(writer) = self.ledger.postgres() {
            writer.caught_up(within).await;
        }
    }

    /// Waits until something more was written, and something more was read.
    pub async fn goes_on(&self) {
        let counts = || {
            let history = self.history.lock();
            (history.rows.len(), history.reads.len())
        };
        let (rows, reads) = counts();
        eventually_async(GOES_ON, "rows are written, and read", async || {
            let (more_rows, more_reads) = counts();
            (more_rows > rows && more_reads > reads).then_some(())
        })
        .await;
    }

    /// The ledger has acknowledged the row; the view gets it later.
    pub fn written(&self, key: Key, seq: i64, lag: Duration) {
        let at = self.now();
        self.history.lock().rows.push(Row { key, seq, at });
        if self.ledger.postgres().is_some() {
            return;
        }
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
async fn fill(world: std::sync::Arc<World>, mut queue: mpsc::Receiver<FastPathResponse>) {
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
                    while !world.ledger.write_view(world.row(key, seq)).await {
                        pace(Duration::from_millis(50)).await;
                    }
                    world.unfilled.fetch_sub(1, SeqCst);
                });
            }
        }
    }
}
