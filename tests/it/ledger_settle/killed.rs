use reqwest::Method;

use super::*;

/// A service that stops at the second time it comes to this place; a read or a write waits for it no longer than this.
fn stopping(point: &str) -> Setup {
    Setup::default()
        .with("source.timeout_ms", 3_000)
        .with("limits.deadline_ms", 5_000)
        .raw("FAILPOINTS", format!("{point}=1*off->pause"))
}

/// The same ledger, without a place to stop.
async fn next(stopped: &mut Service) -> Service {
    stopped.kill9();
    let mut setup = stopped.setup();
    let own = [
        "FAILPOINTS",
        "BALANCE_CACHE__HTTP__LISTEN",
        "BALANCE_CACHE__OPS__LISTEN",
    ];
    setup
        .environment
        .retain(|(name, _)| !own.contains(&name.as_str()));
    Service::start_ready(setup).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_any_two_steps_leaves_a_transaction_whole_and_once() {
    for (point, stands) in [
        ("ledger-before-commit", false),
        ("ledger-committed", true),
        ("ledger-written", true),
    ] {
        let mut victim = Service::start_ready(stopping(point)).await;
        let deposit = transaction(1, &[(7, 100)]);
        written(&victim, TRANSACTIONS, &deposit).await;
        let transfer = transaction(2, &[(7, -30), (8, 30)]);
        // Not acknowledged: the request ends while the process stands there.
        let answer = victim.post(TRANSACTIONS, &transfer).await;
        assert!(
            [503, 504].contains(&answer.status),
            "{point}: {}",
            answer.body
        );
        let service = next(&mut victim).await;
        let shown = if stands { [70, 30] } else { [100, 0] };
        assert_eq!(
            held(&service, &[7, 8]).await,
            shown,
            "{point}: whole or not at all"
        );
        if stands {
            let again = service.post_until_taken(TRANSACTIONS, &transfer).await;
            assert_eq!(result(&again), "repeated", "{point}");
        } else {
            written(&service, TRANSACTIONS, &transfer).await;
        }
        let again = service.post_until_taken(TRANSACTIONS, &deposit).await;
        assert_eq!(result(&again), "repeated");
        assert_eq!(held(&service, &[7, 8]).await, [70, 30], "{point}: once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_before_redis_heard_of_a_transaction_is_completed_by_sending_it_again() {
    let redis = Redis::start();
    let mut first = Service::start_ready(Setup::default().with("redis.url", redis.url())).await;
    whole(&first).await;
    written(&first, TRANSACTIONS, &transaction(1, &[(7, 100)])).await;
    // The next life stops at that place each time: also where it tells Redis in the background of what it finds.
    first.kill9();
    let ledger = first.setup().environment.into_iter();
    let ledger = ledger.filter(|(name, _)| name.ends_with("EMBEDDED__PATH"));
    let setup = stopping("redis-took")
        .raw("FAILPOINTS", "redis-took=pause".to_owned())
        .with("redis.url", redis.url());
    let mut victim = Service::start_ready(Setup {
        environment: setup.environment.into_iter().chain(ledger).collect(),
        ..setup
    })
    .await;
    whole(&victim).await;
    let transfer = transaction(2, &[(7, -30), (8, 30)]);
    let answer = victim.post(TRANSACTIONS, &transfer).await;
    assert!([503, 504].contains(&answer.status), "{}", answer.body);
    let service = next(&mut victim).await;
    let again = service.post_until_taken(TRANSACTIONS, &transfer).await;
    assert_eq!(result(&again), "repeated");
    assert_eq!(held(&service, &[7, 8]).await, [70, 30]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_read_between_commit_and_memory_shows_the_transaction_whole() {
    let service = Service::start_ready(stopping("ledger-committed")).await;
    written(&service, TRANSACTIONS, &transaction(1, &[(7, 100)])).await;
    // Held in memory; the other user is not.
    assert_eq!(held(&service, &[7]).await, [100]);
    let transfer = service
        .request(Method::POST, TRANSACTIONS)
        .json(&transaction(2, &[(7, -30), (8, 30)]));
    let answer = service.send(transfer).await;
    assert!(
        [503, 504].contains(&answer.status),
        "the writer stands between commit and memory: {}",
        answer.body
    );
    assert_eq!(held(&service, &[7, 8]).await, [70, 30]);
}
