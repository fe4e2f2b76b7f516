//! Consumes notifications from a Kafka topic, as one member of a consumer group.
//!
//! **Invariants.** An offset is committed after every record before it took effect, or stands in the dead topic. What was received and
//! not committed is received again, by this instance or another: that is harmless. A record that cannot be read, or a notification that
//! Redis refuses, keeps no record behind it from taking effect. A partition that is revoked is forgotten at once, with all that waits.
//!
//! **Limits.** 2,000 notifications (and those of one record) wait for their effect, as many that were refused, and
//! [`dead_letters`] has its own bounds. Beyond that the partitions are paused; librdkafka fetches a bounded amount ahead.
//!
//! **Cancellation.** Dropped in the middle, Redis may have a record and this instance not yet; it was not committed.

mod client;
mod dead_letters;
mod effect;
mod follow;
mod progress;
mod record;
mod topic_state;
mod work;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::error::RDKafkaErrorCode;
use tokio_util::sync::CancellationToken;

use self::client::Subscriber;
pub use self::topic_state::{TopicPartition, TopicState, look_at_topic};
use crate::{
    apply::Applier,
    cache::redis::Redis,
    config::{BadSetting, KafkaSettings},
    diagnosis::{Code, Finding, FindingPart},
    domain::FieldMap,
    telemetry::{Meters, RateLimitedLog},
};

/// How often the topic is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long leaving the group may take.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// The client cannot go on and is made anew.
#[derive(Debug)]
struct BrokenClient;

/// The steps of the consumer that can fail, each with its own finding; the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum KafkaDuty {
    Look,
    Follow,
    Apply,
    PutAside,
}

/// Takes notifications from a topic.
pub struct KafkaConsumer {
    settings: KafkaSettings,
    fields: FieldMap,
    applier: Arc<Applier>,
    redis: Option<Arc<Redis>>,
    meters: Arc<Meters>,
    /// The first client: what is wrong with the settings is told at start.
    first: Mutex<Option<Subscriber>>,
    findings: Mutex<BTreeMap<KafkaDuty, Finding>>,
    unreadable_log: RateLimitedLog,
}

impl fmt::Debug for KafkaConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConsumer")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl KafkaConsumer {
    /// Not started yet. `fields` are those of the JSON in a record.
    /// Errors: the setting that cannot be used.
    pub fn new(
        settings: &KafkaSettings,
        fields: FieldMap,
        applier: Arc<Applier>,
        redis: Option<Arc<Redis>>,
        meters: Arc<Meters>,
    ) -> Result<Self, BadSetting> {
        let first = client::create_subscriber(settings)?;
        let starting = Finding::new(
            FindingPart::Kafka,
            Code::KafkaStarting,
            settings.brokers.join(","),
        );
        Ok(Self {
            settings: settings.clone(),
            fields,
            applier,
            redis,
            meters,
            first: Mutex::new(Some(first)),
            findings: Mutex::new(BTreeMap::from([(KafkaDuty::Look, starting)])),
            unreadable_log: RateLimitedLog::default(),
        })
    }

    /// Takes until shutdown, then leaves the group.
    pub async fn run_consumer(&self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let first = self.first.lock().take();
            let made = first.map_or_else(|| client::create_subscriber(&self.settings), Ok);
            match made {
                Ok(client) => {
                    let client = Arc::new(client);
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        BrokenClient = self.follow_topic(&client) => {}
                        () = self.watch_topic(&client) => {}
                    }
                    client::close_client(client, CLOSE_MAX).await;
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
    pub fn consumer_findings(&self) -> Vec<Finding> {
        self.findings.lock().values().cloned().collect()
    }

    fn note_duty(&self, duty: KafkaDuty, found: Option<Finding>) {
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

    fn finding_of(&self, code: Option<RDKafkaErrorCode>) -> Finding {
        topic_state::topic_finding(&self.settings, &self.settings.topic, code, None)
    }

    // === the topic from outside ===

    /// Looks at the topic again and again: the lag, and whether the brokers answer.
    async fn watch_topic(&self, client: &Arc<Subscriber>) {
        loop {
            let (asker, settings) = (Arc::clone(client), self.settings.clone());
            let looked = tokio::task::spawn_blocking(move || {
                topic_state::read_partitions(&*asker, &settings, &settings.topic)
            });
            match looked.await {
                Ok(Ok(partitions)) => {
                    let lags = partitions.iter().map(TopicPartition::lag);
                    self.meters.kafka_lag(lags.fold(0, u64::saturating_add));
                    self.note_duty(KafkaDuty::Look, None);
                }
                Ok(Err(finding)) => self.note_duty(KafkaDuty::Look, Some(finding)),
                Err(_) => tracing::error!("kafka: looking at the topic met a bug"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
