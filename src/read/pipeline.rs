//! One read from top to bottom, one function a tier: memory, the single flight, the lookup in Redis, the lease, the source, the
//! floors, the fill, memory. A further tier between Redis and the source would be asked in the load, before the source.
//!
//! **Invariants.** A snapshot that Redis refused is served, never kept. A served snapshot raises the floor of what memory may hold
//! before it is kept or shown.
//!
//! **Cancellation.** A load runs in a task of its own; if the task is dropped, its lease ends by itself.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    Miss, PassedOn, ReadAnswer, ReadError, ReadOptions, Reader, ReaderParts,
    load::{ReachedSnapshot, SourceSnapshot, SourceTier},
    memory_hit::{MemoryTier, SnapshotOrigin},
    min_seq,
    most_read::MostRead,
    multi_get,
    record::ReadRecorder,
    redis_batcher::{self, RedisBatcher},
    redis_hit::{RedisAnswer, RedisMiss, RedisTier},
    single_flight::{Flight, LoadResult, LoadRole, LoadStart, SingleFlight},
    timings::{SlowReadLog, Timings},
    whole_batch,
};
use crate::{
    admission::{Admission, LoadClass},
    cache::redis::Lookup,
    cache_status::{ForwardReason, Tier},
    clock,
    config::Settings,
    domain::{Floors, UserId},
    fail_points,
    protocol::rules::{KeepFacts, may_load_be_kept},
    telemetry::{Op, traces},
};

/// Loads that a reader joins before it begins one of its own: the result of the first may be below its floors.
const JOINS_MAX: usize = 2;

impl Reader {
    /// A reader over these parts.
    pub fn new(parts: ReaderParts, settings: &Settings) -> Arc<Self> {
        let admission = Arc::new(Admission::new(settings, Instant::now()));
        let memory = MemoryTier::new(&parts, settings);
        let redis = parts.redis.as_ref();
        let redis = redis.map(|redis| RedisTier::new(redis, &memory, &admission, settings));
        let source = SourceTier::new(&parts, &memory, &admission, settings);
        // A permit for Redis comes within half of the time, or not at all; then Redis answers or fails in its own time.
        let timeout = settings.redis.timeout_ms.0;
        let answers_soon = redis.is_some() && admission.ends_before_half_time(timeout);
        Arc::new(Self {
            memory,
            redis,
            source,
            admission,
            single_flight: SingleFlight::new(!answers_soon),
            batcher: Mutex::new(RedisBatcher::new(settings.redis.connections)),
            recorder: ReadRecorder {
                meters: parts.meters,
                freshness: parts.freshness,
                sampler: parts.sampler,
                slow_log: SlowReadLog::new(settings.telemetry.slow_read_ms.0),
                most_read: MostRead::new(settings),
            },
            tasks: parts.tasks,
        })
    }

    /// Serves a read that came at `begun` from memory, without waiting.
    /// Errors: the reason why memory does not serve it.
    pub fn serve_from_memory<T>(
        &self,
        user: UserId,
        ask: &ReadOptions,
        begun: Instant,
        mut show: impl FnMut(ReadAnswer<&[u8]>) -> T,
    ) -> Result<T, ForwardReason> {
        let mut recorded = |answer: ReadAnswer<&[u8]>| {
            let took = begun.elapsed();
            self.recorder.meters.memory_hit(took);
            self.recorder
                .sample_read(user, Ok(answer), begun, took, &Timings::default());
            show(answer)
        };
        let copy = self.memory.serve_hot_copy(user, ask, begun, &mut recorded);
        if let Some(shown) = copy {
            return Ok(shown);
        }
        let reads = self.reads_behind(user);
        match self.memory.serve_snapshot(user, ask, begun) {
            Ok(answer) => {
                self.recorder.most_read.count_reads(user, reads);
                Ok(recorded(answer.borrowed_view()))
            }
            Err(refusal) => {
                self.recorder
                    .meters
                    .record_tier(Tier::Memory, Op::Get, begun.elapsed());
                Err(refusal)
            }
        }
    }

    /// Reads one user's balances.
    /// Errors: [`ReadError`]; never an empty answer for a failure.
    pub async fn read_user(
        self: &Arc<Self>,
        user: UserId,
        ask: ReadOptions,
        deadline: Instant,
    ) -> Result<ReadAnswer, ReadError> {
        let passed_on = ask.passed_on;
        let begun = passed_on.map_or_else(Instant::now, |memory| memory.came);
        let mut timings = Timings::default();
        // Awaited where it is made, here and below: a future that is kept under a name is stored twice.
        let result = self
            .read_tiers(LoadClass::Single, user, &ask, begun, deadline, &mut timings)
            .await;
        let took = begun.elapsed();
        let shown = || result.as_ref().map(ReadAnswer::borrowed_view);
        let recorder = &self.recorder;
        let outcome = recorder.record_read(user, shown(), begun, took, &timings);
        recorder
            .slow_log
            .log_read(user, shown(), outcome, took, &timings);
        result
    }

    /// Memory, then a load that readers share, then `min_seq`; a stale answer where the source fails.
    pub(super) async fn read_tiers(
        self: &Arc<Self>,
        class: LoadClass,
        user: UserId,
        ask: &ReadOptions,
        begun: Instant,
        deadline: Instant,
        timings: &mut Timings,
    ) -> Result<ReadAnswer, ReadError> {
        let memory = if let Some(PassedOn { said, .. }) = ask.passed_on {
            said
        } else {
            let served = self.memory.serve_snapshot(user, ask, begun);
            timings.memory = begun.elapsed();
            match served {
                Ok(answer) => return Ok(answer),
                Err(refusal) => refusal,
            }
        };
        let miss = Miss {
            class,
            user,
            begun,
            memory,
            deadline,
        };
        // Boxed, as all that few readers need: it takes no room in the future of a waiting reader.
        let knowledge = self.memory.changes.knowledge_of(user);
        let loaded = if ask.no_cache {
            Box::pin(self.load_alone(miss, true, timings)).await
        } else {
            self.share_load(miss, timings).await
        };
        match loaded {
            Ok((answer, _)) if ask.min_seq.is_empty() => Ok(answer),
            Ok(loaded) => {
                let reached = Box::pin(min_seq::reach_min_seq(
                    self,
                    (miss, knowledge),
                    &ask.min_seq,
                    loaded,
                    timings,
                ));
                let in_time = tokio::time::timeout_at(deadline, reached).await;
                in_time.unwrap_or(Err(ReadError::Deadline))
            }
            Err(error) => self.serve_stale_or(user, ask, error),
        }
    }

    /// Joins or leads loads of the user, until the result of one suits this reader. Beside the answer: the floors that it does not
    /// reach.
    async fn share_load(
        self: &Arc<Self>,
        mut miss: Miss,
        timings: &mut Timings,
    ) -> Result<(ReadAnswer, Floors), ReadError> {
        for _ in 0..JOINS_MAX {
            let (leads, flight, floors) = self.join_load(miss)?;
            if leads {
                redis_batcher::start_load(self, miss.user, Arc::clone(&flight));
            }
            fail_points::reach("boarded");
            let result = flight.wait_for_result(miss.deadline, timings).await?;
            if result.suits_floors(&floors) {
                return Ok(result.into_parts(miss.memory, !leads));
            }
            miss.begun = Instant::now();
        }
        // The results were too old each time.
        Box::pin(self.load_alone(miss, false, timings)).await
    }

    /// Joins the user's load, or begins one that the caller has to start: whether it leads, the load, and the floors of this reader
    /// beside those that its own load knows.
    pub(super) fn join_load(&self, miss: Miss) -> Result<(bool, Arc<Flight>, Floors), ReadError> {
        let start = self.start_of_load(miss.class, miss.user, miss.begun);
        let role = self
            .single_flight
            .join_or_lead(miss.user, start, &self.memory.freshness);
        match role {
            // A load knows the floors that were known when it began.
            Some(LoadRole::Leader(flight)) => Ok((true, flight, Floors::NONE)),
            Some(LoadRole::Follower(flight)) => {
                Ok((false, flight, self.memory.changes.floors_of(miss.user)))
            }
            None => Err(ReadError::Shed),
        }
    }

    pub(super) fn start_of_load(&self, class: LoadClass, user: UserId, at: Instant) -> LoadStart {
        LoadStart {
            at,
            knowledge: self.memory.changes.knowledge_of(user),
            proven: self.memory.freshness.is_proven(at),
            class,
            overtakes: false,
        }
    }

    /// A load in a task of its own that no reader joins: for `no-cache`, and where no shared load suited.
    async fn load_alone(
        self: &Arc<Self>,
        miss: Miss,
        fresh: bool,
        timings: &mut Timings,
    ) -> Result<(ReadAnswer, Floors), ReadError> {
        let user = miss.user;
        let floors = self.memory.changes.floors_of(user);
        let start = self.start_of_load(miss.class, user, Instant::now());
        let reader = Arc::clone(self);
        let load = async move {
            let mut timings = Timings::default();
            let result = reader
                .load_user(user, start, None, fresh, &mut timings)
                .await;
            (result, timings)
        };
        let load = self.tasks.spawn(load.instrument(traces::load(user)));
        let Ok(Ok((result, of_load))) = tokio::time::timeout_at(miss.deadline, load).await else {
            return Err(ReadError::Deadline);
        };
        timings.adopt_load(of_load);
        let result = result?;
        if !result.suits_floors(&floors)
            && !result.suits_floors(&self.memory.changes.floors_of(user))
        {
            // The load compares its result with the floors, and floors that ended meanwhile do not count: this cannot be.
            self.recorder.meters.seq_regression();
            return Err(ReadError::Deadline);
        }
        Ok(result.into_parts(miss.memory, false))
    }

    /// One load: Redis or its lease, then the source, and the fill. With `fresh` the ledger is read, whatever is cached.
    pub(super) async fn load_user(
        &self,
        user: UserId,
        start: LoadStart,
        looked: Option<Lookup>,
        fresh: bool,
        timings: &mut Timings,
    ) -> Result<LoadResult, ReadError> {
        let mut miss = RedisMiss::default();
        if let Some(redis) = &self.redis {
            let answer = redis.serve_or_lease(user, start, looked, fresh).await?;
            // Redis was asked before this began, where the lookup was shared.
            timings.redis = start.at.elapsed();
            match answer {
                RedisAnswer::Hit(result) => return Ok(result),
                RedisAnswer::Miss(redis_miss) => miss = redis_miss,
            }
        }
        let result = self
            .load_from_source(user, start, &mut miss, fresh, timings)
            .await;
        if let (Err(_), Some(lease)) = (&result, &miss.lease) {
            lease.release_lease().await;
        }
        result
    }

    async fn load_from_source(
        &self,
        user: UserId,
        start: LoadStart,
        miss: &mut RedisMiss<'_>,
        fresh: bool,
        timings: &mut Timings,
    ) -> Result<LoadResult, ReadError> {
        let (source, heard_at) = (&self.source, clock::wall_now());
        let loaded = source
            .load_snapshot(user, start, miss, fresh, timings)
            .await?;
        let SourceSnapshot {
            snapshot,
            from_ledger,
        } = loaded;
        let mut reached = source
            .reach_floors(user, start, &snapshot, &miss.known, timings)
            .await?;
        fail_points::reach("reached");
        let mut redis_ttl = None;
        match &miss.lease {
            Some(lease) if reached.fills_redis() => {
                redis_ttl = lease
                    .fill_entry(&reached.snapshot, from_ledger, timings)
                    .await;
                if redis_ttl.is_none() {
                    // A notification may have overtaken this load: its floor is known here by now, or the reader does not know it.
                    reached = source
                        .reach_floors(user, start, &reached.snapshot, &miss.known, timings)
                        .await?;
                }
            }
            Some(lease) => lease.release_lease().await,
            None => {}
        }
        fail_points::reach("filled");
        if from_ledger {
            self.memory.changes.note_read(user, start.knowledge.reread);
        }
        let ReachedSnapshot {
            snapshot, unmet, ..
        } = reached;
        let facts = KeepFacts {
            floors_met: unmet.is_empty(),
            from_ledger,
            redis_configured: self.redis.is_some(),
            lease_granted: miss.lease.is_some(),
            fill_accepted: redis_ttl.is_some(),
        };
        let knowledge = start.knowledge;
        self.memory.changes.note_shown(user, knowledge, &snapshot);
        let held = if may_load_be_kept(&facts).is_ok() {
            let origin = SnapshotOrigin {
                redis_ttl,
                loaded: start.at,
                from_ledger,
                heard_at,
            };
            self.memory.keep_snapshot(user, start, &snapshot, origin)
        } else {
            self.memory.raise_held(user, knowledge, &snapshot);
            self.memory.render_snapshot(&snapshot, heard_at)
        };
        Ok(LoadResult::from_source(held, unmet, miss.forward))
    }

    /// The last known balances where the source fails, if they may be shown; else the error.
    pub(super) fn serve_stale_or(
        &self,
        user: UserId,
        ask: &ReadOptions,
        error: ReadError,
    ) -> Result<ReadAnswer, ReadError> {
        let redis = self.redis.as_ref().map(RedisTier::forward_reason);
        self.memory.serve_stale_or(user, ask, redis, error)
    }

    /// Reads the balances of many users, in the order asked.
    /// Errors: the first failure of any of them.
    pub async fn read_users(
        self: &Arc<Self>,
        users: &[UserId],
        deadline: Instant,
    ) -> Result<Vec<ReadAnswer>, ReadError> {
        whole_batch::read_users(self, users, deadline).await
    }

    /// Loads users that are not cached; returns how many are cached then, and how many could not be loaded.
    pub async fn warm_users(self: &Arc<Self>, users: &[UserId], deadline: Instant) -> (u64, u64) {
        multi_get::warm_users(self, users, deadline).await
    }
}
