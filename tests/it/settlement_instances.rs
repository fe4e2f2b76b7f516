//! Two instances on one Redis and one database, each with its own wire to Redis: P2, P8, P9, restarts, and a late view or table.

use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    settlement_pair::Pair,
    settlement_support::{
        ENTRIES, MAX_STALENESS, SOON, add, ask, btc, fresh, from_memory, seq_of, settle, values,
        whole, writes,
    },
    support::{
        databases::{OwnServer, on_each_database},
        eventually::eventually_async,
        proxy::{Mode, Way},
        service::in_time,
        stage::Database,
    },
};

async fn a_notification_reaches_the_other_instance_in_milliseconds(database: Database) {
    let pair = Pair::start(database).await;
    let (one, other) = pair.both();
    let mut times = Vec::new();
    for seq in 2..=60 {
        btc(other, 1).await;
        settle(one, &values(1, 1, seq, seq)).await;
        let begun = Instant::now();
        // Asked without a pause: the pace of `eventually` is longer than what is measured.
        while btc(other, 1).await != seq {
            assert!(begun.elapsed() < SOON, "it never comes");
        }
        times.push(begun.elapsed());
    }
    times.sort();
    eprintln!(
        "notification to visible elsewhere: p50 {:?}, most {:?}",
        times[30], times[58]
    );
    assert!(times[30] < MAX_STALENESS, "{times:?}");
}

async fn an_instance_cut_off_from_redis_answers_from_the_ledger_after_max_staleness(
    database: Database,
) {
    let pair = Pair::start(database).await;
    let (one, other) = pair.both();
    let holes = [
        Mode::Swallow(Way::Both),
        Mode::Swallow(Way::ToClient),
        Mode::Stall(Way::Both),
        Mode::Cut,
    ];
    for (seq, hole) in (2..).zip(holes) {
        whole(other).await;
        // Held in memory, and served from there.
        from_memory(other, 2).await;
        pair.wires[1].set(hole);
        pair.ledger(2, 1, seq).await;
        settle(one, &values(2, 1, seq, seq)).await;
        let acknowledged = Instant::now();
        assert_eq!(btc(one, 2).await, seq);
        while acknowledged.elapsed() < MAX_STALENESS * 4 {
            let begun = acknowledged.elapsed();
            let read = ask(other, 2).await;
            if begun >= MAX_STALENESS {
                assert_eq!(
                    seq_of(&read, "BTC"),
                    seq,
                    "{hole:?} {begun:?} {}",
                    read.cache_status()
                );
            }
        }
        pair.wires[1].set(Mode::Pass);
    }
}

async fn a_notification_long_before_and_long_after_its_row_is_shown_on_both(database: Database) {
    let pair = Pair::start(database).await;
    let (one, other) = pair.both();
    let tell = |seq: i64| json!({"user_id": 3, "asset_id": 1, "seq": seq});
    // Values ahead of the row; then the version only, with the row in the ledger and not in the view.
    settle(one, &values(3, 1, 5, 5)).await;
    assert_eq!(btc(one, 3).await, 5);
    pair.ledger(3, 1, 6).await;
    settle(other, &tell(6)).await;
    assert_eq!(btc(other, 3).await, 6);
    eventually_async(SOON, "the other has it", async || {
        (btc(one, 3).await == 6).then_some(())
    })
    .await;
    // The version only, ahead of the row: behind, until the row is there.
    settle(one, &tell(7)).await;
    let read = ask(one, 3).await;
    assert!(
        read.cache_status().contains("detail=behind"),
        "{}",
        read.cache_status()
    );
    assert_eq!(seq_of(&read, "BTC"), 6);
    pair.ledger(3, 1, 7).await;
    assert_eq!(btc(one, 3).await, 7);
    eventually_async(SOON, "the other has it, too", async || {
        (btc(other, 3).await == 7).then_some(())
    })
    .await;
    // Nothing but the floors keeps the old view out.
    for _ in 0..3 {
        pair.redis.ask::<i64>(&["DEL", "balance:user:3"]);
        for service in [one, other] {
            assert_eq!(btc(service, 3).await, 7);
        }
    }
}

async fn min_seq_and_no_cache_read_what_another_instance_wrote_at_once(database: Database) {
    let pair = Pair::start(database).await;
    let (one, other) = pair.both();
    for seq in 2..30 {
        btc(other, 4).await;
        let entry = json!({"user_id": 4, "asset_id": 1, "seq": seq, "avail": seq, "frozen": 0});
        writes(one, &entry, (1, 0)).await;
        let read = if seq % 2 == 0 {
            let path = format!("/api/user/balance?user_id=4&min_seq=BTC:{seq}");
            in_time(other.request(Method::GET, &path)).await.0
        } else {
            fresh(other, 4).await
        };
        assert_eq!(seq_of(&read, "BTC"), seq, "{}", read.cache_status());
    }
    let forged = other
        .get("/api/user/balance?user_id=4&min_seq=BTC:4611686018427387904")
        .await;
    assert_eq!(
        (forged.status, forged.json()["status"].as_i64()),
        (503, Some(5032))
    );
    let read = other.balances(4).await;
    assert!(
        !read.cache_status().contains("behind"),
        "a client's min_seq is its own"
    );
}

async fn a_restarted_instance_reads_the_feed_back_before_it_trusts_the_view(database: Database) {
    let mut pair = Pair::start(database).await;
    for seq in 2..5 {
        pair.ledger(5, 1, seq).await;
        let told = json!({"user_id": 5, "asset_id": 1, "seq": seq});
        settle(&pair.services[0], &told).await;
        pair.redis.ask::<i64>(&["DEL", "balance:user:5"]);
        pair.services[1].restart().await;
        let other = &pair.services[1];
        other.ready().await;
        eventually_async(SOON, "it answers", async || {
            let read = other.balances(5).await;
            (read.status == 200)
                .then(|| assert_eq!(seq_of(&read, "BTC"), seq, "{}", read.cache_status()))
        })
        .await;
        whole(other).await;
        assert_eq!(btc(other, 5).await, seq);
    }
}

async fn a_lost_feed_is_noticed_though_nothing_follows_it(database: Database) {
    let pair = Pair::start(database).await;
    let (one, other) = pair.both();
    for seq in 2..12 {
        btc(other, 6).await;
        pair.ledger(6, 1, seq).await;
        // It is in no feed any more when the other comes to read it: its wire is stopped for a moment.
        pair.wires[1].set(Mode::Stall(Way::Both));
        settle(one, &values(6, 1, seq, seq)).await;
        let acknowledged = Instant::now();
        pair.redis
            .ask::<i64>(&["DEL", "balance:invalidations", "balance:user:6"]);
        pair.wires[1].set(Mode::Pass);
        eventually_async(SOON, "the time is over", async || {
            (acknowledged.elapsed() >= MAX_STALENESS).then_some(())
        })
        .await;
        let read = ask(other, 6).await;
        assert_eq!(seq_of(&read, "BTC"), seq, "{}", read.cache_status());
    }
    whole(one).await;
    whole(other).await;
}

async fn what_a_killed_instance_had_taken_is_claimed_by_the_other(database: Database) {
    let mut pair = Pair::start(database).await;
    for round in 0..3 {
        // It takes the entry and cannot acknowledge it: its answers are lost.
        pair.wires[1].set(Mode::Swallow(Way::ToClient));
        let first = 100 * (round + 1);
        for seq in first..first + 20 {
            add(&pair.redis, &values(7, 1, seq, seq));
        }
        pair.services[1].kill9();
        pair.wires[1].set(Mode::Pass);
        let one = &pair.services[0];
        eventually_async(SOON, "all took effect", async || {
            (btc(one, 7).await == first + 19).then_some(())
        })
        .await;
        eventually_async(SOON, "all is acknowledged", async || {
            let pending: Vec<redis::Value> =
                pair.redis
                    .ask(&["XPENDING", "settlement:events", "balance-cache"]);
            (pending[0] == redis::Value::Int(0)).then_some(())
        })
        .await;
        pair.services[1].restart().await;
        whole(&pair.services[1]).await;
        assert_eq!(btc(&pair.services[1], 7).await, first + 19);
    }
}

async fn flushall_and_an_empty_redis_bring_nothing_old_back(database: Database) {
    let mut pair = Pair::start(database).await;
    for seq in 2..8 {
        pair.ledger(8, 1, seq).await;
        let told = json!({"user_id": 8, "asset_id": 1, "seq": seq});
        settle(&pair.services[0], &told).await;
        let acknowledged = Instant::now();
        if seq % 2 == 0 {
            pair.redis.ask::<()>(&["FLUSHALL"]);
        } else {
            pair.redis.restart_empty();
        }
        while acknowledged.elapsed() < MAX_STALENESS * 6 {
            let begun = acknowledged.elapsed();
            for (at, service) in pair.services.iter().enumerate() {
                let read = ask(service, 8).await;
                if at == 0 || begun >= MAX_STALENESS {
                    assert_eq!(
                        seq_of(&read, "BTC"),
                        seq,
                        "{at} {begun:?} {}",
                        read.cache_status()
                    );
                }
            }
        }
        for service in &pair.services {
            whole(service).await;
        }
    }
}

async fn seed_fault_08_a_paused_ledger_is_503_and_never_an_empty_balance(database: Database) {
    let node = OwnServer::start(database);
    let pair = Pair::start_on(node.server()).await;
    let (one, _) = pair.both();
    assert_eq!(btc(one, 9).await, 1);
    node.pause();
    let read = one.balances(10).await;
    assert_eq!(
        (read.status, read.json()["status"].as_i64()),
        (503, Some(5031)),
        "{}",
        read.body
    );
    assert!(!read.header("retry-after").is_empty());
    assert_eq!(read.json()["data"], serde_json::Value::Null);
    // A notification does not wait for the ledger.
    settle(one, &values(9, 1, 2, 2)).await;
    node.resume();
    eventually_async(SOON, "it is back", async || {
        (one.balances(10).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(btc(one, 10).await, 1);
    assert_eq!(btc(one, 9).await, 2);
}

async fn what_was_shown_and_not_kept_is_not_undercut_by_memory(database: Database) {
    let node = OwnServer::start(database);
    let pair = Pair::start_on(node.server()).await;
    let (one, _) = pair.both();
    let mut shown = 0;
    for seq in 2..8 {
        whole(one).await;
        from_memory(one, 11).await;
        // The ledger's answer waits until the right to fill is gone: it is shown, and kept nowhere.
        pair.ledger(11, 1, seq).await;
        node.pause();
        let request = one.request(Method::GET, "/api/user/balance?user_id=11");
        let answered = AtomicBool::new(false);
        let fresh = async {
            let answer = one.send(request.header("cache-control", "no-cache")).await;
            answered.store(true, Ordering::SeqCst);
            answer
        };
        let revoke = async {
            eventually_async(SOON, "the lease is taken", async || {
                let lease: bool = pair.redis.ask(&["HEXISTS", "balance:user:11", "lease"]);
                (lease || answered.load(Ordering::SeqCst)).then_some(())
            })
            .await;
            pair.redis.ask::<i64>(&["HDEL", "balance:user:11", "lease"]);
            node.resume();
        };
        let (read, ()) = tokio::join!(fresh, revoke);
        // A machine that stood still: the ledger did not answer in time, and nothing was shown.
        if matches!(read.status, 503 | 504) {
            continue;
        }
        shown += 1;
        assert_eq!(seq_of(&read, "BTC"), seq);
        let next = ask(one, 11).await;
        assert_eq!(seq_of(&next, "BTC"), seq, "{}", next.cache_status());
    }
    assert!(shown > 0, "the ledger never answered in time");
}

async fn entries_are_written_once_to_a_database_and_a_conflict_writes_nothing(database: Database) {
    let pair = Pair::start(database).await;
    let (one, other) = pair.both();
    let entry = |asset: u32, seq: i64, avail: i64| json!({"user_id": 12, "asset_id": asset, "seq": seq, "avail": avail, "frozen": 0});
    let both = json!([entry(1, 5, 10), entry(2, 5, 20)]);
    writes(one, &both, (2, 0)).await;
    writes(other, &both, (0, 2)).await;
    let conflict = json!([entry(1, 6, 1), entry(2, 5, 21)]);
    let refused = other.post_until_taken(ENTRIES, &conflict).await;
    assert_eq!(
        (refused.status, refused.json()["status"].as_i64()),
        (409, Some(4091))
    );
    for service in [one, other] {
        let read = fresh(service, 12).await;
        assert_eq!((seq_of(&read, "BTC"), seq_of(&read, "USDT")), (5, 5));
    }
}

async fn the_stream_takes_versions_assets_and_users_without_values_too(database: Database) {
    let pair = Pair::start(database).await;
    let forms = [
        json!({"user_id": 13, "asset_id": 1, "seq": 2}),
        json!({"user_id": 13, "asset_id": 1}),
        json!({"user_id": 13}),
    ];
    for (seq, form) in (2..).zip(forms) {
        for service in &pair.services {
            btc(service, 13).await;
        }
        pair.ledger(13, 1, seq).await;
        add(&pair.redis, &form);
        for service in &pair.services {
            eventually_async(SOON, "it is shown", async || {
                (btc(service, 13).await == seq).then_some(())
            })
            .await;
        }
    }
}

on_each_database! {
    a_notification_reaches_the_other_instance_in_milliseconds,
    an_instance_cut_off_from_redis_answers_from_the_ledger_after_max_staleness,
    a_notification_long_before_and_long_after_its_row_is_shown_on_both,
    min_seq_and_no_cache_read_what_another_instance_wrote_at_once,
    a_restarted_instance_reads_the_feed_back_before_it_trusts_the_view,
    a_lost_feed_is_noticed_though_nothing_follows_it,
    what_a_killed_instance_had_taken_is_claimed_by_the_other,
    flushall_and_an_empty_redis_bring_nothing_old_back,
    seed_fault_08_a_paused_ledger_is_503_and_never_an_empty_balance,
    what_was_shown_and_not_kept_is_not_undercut_by_memory,
    entries_are_written_once_to_a_database_and_a_conflict_writes_nothing,
    the_stream_takes_versions_assets_and_users_without_values_too,
}
