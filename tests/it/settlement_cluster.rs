//! Settlements where the feed and the users' entries are in different slots.

use redis::RedisResult;
use serde_json::json;

use crate::{
    settlement_support::{INVALIDATE, ask, invalidate, seq_of, settles, short, values, whole},
    support::{desk::FEED, redis_cluster::RedisCluster, service::Service, stage::is_failure},
};

const USER: u64 = 1002;

/// An entry of the feed: id, then fields and values.
type Entry = (String, Vec<String>);

/// The feed, and the place of the master that has it.
fn feed(cluster: &mut RedisCluster) -> (usize, Vec<Entry>) {
    let masters = cluster.masters();
    let found = masters.into_iter().find_map(|at| {
        let mut connection = cluster.nodes()[at].connection();
        let range = redis::cmd("XRANGE").arg(FEED).arg("-").arg("+").to_owned();
        let entries: RedisResult<Vec<Entry>> = range.query(&mut connection);
        entries.ok().map(|entries| (at, entries))
    });
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_entry_of_the_feed_has_all_of_a_user_and_what_it_cannot_tell_is_not_acknowledged() {
    let mut cluster = tokio::task::block_in_place(RedisCluster::start);
    for node in cluster.nodes() {
        // One that stands still for a moment is not to lose its slots.
        let () = node.ask(&["CONFIG", "SET", "cluster-node-timeout", "30000"]);
    }
    // Six nodes on a busy machine are slow.
    let setup = short(&cluster.url())
        .with("redis.mode", "cluster")
        .with("limits.deadline_ms", 10_000)
        .with("settlement.floor_ttl_ms", 60_000);
    let service = Service::start_ready(setup).await;
    whole(&service).await;
    let seq = seq_of(&ask(&service, USER).await, "BTC") + 1_000;
    let both = json!([values(USER, 1, seq, 1), values(USER, 2, seq, 2)]);
    let told_once = settles(&service, &both, (2, 0)).await;
    settles(&service, &both, (0, 2)).await;
    let read = ask(&service, USER).await;
    assert_eq!((seq_of(&read, "BTC"), seq_of(&read, "USDT")), (seq, seq));
    let (at, entries) = feed(&mut cluster);
    let told = |fields: &[String]| fields.iter().filter(|word| *word == "c").count();
    let mut sizes: Vec<_> = entries.iter().map(|(_, fields)| told(fields)).collect();
    sizes.retain(|size| *size > 0);
    if !told_once {
        // Both are told again where it was not known that they had been.
        sizes.dedup();
    }
    assert_eq!(sizes, [2], "{entries:?}");

    // The dropped entry is gone, and nobody can be told of it.
    let () = cluster.nodes()[at].ask(&["ACL", "SETUSER", "default", "-xadd"]);
    let users = json!({"user_ids": [USER]});
    is_failure(&service.post(INVALIDATE, &users).await, 503, 5033);
    let () = cluster.nodes()[at].ask(&["ACL", "SETUSER", "default", "+xadd"]);
    invalidate(&service, &users).await;
}
