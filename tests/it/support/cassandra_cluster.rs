//! Three real Cassandra nodes that are one cluster.
//!
//! **Invariants.** What a node acknowledged outlives its `kill -9` (every write waits for the disk): else a node that
//! comes back could have forgotten its half of a quorum, and what is missed would be the database's doing.

use std::time::Duration;

use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy},
    statement::{Consistency, Statement},
};

use super::{
    cassandra::{Cassandra, Options, Seat},
    eventually::eventually_async,
};

/// As many as a replication factor of three needs.
pub const NODES: u8 = 3;

/// How long the nodes may take to see each other.
const WHOLE: Duration = Duration::from_mins(1);

/// How long they may take to agree on a change of the schema that one of them missed.
const AGREED: Duration = Duration::from_mins(2);

/// Of a table that has three replicas by itself; the row need not be there.
const QUESTION: &str = "SELECT status FROM system_distributed.view_build_status WHERE keyspace_name = 'a' AND view_name = 'a'";

/// All of them, ended when this is dropped.
#[derive(Debug)]
pub struct CassandraCluster {
    nodes: Vec<Cassandra>,
}

impl CassandraCluster {
    /// Starts all at once and waits until each takes clients.
    pub fn start() -> Self {
        let options = Options {
            durable: true,
            ..Options::default()
        };
        let mut nodes: Vec<_> = Seat::several(NODES)
            .into_iter()
            .map(|seat| Cassandra::prepare(seat, &options))
            .collect();
        nodes.iter_mut().for_each(Cassandra::launch);
        nodes.iter().for_each(Cassandra::await_startup);
        Self { nodes }
    }

    /// Every node, as `scylla.nodes` takes them.
    pub fn nodes(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(Cassandra::node).collect();
        nodes.join(",")
    }

    /// One of them, to be stopped and started again.
    pub fn node(&mut self, at: usize) -> &mut Cassandra {
        &mut self.nodes[at]
    }

    /// Waits until every node sees every other (each gets an answer from all three) and all have the same schema.
    pub async fn whole(&self, session: &Session) {
        for node in &self.nodes {
            let address = node.node().parse().unwrap();
            let mut question = Statement::new(QUESTION);
            question.set_consistency(Consistency::All);
            question.set_request_timeout(Some(Duration::from_secs(1)));
            question.set_load_balancing_policy(Some(SingleTargetLoadBalancingPolicy::new(
                NodeIdentifier::NodeAddress(address),
                None,
            )));
            let what = format!("{address} sees all nodes");
            eventually_async(WHOLE, &what, async || {
                session.query_unpaged(question.clone(), ()).await.ok()
            })
            .await;
        }
        eventually_async(WHOLE, "all nodes have the same schema", async || {
            session.check_schema_agreement().await.ok().flatten()
        })
        .await;
    }

    /// A driver session that knows all of them.
    pub async fn session(&self) -> Session {
        let nodes: Vec<_> = self.nodes.iter().map(Cassandra::node).collect();
        SessionBuilder::new()
            .known_nodes(nodes)
            .schema_agreement_timeout(AGREED)
            .build()
            .await
            .expect("the nodes take sessions")
    }
}
