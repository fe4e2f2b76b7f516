//! The parts that answer requests, and how they hang together.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    StartError,
    open_source::{SourceDatabase, open_source},
    open_totals::open_totals,
    startup_error,
    warm_state::WarmStart,
};
#[cfg(feature = "kafka")]
use crate::feed::kafka;
use crate::{
    apply::Applier,
    audit::{self, Auditor, SampleQueue, Sampler},
    cache::{
        memory::Memory,
        redis::{Redis, RedisLink},
    },
    clock,
    config::{self, LedgerSide, ReadFrom, Settings, SourceKind, ViewCheck},
    domain::{Catalogue, FieldMap, UnixMillis},
    feed::{invalidations::Follower, outbox::OutboxConsumer, settlements::StreamConsumer},
    ledger::{Source, embedded::Embedded},
    protocol::{ChangeLog, Freshness},
    rates::RateBook,
    read::{HistoryReader, Reader, ReaderParts},
    settle::Settler,
    telemetry::Meters,
    totals::TotalsKeeper,
};

/// A lease lasts for a load's statements and this.
const LEASE_SLACK: Duration = Duration::from_millis(250);

/// The parts that answer requests.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) reader: Arc<Reader>,
    pub(super) histories: HistoryReader,
    pub(super) applier: Arc<Applier>,
    pub(super) settler: Arc<Settler>,
    pub(super) writer: LedgerSide,
    pub(super) totals: Arc<TotalsKeeper>,
    pub(super) rates: Arc<RateBook>,
    pub(super) memory: Arc<Memory>,
    pub(super) change_log: Arc<ChangeLog>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) redis: Option<Arc<Redis>>,
    pub(super) source: Arc<dyn Source>,
    pub(super) embedded: Option<Arc<Embedded>>,
    pub(super) meters: Arc<Meters>,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) tasks: TaskTracker,
    pub(super) consumer: Option<Arc<StreamConsumer>>,
    #[cfg(feature = "kafka")]
    pub(super) kafka: Option<Arc<kafka::KafkaConsumer>>,
    pub(super) outbox: Option<Arc<OutboxConsumer>>,
    pub(super) follower: Option<Arc<Follower>>,
    pub(super) shutdown: CancellationToken,
    pub(super) started: Instant,
    pub(super) fixed: ProcessFacts,
    pub(super) lookup: Option<LookupSettings>,
    pub(super) warm: WarmStart,
}

/// Facts that do not change while the process lives.
#[derive(Debug)]
pub(super) struct ProcessFacts {
    pub(super) started: UnixMillis,
    pub(super) api_port: u16,
    pub(super) bytes_max: u64,
    pub(super) kind: SourceKind,
    pub(super) balances_only: bool,
    pub(super) read_from: ReadFrom,
    pub(super) view_check: ViewCheck,
    pub(super) max_staleness: Duration,
}

impl ProcessFacts {
    fn from_settings(settings: &Settings) -> Self {
        Self {
            started: clock::wall_now(),
            api_port: settings.http.listen.port(),
            bytes_max: settings.memory.max_bytes,
            kind: settings.source.kind,
            balances_only: settings.shows_balances_only(),
            read_from: settings.source.read_from,
            view_check: settings.scylla.view_check,
            max_staleness: settings.settlement.max_staleness_ms.0,
        }
    }
}

/// The settings of a look-up.
#[derive(Debug)]
pub(super) struct LookupSettings {
    pub(super) redis: config::RedisSettings,
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl LookupSettings {
    /// None where the settings do not allow it.
    fn new(settings: &Settings) -> Option<Self> {
        settings.ops.may_look_up().then(|| Self {
            redis: settings.redis.clone(),
            turn: tokio::sync::Mutex::new(()),
        })
    }
}

/// The parts, and what has a loop of its own.
type AssembledParts = (Assembled, SourceDatabase, Option<Auditor>);

/// Without Redis this is the only instance, and what it knows is always fresh.
fn build_freshness(settings: &Settings, change_log: &ChangeLog) -> Arc<Freshness> {
    Arc::new(if settings.redis.url.is_empty() {
        // A notification of an earlier process is in the ledger; the view may lack it still.
        change_log.blind_for(settings.settlement.floor_ttl_ms.0);
        Freshness::always_fresh()
    } else {
        Freshness::by_proof(settings.settlement.max_staleness_ms.0)
    })
}

fn open_redis(
    settings: &Settings,
    source: &Arc<dyn Source>,
    freshness: &Arc<Freshness>,
    meters: &Arc<Meters>,
) -> Result<Option<Arc<Redis>>, StartError> {
    if settings.redis.url.is_empty() {
        return Ok(None);
    }
    let identity = {
        let source = Arc::clone(source);
        Arc::new(move || source.identity())
    };
    let link = RedisLink::new(
        &settings.redis,
        identity,
        Arc::clone(freshness),
        Arc::clone(meters),
    )
    .map_err(StartError)?;
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
fn field_map(settings: &Settings) -> Result<FieldMap, StartError> {
    let map = settings.settlement.fields.field_map();
    map.map_err(|errors| {
        let first = errors.first();
        startup_error(first.map(|it| format!("settlement.fields.{}: {}", it.field, it.reason)))
    })
}

fn build_consumer(
    settings: &Settings,
    fields: &FieldMap,
    redis: Option<&Arc<Redis>>,
    applier: &Arc<Applier>,
    meters: &Arc<Meters>,
) -> Option<Arc<StreamConsumer>> {
    let redis = Arc::clone(redis?);
    Some(Arc::new(StreamConsumer::new(
        redis,
        Arc::clone(applier),
        Arc::clone(meters),
        settings.settlement.stream.clone(),
        format!("{:016x}", rand::random::<u64>()),
        fields.clone(),
        settings.settlement.claim_idle_ms.0,
    )))
}

#[cfg(feature = "kafka")]
fn kafka_consumer(
    settings: &Settings,
    fields: FieldMap,
    redis: Option<&Arc<Redis>>,
    applier: &Arc<Applier>,
    meters: &Arc<Meters>,
) -> Result<Option<Arc<kafka::KafkaConsumer>>, StartError> {
    let settings = &settings.settlement.kafka;
    if !settings.is_on() {
        return Ok(None);
    }
    let consumer = kafka::KafkaConsumer::new(
        settings,
        fields,
        Arc::clone(applier),
        redis.cloned(),
        Arc::clone(meters),
    );
    let consumer = consumer.map_err(|error| startup_error(Some(error)))?;
    Ok(Some(Arc::new(consumer)))
}

/// The consumer of the outbox, where there is one.
fn outbox_consumer(
    settings: &Settings,
    database: &SourceDatabase,
    parts: &Assembled,
) -> Option<Arc<OutboxConsumer>> {
    let SourceDatabase::Postgres(postgres) = database else {
        return None;
    };
    settings.postgres.outbox.enabled.then(|| {
        Arc::new(OutboxConsumer::new(
            postgres.open_outbox(&settings.postgres, &parts.catalogue),
            Arc::clone(&parts.applier),
            parts.redis.clone(),
            Arc::clone(&parts.meters),
        ))
    })
}

fn build_follower(settings: &Settings, parts: &Assembled) -> Option<Arc<Follower>> {
    let redis = parts.redis.as_ref()?;
    Some(Arc::new(Follower::new(
        Arc::clone(redis),
        Arc::clone(&parts.applier),
        Arc::clone(&parts.change_log),
        Arc::clone(&parts.freshness),
        Arc::clone(&parts.meters),
        settings.settlement.floor_ttl_ms.0,
        settings.settlement.max_staleness_ms.0,
    )))
}

fn build_memory(
    settings: &Settings,
    catalogue: &Arc<Catalogue>,
    meters: &Arc<Meters>,
) -> Arc<Memory> {
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

fn build_auditor(
    settings: &Settings,
    parts: &Assembled,
    sampler: Arc<Sampler>,
    inbox: SampleQueue,
) -> Option<Auditor> {
    let reader = Arc::clone(&parts.reader);
    let parts = audit::AuditorParts {
        sampler,
        inbox,
        source: Arc::clone(&parts.source),
        catalogue: Arc::clone(&parts.catalogue),
        change_log: Arc::clone(&parts.change_log),
        meters: Arc::clone(&parts.meters),
        has_room: Arc::new(move || reader.has_spare_permits()),
        source_lags: settings.source_lags(),
    };
    let times = &settings.settlement;
    let (staleness, floor_ttl) = (times.max_staleness_ms.0, times.floor_ttl_ms.0);
    Auditor::new(parts, &settings.audit, staleness, floor_ttl)
}

fn build_catalogue(settings: &Settings) -> Result<Arc<Catalogue>, StartError> {
    Catalogue::new(&settings.assets, &settings.symbols)
        .map(Arc::new)
        .map_err(|errors| startup_error(errors.first()))
}

fn build_change_log(settings: &Settings) -> Arc<ChangeLog> {
    let times = &settings.settlement;
    Arc::new(ChangeLog::new(
        times.floor_ttl_ms.0,
        times.change_log_max_bytes,
    ))
}

fn build_settler(
    settings: &Settings,
    source: &Arc<dyn Source>,
    applier: &Arc<Applier>,
    meters: &Arc<Meters>,
) -> Settler {
    Settler::new(
        Arc::clone(source),
        Arc::clone(applier),
        Arc::clone(meters),
        settings.ledger.recovery_ms.0,
    )
}

// === impl Assembled ===

impl Assembled {
    pub(super) fn new(
        settings: &Settings,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<AssembledParts, StartError> {
        let catalogue = build_catalogue(settings)?;
        let meters = Meters::with_catalogue(&catalogue);
        let fields = field_map(settings)?;
        let opened = open_source(settings, &catalogue)?;
        let (source, database) = (opened.source, opened.database);
        let change_log = build_change_log(settings);
        let freshness = build_freshness(settings, &change_log);
        let redis = open_redis(settings, &source, &freshness, &meters)?;
        let memory = build_memory(settings, &catalogue, &meters);
        let (sampler, inbox) = Sampler::new();
        let reader = Reader::new(
            ReaderParts {
                catalogue: Arc::clone(&catalogue),
                memory: Arc::clone(&memory),
                redis: redis.clone(),
                source: Arc::clone(&source),
                change_log: Arc::clone(&change_log),
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
            Arc::clone(&change_log),
            Arc::clone(&meters),
            Arc::clone(&sampler),
        ));
        let settler = build_settler(settings, &source, &applier, &meters);
        let consumer = build_consumer(settings, &fields, redis.as_ref(), &applier, &meters);
        let (totals, rates) = open_totals(settings, &source, redis.as_ref(), &catalogue, &meters);
        #[cfg(feature = "kafka")]
        let kafka = kafka_consumer(settings, fields, redis.as_ref(), &applier, &meters)?;
        let mut assembled = Self {
            totals,
            rates,
            reader,
            histories: HistoryReader::new(&source, &meters, settings),
            applier,
            settler: Arc::new(settler),
            writer: settings.seq_writer(),
            memory,
            change_log,
            freshness,
            redis,
            source,
            embedded: opened.embedded,
            meters,
            catalogue,
            tasks,
            consumer,
            #[cfg(feature = "kafka")]
            kafka,
            outbox: None,
            follower: None,
            shutdown,
            started: Instant::now(),
            fixed: ProcessFacts::from_settings(settings),
            lookup: LookupSettings::new(settings),
            warm: WarmStart::new(settings),
        };
        assembled.outbox = outbox_consumer(settings, &database, &assembled);
        assembled.follower = build_follower(settings, &assembled);
        let auditor = build_auditor(settings, &assembled, sampler, inbox);
        Ok((assembled, database, auditor))
    }
}
