//! Two servers of PostgreSQL: a primary, and a standby that has every acknowledged commit and replays them late.
//!
//! **Invariants.** A failover loses nothing that the primary showed: commits wait for the standby, and nobody is promoted before
//! that was so for a while. Between a promotion and [`PgPair::mend`] the new primary is alone and waits for nobody.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::task::block_in_place;
use tokio_postgres::types::PgLsn;
use tokio_util::task::TaskTracker;

use super::{
    eventually::eventually_async,
    postgres::{PgOptions, PgServer, SUPERUSER},
};

/// How long a server may take for anything.
const TURN: Duration = Duration::from_mins(1);
/// By this name a standby tells the primary that it is the one to wait for.
const STANDBY: &str = "standby_of_the_pair";

/// Two servers, at two addresses.
#[derive(Debug)]
pub struct PgPair {
    servers: [PgServer; 2],
    options: PgOptions,
    pub place: Arc<PairPlace>,
}

/// Where the pair is, and which of the two is the primary.
#[derive(Debug)]
pub struct PairPlace {
    addresses: [SocketAddr; 2],
    pub database: String,
    primary: AtomicUsize,
}

impl PairPlace {
    /// Which of the two takes writes, or did until it died.
    pub fn primary(&self) -> usize {
        self.primary.load(SeqCst)
    }

    /// `postgresql://…` of one of them.
    pub fn url_of(&self, which: usize) -> String {
        let (address, database) = (self.addresses[which], &self.database);
        format!("postgresql://{SUPERUSER}@{address}/{database}")
    }

    /// The same of both: for `postgres.url`.
    pub fn url(&self) -> String {
        let ([one, other], database) = (self.addresses, &self.database);
        format!("postgresql://{SUPERUSER}@{one},{other}/{database}")
    }
}

impl PgPair {
    /// Both, with an empty database. The standby replays this much later than it could.
    pub async fn start(database: &str, replay_delay: Duration) -> Self {
        let options = PgOptions {
            settings: vec![
                format!("cluster_name = '{STANDBY}'"),
                format!("synchronous_standby_names = '{STANDBY}'"),
                format!("recovery_min_apply_delay = {}", replay_delay.as_millis()),
                "wal_keep_size = 256MB".to_owned(),
            ],
            ..PgOptions::default()
        };
        let servers = block_in_place(|| {
            let primary = PgServer::start(&options);
            let standby = PgServer::start_standby(&primary, &options);
            [primary, standby]
        });
        let place = PairPlace {
            addresses: [servers[0].address(), servers[1].address()],
            database: database.to_owned(),
            primary: AtomicUsize::new(0),
        };
        let create = format!("CREATE DATABASE {database}");
        servers[0].execute("postgres", &create).await;
        let mut pair = Self {
            servers,
            options,
            place: Arc::new(place),
        };
        pair.caught_up().await;
        pair
    }

    pub fn primary(&mut self) -> &mut PgServer {
        &mut self.servers[self.place.primary()]
    }

    pub fn standby(&mut self) -> &mut PgServer {
        &mut self.servers[1 - self.place.primary()]
    }

    /// One value that the primary has.
    pub async fn ask(&mut self, text: &str) -> String {
        let database = self.place.database.clone();
        let client = self.primary().client(&database).await;
        let text = format!("SELECT ({text})::text");
        client.query_one(&text, &[]).await.unwrap().get(0)
    }

    /// Runs statements at the primary.
    pub async fn run(&mut self, text: &str) {
        let database = self.place.database.clone();
        self.primary().execute(&database, text).await;
    }

    /// Waits until the standby has received all that the primary shows; what is acknowledged from here on, it has too.
    pub async fn in_step(&mut self) {
        let client = self.primary().client("postgres").await;
        let followed =
            "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
        eventually_async(TURN, "the standby follows", async || {
            let rows = client.query(followed, &[]).await.unwrap();
            (!rows.is_empty()).then_some(())
        })
        .await;
        let row = client.query_one("SELECT pg_current_wal_lsn()", &[]);
        let end: PgLsn = row.await.unwrap().get(0);
        let received = format!("{followed} AND flush_lsn >= $1");
        eventually_async(TURN, "the standby has it all", async || {
            let rows = client.query(&received, &[&end]).await.unwrap();
            (!rows.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until the standby shows all that the primary shows now.
    pub async fn caught_up(&mut self) {
        let client = self.primary().client("postgres").await;
        let row = client.query_one("SELECT pg_current_wal_lsn()", &[]);
        let end: PgLsn = row.await.unwrap().get(0);
        let standby = self.standby().client("postgres").await;
        eventually_async(TURN, "the standby shows it all", async || {
            let row = standby
                .query_one("SELECT pg_last_wal_replay_lsn() >= $1", &[&end])
                .await;
            row.unwrap().get::<_, bool>(0).then_some(())
        })
        .await;
    }

    /// The primary is killed, standing still before it where that is wanted, and the standby takes its place.
    pub async fn fail_over(&mut self, silent_first: bool) {
        self.in_step().await;
        if silent_first {
            self.primary().pause();
        } else {
            self.primary().kill9();
        }
        let next = 1 - self.place.primary();
        block_in_place(|| self.servers[next].promote());
        if silent_first {
            self.primary().kill9();
        }
        self.place.primary.store(next, SeqCst);
        self.run("ALTER SYSTEM SET synchronous_standby_names = ''")
            .await;
        self.run("SELECT pg_reload_conf()").await;
    }

    /// The old primary comes back as it was when it died: it takes writes, too.
    pub fn bring_back_the_old_one(&mut self) {
        block_in_place(|| self.standby().launch());
    }

    /// The old primary becomes the standby, with the data of the new one.
    pub async fn mend(&mut self, old_runs: bool) {
        if old_runs {
            self.standby().kill9();
        }
        let (primary, options) = (self.place.primary(), self.options.clone());
        let [one, other] = &mut self.servers;
        let (new, old) = if primary == 0 {
            (one, other)
        } else {
            (other, one)
        };
        block_in_place(|| old.copy_from(new, &options));
        self.wait_for_the_standby_again().await;
        block_in_place(|| self.standby().launch());
        self.in_step().await;
    }

    /// Commits wait for a standby from here on.
    async fn wait_for_the_standby_again(&mut self) {
        let names = format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'");
        self.run(&names).await;
        self.run("SELECT pg_reload_conf()").await;
        // The setting is in force when a commit waits: there is no standby yet.
        let writer = self.primary().client("postgres").await;
        let watcher = self.primary().client("postgres").await;
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let commits = TaskTracker::new().spawn(async move {
            let logged = "SELECT pg_logical_emit_message(true, 'test', 'commits wait')";
            while writer.batch_execute(logged).await.is_ok() {}
        });
        eventually_async(TURN, "commits wait for a standby", async || {
            let row = watcher.query_one(waiting, &[]).await.unwrap();
            (row.get::<_, i64>(0) > 0).then_some(())
        })
        .await;
        commits.abort();
    }
}
