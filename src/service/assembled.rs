//! The parts that answer requests, and how they hang together.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span};

use super::{
    Error, open_source::open_source, readiness, shown::Fixed, told, user_lookup::UserLookup,
};
use crate::{
    apply::{self, Applied, Applier, Warmed, WriteError},
    audit::{self, Auditor, Inbox, Sampler},
    cache::{
        memory::Memory,
        redis::{Link, Redis},
    },
    cache_status::Forward,
    config::{ReadFrom, Settings, SourceKind, Writer},
    domain::{
        Catalogue, Entry, FieldMap, Notification, Outcome, Reference, StoredTransaction,
        Transaction, UserId,
    },
    feed::{invalidations::Follower, settlements::Consumer},
    http::Backend,
    ledger::{self, Source, Written, embedded::Embedded, scylla::Scylla},
    ops,
    protocol::{Freshness, Marks, Uses},
    read::{self, Answer, Ask, Parts, Reader},
    settle::{self, Settler},
    telemetry::{self, HttpStatus, Meters, Remembered, Route, Via, traces},
};

/// A lease lasts for a load's statements and this.
const LEASE_SLACK: Duration = Duration::from_millis(250);

/// The parts that answer requests.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) reader: Arc<Reader>,
    pub(super) applier: Arc<Applier>,
    pub(super) settler: Arc<Settler>,
    writer: Writer,
    pub(super) memory: Arc<Memory>,
    pub(super) marks: Arc<Marks>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) redis: Option<Arc<Redis>>,
    pub(super) source: Arc<dyn Source>,
    pub(super) embedded: Option<Arc<Embedded>>,
    pub(super) meters: Arc<Meters>,
    pub(super) catalogue: Arc<Catalogue>,
    tasks: TaskTracker,
    pub(super) consumer: Option<Arc<Consumer>>,
    pub(super) follower: Option<Arc<Follower>>,
    pub(super) shutdown: CancellationToken,
    pub(super) started: Instant,
    pub(super) fixed: Fixed,
    pub(super) lookup: Option<UserLookup>,
}

/// The parts, and what has a loop of its own.
type Made = (Assembled, Option<Arc<Scylla>>, Option<Auditor>);

/// Without Redis this is the only instance, and what it knows is always fresh.
fn freshness(settings: &Settings, marks: &Marks) -> Arc<Freshness> {
    Arc::new(if settings.redis.url.is_empty() {
        // A notification of an earlier process is in the ledger; the view may lack it still.
        marks.blind_for(settings.settlement.floor_ttl_ms.0);
        Freshness::always()
    } else {
        Freshness::by_proof(settings.settlement.max_staleness_ms.0)
    })
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

/// Where the fields of notifications stand in the JSON of stream entries and Kafka records.
fn field_map(settings: &Settings) -> Result<FieldMap, Error> {
    let map = settings.settlement.fields.map();
    map.map_err(|errors| {
        let first = errors.first();
        told(first.map(|it| format!("settlement.fields.{}: {}", it.field, it.reason)))
    })
}

fn consumer(
    settings: &Settings,
    fields: &FieldMap,
    redis: &Arc<Redis>,
    applier: &Arc<Applier>,
    meters: &Arc<Meters>,
) -> Arc<Consumer> {
    Arc::new(Consumer::new(
        Arc::clone(redis),
        Arc::clone(applier),
        Arc::clone(meters),
        settings.settlement.stream.clone(),
        format!("{:016x}", rand::random::<u64>()),
        fields.clone(),
        settings.settlement.claim_idle_ms.0,
    ))
}

fn follower(settings: &Settings, parts: &Assembled) -> Option<Arc<Follower>> {
    let redis = parts.redis.as_ref()?;
    Some(Arc::new(Follower::new(
        Arc::clone(redis),
        Arc::clone(&parts.applier),
        Arc::clone(&parts.marks),
        Arc::clone(&parts.freshness),
        Arc::clone(&parts.meters),
        settings.settlement.floor_ttl_ms.0,
        settings.settlement.max_staleness_ms.0,
    )))
}

fn memory(settings: &Settings, catalogue: &Arc<Catalogue>, meters: &Arc<Meters>) -> Arc<Memory> {
    let stale_for = if settings.stale.enabled {
        settings.stale.max_age_ms.0
    } else {
        Duration::ZERO
    };
    Arc::new(Memory::new(
        settings.memory.max_bytes,
        settings.memory.ttl_ms.0.saturating_add(stale_for),
        Arc::clone(catalogue),
        Arc::clone(meters),
    ))
}

fn auditor(
    settings: &Settings,
    parts: &Assembled,
    sampler: Arc<Sampler>,
    inbox: Inbox,
) -> Option<Auditor> {
    let reader = Arc::clone(&parts.reader);
    let parts = audit::Parts {
        sampler,
        inbox,
        source: Arc::clone(&parts.source),
        catalogue: Arc::clone(&parts.catalogue),
        marks: Arc::clone(&parts.marks),
        meters: Arc::clone(&parts.meters),
        has_room: Arc::new(move || reader.has_spare_permits()),
        source_lags: settings.source.kind == SourceKind::Scylla
            && settings.source.read_from != ReadFrom::Ledger,
    };
    let times = &settings.settlement;
    let (staleness, floor_ttl) = (times.max_staleness_ms.0, times.floor_ttl_ms.0);
    Auditor::new(parts, &settings.audit, staleness, floor_ttl)
}

// === impl Assembled ===

impl Assembled {
    pub(super) fn new(
        settings: &Settings,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Made, Error> {
        let catalogue = Catalogue::new(&settings.assets, &settings.symbols)
            .map_err(|errors| told(errors.first()))?;
        let catalogue = Arc::new(catalogue);
        let meters = Meters::of(&catalogue);
        let fields = field_map(settings)?;
        let (source, embedded, scylla) = open_source(settings, &catalogue)?;
        let floor_ttl = settings.settlement.floor_ttl_ms.0;
        let marks = Arc::new(Marks::new(
            floor_ttl,
            settings.settlement.change_log_max_bytes,
        ));
        let freshness = freshness(settings, &marks);
        let redis = open_redis(settings, &source, &freshness, &meters)?;
        let memory = memory(settings, &catalogue, &meters);
        let (sampler, inbox) = Sampler::new();
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
                sampler: Arc::clone(&sampler),
            },
            settings,
        );
        let applier = Arc::new(Applier::new(
            redis.clone(),
            Arc::clone(&source),
            Arc::clone(&memory),
            Arc::clone(&marks),
            Arc::clone(&meters),
            Arc::clone(&sampler),
        ));
        let settler = Settler::new(
            Arc::clone(&source),
            Arc::clone(&applier),
            Arc::clone(&meters),
            settings.ledger.recovery_ms.0,
        );
        let consumer = redis
            .as_ref()
            .map(|redis| consumer(settings, &fields, redis, &applier, &meters));
        let mut assembled = Self {
            reader,
            applier,
            settler: Arc::new(settler),
            writer: settings.writer(),
            memory,
            marks,
            freshness,
            redis,
            source,
            embedded,
            meters,
            catalogue,
            tasks,
            consumer,
            follower: None,
            shutdown,
            started: Instant::now(),
            fixed: Fixed::now(settings),
            lookup: UserLookup::new(settings),
        };
        assembled.follower = follower(settings, &assembled);
        let auditor = auditor(settings, &assembled, sampler, inbox);
        Ok((assembled, scylla, auditor))
    }

    pub(super) fn keep_up(&self) {
        let (entries, bytes) = self.memory.size();
        self.meters.memory(entries, bytes);
        self.reader.update_gauges();
        self.meters.blind(self.marks.blind());
        let Uses { changes, shown } = self.marks.use_of_memory();
        for (kind, of) in [(Remembered::Changes, changes), (Remembered::Reads, shown)] {
            self.meters
                .remembered(kind, of.users, of.bytes, of.given_up);
        }
        self.look_after_ledger();
        let found = readiness::of(self);
        let ready = found.words.not_ready.is_empty();
        self.meters.health(ready, &found.degraded, &found.codes);
        self.meters.upkeep();
    }

    /// Runs it to its end even if the client hangs up: a change must not stop half-way.
    async fn finish<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let change = change.instrument(Span::current());
        self.tasks.spawn(change).await.ok()
    }
}

impl Backend for Arc<Assembled> {
    fn held<T>(
        &self,
        user: UserId,
        ask: &Ask,
        now: Instant,
        show: impl FnMut(Answer<&[u8]>) -> T,
    ) -> Result<T, Forward> {
        self.reader.serve_from_memory(user, ask, now, show)
    }

    async fn read(&self, user: UserId, ask: Ask, deadline: Instant) -> Result<Answer, read::Error> {
        self.reader
            .read_user(user, ask, deadline)
            .instrument(traces::read(user))
            .await
    }

    async fn read_many(
        &self,
        users: Vec<UserId>,
        deadline: Instant,
    ) -> Result<Vec<Answer>, read::Error> {
        self.reader.read_users(&users, deadline).await
    }

    async fn settle(
        &self,
        notifications: Vec<Notification>,
        deadline: Instant,
    ) -> Result<Applied, apply::Error> {
        let applier = Arc::clone(&self.applier);
        let span = traces::apply(notifications.len());
        let change = async move { applier.apply(&notifications, Via::Http, deadline).await };
        self.finish(change.instrument(span))
            .await
            .unwrap_or(Err(apply::Error::Deadline))
    }

    fn malformed(&self, via: Via) {
        self.meters
            .notifications(via, telemetry::Applied::Invalid, 1);
    }

    fn answered(&self, route: Route, status: HttpStatus, took: Duration) {
        self.meters.http_request(route, status, took);
    }

    fn unchanged_hit(&self) {
        self.meters.unchanged_hit();
    }

    async fn write_entries(
        &self,
        entries: Vec<Entry>,
        deadline: Instant,
    ) -> Result<Written, WriteError> {
        let applier = Arc::clone(&self.applier);
        let span = traces::apply(entries.len());
        let change = async move { applier.write(&entries, deadline).await };
        self.finish(change.instrument(span))
            .await
            .unwrap_or(Err(WriteError::Apply(apply::Error::Deadline)))
    }

    fn writer(&self) -> Writer {
        self.writer
    }

    async fn settle_transactions(
        &self,
        transactions: Vec<Transaction>,
        deadline: Instant,
    ) -> Result<Vec<Outcome>, settle::Error> {
        let settler = Arc::clone(&self.settler);
        let span = traces::apply(transactions.len());
        let change = async move { settler.settle(&transactions, deadline).await };
        self.finish(change.instrument(span))
            .await
            .unwrap_or(Err(settle::Error::Apply(apply::Error::Deadline)))
    }

    async fn find_transaction(
        &self,
        reference: Reference,
        deadline: Instant,
    ) -> Result<Option<StoredTransaction>, ledger::Error> {
        self.settler.find(reference, deadline).await
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
        let (loaded, failed) = self.reader.warm_users(&users, deadline).await;
        Warmed {
            users: count,
            loaded,
            failed,
        }
    }
}

impl ops::Facts for Assembled {
    fn readiness(&self) -> ops::Readiness {
        readiness::of(self).words
    }

    fn metrics(&self) -> String {
        self.keep_up();
        self.meters.page()
    }

    fn meters(&self) -> &Meters {
        &self.meters
    }

    fn parts(&self) -> ops::dashboard::Parts {
        Self::parts(self)
    }

    fn user(&self, user: UserId) -> BoxFuture<'_, Option<serde_json::Value>> {
        Box::pin(self.look_up_user(user))
    }
}
