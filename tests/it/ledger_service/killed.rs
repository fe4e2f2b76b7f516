use super::*;
use crate::{ledger_settle::result, support::service::Answer};

on_each_ground! {
    what_a_killed_instance_left_is_finished_by_another_without_being_sent_again,
}

/// Places between any two statements, and whether the trade stands when the process dies there.
const ON_CASSANDRA: [(&str, bool); 9] = [
    ("record-judged", false),
    ("record-appended", true),
    ("record-balances-written", true),
    ("record-rows-written", true),
    ("record-sellers-written", true),
    ("record-written", true),
    ("ledger-written", true),
    ("redis-took", true),
    ("took-effect", true),
];
/// The same.
const ON_POSTGRES: [(&str, bool); 5] = [
    ("ledger-before-commit", false),
    ("ledger-committed", true),
    ("ledger-written", true),
    ("redis-took", true),
    ("took-effect", true),
];

async fn what_a_killed_instance_left_is_finished_by_another_without_being_sent_again(
    ground: Ground,
) {
    let points: &[(&str, bool)] = match &ground {
        Ground::Cassandra(_) => &ON_CASSANDRA,
        Ground::Postgres(_) => &ON_POSTGRES,
    };
    let redis = Redis::start();
    let survivor = Service::start_ready(setup(&ground, &redis.url())).await;
    whole(&survivor).await;
    for ((point, stands), round) in points.iter().copied().zip(0_i64..) {
        let (buyer, seller) = (
            100 + 2 * round.unsigned_abs(),
            101 + 2 * round.unsigned_abs(),
        );
        let id = 10 * (round + 1);
        let deposits = json!([deposit(id, buyer, 2, 21), deposit(id + 1, seller, 1, 10)]);
        let answer = survivor.post_until_taken(TRANSACTIONS, &deposits).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        // Held in memory, and in Redis.
        assert_eq!(held(&survivor, &[buyer, seller]).await, [0, 10]);
        // The victim would stop in the middle of what is left, and must not finish its own trade in the background.
        nothing_is_unfinished(&ground).await;
        let stop = setup(&ground, &redis.url())
            .with("ledger.recovery_ms", 600_000)
            .raw("FAILPOINTS", format!("{point}=pause"));
        let mut victim = Service::start_ready(stop).await;
        let one = trade(id, buyer, seller);
        {
            let mut acknowledged = std::pin::pin!(acknowledged(&victim, &one));
            if stands {
                let stands_there = eventually_async(SOON, "it stands", async || {
                    let found = survivor.get(&format!("{TRADES}/{id}")).await;
                    (found.status == 200).then_some(())
                });
                tokio::select! {
                    answer = &mut acknowledged => panic!("{point}: {answer:?}"),
                    () = stands_there => {}
                }
            }
            // Nothing shows from outside how far it is: an answer would have come by now.
            let patience = std::time::Duration::from_millis(500);
            let answer = tokio::time::timeout(patience, acknowledged).await;
            assert!(answer.is_err(), "{point}: {answer:?}");
        }
        victim.kill9();
        if stands {
            eventually_async(SOON, "it is done", async || {
                let found = survivor.get(&format!("{TRADES}/{id}")).await.data();
                (found["state"] == "done").then_some(())
            })
            .await;
            eventually_async(SOON, "the survivor shows it", async || {
                (held(&survivor, &[buyer, seller]).await == [10, 0]).then_some(())
            })
            .await;
            // By the survivor's recovery, and not by the repetition that follows.
            nothing_is_unfinished(&ground).await;
            let again = settled(&survivor, TRADES, &one).await;
            assert_eq!(again, (200, "repeated".to_owned()), "{point}");
        } else {
            let found = survivor.get(&format!("{TRADES}/{id}")).await;
            assert_eq!(code(&found), (404, 4042), "{point}");
            written(&survivor, TRADES, &one).await;
        }
        assert_eq!(held(&survivor, &[buyer, seller]).await, [10, 0], "{point}");
    }
    check_ledger(&ground).await;
    nothing_is_unfinished(&ground).await;
    let page = survivor.get_ops("/metrics").await.body;
    let of = "balance_cache_ledger_recovered_total ";
    let recovered = page.lines().find_map(|line| line.strip_prefix(of)).unwrap();
    let least = points.len() - 3;
    assert!(recovered.parse::<usize>().unwrap() >= least, "{recovered}");
}

/// The answer to a trade, but for one that says that it may not stand.
async fn acknowledged(victim: &Service, trade: &Value) -> Answer {
    let request = victim.request(reqwest::Method::POST, TRADES).json(trade);
    let answer = victim.try_send(request).await;
    match answer.filter(|answer| answer.status < 500) {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

/// Of what stands, all is known to be in effect everywhere.
async fn nothing_is_unfinished(ground: &Ground) {
    eventually_async(SOON, "nothing is unfinished", async || {
        (ground.unfinished().await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_is_found_by_its_id() {
    let ground = Ground::postgres().await;
    let lost = "commit-answer-lost=1*return".to_owned();
    let service = Service::start_ready(setup(&ground, "").raw("FAILPOINTS", lost)).await;
    let answer = service.post(TRANSACTIONS, &deposit(1, 7, 1, 5)).await;
    assert_eq!(result(&answer), "repeated");
    assert_eq!(ground.newest_row(7, 1).await, (1, 5));
    assert_eq!(held(&service, &[7]).await, [5]);
    check_ledger(&ground).await;
}
