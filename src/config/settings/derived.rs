//! Values that follow from several settings.

use super::{LedgerWriter, ReadFrom, Settings, SourceKind};

/// The writer: the side that assigns seqs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerSide {
    /// Only the instances of this service.
    Service,
    /// A settlement service.
    External,
}

/// `settlement.kafka.group` as the defaults have it.
const KAFKA_GROUP: &str = "balance-cache";

impl Settings {
    /// Gives a deployment with a `redis.namespace` a Kafka group of its own, unless the group is named: deployments of one group
    /// would each get a part of the notifications.
    pub(in crate::config) fn separate_kafka_group(&mut self) {
        let namespace = &self.redis.namespace;
        let kafka = &mut self.settlement.kafka;
        if !namespace.is_empty() && kafka.group == KAFKA_GROUP {
            kafka.group = format!("{namespace}:{KAFKA_GROUP}");
        }
    }

    /// The writer, which assigns seqs: `ledger.writer`, or the one that suits the kind of source.
    pub const fn seq_writer(&self) -> LedgerSide {
        match (self.ledger.writer, self.source.kind) {
            (LedgerWriter::Service, _) | (LedgerWriter::Auto, SourceKind::Embedded) => {
                LedgerSide::Service
            }
            (LedgerWriter::External, _)
            | (LedgerWriter::Auto, SourceKind::Scylla | SourceKind::Postgres) => {
                LedgerSide::External
            }
        }
    }

    /// Whether the ledger is somebody else's tables: balances are read from it, and nothing else is.
    pub fn shows_balances_only(&self) -> bool {
        self.source.kind == SourceKind::Postgres && self.postgres.is_mapped()
    }

    /// Whether a load may show less than the ledger has acknowledged.
    pub fn source_lags(&self) -> bool {
        let has_replicas = !self.postgres.read_urls.is_empty();
        if self.shows_balances_only() {
            return has_replicas;
        }
        match (self.source.kind, self.source.read_from) {
            (SourceKind::Embedded, _) | (_, ReadFrom::Ledger) => false,
            (SourceKind::Scylla, ReadFrom::View | ReadFrom::Table) => true,
            (SourceKind::Postgres, ReadFrom::View) => has_replicas,
            (SourceKind::Postgres, ReadFrom::Table) => {
                has_replicas || self.seq_writer() == LedgerSide::External
            }
        }
    }
}
