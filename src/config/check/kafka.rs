//! Checks the settings of Kafka.

use super::{SettingsCheck, is_plain_name, scylla::is_node};
use crate::config::KafkaSasl;

/// Bytes of a topic's name, as Kafka has them.
const TOPIC_MAX: usize = 249;
/// Accepted `settlement.kafka.session_timeout_ms`: brokers refuse less and more by default.
const SESSION_MS: std::ops::RangeInclusive<u64> = 6_000..=1_800_000;

impl SettingsCheck<'_> {
    pub(super) fn check_kafka(&mut self) {
        let kafka = &self.settings.settlement.kafka;
        self.require_that(
            &["settlement.kafka.brokers"],
            !kafka.is_on() || cfg!(feature = "kafka"),
            "this binary was built without Kafka: build it with --features kafka, or leave the key empty",
        );
        for (at, broker) in kafka.brokers.iter().enumerate() {
            self.require_that(
                &[&format!("settlement.kafka.brokers[{at}]")],
                is_node(broker),
                "must be host:port; an IPv6 address in brackets",
            );
        }
        let topic = &kafka.topic;
        self.require_that(
            &["settlement.kafka.topic"],
            is_plain_name(topic, 1, TOPIC_MAX.saturating_sub(".dead".len()))
                && !matches!(topic.as_str(), "." | ".."),
            "must be the name of a topic: 1 to 244 ASCII letters, digits, '.', '_' and '-'",
        );
        let group = &kafka.group;
        self.require_that(
            &["settlement.kafka.group"],
            (1..=255).contains(&group.len()) && !group.contains(char::is_control),
            "must be the name of a consumer group: 1 to 255 bytes, no control characters",
        );
        self.require_range(
            "settlement.kafka.session_timeout_ms",
            kafka.session_timeout_ms.as_millis(),
            SESSION_MS,
        );
        self.kafka_identity();
    }

    fn kafka_identity(&mut self) {
        let kafka = &self.settings.settlement.kafka;
        let (user, password) = (!kafka.username.is_empty(), !kafka.password.is_empty());
        self.require_that(
            &[
                "settlement.kafka.sasl",
                "settlement.kafka.username",
                "settlement.kafka.password",
            ],
            if kafka.sasl == KafkaSasl::None {
                !user && !password
            } else {
                user && password
            },
            "plain and scram need settlement.kafka.username and settlement.kafka.password; none takes neither",
        );
        self.require_real_password("settlement.kafka.password", &kafka.password);
        self.check_tls_files(
            "settlement.kafka",
            [
                &kafka.tls_ca_file,
                &kafka.tls_cert_file,
                &kafka.tls_key_file,
            ],
        );
    }
}
