//! Taking notifications from the settlement stream, as one of its consumers.
//!
//! **Invariants.** An entry is acknowledged after it took effect, never before. One that cannot be read goes to the dead stream with
//! the reason. What a consumer that died had taken is claimed after `claim_idle`. No entry, and no command that Redis refuses, keeps
//! the entries behind it from taking effect: what was not acknowledged is claimed and tried again, and the refusal is shown.
//!
//! **Limits.** A page of [`PageSize`] entries, and [`AT_ONCE`] notifications beyond one entry's, at a time.

mod refusals;
mod taken;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::refusals::{Refusals, StreamDuty};
use crate::{
    apply::Applier,
    cache::redis::{
        Redis, jittered_wait,
        stream::{BlockingConnection, END, Event, PageSize, StreamGroup},
    },
    diagnosis::Finding,
    domain::{FieldMap, Notification},
    telemetry::{AppliedLabel, Meters, RateLimitedLog, Via},
};

/// How long one read waits for entries.
const BLOCK: Duration = Duration::from_millis(500);
/// How long one read waits while more entries can be claimed.
const BLOCK_SHORT: Duration = Duration::from_millis(1);
/// How long to wait before another try.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long to wait where Redis refused the command that reads.
const REFUSED_EVERY: Duration = Duration::from_millis(500);
/// How long applying one page may take.
const APPLY_MAX: Duration = Duration::from_secs(5);
/// Tries of a page before its entries are tried one by one.
const TRIES: usize = 5;
/// Notifications that are applied together.
const AT_ONCE: usize = 10_000;
/// Characters of a reason in the log: it may quote what a producer sent.
const REASON_MAX_CHARS: usize = 200;
/// Consumers that have had nothing for this many `claim_idle` are removed.
const FORGET_AFTER: u32 = 20;

/// The connection is of no use any more.
#[derive(Debug)]
struct LostConnection;

/// An entry that was read.
type TakenEntry = (String, Vec<Notification>);

/// The pass through entries that other consumers took and did not acknowledge.
#[derive(Debug)]
struct ClaimPass {
    from: String,
    ended: Option<Instant>,
}

/// Takes notifications from the stream.
#[derive(Debug)]
pub struct StreamConsumer {
    redis: Arc<Redis>,
    applier: Arc<Applier>,
    meters: Arc<Meters>,
    inlet: StreamGroup,
    dead: String,
    fields: FieldMap,
    claim_idle: Duration,
    refusals: Refusals,
    /// The groups that were told of in the log.
    sharers: Mutex<Vec<String>>,
    unreadable_log: RateLimitedLog,
    /// The group was found or made once.
    followed: AtomicBool,
    deleted_log: RateLimitedLog,
}

impl StreamConsumer {
    /// Not started yet. `name` tells this consumer from all others; `fields` are those of the JSON in an entry.
    pub fn new(
        redis: Arc<Redis>,
        applier: Arc<Applier>,
        meters: Arc<Meters>,
        stream: String,
        name: String,
        fields: FieldMap,
        claim_idle: Duration,
    ) -> Self {
        let inlet = StreamGroup {
            group: redis.link.keys.group_name(),
            stream,
            consumer: name,
        };
        Self {
            dead: redis.link.keys.dead_key(&inlet.stream),
            redis,
            applier,
            meters,
            inlet,
            fields,
            claim_idle,
            refusals: Refusals::default(),
            sharers: Mutex::default(),
            unreadable_log: RateLimitedLog::default(),
            followed: AtomicBool::new(false),
            deleted_log: RateLimitedLog::default(),
        }
    }

    /// Takes until shutdown.
    pub async fn run_consumer(&self, shutdown: CancellationToken) {
        let take = async {
            let mut pages = PageSize::default();
            loop {
                if self.redis.link.open_session().is_some()
                    && let Ok(tap) = self.redis.open_blocking().await
                {
                    let LostConnection = self.take_all(&tap, &mut pages).await;
                }
                tokio::time::sleep(jittered_wait(RETRY_EVERY)).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = take => {}
        }
        if let Ok(tap) = self.redis.open_blocking().await {
            // A consumer that is left behind is removed by another one later.
            let _ = tap
                .remove_consumers(&self.inlet, true, self.idle_max())
                .await;
        }
    }

    /// The finding that keeps entries of the stream from taking effect, the worst first; a Redis that is away is told elsewhere.
    pub fn consumer_findings(&self) -> Vec<Finding> {
        self.refusals.all_findings()
    }

    fn idle_max(&self) -> Duration {
        self.claim_idle.saturating_mul(FORGET_AFTER)
    }

    /// Tells of a stream or a group that was deleted while it was followed: entries in it that did not take effect are gone.
    fn note_group(&self, is_new: bool) {
        let was_followed = self.followed.swap(true, Ordering::Relaxed);
        if is_new
            && was_followed
            && let Some(left_out) = self.deleted_log.permit_line()
        {
            tracing::warn!(
                stream.name = self.inlet.stream,
                lines.left_out = left_out,
                "the settlement stream or its group was deleted: the group is made again, and the stream is read from its beginning"
            );
        }
    }

    async fn take_all(&self, tap: &BlockingConnection, pages: &mut PageSize) -> LostConnection {
        let made = tap.make_group(&self.inlet).await;
        let made = made.map_err(|error| self.redis.stream_failure(&error, &self.inlet.stream));
        // A group that stands needs no right to make one: reading says whether this matters.
        match made {
            Ok(is_new) => self.note_group(is_new),
            Err(_) if self.refusals.note_result(StreamDuty::Follow, made).is_err() => {
                return LostConnection;
            }
            Err(_) => {}
        }
        let mut claiming = ClaimPass {
            from: END.to_owned(),
            ended: None,
        };
        // Entries that this consumer had taken when a connection was lost are still its own.
        let mut own = Some("0".to_owned());
        loop {
            let took = if let Some(after) = &own {
                self.take_more(tap, after, BLOCK_SHORT, pages).await
            } else {
                if let Err(lost) = self.claim_page(tap, &mut claiming, pages).await {
                    return lost;
                }
                let block = if claiming.ended.is_some() {
                    BLOCK
                } else {
                    BLOCK_SHORT
                };
                self.take_more(tap, ">", block, pages).await
            };
            match took {
                Ok(last) => own = own.and(last),
                Err(lost) => return lost,
            }
        }
    }

    /// Reads a page behind `after`, and takes it. Returns the last entry.
    async fn take_more(
        &self,
        tap: &BlockingConnection,
        after: &str,
        block: Duration,
        pages: &mut PageSize,
    ) -> Result<Option<String>, LostConnection> {
        let stream = &self.inlet.stream;
        let read = tap.read_events(&self.inlet, after, block, pages).await;
        let read = read.map_err(|error| self.redis.page_failure(&error, stream, pages));
        match self.refusals.note_result(StreamDuty::Follow, read) {
            Ok(Some(events)) => {
                let last = events.last().map(|event| event.id.clone());
                self.take_events(tap, events).await?;
                Ok(last)
            }
            Ok(None) => {
                tokio::time::sleep(REFUSED_EVERY).await;
                // Another connection may know a group or a right that this one does not.
                Err(LostConnection)
            }
            Err(()) => Err(LostConnection),
        }
    }

    /// Takes one page of what other consumers took and did not acknowledge. Between two passes the group is looked at.
    async fn claim_page(
        &self,
        tap: &BlockingConnection,
        claiming: &mut ClaimPass,
        pages: &mut PageSize,
    ) -> Result<(), LostConnection> {
        let every = self.claim_idle.min(Duration::from_secs(1));
        if claiming.ended.is_some_and(|at| at.elapsed() < every) {
            return Ok(());
        }
        claiming.ended = None;
        let claimed = tap
            .claim_events(&self.inlet, self.claim_idle, &claiming.from, pages)
            .await;
        let stream = &self.inlet.stream;
        let claimed = claimed.map_err(|error| self.redis.page_failure(&error, stream, pages));
        let claimed = self.refusals.note_result(StreamDuty::Claim, claimed);
        let next = match claimed.map_err(|()| LostConnection)? {
            Some((next, events)) => {
                self.take_events(tap, events).await?;
                next
            }
            None => END.to_owned(),
        };
        if next == END {
            self.look_at_group(tap, pages).await?;
            claiming.ended = Some(Instant::now());
        }
        claiming.from = next;
        Ok(())
    }

    /// Inspects the group: entries that wait, other groups of the stream, and consumers that ended.
    async fn look_at_group(
        &self,
        tap: &BlockingConnection,
        pages: &mut PageSize,
    ) -> Result<(), LostConnection> {
        let stream = &self.inlet.stream;
        let looked = match tap.read_standing(&self.inlet, pages).await {
            Ok(standing) => tap
                .remove_consumers(&self.inlet, false, self.idle_max())
                .await
                .map(|()| standing),
            Err(error) => Err(error),
        };
        let looked = looked.map_err(|error| self.redis.page_failure(&error, stream, pages));
        let looked = self.refusals.note_result(StreamDuty::Look, looked);
        if let Some(standing) = looked.map_err(|()| LostConnection)? {
            self.meters.stream_lag(standing.waiting);
            let mut sharers = self.sharers.lock();
            if *sharers != standing.others {
                if !standing.others.is_empty() {
                    tracing::info!(
                        stream.name = self.inlet.stream,
                        stream.groups = standing.others.join(", "),
                        "the settlement stream is shared: these consumer groups read it too"
                    );
                }
                *sharers = standing.others;
            }
        }
        Ok(())
    }

    /// Applies or puts aside these events, then acknowledges them.
    async fn take_events(
        &self,
        tap: &BlockingConnection,
        events: Vec<Event>,
    ) -> Result<(), LostConnection> {
        let (mut taken, mut size, mut aside) =
            (Vec::with_capacity(events.len()), 0_usize, Vec::new());
        for event in events {
            match event.read_notifications(&self.fields) {
                Ok(notifications) => {
                    size = size.saturating_add(notifications.len());
                    taken.push((event.id, notifications));
                }
                Err(reason) => {
                    if self.put_aside(tap, &event, &reason).await? {
                        aside.push(event.id);
                    }
                }
            }
            if size >= AT_ONCE {
                size = 0;
                self.settle_taken(tap, std::mem::take(&mut taken)).await?;
            }
        }
        self.acknowledge_entries(tap, &aside).await?;
        self.settle_taken(tap, taken).await
    }

    /// Puts an entry into the dead stream. False if that is refused: it is claimed and tried again later.
    async fn put_aside(
        &self,
        tap: &BlockingConnection,
        event: &Event,
        reason: &str,
    ) -> Result<bool, LostConnection> {
        let buried = tap.bury_event(&self.dead, event, reason).await;
        let buried = buried.map_err(|error| self.redis.stream_failure(&error, &self.dead));
        let buried = self
            .refusals
            .note_result(StreamDuty::PutAside, buried)
            .map_err(|()| LostConnection)?;
        if buried.is_some() {
            if let Some(left_out) = self.unreadable_log.permit_line() {
                let reason: String = reason.chars().take(REASON_MAX_CHARS).collect();
                tracing::warn!(
                    stream.id = event.id,
                    reason,
                    lines.left_out = left_out,
                    "a settlement event cannot be read"
                );
            }
            self.meters
                .count_notifications(Via::Stream, AppliedLabel::Invalid, 1);
        }
        Ok(buried.is_some())
    }
}
