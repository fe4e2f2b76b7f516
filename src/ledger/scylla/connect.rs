//! Opens sessions: nodes, consistency, timeouts, preferred datacenter, password, TLS.
//!
//! **Invariants.** A statement ends within `source.timeout_ms` over all tries; after [`SECOND_AFTER`] of it a second node is
//! asked as well, and the first answer counts. So every statement may run twice: reads change nothing, ledger rows are the same
//! whichever instance writes them, rows of `user_balances` carry their seq as timestamp. Another datacenter is never asked: its
//! `LOCAL_QUORUM` does not meet the quorum of the writes here.
//!
//! **Limits.** The driver checks a certificate against the node's IP address, not a name. `limits.source_loads` bounds the statements.
//!
//! Deliberately absent: own retries (the driver retries idempotent statements on the next node, within the timeout).

use std::{sync::Arc, time::Duration};

use scylla::{
    client::{
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
        session_builder::SessionBuilder,
    },
    policies::{
        load_balancing::DefaultPolicy, speculative_execution::SimpleSpeculativeExecutionPolicy,
    },
    statement::Consistency,
};

use super::{
    certificates::{CheckedCertificates, CqlCertificates},
    faults,
    names::Names,
};
use crate::{
    config::{self, BadSetting},
    ledger::LedgerError,
};

/// Silence of a connection after which it is tested, and after which it is given up, if a statement has no longer: a node that
/// vanished without a word costs timeouts for no longer than both.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// The same for changes of the schema: a node that is busy with one may be silent for seconds.
const DDL_KEEPALIVE: Duration = Duration::from_secs(30);

/// The part of a statement's time after which a second node is asked: far above what a node in order takes, so that it
/// costs nothing there, and early enough for two statements in a row to be saved like this within one deadline.
const SECOND_AFTER: u32 = 4;

/// Everything that a session needs, checked.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) names: Names,
    nodes: Vec<String>,
    password: Option<(String, String)>,
    tls: Option<(Arc<CqlCertificates>, Arc<rustls::ClientConfig>)>,
    profile: ExecutionProfileHandle,
    connect_timeout: Duration,
    keepalive: Duration,
}

impl Connector {
    pub(super) fn new(
        settings: &config::ScyllaSettings,
        source: &config::SourceSettings,
    ) -> Result<Self, BadSetting> {
        if settings.nodes.is_empty() {
            return Err(BadSetting::new("scylla.nodes", "names no node"));
        }
        if settings.datacenter.is_empty() && !settings.rack.is_empty() {
            return Err(BadSetting::new(
                "scylla.rack",
                "needs scylla.datacenter beside it",
            ));
        }
        let password = (!settings.username.is_empty())
            .then(|| (settings.username.clone(), settings.password.clone()));
        let tls = CheckedCertificates::read_files(settings)?.map(|read| {
            let certificates = CqlCertificates::new(read);
            let config = certificates.client_config()?;
            Ok((certificates, config))
        });
        Ok(Self {
            names: Names::new(settings)?,
            nodes: settings.nodes.clone(),
            password,
            tls: tls.transpose()?,
            profile: execution_profile(settings, source.timeout_ms.0),
            connect_timeout: settings.connect_timeout_ms.0,
            keepalive: KEEPALIVE.max(source.timeout_ms.0),
        })
    }

    /// Makes sessions of it bear a node that is silent while it changes its schema.
    pub(super) fn for_schema_changes(mut self) -> Self {
        self.keepalive = DDL_KEEPALIVE;
        self
    }

    /// The nodes, as the settings name them.
    pub(super) fn node_addresses(&self) -> String {
        self.nodes.join(", ")
    }

    /// The certificates in force, where TLS is on.
    pub(super) fn certificates(&self) -> Option<&CqlCertificates> {
        self.tls.as_ref().map(|(certificates, _)| &**certificates)
    }

    /// A new session, by any node that answers. Ends within a few times `scylla.connect_timeout_ms` for each node named.
    pub(super) async fn open_session(&self) -> Result<Session, LedgerError> {
        let mut builder = SessionBuilder::new()
            .known_nodes(&self.nodes)
            .connection_timeout(self.connect_timeout)
            .metadata_request_clientside_timeout(self.connect_timeout)
            .default_execution_profile_handle(self.profile.clone())
            .keyspaces_to_fetch([self.names.keyspace()])
            .fetch_full_schema_metadata(false)
            .keepalive_interval(self.keepalive)
            .keepalive_timeout(self.keepalive)
            .tls_context(self.tls.as_ref().map(|(_, config)| Arc::clone(config)));
        if let Some((user, password)) = &self.password {
            builder = builder.user(user, password);
        }
        // The driver asks one node after the other until one tells about the cluster, then waits once for connections to
        // all. The keepalive gives up a node that accepts a connection and says nothing.
        let each = self.connect_timeout.max(self.keepalive.saturating_mul(2));
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let all = each.saturating_mul(nodes.saturating_add(2));
        tokio::time::timeout(all, builder.build())
            .await
            .map_err(|_| faults::never_connected())?
            .map_err(|error| faults::not_connected(&error))
    }
}

fn execution_profile(
    settings: &config::ScyllaSettings,
    timeout: Duration,
) -> ExecutionProfileHandle {
    let mut policy = DefaultPolicy::builder()
        .token_aware(true)
        .permit_dc_failover(false);
    if !settings.datacenter.is_empty() {
        let datacenter = settings.datacenter.clone();
        policy = if settings.rack.is_empty() {
            policy.prefer_datacenter(datacenter)
        } else {
            policy.prefer_datacenter_and_rack(datacenter, settings.rack.clone())
        };
    }
    ExecutionProfile::builder()
        .consistency(driver_consistency(settings.consistency))
        .request_timeout(Some(timeout))
        .speculative_execution_policy(Some(Arc::new(SimpleSpeculativeExecutionPolicy {
            max_retry_count: 1,
            retry_interval: timeout.checked_div(SECOND_AFTER).unwrap_or(timeout),
        })))
        .load_balancing_policy(policy.build())
        .build()
        .into_handle()
}

pub(super) fn driver_consistency(chosen: config::Consistency) -> Consistency {
    match chosen {
        config::Consistency::One => Consistency::One,
        config::Consistency::LocalOne => Consistency::LocalOne,
        config::Consistency::Two => Consistency::Two,
        config::Consistency::Three => Consistency::Three,
        config::Consistency::Quorum => Consistency::Quorum,
        config::Consistency::LocalQuorum => Consistency::LocalQuorum,
        config::Consistency::All => Consistency::All,
    }
}
