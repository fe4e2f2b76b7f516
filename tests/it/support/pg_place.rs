//! The PostgreSQL source in a test: settings, a database of its own, a source that runs.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use balance_cache::{
    config::{self, LedgerSide, Millis, ReadFrom, SourceKind},
    ledger::{
        Source, SourceReadiness,
        postgres::{Postgres, schema},
    },
};
use tokio_postgres::{Client, NoTls};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    cql::until,
    postgres::{PgServer, SUPERUSER},
};

/// A database of a test's own on some server.
#[derive(Debug, Clone)]
pub struct PgPlace {
    pub settings: config::PostgresSettings,
    pub database: String,
    address: SocketAddr,
    pub timeout: Duration,
}

impl PgPlace {
    /// A new database, without a schema.
    pub async fn create(server: &PgServer) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let database = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // Nobody can be connected to this template, and so be in the way: autovacuum is, to the usual one, now and then.
        let text = format!("CREATE DATABASE {database} TEMPLATE template0");
        server.execute("postgres", &text).await;
        let mut settings = config::default_settings().unwrap().postgres;
        settings.url = server.url(&database);
        Self {
            settings,
            database,
            address: server.address(),
            timeout: Duration::from_secs(20),
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut config::PostgresSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub fn source(&self, read_from: ReadFrom) -> config::SourceSettings {
        config::SourceSettings {
            kind: SourceKind::Postgres,
            read_from,
            timeout_ms: Millis(self.timeout),
        }
    }

    /// Where its server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `postgresql://…` of the database by another address: a proxy's.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgresql://{SUPERUSER}@{address}/{}", self.database)
    }

    /// Runs statements of the test's own.
    pub async fn execute(&self, text: &str) {
        self.client().await.batch_execute(text).await.unwrap();
    }

    /// A bare driver session.
    pub async fn client(&self) -> Client {
        let url = self.url_at(self.address);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        TaskTracker::new().spawn(connection);
        client
    }

    /// A row as another program writes it, in both tables.
    pub async fn put_row(&self, user: i64, asset: i32, seq: i64, avail: i64) {
        let text = format!(
            "BEGIN; INSERT INTO trading.balance_ledger (user_id, asset_id, seq, avail, frozen, created_at) \
             VALUES ({user}, {asset}, {seq}, {avail}, {seq}, 1765352441000); \
             INSERT INTO trading.user_balances (user_id, asset_id, version, avail, frozen, updated_at) \
             VALUES ({user}, {asset}, {seq}, {avail}, {seq}, 1765352441000) ON CONFLICT (user_id, asset_id) DO UPDATE \
             SET version = excluded.version, avail = excluded.avail, frozen = excluded.frozen; COMMIT"
        );
        self.execute(&text).await;
    }

    /// `schema apply`.
    pub async fn applied(self) -> Self {
        let source = self.source(ReadFrom::View);
        let applied = schema::apply_migrations(&self.settings, &source).await;
        applied.unwrap();
        self
    }

    /// A source that runs, ready or not.
    pub fn begin(&self, read_from: ReadFrom) -> PgRunning {
        self.begin_as(read_from, LedgerSide::External)
    }

    /// The same; whether it assigns seqs is said.
    pub fn begin_as(&self, read_from: ReadFrom, writer: LedgerSide) -> PgRunning {
        let postgres = Postgres::new(&self.settings, &self.source(read_from));
        let source = Arc::new(postgres.unwrap().with_writer(writer));
        let shutdown = CancellationToken::new();
        TaskTracker::new().spawn(Arc::clone(&source).run_watch(shutdown.clone()));
        PgRunning { source, shutdown }
    }

    /// A source that is ready.
    pub async fn open(&self, read_from: ReadFrom) -> PgRunning {
        let running = self.begin(read_from);
        running.ready().await;
        running
    }
}

/// A source whose loop ends with the test.
pub struct PgRunning {
    pub source: Arc<Postgres>,
    shutdown: CancellationToken,
}

impl PgRunning {
    pub async fn ready(&self) {
        let mut said = SourceReadiness::Ready;
        until("the source is ready", async || {
            let readiness = self.source.readiness();
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
            if let SourceReadiness::NotReady(reason) = self.source.readiness()
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
}

impl Drop for PgRunning {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
