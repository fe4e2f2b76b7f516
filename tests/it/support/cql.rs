//! The CQL source in a test: settings, a keyspace of its own, a source that runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use balance_cache::{
    config::{self, Millis, ReadFrom, SourceKind},
    domain::{Amount, Asset, AssetId, Catalogue, Entry, Seq, Snapshot, UnixMillis, UserId},
    ledger::{
        LedgerError, Source, SourceReadiness, WriteError,
        scylla::{Scylla, schema},
    },
};
use scylla::client::session::Session;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{cassandra::Cassandra, eventually::pause};

pub const WAIT_MAX: Duration = Duration::from_mins(1);

/// Waits until something holds; fails with its name when it does not in [`WAIT_MAX`].
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + WAIT_MAX;
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        pause().await;
    }
}

pub fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub fn asset(id: i32) -> AssetId {
    AssetId::new(id).unwrap()
}

pub fn entry(user_id: i64, asset_id: i32, seq: i64, avail: i64) -> Entry {
    Entry {
        user: user(user_id),
        asset: asset(asset_id),
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(avail),
        frozen: Amount::from_raw(seq),
        delta_avail: None,
        delta_frozen: None,
        event_type: None,
        ref_id: None,
        created_at: Some(UnixMillis(1_765_352_441_000)),
    }
}

/// asset, seq, avail: what most tests look at.
pub fn told(snapshot: &Snapshot) -> Vec<(i32, i64, i64)> {
    snapshot
        .balances()
        .iter()
        .map(|b| (b.asset.get(), b.seq.get(), b.avail.raw()))
        .collect()
}

pub fn catalogue(ids: impl IntoIterator<Item = i32>) -> Arc<Catalogue> {
    let assets: Vec<_> = ids
        .into_iter()
        .map(|id| Asset::new(id, format!("A{id}"), 8))
        .collect();
    Arc::new(Catalogue::new(&assets, &[]).unwrap())
}

/// A keyspace of a test's own on some node.
#[derive(Debug, Clone)]
pub struct Place {
    pub settings: config::ScyllaSettings,
    pub timeout: Duration,
}

impl Place {
    pub fn new(node: &Cassandra) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let keyspace = format!("Test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            settings: config::ScyllaSettings {
                nodes: vec![node.node()],
                keyspace,
                connect_timeout_ms: Millis(Duration::from_secs(30)),
                ..config::default_settings().unwrap().scylla
            },
            timeout: Duration::from_secs(20),
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut config::ScyllaSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub fn source(&self, read_from: ReadFrom) -> config::SourceSettings {
        config::SourceSettings {
            kind: SourceKind::Scylla,
            read_from,
            timeout_ms: Millis(self.timeout),
        }
    }

    /// `schema apply`.
    pub async fn applied(self) -> Self {
        schema::apply_schema(&self.settings, &self.source(ReadFrom::View))
            .await
            .unwrap();
        self
    }

    /// A statement of the test's own; `{ks}` is the keyspace.
    pub async fn cql(&self, session: &Session, text: &str) {
        let text = text.replace("{ks}", &format!("\"{}\"", self.settings.keyspace));
        session.query_unpaged(text, ()).await.unwrap();
    }

    /// A source that runs, ready or not.
    pub fn begin(&self, read_from: ReadFrom, catalogue: &Arc<Catalogue>) -> Running {
        let source = self.source(read_from);
        let scylla = Scylla::new(&self.settings, &source, Arc::clone(catalogue)).unwrap();
        let scylla = Arc::new(scylla);
        let shutdown = CancellationToken::new();
        TaskTracker::new().spawn(Arc::clone(&scylla).run_watch(shutdown.clone()));
        Running { scylla, shutdown }
    }

    /// A source that is ready.
    pub async fn open(&self, read_from: ReadFrom, catalogue: &Arc<Catalogue>) -> Running {
        let running = self.begin(read_from, catalogue);
        running.ready().await;
        running
    }
}

/// A source whose loop ends with the test.
pub struct Running {
    pub scylla: Arc<Scylla>,
    shutdown: CancellationToken,
}

impl Running {
    pub async fn ready(&self) {
        let mut said = SourceReadiness::Ready;
        until("the source is ready", async || {
            let readiness = self.scylla.readiness();
            if readiness != said {
                // Shown where the wait is in vain.
                println!("{readiness:?}");
                said = readiness.clone();
            }
            readiness == SourceReadiness::Ready
        })
        .await;
    }

    /// The reason for which it is not ready, when it contains this.
    pub async fn not_ready(&self, part: &str) -> String {
        let mut said = String::new();
        until(&format!("not ready: {part}"), async || {
            if let SourceReadiness::NotReady(reason) = self.scylla.readiness()
                && *reason != *said
            {
                // Shown where the wait is in vain.
                println!("not ready: {reason}");
                said = reason.to_string();
            }
            said.contains(part)
        })
        .await;
        said
    }

    /// Writes these, once more where the node stood still for a moment: a repetition changes nothing.
    pub async fn writes(&self, entries: &[Entry]) {
        until("the entries are written", async || {
            match self.scylla.write_entries(entries).await {
                Ok(_) => true,
                Err(WriteError::Source(error)) => {
                    // Shown where the wait is in vain.
                    println!("not written: {error}");
                    false
                }
                Err(conflict) => panic!("{conflict}"),
            }
        })
        .await;
    }

    /// Loads until the view shows as many rows as the ledger acknowledged: it is filled a moment later. A node that stands still for
    /// a moment is asked again.
    pub async fn shows(&self, user_id: i64, expected: &[(i32, i64, i64)]) {
        let mut last = Ok(Vec::new());
        let deadline = Instant::now() + WAIT_MAX;
        while last.as_deref().ok() != Some(expected) {
            assert!(Instant::now() < deadline, "{last:?} is not {expected:?}");
            let loaded = self.scylla.load_snapshot(user(user_id)).await;
            last = loaded.map(|snapshot| told(&snapshot));
            match &last {
                Ok(_) => {}
                Err(LedgerError::Unavailable(_) | LedgerError::Timeout) => pause().await,
                Err(corrupt) => panic!("{corrupt}"),
            }
        }
    }

    /// The newest rows of these assets, read from the ledger.
    pub async fn latest(&self, user_id: i64, assets: impl IntoIterator<Item = i32>) -> Snapshot {
        let assets: Vec<_> = assets.into_iter().map(asset).collect();
        let latest = self.scylla.load_latest(user(user_id), &assets).await;
        latest.unwrap()
    }

    /// Statements that one load sends.
    pub async fn statements(&self, user_id: i64) -> u64 {
        let before = self.scylla.statements_sent();
        self.scylla.load_snapshot(user(user_id)).await.unwrap();
        self.scylla.statements_sent() - before
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
