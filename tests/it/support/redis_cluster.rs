//! A real Redis Cluster: three masters, each with a replica.

use std::{process::Command, time::Duration};

use super::{
    eventually::eventually,
    redis::{Options, Redis},
};

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;

/// How long forming it may take.
const FORMED: Duration = Duration::from_mins(2);

/// Six nodes, killed when this is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Returns when every node says that all slots are served, and every replica follows its master.
    pub fn start() -> Self {
        let nodes: Vec<Redis> = (0..NODES)
            .map(|_| {
                Redis::start_with(Options {
                    cluster: true,
                    ..Options::default()
                })
            })
            .collect();
        let formed = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(
                nodes
                    .iter()
                    .map(|node| format!("{}@{}", node.address(), node.bus())),
            )
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .unwrap();
        assert!(
            formed.status.success(),
            "{}{}",
            String::from_utf8_lossy(&formed.stdout),
            String::from_utf8_lossy(&formed.stderr)
        );
        let cluster = Self { nodes };
        cluster.await_settled();
        cluster
    }

    /// Waits until every node says that all slots are served, and every replica follows its master.
    pub fn await_settled(&self) {
        eventually(FORMED, "the cluster serves every slot", || {
            self.nodes.iter().all(settled).then_some(())
        });
    }

    /// Every node's address, as `redis.url` takes it.
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(Redis::url).collect();
        urls.join(",")
    }

    /// The nodes, masters and replicas as they were at the start.
    pub fn nodes(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// Who is a master now, by place.
    pub fn masters(&self) -> Vec<usize> {
        let role = |node: &Redis| {
            let text: Option<String> = node.try_connection().ok().and_then(|mut connection| {
                redis::cmd("INFO")
                    .arg("replication")
                    .query(&mut connection)
                    .ok()
            });
            text.is_some_and(|text| text.contains("role:master"))
        };
        let places = 0..self.nodes.len();
        places.filter(|at| role(&self.nodes[*at])).collect()
    }
}

fn settled(node: &Redis) -> bool {
    let cluster: String = node.ask(&["CLUSTER", "INFO"]);
    let replication: String = node.ask(&["INFO", "replication"]);
    cluster.contains("cluster_state:ok")
        && cluster.contains(&format!("cluster_known_nodes:{NODES}"))
        && cluster.contains(&format!("cluster_size:{MASTERS}"))
        && (replication.contains("master_link_status:up")
            || replication.contains("connected_slaves:1"))
}
