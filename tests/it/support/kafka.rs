//! A real Kafka of one node, started from a folder of jars, and a client of it. All tests share the broker; each has topics of its own.
//!
//! **Invariants.** Ports and data stay the same over `kill9` and `start_again`. Missing jars are a failure, never a skip. The broker
//! ends with the test process.

use std::{
    collections::BTreeMap, env, fmt::Write as _, fs, net::SocketAddr, path::PathBuf,
    process::Command, time::Duration,
};

use balance_cache::feed::kafka::{TopicState, look_at_topic};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    producer::{FutureProducer, FutureRecord},
};
use tempfile::TempDir;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    eventually::{eventually, eventually_async},
    port::Port,
    process::Process,
    service::Setup,
};
use crate::settlement_support::short;

/// How long anything of Kafka may take on a machine that is busy.
pub const SOON: Duration = Duration::from_mins(1);
/// Of the clients that authenticate.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "c2VjcmV0";

const VERSION: &str = "4.3.1";

/// The broker of this test program.
pub struct Kafka {
    process: Option<Process>,
    plain: Port,
    controller: Port,
    secured: Port,
    folder: TempDir,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
}

async fn broker() -> &'static RwLock<Kafka> {
    static SHARED: OnceCell<RwLock<Kafka>> = OnceCell::const_new();
    let started = || async {
        let started = tokio::task::spawn_blocking(Kafka::start);
        RwLock::new(started.await.unwrap())
    };
    SHARED.get_or_init(started).await
}

/// The broker, for as long as the guard lives; nobody stops it meanwhile.
pub async fn shared() -> RwLockReadGuard<'static, Kafka> {
    broker().await.read().await
}

/// The broker, for a test that stops it.
pub async fn alone() -> RwLockWriteGuard<'static, Kafka> {
    broker().await.write().await
}

impl Kafka {
    fn start() -> Self {
        let folder = TempDir::with_prefix("kafka-").unwrap();
        let mut kafka = Self {
            process: None,
            plain: Port::reserve(),
            controller: Port::reserve(),
            secured: Port::reserve(),
            folder,
        };
        certificates(&kafka.folder);
        fs::write(kafka.path("server.properties"), kafka.properties()).unwrap();
        let mut format = java();
        format.args(["kafka.tools.StorageTool", "format", "--standalone", "-t"]);
        format.args(["MkU3OEVBNTcwNTJENDM2Qk", "-c"]);
        format.arg(kafka.path("server.properties"));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let user = format!("{mechanism}=[name={USER},password={PASSWORD}]");
            format.args(["--add-scram", &user]);
        }
        let formatted = format.output().unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        kafka.start_again();
        kafka
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The PEM file of the authority of its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn properties(&self) -> String {
        let [plain, controller, secured] =
            [&self.plain, &self.controller, &self.secured].map(Port::address);
        let mut text = String::new();
        for (key, value) in [
            ("process.roles", "broker,controller"),
            ("node.id", "1"),
            (
                "controller.quorum.bootstrap.servers",
                &controller.to_string(),
            ),
            (
                "listeners",
                &format!("PLAINTEXT://{plain},CONTROLLER://{controller},SECURED://{secured}"),
            ),
            (
                "advertised.listeners",
                &format!("PLAINTEXT://{plain},SECURED://{secured}"),
            ),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
            ),
            ("inter.broker.listener.name", "PLAINTEXT"),
            ("controller.listener.names", "CONTROLLER"),
            ("log.dirs", self.path("data").to_str().unwrap()),
            ("num.partitions", "1"),
            ("offsets.topic.num.partitions", "1"),
            ("offsets.topic.replication.factor", "1"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("share.coordinator.state.topic.replication.factor", "1"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("message.max.bytes", "4000000"),
            (
                "sasl.enabled.mechanisms",
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            ),
            (
                "listener.name.secured.plain.sasl.jaas.config",
                &format!(
                    "org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"
                ),
            ),
            (
                "listener.name.secured.scram-sha-256.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ),
            (
                "listener.name.secured.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            ),
            ("listener.name.secured.ssl.keystore.type", "PEM"),
            (
                "listener.name.secured.ssl.keystore.location",
                self.path("server.pem").to_str().unwrap(),
            ),
        ] {
            writeln!(text, "{key}={value}").unwrap();
        }
        text
    }

    /// Starts it on the data that it has, and waits until it answers.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "kafka runs already");
        let mut server = java();
        server
            .arg("kafka.Kafka")
            .arg(self.path("server.properties"));
        let mut process = Process::start(&server, self.folder.path());
        let asker: BaseConsumer = self.client().create().unwrap();
        eventually(3 * SOON, "kafka answers", || {
            let ended = process.exited();
            assert_eq!(ended, None, "kafka ended\n{}", process.logs());
            let answer = asker.fetch_metadata(None, Duration::from_secs(1)).ok()?;
            (!answer.brokers().is_empty()).then_some(())
        });
        self.process = Some(process);
    }

    /// Kills it, as a crash would.
    pub fn kill9(&mut self) {
        self.process.as_mut().expect("kafka is down").kill9();
        self.process = None;
    }

    pub fn address(&self) -> SocketAddr {
        self.plain.address()
    }

    /// Where TLS and a user are wanted.
    pub fn secured_address(&self) -> SocketAddr {
        self.secured.address()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address().to_string());
        config.set("message.max.bytes", "10000000");
        config.set("reconnect.backoff.max.ms", "500");
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// What an instance is given that follows this topic, in a group of the topic's name.
    pub fn setup(&self, redis_url: &str, topic: &str) -> Setup {
        short(redis_url)
            .with("settlement.kafka.brokers", self.address())
            .with("settlement.kafka.topic", topic)
            .with("settlement.kafka.group", topic)
            .with("settlement.kafka.session_timeout_ms", 6_000)
    }

    /// Makes a topic.
    pub async fn make_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let admin = self.admin();
        let made = admin.create_topics([&topic], &AdminOptions::new());
        for result in made.await.unwrap() {
            result.unwrap();
        }
    }

    /// Gives a topic more partitions.
    pub async fn grow(&self, topic: &str, partitions: usize) {
        let grown = NewPartitions::new(topic, partitions);
        let admin = self.admin();
        let done = admin.create_partitions([&grown], &AdminOptions::new());
        for result in done.await.unwrap() {
            result.unwrap();
        }
    }

    /// Changes a setting of a topic.
    pub async fn alter(&self, topic: &str, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let admin = self.admin();
        let done = admin.alter_configs([&change], &AdminOptions::new());
        for result in done.await.unwrap() {
            result.unwrap();
        }
    }

    /// A producer; with the brokers away it waits for them.
    pub fn producer(&self) -> FutureProducer {
        let mut config = self.client();
        config.set("enable.idempotence", "true");
        config.set("linger.ms", "2");
        config.create().unwrap()
    }

    /// Sends one record and waits until the broker has it.
    pub async fn send(&self, topic: &str, partition: i32, key: Option<&str>, value: Option<&str>) {
        let record = FutureRecord {
            topic,
            partition: Some(partition),
            payload: value,
            key,
            timestamp: None,
            headers: None,
        };
        self.producer().send(record, SOON).await.unwrap();
    }

    /// Everything that a topic holds.
    pub fn records(&self, topic: &str) -> Vec<Read> {
        let mut config = self.client();
        config.set("group.id", "reader-of-tests");
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), SOON).unwrap();
        let mut list = TopicPartitionList::new();
        let mut expected = 0;
        for partition in metadata.topics()[0].partitions() {
            let (first, end) = consumer
                .fetch_watermarks(topic, partition.id(), SOON)
                .unwrap();
            expected += usize::try_from(end - first).unwrap();
            list.add_partition_offset(topic, partition.id(), Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut records = Vec::new();
        while records.len() < expected {
            let record = consumer.poll(SOON).expect("the records are there").unwrap();
            let headers = record.headers().map_or_else(BTreeMap::new, |all| {
                all.iter()
                    .map(|header| {
                        let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                        (header.key.to_owned(), value.into_owned())
                    })
                    .collect()
            });
            records.push(Read {
                key: record.key().map(<[u8]>::to_vec),
                value: record.payload().map(<[u8]>::to_vec),
                headers,
            });
        }
        records
    }

    /// The topic as `doctor` sees it: partitions, committed offsets, dead records. A broker that is busy is asked again.
    pub async fn look(&self, topic: &str) -> TopicState {
        let mut settings = balance_cache::config::default_settings()
            .unwrap()
            .settlement
            .kafka;
        settings.brokers = vec![self.address().to_string()];
        topic.clone_into(&mut settings.topic);
        topic.clone_into(&mut settings.group);
        eventually_async(SOON, "the topic is looked at", async || {
            let settings = settings.clone();
            let looked = tokio::task::spawn_blocking(move || look_at_topic(&settings));
            looked.await.unwrap().unwrap().ok()
        })
        .await
    }

    /// Waits until the group has committed all of the topic.
    pub async fn all_committed(&self, topic: &str) {
        eventually_async(SOON, "all of the topic is committed", async || {
            let look = self.look(topic).await;
            look.partitions.iter().all(|it| it.lag() == 0).then_some(())
        })
        .await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the jars are is told by the environment"
)]
fn jars() -> PathBuf {
    let folder = env::var_os("BALANCE_CACHE_TEST_KAFKA_LIB").map_or_else(
        || {
            let home = PathBuf::from(env::var_os("HOME").expect("HOME is set"));
            home.join(format!(".cache/balance-cache-test/kafka-{VERSION}/lib"))
        },
        PathBuf::from,
    );
    assert!(
        folder.join(format!("kafka_2.13-{VERSION}.jar")).exists(),
        "these tests need a real Kafka: its jars are not in {}; ./test fetches them, or name their folder in \
         BALANCE_CACHE_TEST_KAFKA_LIB",
        folder.display()
    );
    folder
}

/// A JVM that starts quickly and stays small.
fn java() -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.args(["-cp", &format!("{}/*", jars().display())]);
    java
}

/// An authority, and the server's key and certificate in one file.
fn certificates(folder: &TempDir) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    // OpenSSL takes a certificate whose issuer has the name of its subject for one that signed itself.
    let name = "authority of tests";
    authority.distinguished_name.push(DnType::CommonName, name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let server = format!(
        "{}{}{}",
        key.serialize_pem(),
        certificate.pem(),
        authority.pem()
    );
    fs::write(folder.path().join("server.pem"), server).unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
}
