//! Clients of Kafka: their settings, and what librdkafka tells of itself.
//!
//! **Invariants.** A client is made of files that were read and understood; what is wrong with them is told with the key. Offsets are
//! stored by the consumer alone, and committed by librdkafka from what was stored.

use std::{fmt, fs, path::Path, sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance, StreamConsumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::FutureProducer,
    topic_partition_list::TopicPartitionListElem,
};
use tokio::sync::oneshot;

use crate::{
    config::{BadSetting, KafkaSasl, KafkaSettings},
    telemetry::RateLimitedLog,
};

/// How often stored offsets are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// Kibibytes of records that are fetched ahead. A record that is larger is fetched all the same.
const FETCHED_AHEAD_KIB: u32 = 16 * 1024;
/// How long one try to write a record aside may take.
const WRITE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PartitionChange {
    Assigned,
    Revoked(Vec<i32>),
}

/// Events of librdkafka between records.
#[derive(Default)]
pub(super) struct Context {
    changes: Mutex<Vec<PartitionChange>>,
    complaint: Mutex<Option<RDKafkaErrorCode>>,
    log: RateLimitedLog,
}

pub(super) type Subscriber = StreamConsumer<Context>;

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl Context {
    /// The changes since the last call, in their order.
    pub(super) fn take_changes(&self) -> Vec<PartitionChange> {
        std::mem::take(&mut *self.changes.lock())
    }

    /// Why brokers cannot be reached or refuse this client, as far as it is known.
    pub(super) fn last_complaint(&self) -> Option<RDKafkaErrorCode> {
        *self.complaint.lock()
    }

    /// A broker answered: earlier complaints are over.
    pub(super) fn clear_complaint(&self) {
        *self.complaint.lock() = None;
    }

    /// Notes an error. That all brokers are away says less than why the last one was.
    pub(super) fn note_complaint(&self, code: RDKafkaErrorCode) {
        let mut complaint = self.complaint.lock();
        let vague = matches!(
            code,
            RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure
        );
        if !(vague && complaint.is_some()) {
            *complaint = Some(code);
        }
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(left_out) = self.log.permit_line() {
            tracing::debug!(facility, message, lines.left_out = left_out, "librdkafka");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.note_complaint(code);
        }
        if let Some(left_out) = self.log.permit_line() {
            tracing::debug!(%error, reason, lines.left_out = left_out, "librdkafka");
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let change = match rebalance {
            Rebalance::Assign(_) => PartitionChange::Assigned,
            Rebalance::Revoke(list) => {
                let elements = list.elements();
                PartitionChange::Revoked(
                    elements
                        .iter()
                        .map(TopicPartitionListElem::partition)
                        .collect(),
                )
            }
            Rebalance::Error(_) => return,
        };
        tracing::info!(?change, "kafka: the partitions of this instance change");
        self.changes.lock().push(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        let code = result.err().and_then(|error| error.rdkafka_error_code());
        // Offsets that were not committed are committed with the next records, or comes again.
        if let Some(code) = code.filter(|code| *code != RDKafkaErrorCode::NoOffset) {
            self.note_complaint(code);
            tracing::debug!(?code, "kafka: offsets were not committed");
        }
    }
}

/// A consumer of the group; it subscribes to nothing yet.
/// Errors: the setting that cannot be used.
pub(super) fn create_subscriber(settings: &KafkaSettings) -> Result<Subscriber, BadSetting> {
    let mut config = common_config(settings)?;
    let session = millis_text(settings.session_timeout_ms.0);
    for (key, value) in [
        ("group.id", settings.group.as_str()),
        ("session.timeout.ms", &session),
        ("auto.offset.reset", "earliest"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("enable.auto.offset.store", "false"),
        ("auto.commit.interval.ms", &millis_text(COMMIT_EVERY)),
        ("queued.max.messages.kbytes", &FETCHED_AHEAD_KIB.to_string()),
        ("queued.min.messages", "20000"),
        // After its bound was reached, fetching goes on within this time and not after a second.
        ("fetch.queue.backoff.ms", "20"),
        // A topic or partition that is new is found within this time.
        ("topic.metadata.refresh.interval.ms", "5000"),
        ("reconnect.backoff.max.ms", "2000"),
        ("socket.timeout.ms", "10000"),
    ] {
        config.set(key, value);
    }
    checked_client(config.create_with_context(Context::default()))
}

/// A client that looks at the topic and the group, and joins neither.
/// Errors: the setting that cannot be used.
pub(super) fn create_observer(
    settings: &KafkaSettings,
) -> Result<BaseConsumer<Context>, BadSetting> {
    let mut config = common_config(settings)?;
    config
        .set("group.id", &settings.group)
        .set("enable.auto.commit", "false");
    checked_client(config.create_with_context(Context::default()))
}

/// A producer for the dead topic.
/// Errors: the setting that cannot be used.
pub(super) fn create_producer(
    settings: &KafkaSettings,
) -> Result<FutureProducer<Context>, BadSetting> {
    let mut config = common_config(settings)?;
    for (key, value) in [
        ("acks", "all"),
        ("message.timeout.ms", millis_text(WRITE_MAX).as_str()),
        // The brokers' own limits decide.
        ("message.max.bytes", "1000000000"),
        ("compression.codec", "lz4"),
    ] {
        config.set(key, value);
    }
    checked_client(config.create_with_context(Context::default()))
}

fn checked_client<T>(made: KafkaResult<T>) -> Result<T, BadSetting> {
    made.map_err(|error| match error {
        KafkaError::ClientCreation(reason) | KafkaError::ClientConfig(_, reason, _, _) => {
            BadSetting::new("settlement.kafka", reason)
        }
        other => BadSetting::new("settlement.kafka", other),
    })
}

fn common_config(settings: &KafkaSettings) -> Result<ClientConfig, BadSetting> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", "balance-cache")
        .set("socket.keepalive.enable", "true");
    let tls = !settings.tls_ca_file.as_os_str().is_empty();
    let sasl = match settings.sasl {
        KafkaSasl::None => None,
        KafkaSasl::Plain => Some("PLAIN"),
        KafkaSasl::ScramSha256 => Some("SCRAM-SHA-256"),
        KafkaSasl::ScramSha512 => Some("SCRAM-SHA-512"),
    };
    config.set(
        "security.protocol",
        match (tls, sasl) {
            (false, None) => "plaintext",
            (true, None) => "ssl",
            (false, Some(_)) => "sasl_plaintext",
            (true, Some(_)) => "sasl_ssl",
        },
    );
    if let Some(mechanism) = sasl {
        config
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", &settings.username)
            .set("sasl.password", &settings.password);
    }
    for (key, property, file, holds) in [
        (
            "settlement.kafka.tls_ca_file",
            "ssl.ca.pem",
            &settings.tls_ca_file,
            Holds::Certificates,
        ),
        (
            "settlement.kafka.tls_cert_file",
            "ssl.certificate.pem",
            &settings.tls_cert_file,
            Holds::Certificates,
        ),
        (
            "settlement.kafka.tls_key_file",
            "ssl.key.pem",
            &settings.tls_key_file,
            Holds::Key,
        ),
    ] {
        if !file.as_os_str().is_empty() {
            let text = read_pem(file, holds).map_err(|reason| BadSetting::new(key, reason))?;
            config.set(property, text);
        }
    }
    Ok(config)
}

/// The content of a PEM file.
#[derive(Clone, Copy)]
enum Holds {
    Certificates,
    Key,
}

fn read_pem(file: &Path, holds: Holds) -> Result<String, String> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let mut bytes = text.as_bytes();
    let found = match holds {
        Holds::Certificates => {
            let all: Result<Vec<_>, _> = rustls_pemfile::certs(&mut bytes).collect();
            all.map(|all| !all.is_empty())
        }
        Holds::Key => rustls_pemfile::private_key(&mut bytes).map(|key| key.is_some()),
    };
    match (found, holds) {
        (Ok(true), _) => Ok(text),
        (Err(error), _) => Err(format!("{shown}: {error}")),
        (Ok(false), Holds::Certificates) => {
            Err(format!("{shown} holds no certificate in PEM form"))
        }
        (Ok(false), Holds::Key) => Err(format!("{shown} holds no private key in PEM form")),
    }
}

fn millis_text(time: Duration) -> String {
    time.as_millis().to_string()
}

/// Leaves the group and ends the client, on a thread of its own: brokers that are away must not keep the process.
pub(super) async fn close_client(subscriber: Arc<Subscriber>, within: Duration) {
    let (done, closed) = oneshot::channel();
    let thread = thread::Builder::new().name("kafka-close".to_owned());
    let started = thread.spawn(move || {
        drop(subscriber);
        let _ = done.send(());
    });
    if started.is_ok() && tokio::time::timeout(within, closed).await.is_err() {
        tracing::warn!(
            "kafka: the group could not be left in time; its partitions wait for the session to end"
        );
    }
}
