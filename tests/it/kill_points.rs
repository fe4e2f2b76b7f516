//! kill −9 between any two steps of a notification: whatever was acknowledged stays, and what was not is completed by who
//! sends it again.
//!
//! The process stops itself at a named place (feature `failpoints`), and is then killed there.

use reqwest::Method;
use serde_json::json;

use crate::{
    settlement_pair::Pair,
    settlement_support::{ENTRIES, SETTLEMENTS, SOON, STREAM, add, btc, settled, values, whole},
    support::{
        databases::on_each_database, eventually::eventually_async, service::Service,
        stage::Database,
    },
};

const USER: u64 = 7;

fn entry(seq: i64) -> serde_json::Value {
    json!({"user_id": USER, "asset_id": 1, "seq": seq, "avail": seq, "frozen": 0})
}

/// Killed where it stopped; another one takes its place.
async fn replaced(pair: &mut Pair, mut stopped: Service) -> Service {
    stopped.kill9();
    let next = Service::start_ready(pair.setup(0)).await;
    whole(&next).await;
    next
}

async fn shows(service: &Service, seq: i64) {
    eventually_async(SOON, "it shows the seq", async || {
        (btc(service, USER).await == seq).then_some(())
    })
    .await;
}

async fn a_kill_between_any_two_steps_loses_nothing_that_was_acknowledged(database: Database) {
    let mut pair = Pair::start(database).await;
    for (round, point) in ["ledger-written", "redis-took", "took-effect"]
        .into_iter()
        .enumerate()
    {
        let seq = 10 * (i64::try_from(round).unwrap() + 1);
        let victim = Service::start_ready(
            pair.setup(0)
                .raw("FAILPOINTS", format!("{point}=1*off->pause")),
        )
        .await;
        whole(&victim).await;
        // The first passes and is acknowledged; it is held here and there.
        settled_entry(&victim, seq).await;
        assert_eq!(btc(&victim, USER).await, seq, "{point}");
        // The second stops the process, and nobody gets an answer.
        let unanswered =
            victim.try_send(victim.request(Method::POST, ENTRIES).json(&entry(seq + 1)));
        let reached = eventually_async(SOON, "it stopped there", async || {
            pair.row(USER, seq + 1).await.then_some(())
        });
        tokio::select! {
            answer = unanswered => panic!("{point}: answered {answer:?}"),
            () = reached => {}
        }
        let next = replaced(&mut pair, victim).await;
        for service in [&next, &pair.services[1]] {
            assert!(
                btc(service, USER).await >= seq,
                "{point}: what was acknowledged"
            );
        }
        completed_entry(&next, seq + 1).await;
        assert_eq!(btc(&next, USER).await, seq + 1, "{point}");
        shows(&pair.services[1], seq + 1).await;
    }
}

async fn settled_entry(service: &Service, seq: i64) {
    let answer = service.post(ENTRIES, &entry(seq)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// The same, sent again for as long as its promise cannot be given, as on a busy machine.
async fn completed_entry(service: &Service, seq: i64) {
    eventually_async(SOON, "the entry is completed", async || {
        let answer = service.post(ENTRIES, &entry(seq)).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

async fn a_kill_before_the_stream_is_acknowledged_leaves_the_entry_to_another(database: Database) {
    let mut pair = Pair::start(database).await;
    let victim = Service::start_ready(
        pair.setup(0)
            .raw("FAILPOINTS", "not-acknowledged=pause".to_owned()),
    )
    .await;
    whole(&victim).await;
    // Only the victim is there to take it.
    for service in &mut pair.services {
        service.kill9();
    }
    pair.ledger(7, 1, 30).await;
    add(&pair.redis, &values(USER, 1, 30, 30));
    // A process that stopped there need not answer: its effect is looked for in Redis.
    eventually_async(SOON, "it took effect", async || {
        let floor: Option<String> = pair.redis.ask(&["HGET", "balance:user:7", "f:1"]);
        floor.filter(|floor| floor.starts_with("30 "))
    })
    .await;
    let pending = |redis: &crate::support::redis::Redis| -> i64 {
        let (count, ..): (i64, redis::Value, redis::Value, redis::Value) =
            redis.ask(&["XPENDING", STREAM, "balance-cache"]);
        count
    };
    assert_eq!(
        pending(&pair.redis),
        1,
        "it took effect and is not acknowledged"
    );
    let next = replaced(&mut pair, victim).await;
    assert_eq!(btc(&next, USER).await, 30);
    eventually_async(SOON, "the entry is claimed", async || {
        (pending(&pair.redis) == 0).then_some(())
    })
    .await;
    let again = eventually_async(SOON, "it is answered", async || {
        let answer = next.post(SETTLEMENTS, &values(USER, 1, 30, 30)).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(settled(&again), (0, 1));
}

on_each_database! {
    a_kill_between_any_two_steps_loses_nothing_that_was_acknowledged,
    a_kill_before_the_stream_is_acknowledged_leaves_the_entry_to_another,
}
