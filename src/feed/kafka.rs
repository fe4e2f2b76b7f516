//! Taking notifications from a Kafka topic, as one consumer of a group.
//!
//! **Invariants.** An offset is committed after every record before it took effect, or stands in the dead topic. What was received and
//! not committed is received again, by this instance or another: that is harmless. A record that cannot be read, or a notification that
//! Redis refuses, keeps no record behind it from taking effect. A partition that is revoked is forgotten at once, with all that waits.
//!
//! **Limits.** [`AT_ONCE`] notifications (and those of one record) wait for their effect, as many that were refused, and
//! [`dead_letters`] has its own bounds. Beyond that the partitions are paused; librdkafka fetches a bounded amount ahead.
//!
//! **Cancellation.** Dropped in the middle, Redis may have a record and this instance not yet; it was not committed.

mod client;
mod dead_letters;
mod look;
mod progress;
mod record;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{Consumer as _, MessageStream},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedHeaders, BorrowedMessage},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::{
    client::BadSetting,
    look::{Look, Partition, look},
};
use self::{
    client::{Change, Context, Subscriber},
    dead_letters::{DeadLetters, Letter, REASON_MAX_CHARS},
    progress::{Place, Progress},
};
use crate::{
    apply::{self, Applier},
    cache::redis::Redis,
    config::Kafka,
    diagnosis::{Code, Finding, Part},
    domain::{FieldMap, Notification},
    telemetry::{Applied, Meters, Sparing, Via},
};

/// Notifications that are applied together: few enough not to keep a thread from serving readers.
const AT_ONCE: usize = 2_000;
/// Records that are read without leaving the thread to others.
const YIELD_EVERY: usize = 256;
/// How long to wait for records where nothing else is to be done.
const IDLE: Duration = Duration::from_secs(1);
/// How long to wait before another try.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long to wait before notifications that were refused one by one are tried again.
const REFUSED_EVERY: Duration = Duration::from_millis(500);
/// How long applying may take.
const APPLY_MAX: Duration = Duration::from_secs(5);
/// Tries of many records before they are tried one by one.
const TRIES: usize = 5;
/// How often the topic is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// The client cannot go on and is made anew.
#[derive(Debug)]
struct Broken;

/// The duties of the consumer, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    Look,
    Follow,
    Apply,
    PutAside,
}

/// A record that did not take effect yet.
#[derive(Debug)]
struct Record {
    place: Place,
    notifications: Vec<Notification>,
}

/// What one follower of the topic has in its hands.
#[derive(Default)]
struct Work {
    progress: Progress,
    /// Received, and not in effect yet.
    fresh: Vec<Record>,
    /// Failed tries of `fresh`.
    tries: usize,
    /// Tried one by one and refused: tried again later, beside what comes.
    refused: Vec<Record>,
    refused_due: Option<Instant>,
    letters: DeadLetters,
    paused: bool,
}

/// Takes notifications from a topic.
pub struct Consumer {
    settings: Kafka,
    fields: FieldMap,
    applier: Arc<Applier>,
    redis: Option<Arc<Redis>>,
    meters: Arc<Meters>,
    /// The first client: what is wrong with the settings is told at start.
    first: Mutex<Option<Subscriber>>,
    findings: Mutex<BTreeMap<Duty, Finding>>,
    unreadable_log: Sparing,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Work {
    fn size(&self) -> usize {
        let records = self.fresh.iter();
        records.fold(0, |sum, record| {
            sum.saturating_add(record.notifications.len())
        })
    }

    /// Nothing more may be consumed for now.
    fn is_full(&self) -> bool {
        let refused = self.refused.iter();
        let refused = refused.fold(0_usize, |sum, it| {
            sum.saturating_add(it.notifications.len())
        });
        !self.fresh.is_empty() || refused >= AT_ONCE || self.letters.is_full()
    }

    /// Something is to be done again soon.
    fn is_pending(&self) -> bool {
        !(self.fresh.is_empty() && self.refused.is_empty() && self.letters.is_empty())
    }

    fn forget(&mut self, partition: i32) {
        let others = |record: &Record| record.place.partition != partition;
        self.progress.forget(partition);
        self.fresh.retain(others);
        self.refused.retain(others);
        self.letters.forget(partition);
    }
}

impl Consumer {
    /// Not started yet. `fields` are those of the JSON in a record.
    ///
    /// # Errors
    /// The setting that cannot be used.
    pub fn new(
        settings: &Kafka,
        fields: FieldMap,
        applier: Arc<Applier>,
        redis: Option<Arc<Redis>>,
        meters: Arc<Meters>,
    ) -> Result<Self, BadSetting> {
        let first = client::subscriber(settings)?;
        let starting = Finding::new(Part::Kafka, Code::KafkaStarting, settings.brokers.join(","));
        Ok(Self {
            settings: settings.clone(),
            fields,
            applier,
            redis,
            meters,
            first: Mutex::new(Some(first)),
            findings: Mutex::new(BTreeMap::from([(Duty::Look, starting)])),
            unreadable_log: Sparing::default(),
        })
    }

    /// Takes until shutdown, then leaves the group.
    pub async fn run(&self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let first = self.first.lock().take();
            let made = first.map_or_else(|| client::subscriber(&self.settings), Ok);
            match made {
                Ok(client) => {
                    let client = Arc::new(client);
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        Broken = self.follow(&client) => {}
                        () = self.watch(&client) => {}
                    }
                    client::close(client, CLOSE_MAX).await;
                }
                Err(error) => tracing::warn!(%error, "kafka: no client could be made"),
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// The findings that keep records of the topic from taking effect, the worst first.
    #[must_use]
    pub fn trouble(&self) -> Vec<Finding> {
        self.findings.lock().values().cloned().collect()
    }

    fn note(&self, duty: Duty, found: Option<Finding>) {
        let mut findings = self.findings.lock();
        match found {
            None => {
                if findings.remove(&duty).is_some() {
                    tracing::info!(?duty, "kafka: works");
                }
            }
            Some(finding) => {
                let before = findings.insert(duty, finding.clone());
                if before.as_ref() != Some(&finding) {
                    tracing::warn!(?duty, reason = %finding, "kafka: in trouble");
                }
            }
        }
    }

    fn finding(&self, code: Option<RDKafkaErrorCode>) -> Finding {
        look::finding(&self.settings, &self.settings.topic, code, None)
    }

    // === the topic from outside ===

    /// Looks at the topic again and again: the lag, and whether the brokers answer.
    async fn watch(&self, client: &Arc<Subscriber>) {
        loop {
            let (looker, settings) = (Arc::clone(client), self.settings.clone());
            let looked = tokio::task::spawn_blocking(move || {
                look::partitions(&*looker, &settings, &settings.topic)
            });
            match looked.await {
                Ok(Ok(partitions)) => {
                    let lags = partitions.iter().map(Partition::lag);
                    self.meters.kafka_lag(lags.fold(0, u64::saturating_add));
                    self.note(Duty::Look, None);
                }
                Ok(Err(finding)) => self.note(Duty::Look, Some(finding)),
                Err(_) => tracing::error!("kafka: looking at the topic met a bug"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    // === the records ===

    async fn follow(&self, client: &Subscriber) -> Broken {
        if let Err(error) = client.subscribe(&[&self.settings.topic]) {
            tracing::warn!(%error, "kafka: the topic could not be subscribed to");
            return Broken;
        }
        let mut records = client.stream();
        let mut work = Work::default();
        loop {
            if let Err(broken) = self.receive(client, &mut records, &mut work).await {
                return broken;
            }
            self.apply_fresh(&mut work).await;
            self.apply_refused(&mut work).await;
            self.put_aside(&mut work);
            fail::fail_point!("kafka-not-stored");
            self.store(client, &mut work);
        }
    }

    /// Receives what is there, up to the bounds; waits for a first record where there is none.
    async fn receive(
        &self,
        client: &Subscriber,
        records: &mut MessageStream<'_, Context>,
        work: &mut Work,
    ) -> Result<(), Broken> {
        self.pause_or_resume(client, work);
        let wait = if work.is_pending() { RETRY_EVERY } else { IDLE };
        let first = tokio::time::timeout(wait, records.next()).await;
        let mut next = first.ok().flatten();
        let mut received = 0_usize;
        let (mut size, mut full) = (work.size(), false);
        loop {
            self.take_changes(client, work);
            match next {
                None => return Ok(()),
                Some(Ok(record)) => {
                    size = size.saturating_add(self.begin(work, &record));
                    full = full || work.letters.is_full();
                }
                Some(Err(error)) => self.note_error(&error)?,
            }
            received = received.saturating_add(1);
            if size >= AT_ONCE || full {
                return Ok(());
            }
            if received.is_multiple_of(YIELD_EVERY) {
                tokio::task::yield_now().await;
            }
            next = records.next().now_or_never().flatten();
        }
    }

    /// Takes a record into the work; returns how many notifications it has.
    fn begin(&self, work: &mut Work, record: &BorrowedMessage<'_>) -> usize {
        let place = Place {
            partition: record.partition(),
            offset: record.offset(),
        };
        work.progress.begin(place);
        match record::read(&self.fields, record.key(), record.payload()) {
            Ok(notifications) => {
                let count = notifications.len();
                work.fresh.push(Record {
                    place,
                    notifications,
                });
                count
            }
            Err(reason) => {
                let reason: String = reason.chars().take(REASON_MAX_CHARS).collect();
                if let Some(left_out) = self.unreadable_log.line() {
                    let Place { partition, offset } = place;
                    tracing::warn!(
                        partition,
                        offset,
                        reason,
                        lines.left_out = left_out,
                        "a kafka record cannot be read"
                    );
                }
                let letter = Letter {
                    key: record.key().map(<[u8]>::to_vec),
                    value: record.payload().map(<[u8]>::to_vec),
                    headers: record
                        .headers()
                        .map(BorrowedHeaders::detach)
                        .unwrap_or_default(),
                    reason,
                };
                work.letters.put(place, letter);
                0
            }
        }
    }

    /// Follows the changes of partitions that came before the next record.
    fn take_changes(&self, client: &Subscriber, work: &mut Work) {
        for change in client.context().take_changes() {
            match change {
                // Partitions come unpaused.
                Change::Assigned if work.paused => self.pause(client),
                Change::Assigned => {}
                Change::Revoked(partitions) => {
                    for partition in partitions {
                        work.forget(partition);
                    }
                }
            }
            self.note(Duty::Follow, None);
        }
    }

    fn note_error(&self, error: &KafkaError) -> Result<(), Broken> {
        use RDKafkaErrorCode as Kafka;
        let code = error.rdkafka_error_code();
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            tracing::error!(%error, "kafka: the client cannot go on and is made anew");
            return Err(Broken);
        }
        match code {
            // These are told by looking at the topic, which also says when they are over.
            None
            | Some(
                Kafka::AllBrokersDown
                | Kafka::BrokerTransportFailure
                | Kafka::Resolve
                | Kafka::SSL
                | Kafka::Authentication
                | Kafka::UnknownTopicOrPartition
                | Kafka::UnknownTopic
                | Kafka::LeaderNotAvailable
                | Kafka::OperationTimedOut,
            ) => {}
            Some(code @ (Kafka::TopicAuthorizationFailed | Kafka::GroupAuthorizationFailed)) => {
                self.note(Duty::Follow, Some(self.finding(Some(code))));
            }
            Some(code) => tracing::info!(?code, "kafka: told while records are received"),
        }
        Ok(())
    }

    // === pausing ===

    fn pause_or_resume(&self, client: &Subscriber, work: &mut Work) {
        let full = work.is_full();
        if full == work.paused {
            return;
        }
        work.paused = full;
        if full {
            self.pause(client);
        } else if let Ok(all) = client.assignment()
            && let Err(error) = client.resume(&all)
        {
            tracing::warn!(%error, "kafka: partitions could not be resumed");
            work.paused = true;
        }
    }

    fn pause(&self, client: &Subscriber) {
        let paused = client.assignment().and_then(|all| client.pause(&all));
        if let Err(error) = paused {
            // What comes all the same is taken: it is bounded by what is fetched ahead.
            tracing::warn!(%error, "kafka: partitions could not be paused");
        }
    }

    // === the effect ===

    /// Applies what was received. Where Redis takes some of it and refuses the rest, that is left for later.
    async fn apply_fresh(&self, work: &mut Work) {
        if work.fresh.is_empty() {
            return;
        }
        if self.apply_all(&work.fresh).await.is_ok() {
            work.tries = 0;
            for record in work.fresh.drain(..) {
                work.progress.finish(record.place);
            }
            return;
        }
        work.tries = work.tries.saturating_add(1);
        if work.tries >= TRIES && self.redis_answers() {
            work.tries = 0;
            let fresh = std::mem::take(&mut work.fresh);
            let refused = self.apply_each(fresh, &mut work.progress).await;
            work.refused.extend(refused);
            work.refused_due = Instant::now().checked_add(REFUSED_EVERY);
        }
    }

    async fn apply_refused(&self, work: &mut Work) {
        let due = work.refused_due.is_none_or(|due| due <= Instant::now());
        if work.refused.is_empty() || !due {
            return;
        }
        let refused = std::mem::take(&mut work.refused);
        work.refused = self.apply_each(refused, &mut work.progress).await;
        work.refused_due = Instant::now().checked_add(REFUSED_EVERY);
    }

    /// Applies records one by one; returns those that did not take effect.
    async fn apply_each(&self, records: Vec<Record>, progress: &mut Progress) -> Vec<Record> {
        let mut refused = Vec::new();
        let mut last = None;
        for record in records {
            match self.apply_all(std::slice::from_ref(&record)).await {
                Ok(()) => progress.finish(record.place),
                Err(error) => {
                    last = Some(error);
                    refused.push(record);
                }
            }
        }
        // The last success proves nothing for the records that failed.
        if let Some(error) = last {
            self.note_not_taken(&error);
        }
        refused
    }

    async fn apply_all(&self, records: &[Record]) -> Result<(), apply::Error> {
        let all: Vec<_> = records
            .iter()
            .flat_map(|it| &it.notifications)
            .copied()
            .collect();
        if all.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let deadline = now.checked_add(APPLY_MAX).unwrap_or(now);
        let applied = self.applier.apply(&all, Via::Kafka, deadline).await;
        match &applied {
            Ok(_) => self.note(Duty::Apply, None),
            // That Redis is away is told elsewhere.
            Err(error) if self.redis_answers() => self.note_not_taken(error),
            Err(_) => {}
        }
        applied.map(|_| ())
    }

    fn note_not_taken(&self, error: &apply::Error) {
        let finding = Finding::new(
            Part::Kafka,
            Code::KafkaNotTaken,
            self.settings.topic.as_str(),
        );
        self.note(Duty::Apply, Some(finding.with(error.to_string())));
    }

    fn redis_answers(&self) -> bool {
        let redis = self.redis.as_ref();
        redis.is_none_or(|redis| redis.link.session().is_some())
    }

    /// Writes records that cannot be read to the dead topic.
    fn put_aside(&self, work: &mut Work) {
        if work.letters.is_empty() {
            return;
        }
        let (written, refused) = work.letters.write(&self.settings);
        if let Some(code) = refused {
            let dead = self.settings.dead_topic();
            let finding = Finding::new(Part::Kafka, Code::KafkaNotPutAside, dead);
            self.note(Duty::PutAside, Some(finding.with(format!("{code:?}"))));
        } else if !written.is_empty() {
            self.note(Duty::PutAside, None);
        }
        let count = u64::try_from(written.len()).unwrap_or(u64::MAX);
        self.meters
            .notifications(Via::Kafka, Applied::Invalid, count);
        for place in written {
            work.progress.finish(place);
        }
    }

    /// Stores the offsets to go on at; librdkafka commits them soon.
    fn store(&self, client: &Subscriber, work: &mut Work) {
        let moved = work.progress.moved();
        if moved.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(moved.len());
        for Place { partition, offset } in moved {
            let offset = Offset::Offset(offset);
            let _ = list.add_partition_offset(&self.settings.topic, partition, offset);
        }
        if let Err(error) = client.store_offsets(&list) {
            // A partition that is being revoked: its next consumer receives these records again.
            tracing::debug!(%error, "kafka: offsets were not stored");
        }
    }
}
