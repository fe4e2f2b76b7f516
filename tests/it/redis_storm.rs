//! A hundred instances lose Redis in one moment, and come back neither in step nor with more than one connection at a time.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use balance_cache::{
    cache::redis::RedisLink,
    config::{self, Millis},
    protocol::Freshness,
    telemetry::Meters,
};
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    settlement_support::SOON,
    support::{eventually::eventually_async, redis::Redis},
};

const INSTANCES: usize = 100;
/// `redis.breaker_probe_ms`.
const PROBE: Duration = Duration::from_millis(200);

/// A relay that can hold connections without a word, as a server behind a dead network does.
#[derive(Default)]
struct Relay {
    holds: AtomicBool,
    open: AtomicUsize,
    most: AtomicUsize,
    accepted: Mutex<Vec<Instant>>,
}

impl Relay {
    /// Serves until the test ends; each change of `cuts` ends all connections.
    async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        server: SocketAddr,
        cuts: watch::Receiver<()>,
    ) {
        let tasks = TaskTracker::new();
        while let Ok((mut client, _)) = listener.accept().await {
            self.accepted.lock().push(Instant::now());
            let (relay, mut cuts) = (Arc::clone(&self), cuts.clone());
            cuts.mark_unchanged();
            tasks.spawn(async move {
                let open = relay.open.fetch_add(1, SeqCst) + 1;
                relay.most.fetch_max(open, SeqCst);
                let passing = async {
                    if relay.holds.load(SeqCst) {
                        let mut lost = [0; 1024];
                        while matches!(client.read(&mut lost).await, Ok(1..)) {}
                    } else if let Ok(mut upstream) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut client, &mut upstream).await;
                    }
                };
                tokio::select! {
                    () = passing => {}
                    _ = cuts.changed() => {}
                }
                relay.open.fetch_sub(1, SeqCst);
            });
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_instances_come_back_one_connection_at_a_time_and_not_in_step() {
    let redis = Redis::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = config::default_settings().unwrap().redis;
    settings.url = format!("redis://{}", listener.local_addr().unwrap());
    settings.breaker_probe_ms = Millis(PROBE);
    settings.connect_timeout_ms = Millis(Duration::from_millis(500));
    let relay = Arc::new(Relay::default());
    let (cut, cuts) = watch::channel(());
    let tasks = TaskTracker::new();
    tasks.spawn(Arc::clone(&relay).serve(listener, redis.address(), cuts));
    let shutdown = CancellationToken::new();
    let links: Vec<Arc<RedisLink>> = (0..INSTANCES)
        .map(|_| {
            let freshness = Arc::new(Freshness::by_proof(Duration::from_millis(500)));
            let identity = Arc::new(|| Some("one".into()));
            let link = RedisLink::new(&settings, identity, freshness, Meters::new());
            Arc::new(link.unwrap())
        })
        .collect();
    for link in &links {
        let (link, shutdown) = (Arc::clone(link), shutdown.clone());
        tasks.spawn(async move { link.run_keeper(shutdown).await });
    }
    let all_in_session = async || {
        eventually_async(3 * SOON, "all instances have a session", async || {
            links
                .iter()
                .all(|link| link.open_session().is_some())
                .then_some(())
        })
        .await;
    };
    all_in_session().await;

    // The network dies: what is open ends, and what is opened is never answered.
    relay.holds.store(true, SeqCst);
    cut.send_replace(());
    eventually_async(SOON, "all sessions are over", async || {
        links
            .iter()
            .all(|link| link.open_session().is_none())
            .then_some(())
    })
    .await;
    eventually_async(SOON, "what was open is closed", async || {
        (relay.open.load(SeqCst) <= INSTANCES).then_some(())
    })
    .await;
    relay.most.store(0, SeqCst);
    let begun = relay.accepted.lock().len();
    eventually_async(3 * SOON, "each has tried several times", async || {
        (relay.accepted.lock().len() - begun >= 8 * INSTANCES).then_some(())
    })
    .await;
    // A connection that was given up may be seen to end a moment after the next one was opened.
    let most = relay.most.load(SeqCst);
    assert!(most <= INSTANCES * 5 / 4, "{most} connections at a time");

    // Everyone knows by now that Redis is away: from half to one and a half of five times the first wait lie between two tries.
    let tail = relay.accepted.lock().clone();
    let tail = &tail[begun + 3 * INSTANCES..];
    let lasted = tail.last().unwrap().duration_since(tail[0]);
    let a_second = u128::try_from(tail.len()).unwrap() * 1_000 / lasted.as_millis().max(1);
    assert!(a_second <= 2 * 100, "{a_second} tries a second");
    let spread = lasted.as_millis();
    assert!(
        spread >= PROBE.as_millis(),
        "{} tries within {spread} ms",
        tail.len()
    );

    // It is back: every instance comes, and not all of them in one moment.
    relay.holds.store(false, SeqCst);
    let healed = relay.accepted.lock().len();
    cut.send_replace(());
    all_in_session().await;
    let came = relay.accepted.lock().clone();
    let came = &came[healed..];
    let fullest = came
        .iter()
        .map(|at| {
            came.iter()
                .filter(|other| (**other >= *at) && other.duration_since(*at) < PROBE / 8)
                .count()
        })
        .max()
        .unwrap();
    println!(
        "{} connections in all, {fullest} within {:?}",
        came.len(),
        PROBE / 8
    );
    assert!(
        fullest < came.len() / 2,
        "{fullest} of {} connections within {:?}",
        came.len(),
        PROBE / 8
    );
    shutdown.cancel();
}
