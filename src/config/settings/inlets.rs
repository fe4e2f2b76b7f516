//! Ways in for notifications: the names of their fields, and Kafka.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Millis;
use crate::domain::{FieldMap, PointerError};

section! {
    /// Where each field of a notification stands in JSON: a JSON pointer.
    #[derive(Debug)]
    FieldSettings {
        user_id: String,
        asset_id: String,
        seq: String,
        avail: String,
        frozen: String,
        created_at: String,
    }
}

impl FieldSettings {
    /// The map that reads notifications.
    /// Errors: each pointer that cannot be used.
    pub fn field_map(&self) -> Result<FieldMap, Vec<PointerError>> {
        FieldMap::new([
            &self.user_id,
            &self.asset_id,
            &self.seq,
            &self.avail,
            &self.frozen,
            &self.created_at,
        ])
    }
}

choice! {
    /// The authentication of this client to Kafka.
    KafkaSasl { None, Plain, ScramSha256, ScramSha512, }
}

section! {
    KafkaSettings {
        brokers: Vec<String>,
        topic: String,
        group: String,
        sasl: KafkaSasl,
        username: String,
        password: String,
        tls_ca_file: PathBuf,
        tls_cert_file: PathBuf,
        tls_key_file: PathBuf,
        session_timeout_ms: Millis,
    }
}

impl KafkaSettings {
    /// Whether notifications come by Kafka.
    pub const fn is_on(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// The topic of the records that cannot be read.
    pub fn dead_topic(&self) -> String {
        format!("{}.dead", self.topic)
    }
}

/// Without the password: settings may be logged whole.
impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
