//! The assembly: which parts there are, how they hang together, and in which order they start and stop.
//!
//! **Invariants.** Nobody spawns but here and by the trackers handed out here. Shutdown: stop accepting, finish what is in flight
//! (at most `limits.drain_ms`), then stop the loops; a second signal ends the process at once.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    apply::{self, Applied, Applier, Warmed, WriteError},
    clock,
    config::{Settings, SourceKind},
    domain::{Catalogue, Entry, Notification, UserId},
    feed::{invalidations::Follower, settlements::Consumer},
    floor::{Freshness, MARKS_MAX, Marks},
    http::{
        self, Backend, Options,
        auth::Auth,
        listener::{Limits, Listening},
    },
    ops,
    read::{self, Answer, Ask, Parts, Reader},
    source::{self, Source, Written, embedded::Embedded, scylla::Scylla},
    telemetry::{Meters, Via},
    tiers::{
        memory::Memory,
        redis::{Link, Redis},
    },
};

/// How often buffered samples are counted and gauges are set.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// A lease lasts for a load's statements and this.
const LEASE_SLACK: Duration = Duration::from_millis(250);

/// A process that cannot start, in words for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Where a started service listens.
#[derive(Debug)]
pub struct Service {
    settings: Settings,
    api: Listening,
    operators: Listening,
    parts: Arc<Assembled>,
    auth: Auth,
    scylla: Option<Arc<Scylla>>,
    shutdown: CancellationToken,
    loops: TaskTracker,
    work: TaskTracker,
}

/// What answers requests.
#[derive(Debug)]
struct Assembled {
    reader: Arc<Reader>,
    applier: Arc<Applier>,
    memory: Arc<Memory>,
    marks: Arc<Marks>,
    freshness: Arc<Freshness>,
    redis: Option<Arc<Redis>>,
    source: Arc<dyn Source>,
    meters: Arc<Meters>,
    catalogue: Arc<Catalogue>,
    tasks: TaskTracker,
}

impl Service {
    /// Opens the ledger, reads certificates, binds both listeners; connects to nothing yet. Blocks for the embedded ledger.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub fn open(settings: Settings, shutdown: CancellationToken) -> Result<Self, Error> {
        let auth = Auth::new(&settings.auth).map_err(|at| {
            Error(format!(
                "auth.tokens[{at}].sha256 is not 64 hexadecimal digits"
            ))
        })?;
        let work = TaskTracker::new();
        let (parts, scylla) = Assembled::new(&settings, work.clone())?;
        Ok(Self {
            api: Listening::bind(settings.http.listen).map_err(|error| told(Some(error)))?,
            operators: Listening::bind(settings.ops.listen).map_err(|error| told(Some(error)))?,
            settings,
            parts: Arc::new(parts),
            auth,
            scylla,
            shutdown,
            loops: TaskTracker::new(),
            work,
        })
    }

    /// Where clients and operators ask, with the ports that the system chose.
    #[must_use]
    pub const fn addresses(&self) -> (std::net::SocketAddr, std::net::SocketAddr) {
        (self.api.address(), self.operators.address())
    }

    /// Serves until the token is cancelled, then drains.
    pub async fn run(self) {
        let Self {
            settings,
            api,
            operators,
            parts,
            auth,
            scylla,
            shutdown,
            loops,
            work,
        } = self;
        let stop_loops = CancellationToken::new();
        start_loops(&settings, &parts, scylla, &loops, &stop_loops);
        let limits = Limits {
            connections: settings.limits.connections,
            header_timeout: settings.limits.header_timeout_ms.0,
            drain: settings.limits.drain_ms.0,
        };
        let options = Options {
            auth,
            catalogue: Arc::clone(&parts.catalogue),
            deadline: settings.limits.deadline_ms.0,
            body_bytes: settings.limits.body_bytes,
            body_wait: settings.limits.header_timeout_ms.0,
            id_prefix: rand::random(),
            wall: clock::wall,
        };
        let answers = Arc::new(http::Service::new(Arc::clone(&parts), options));
        let facts: Arc<dyn ops::Facts> = parts.clone();
        let probes = operators.serve(
            ops::Service::new(facts, rand::random()),
            limits,
            work.clone(),
            stop_loops.clone(),
        );
        loops.spawn(probes);
        api.serve(answers, limits, work.clone(), shutdown).await;
        // Whatever readers began is finished; probes are answered until nobody is left to ask.
        stop_loops.cancel();
        work.close();
        loops.close();
        let finished = async { tokio::join!(work.wait(), loops.wait()) };
        if tokio::time::timeout(settings.limits.drain_ms.0, finished)
            .await
            .is_err()
        {
            tracing::warn!("work was still under way after the drain");
        }
        tracing::info!("stopped");
    }
}

fn told(error: Option<impl fmt::Display>) -> Error {
    Error(error.map_or_else(String::new, |error| error.to_string()))
}

type Opened = (Arc<dyn Source>, Option<Arc<Scylla>>);

fn open_source(settings: &Settings, catalogue: &Arc<Catalogue>) -> Result<Opened, Error> {
    match settings.source.kind {
        SourceKind::Embedded => {
            let opened = Embedded::open(
                &settings.embedded,
                settings.source.timeout_ms.0,
                rand::random(),
            );
            Ok((Arc::new(opened.map_err(|error| told(Some(error)))?), None))
        }
        SourceKind::Scylla => {
            let opened = Scylla::new(&settings.scylla, &settings.source, Arc::clone(catalogue));
            let scylla = Arc::new(opened.map_err(|error| told(Some(error)))?);
            let source: Arc<dyn Source> = scylla.clone();
            Ok((source, Some(scylla)))
        }
    }
}

fn open_redis(
    settings: &Settings,
    source: &Arc<dyn Source>,
    freshness: &Arc<Freshness>,
    meters: &Arc<Meters>,
) -> Result<Option<Arc<Redis>>, Error> {
    if settings.redis.url.is_empty() {
        return Ok(None);
    }
    let identity = {
        let source = Arc::clone(source);
        Arc::new(move || source.identity())
    };
    let link = Link::new(
        &settings.redis,
        identity,
        Arc::clone(freshness),
        Arc::clone(meters),
    )
    .map_err(Error)?;
    let lease = settings
        .source
        .timeout_ms
        .0
        .saturating_mul(2)
        .saturating_add(LEASE_SLACK);
    let lease = lease.saturating_add(settings.settlement.lag_budget_ms.0);
    let redis = Redis::new(
        link,
        &settings.redis,
        settings.settlement.floor_ttl_ms.0,
        lease,
        Arc::clone(meters),
    );
    Ok(Some(Arc::new(redis)))
}

fn start_loops(
    settings: &Settings,
    parts: &Arc<Assembled>,
    scylla: Option<Arc<Scylla>>,
    loops: &TaskTracker,
    stop: &CancellationToken,
) {
    if let Some(scylla) = scylla {
        loops.spawn(scylla.run(stop.clone()));
    }
    if let Some(redis) = &parts.redis {
        let (keeper, token) = (Arc::clone(redis), stop.clone());
        loops.spawn(async move { keeper.link.run(token).await });
        let follower = Follower::new(
            Arc::clone(redis),
            Arc::clone(&parts.applier),
            Arc::clone(&parts.marks),
            Arc::clone(&parts.freshness),
            Arc::clone(&parts.meters),
            settings.settlement.floor_ttl_ms.0,
            settings.settlement.max_staleness_ms.0,
        );
        let token = stop.clone();
        loops.spawn(async move { follower.run(token).await });
        let consumer = Consumer::new(
            Arc::clone(redis),
            Arc::clone(&parts.applier),
            Arc::clone(&parts.meters),
            settings.settlement.stream.clone(),
            format!("{:016x}", rand::random::<u64>()),
            settings.settlement.claim_idle_ms.0,
        );
        let token = stop.clone();
        loops.spawn(async move { consumer.run(token).await });
    }
    let (parts, token) = (Arc::clone(parts), stop.clone());
    loops.spawn(async move {
        let upkeep = async {
            loop {
                parts.keep_up();
                tokio::time::sleep(UPKEEP_EVERY).await;
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = upkeep => {}
        }
    });
}

// === impl Assembled ===

impl Assembled {
    fn new(settings: &Settings, tasks: TaskTracker) -> Result<(Self, Option<Arc<Scylla>>), Error> {
        let catalogue = Catalogue::new(&settings.assets, &settings.symbols)
            .map_err(|errors| told(errors.first()))?;
        let catalogue = Arc::new(catalogue);
        let meters = Meters::new();
        let (source, scylla) = open_source(settings, &catalogue)?;
        let floor_ttl = settings.settlement.floor_ttl_ms.0;
        let marks = Arc::new(Marks::new(floor_ttl, MARKS_MAX));
        let freshness = Arc::new(if settings.redis.url.is_empty() {
            // What was notified in the life before is in the ledger, and may not be in the view yet.
            marks.blind_for(floor_ttl);
            Freshness::always()
        } else {
            Freshness::by_proof(settings.settlement.max_staleness_ms.0)
        });
        let redis = open_redis(settings, &source, &freshness, &meters)?;
        let stale_for = if settings.stale.enabled {
            settings.stale.max_age_ms.0
        } else {
            Duration::ZERO
        };
        let max_bytes = settings.memory.max_bytes;
        let memory = Arc::new(Memory::new(
            max_bytes,
            stale_for,
            Arc::clone(&catalogue),
            Arc::clone(&meters),
        ));
        let reader = Reader::new(
            Parts {
                catalogue: Arc::clone(&catalogue),
                memory: Arc::clone(&memory),
                redis: redis.clone(),
                source: Arc::clone(&source),
                marks: Arc::clone(&marks),
                freshness: Arc::clone(&freshness),
                meters: Arc::clone(&meters),
                tasks: tasks.clone(),
            },
            settings,
        );
        let applier = Arc::new(Applier::new(
            redis.clone(),
            Arc::clone(&source),
            Arc::clone(&memory),
            Arc::clone(&marks),
            Arc::clone(&meters),
        ));
        let assembled = Self {
            reader,
            applier,
            memory,
            marks,
            freshness,
            redis,
            source,
            meters,
            catalogue,
            tasks,
        };
        Ok((assembled, scylla))
    }

    fn keep_up(&self) {
        let (entries, bytes) = self.memory.size();
        self.meters.memory(entries, bytes);
        self.meters.upkeep();
    }

    /// Runs it to its end even if the client hangs up: a change must not stop half-way.
    async fn finish<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.tasks.spawn(change).await.ok()
    }
}

impl Backend for Arc<Assembled> {
    fn held(&self, user: UserId, ask: &Ask) -> Option<Answer> {
        self.reader.held(user, ask)
    }

    async fn read(&self, user: UserId, ask: Ask, deadline: Instant) -> Result<Answer, read::Error> {
        self.reader.read(user, ask, deadline).await
    }

    async fn read_many(
        &self,
        users: Vec<UserId>,
        deadline: Instant,
    ) -> Result<Vec<Answer>, read::Error> {
        self.reader.read_many(&users, deadline).await
    }

    async fn settle(
        &self,
        notifications: Vec<Notification>,
        deadline: Instant,
    ) -> Result<Applied, apply::Error> {
        let applier = Arc::clone(&self.applier);
        let change = async move { applier.apply(&notifications, Via::Http, deadline).await };
        self.finish(change)
            .await
            .unwrap_or(Err(apply::Error::Deadline))
    }

    async fn write_entries(
        &self,
        entries: Vec<Entry>,
        deadline: Instant,
    ) -> Result<Written, WriteError> {
        let applier = Arc::clone(&self.applier);
        let change = async move { applier.write(&entries, deadline).await };
        self.finish(change)
            .await
            .unwrap_or(Err(WriteError::Apply(apply::Error::Deadline)))
    }

    async fn invalidate(
        &self,
        users: Vec<UserId>,
        floors: bool,
        deadline: Instant,
    ) -> Result<u64, apply::Error> {
        let applier = Arc::clone(&self.applier);
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let change = async move { applier.invalidate(&users, floors, deadline).await };
        self.finish(change)
            .await
            .unwrap_or(Err(apply::Error::Deadline))
            .map(|()| count)
    }

    async fn warm(&self, users: Vec<UserId>, deadline: Instant) -> Warmed {
        let count = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let (loaded, failed) = self.reader.warm(&users, deadline).await;
        Warmed {
            users: count,
            loaded,
            failed,
        }
    }
}

impl ops::Facts for Assembled {
    fn readiness(&self) -> ops::Readiness {
        let mut readiness = ops::Readiness::default();
        match self.source.readiness() {
            source::Readiness::Ready => {}
            source::Readiness::Failing(reason) => {
                readiness.degraded.push(format!("source: {reason}"));
            }
            source::Readiness::NotReady(reason) => {
                readiness.not_ready.push(format!("source: {reason}"));
            }
        }
        if let Some(redis) = &self.redis {
            match (redis.link.trouble(), redis.link.session()) {
                (Some(reason), _) if redis.link.refused() => readiness.not_ready.push(format!("redis: {reason}")),
                (Some(reason), _) => readiness.degraded.push(format!("redis: {reason}")),
                (None, Some(session)) if session.evicts => readiness.degraded.push(
                    "redis: maxmemory-policy is not noeviction: what it may have dropped is read from the ledger".to_owned(),
                ),
                (None, Some(_) | None) => {}
            }
            if !self.freshness.proven(Instant::now()) {
                readiness.degraded.push("feed: freshness is not proven: memory answers only what was just read from the ledger".to_owned());
            }
        }
        readiness
    }

    fn metrics(&self) -> String {
        self.keep_up();
        self.meters.page()
    }
}
