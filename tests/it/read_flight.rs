//! Many readers of one cold user: one load, whoever hangs up.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use futures::future::join_all;

use crate::support::{
    databases::on_each_database,
    desk::holds_whole,
    eventually::eventually_async,
    proxy::{Mode, Proxy, Way},
    redis::Redis,
    service::{Answer, Service, Setup},
    stage::{Database, SOON, Stage, are, counted, in_order, is_failure, loads, shown},
};

const CLIENTS: usize = 200;
const SLOW: Duration = Duration::from_millis(500);

/// Behind a wire that makes every statement slow when it is told to.
async fn slow_stage(database: Database) -> (Stage, Proxy) {
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000), (2, 600_000_000)]).await;
    let node = stage.address();
    (stage, Proxy::start(node))
}

/// Waits for slow statements on a slow machine.
fn patient(stage: &Stage, proxy: &Proxy) -> Setup {
    stage
        .setup_at(proxy.address())
        .with("source.timeout_ms", 15_000)
        .with("redis.timeout_ms", 5_000)
        .with("redis.connect_timeout_ms", 5_000)
        .with("settlement.max_staleness_ms", 15_000)
        .with("limits.deadline_ms", 20_000)
}

fn collapsed(answers: &[Answer]) -> usize {
    let joined = |answer: &&Answer| answer.cache_status().ends_with("; collapsed");
    answers.iter().filter(joined).count()
}

async fn in_flight(service: &Service) {
    eventually_async(SOON, "a load is under way", async || {
        (counted(service, "loads_in_flight", &[]).await > 0).then_some(())
    })
    .await;
}

async fn one_load(setup: Setup, proxy: &Proxy, cold: &str) {
    let service = Service::start_ready(setup).await;
    in_order(&service).await;
    proxy.set(Mode::Delay(SLOW));
    let before = loads(&service).await;
    let answers = join_all((0..CLIENTS).map(|_| service.balances(1))).await;
    proxy.set(Mode::Pass);
    let expected = are(&[("BTC", "3", 3), ("USDT", "6", 3)]);
    assert!(answers.iter().all(|answer| shown(answer) == expected));
    assert_eq!(loads(&service).await - before, 1, "one load for all");
    let leaders = answers
        .iter()
        .filter(|answer| answer.cache_status() == cold)
        .count();
    let held = answers
        .iter()
        .filter(|answer| answer.cache_status().starts_with("memory; hit"))
        .count();
    assert_eq!((leaders, collapsed(&answers) + held), (1, CLIENTS - 1));
    assert!(collapsed(&answers) > 0);
    let joined = format!("{cold}; collapsed");
    assert!(
        answers.iter().any(|answer| answer.cache_status() == joined),
        "{joined}"
    );
    assert!(counted(&service, "reads_total", &["joined"]).await > 0);
}

async fn two_hundred_readers_of_one_cold_user_make_one_load(database: Database) {
    let (stage, proxy) = slow_stage(database).await;
    let alone = patient(&stage, &proxy);
    one_load(alone.clone(), &proxy, "source; hit, memory; fwd=miss").await;
    let redis = Redis::start();
    one_load(
        alone.and(&redis),
        &proxy,
        "source; hit, redis; fwd=miss, memory; fwd=miss",
    )
    .await;
}

async fn a_leader_that_hangs_up_stops_nobody_and_its_load_is_the_only_one(database: Database) {
    let (stage, proxy) = slow_stage(database).await;
    let redis = Redis::start();
    let service = Service::start_ready(patient(&stage, &proxy).and(&redis)).await;
    in_order(&service).await;
    // Until the load was seen, it does not end.
    proxy.set(Mode::Stall(Way::ToServer));
    let before = loads(&service).await;
    let mut first = TcpStream::connect(service.http()).unwrap();
    first
        .write_all(b"GET /api/user/balance?user_id=1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    in_flight(&service).await;
    drop(first);
    proxy.set(Mode::Delay(2 * SLOW));
    let answers = join_all((1..CLIENTS).map(|_| service.balances(1))).await;
    let expected = are(&[("BTC", "3", 3), ("USDT", "6", 3)]);
    assert!(answers.iter().all(|answer| shown(answer) == expected));
    assert_eq!(loads(&service).await - before, 1);
    assert!(
        collapsed(&answers) > 0,
        "they joined the load of the one that left"
    );

    // Nobody is left to wait: the load goes on, and fills.
    proxy.set(Mode::Stall(Way::ToServer));
    let mut lonely = TcpStream::connect(service.http()).unwrap();
    lonely
        .write_all(b"GET /api/user/balance?user_id=2 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    in_flight(&service).await;
    drop(lonely);
    proxy.set(Mode::Pass);
    eventually_async(SOON, "the load of nobody lands", async || {
        holds_whole(&redis, 2).then_some(())
    })
    .await;
}

async fn two_instances_that_miss_together_make_one_load_as_long_as_the_filler_is_quick(
    database: Database,
) {
    let (stage, proxy) = slow_stage(database).await;
    let redis = Redis::start();
    // Longer than the load: whoever has no lease waits for the filler.
    let setup = patient(&stage, &proxy)
        .and(&redis)
        .with("redis.lease_wait_ms", 10_000);
    let (one, other) = (
        Service::start_ready(setup.clone()).await,
        Service::start_ready(setup.clone()).await,
    );
    in_order(&one).await;
    in_order(&other).await;
    proxy.set(Mode::Delay(Duration::from_millis(50)));
    let (first, second) = tokio::join!(one.balances(1), other.balances(1));
    assert_eq!(shown(&first), shown(&second));
    assert_eq!(
        loads(&one).await + loads(&other).await,
        1,
        "{} | {}",
        first.cache_status(),
        second.cache_status()
    );

    // Who dies with the lease holds nobody up for longer than that.
    let mut dying = Service::start_ready(setup.with("redis.lease_wait_ms", 50)).await;
    in_order(&dying).await;
    // Its load does not end before it is dead.
    proxy.set(Mode::Stall(Way::Both));
    let mut client = TcpStream::connect(dying.http()).unwrap();
    client
        .write_all(b"GET /api/user/balance?user_id=3 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    eventually_async(SOON, "it has the lease", async || {
        redis
            .ask::<bool>(&["HEXISTS", "balance:user:3", "lease"])
            .then_some(())
    })
    .await;
    dying.kill9();
    proxy.set(Mode::Pass);
    let answer = one.balances(3).await;
    assert_eq!(
        (
            answer.status,
            answer
                .cache_status()
                .starts_with("source; hit, redis; fwd=miss")
        ),
        (200, true)
    );
    let _ = client.read(&mut [0; 64]);
}

async fn readers_who_wait_for_a_seq_keep_no_place_among_the_loads(database: Database) {
    let stage = Stage::on(database).await;
    stage.has(1, &[(1, 300_000_000)]).await;
    // A database that stands still for some seconds sheds nobody. Forged reads that kept the one place would be shed: one behind the
    // other they would take longer than half of the deadline.
    let setup = stage
        .setup()
        .with("limits.source_loads", 1)
        .with("limits.deadline_ms", 28_000)
        .with("settlement.lag_budget_ms", 2_000);
    let service = Service::start_ready(setup).await;
    shown(&service.balances(1).await);
    let waiting = AtomicBool::new(true);
    let forged = async {
        let forged = (0..8).map(|_| service.get("/api/user/balance?user_id=1&min_seq=BTC:99"));
        join_all(forged)
            .await
            .iter()
            .for_each(|answer| is_failure(answer, 503, 5032));
        waiting.store(false, SeqCst);
    };
    let cold = async {
        for user in (2..).take_while(|_| waiting.load(SeqCst)) {
            assert!(shown(&service.balances(user).await).is_empty());
        }
    };
    tokio::join!(forged, cold);
}

on_each_database! {
    two_hundred_readers_of_one_cold_user_make_one_load,
    a_leader_that_hangs_up_stops_nobody_and_its_load_is_the_only_one,
    two_instances_that_miss_together_make_one_load_as_long_as_the_filler_is_quick,
    readers_who_wait_for_a_seq_keep_no_place_among_the_loads,
}
