//! A trade whose instance stopped or was killed between two statements, on a real Cassandra.

use super::*;
use crate::{settlement_support::SOON, support::eventually::eventually_async};

/// Longer than a test: nothing is finished in the background.
const NEVER: u32 = 600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_that_broke_off_is_finished_without_being_sent_again() {
    let ground = Ground::cassandra().await;
    // The first trade fails right after its record was appended.
    let fails = ("FAILPOINTS", "record-appended=1*return".to_owned());
    let service = service(&ground, Some(fails), 2_000).await;
    let answer = service.try_send(
        service
            .request(reqwest::Method::POST, TRADES)
            .json(&trade(7, 5, 100)),
    );
    let answer = answer.await;
    assert!(answer.is_some_and(|answer| answer.status >= 500));
    eventually_async(SOON, "the trade is done", async || {
        let answer = service.get(&format!("{TRADES}/7")).await;
        (answer.status == 200 && answer.data()["state"] == "done").then_some(())
    })
    .await;
    eventually_async(SOON, "it is counted", async || {
        let page = service.get_ops("/metrics").await.body;
        // A slow machine finishes it twice.
        let name = "balance_cache_ledger_recovered_total ";
        let count = page.lines().find_map(|line| line.strip_prefix(name));
        count.filter(|count| *count != "0").map(drop)
    })
    .await;
    let read = service
        .get("/api/user/balance?user_id=1&min_seq=BTC:5,USDT:5")
        .await;
    assert_eq!(read.status, 200, "{}", read.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_killed_after_any_statement_is_completed_by_sending_it_again() {
    let ground = Ground::cassandra().await;
    let session = shared().session().await;
    let count = async |text: &str| {
        let Ground::Cassandra(place) = &ground else {
            unreachable!()
        };
        let text = text.replace("{ks}", &place.settings.keyspace);
        let result = session.query_unpaged(text, ()).await.unwrap();
        result.into_rows_result().unwrap().rows_num()
    };
    // Where it stops, and the rows that stand by then.
    let points = [
        (
            "record-appended",
            "ledger_journal WHERE journal = 0 AND position = {id}",
            1,
        ),
        (
            "record-rows-written",
            "user_balances WHERE user_id IN (1, 2) AND asset_id IN (1, 2) AND version = {id} ALLOW FILTERING",
            4,
        ),
        (
            "record-sellers-written",
            "user_trades WHERE user_id = 2 AND symbol_id = 1 AND settled_at = 77 AND trade_id = {id}",
            1,
        ),
    ];
    for ((point, rows, stand), id) in points.into_iter().zip(1_i64..) {
        let rows = format!("SELECT * FROM {{ks}}.{rows}").replace("{id}", &id.to_string());
        let pause = ("FAILPOINTS", format!("{point}=pause"));
        let mut victim = service(&ground, Some(pause), NEVER).await;
        let one = trade(id, id, 100 + id);
        let request = victim.request(reqwest::Method::POST, TRADES).json(&one);
        let unanswered = async {
            let answer = victim.try_send(request).await;
            assert!(answer.is_none_or(|answer| answer.status >= 500), "{point}");
            std::future::pending::<()>().await;
        };
        let reached = eventually_async(SOON, "it stopped there", async || {
            (count(&rows).await == stand).then_some(())
        });
        tokio::select! {
            () = unanswered => {}
            () = reached => {}
        }
        victim.kill9();
        let next = service(&ground, None, NEVER).await;
        let state = next.get(&format!("{TRADES}/{id}")).await.data();
        assert_eq!(state["state"], "pending", "{point}");
        let answer = next.post_until_taken(TRADES, &one).await;
        assert_eq!(answer.status, 200, "{point}: {}", answer.body);
        assert_eq!(answer.data()["result"], "repeated", "{point}");
        let state = next.get(&format!("{TRADES}/{id}")).await.data();
        assert_eq!(state["state"], "done", "{point}");
        assert_eq!(next.balances(1).await.data()[0]["seq"], id);
        // The next victim would stop where it finishes this one.
        eventually_async(SOON, "its record is removed", async || {
            (ground.unfinished().await == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trade_of_a_killed_instance_is_finished_by_the_next_one_without_being_sent_again() {
    let ground = Ground::cassandra().await;
    let pause = ("FAILPOINTS", "record-appended=pause".to_owned());
    let mut victim = service(&ground, Some(pause), NEVER).await;
    let next = service(&ground, None, 1_000).await;
    let request = victim
        .request(reqwest::Method::POST, TRADES)
        .json(&trade(7, 5, 100));
    let unanswered = async {
        let answer = victim.try_send(request).await;
        assert!(answer.is_none_or(|answer| answer.status >= 500));
        std::future::pending::<()>().await;
    };
    let stands = eventually_async(SOON, "it stands", async || {
        let found = next.get(&format!("{TRADES}/7")).await;
        (found.status == 200).then_some(())
    });
    tokio::select! {
        () = unanswered => {}
        () = stands => {}
    }
    victim.kill9();
    eventually_async(SOON, "it is done", async || {
        let found = next.get(&format!("{TRADES}/7")).await.data();
        (found["state"] == "done").then_some(())
    })
    .await;
    let read = next
        .get("/api/user/balance?user_id=1&min_seq=BTC:5,USDT:5")
        .await;
    assert_eq!(read.status, 200, "{}", read.body);
}
