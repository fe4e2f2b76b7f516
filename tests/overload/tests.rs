//! The tests.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use futures::future::{join, join_all};
use reqwest::Method;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{
    cassandra::shared,
    eventually::{eventually_async, pause},
    proxy::{Mode, Proxy, Way},
    redis::Redis,
    service::{Answer, Service, answer},
    stage::{SOON, Stage, counted, in_order, is_failure},
};

/// Clients that ask one cold user after the other.
const CROWD: usize = 64;
/// How long a client that was sent away stays away, in steps of some 10 ms.
const BACK_STEPS: usize = 30;
/// `limits.deadline_ms` of these tests, and who is sent away hears it within a part of that.
const DEADLINE_MS: u64 = 2_000;
const EARLY: Duration = Duration::from_millis(DEADLINE_MS / 2);
/// How long one situation lasts.
const PHASE: Duration = Duration::from_secs(2);
/// How often a situation is tried: a machine that stands still spoils one of them, a service that breaks its promise all.
const ROUNDS: usize = 6;

static NEXT: AtomicU64 = AtomicU64::new(1_000);

/// One of these tests at a time: each takes all that the machine has.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A user whom nobody has asked for.
fn cold() -> u64 {
    NEXT.fetch_add(1, SeqCst)
}

/// Behind a wire to the database; user 1 has something.
struct World {
    service: Service,
    proxy: Proxy,
    _stage: Stage,
    _redis: Option<Redis>,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    async fn new(redis: Option<Redis>) -> Self {
        let alone = ALONE.lock().await;
        let stage = Stage::new(shared()).await;
        stage.has(1, &[(1, 300_000_000)]).await;
        let proxy = Proxy::start(shared().node().parse().unwrap());
        let mut setup = stage
            .setup_at(proxy.address())
            // Longer than a test, so that user 1 stays in memory, and the service closes no connection that waits.
            .with("memory.ttl_ms", 600_000)
            .with("redis.snapshot_ttl_ms", 600_000)
            .with("settlement.floor_ttl_ms", 3_600_000)
            .with("limits.header_timeout_ms", 120_000)
            .with("source.timeout_ms", 1_000)
            .with("limits.deadline_ms", DEADLINE_MS)
            .with("limits.source_loads", 16)
            // With all of this on one small machine Redis and the proof of freshness may come late: not what is looked at here.
            .with("redis.timeout_ms", 1_900)
            .with("settlement.max_staleness_ms", 20_000);
        if let Some(redis) = &redis {
            setup = setup.and(redis);
        }
        let service = Service::start_ready(setup).await;
        in_order(&service).await;
        eventually_async(SOON, "user 1 is in memory", async || {
            let answer = service.balances(1).await;
            let held = answer.cache_status().starts_with("memory; hit");
            held.then_some(())
        })
        .await;
        Self {
            service,
            proxy,
            _stage: stage,
            _redis: redis,
            _alone: alone,
        }
    }

    async fn ask(&self, user: u64) -> (Answer, Duration) {
        let path = format!("/api/user/balance?user_id={user}");
        let begun = Instant::now();
        let answer = answer(self.service.request(Method::GET, &path)).await;
        (answer.unwrap(), begun.elapsed())
    }

    /// Nobody waits and nothing is under way.
    async fn quiet(&self) {
        eventually_async(SOON, "nothing is under way", async || {
            let waiting = counted(&self.service, "turns_waiting", &[]).await;
            let loads = counted(&self.service, "loads_in_flight", &[]).await;
            (waiting + loads == 0).then_some(())
        })
        .await;
    }
}

/// What became of reads.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    shed: Vec<Duration>,
    unavailable: usize,
}

impl Tally {
    fn add(&mut self, (answer, took): &(Answer, Duration)) {
        match answer.status {
            200 => self.answered += 1,
            429 => {
                is_failure(answer, 429, 4291);
                let seconds: u64 = answer.header("retry-after").parse().unwrap();
                assert!((1..=3).contains(&seconds));
                self.shed.push(*took);
            }
            // Where the machine stood still, the deadline may pass beside the source.
            504 => {
                is_failure(answer, 504, 5041);
                self.unavailable += 1;
            }
            _ => {
                is_failure(answer, 503, 5031);
                self.unavailable += 1;
            }
        }
    }

    /// When so many of a hundred that were shed had heard of it; none where nobody was.
    fn shed_at(&mut self, percent: usize) -> Option<Duration> {
        self.shed.sort();
        let last = self.shed.len().checked_sub(1)?;
        self.shed.get(last * percent / 100).copied()
    }
}

/// Clients ask cold users, one after the other, until they are stopped. Who is sent away comes back, sooner than asked to.
async fn crowd(world: &World, clients: usize, go_on: &AtomicBool) -> Tally {
    let each = (0..clients).map(|_| async {
        let mut told = Vec::new();
        while go_on.load(SeqCst) {
            told.push(world.ask(cold()).await);
            let away = told.last().is_some_and(|(answer, _)| answer.status == 429);
            for _ in 0..if away { BACK_STEPS } else { 0 } {
                pause().await;
            }
        }
        told
    });
    let mut tally = Tally::default();
    let all = join_all(each).await;
    all.iter().flatten().for_each(|one| tally.add(one));
    tally
}

/// Hits in memory, asked one after the other.
#[derive(Debug)]
struct Hits {
    /// The 99th of a hundred.
    p99: Duration,
    /// An answer that was none: where Redis stood still, freshness may be unproven for a moment.
    missed: Option<String>,
}

impl Hits {
    fn are_all(&self) -> Result<(), String> {
        self.missed.clone().map_or(Ok(()), Err)
    }
}

/// Hits in memory until the phase is over.
async fn hits(world: &World, go_on: &AtomicBool) -> Hits {
    let (end, mut times, mut missed) = (Instant::now() + PHASE, Vec::new(), None);
    // At least once, also where the machine stood still meanwhile.
    while times.is_empty() || Instant::now() < end {
        let (answer, took) = world.ask(1).await;
        let status = answer.cache_status();
        if answer.status != 200 || !status.starts_with("memory; hit") {
            let told = format!("no hit: {} {status} {}", answer.status, answer.body);
            missed = Some(told);
        }
        times.push(took);
    }
    go_on.store(false, SeqCst);
    times.sort();
    Hits {
        p99: times[(times.len() - 1) * 99 / 100],
        missed,
    }
}

/// A crowd of this size, while hits are measured.
async fn phase(world: &World, clients: usize) -> (Tally, Hits) {
    let go_on = AtomicBool::new(true);
    join(crowd(world, clients, &go_on), hits(world, &go_on)).await
}

/// Tries a situation until it goes as promised. A round returns what was missed.
async fn in_some_round<F>(mut round: impl FnMut() -> F)
where
    F: Future<Output = Result<(), String>>,
{
    let mut missed = Vec::new();
    for _ in 0..ROUNDS {
        match round().await {
            Ok(()) => return,
            Err(what) => missed.push(what),
        }
    }
    panic!("in none of {ROUNDS} rounds: {}", missed.join("; "));
}

/// Tells what was missed, unless it is so.
fn require(is_so: bool, missed: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(missed()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_what_the_source_can_bear_is_answered_as_its_best_and_the_rest_hears_early() {
    for redis in [None, Some(Redis::start())] {
        let world = World::new(redis).await;
        // 16 places and 40 ms each way: some 200 loads a second are the best there is.
        world.proxy.set(Mode::Delay(Duration::from_millis(40)));
        phase(&world, 16).await;
        in_some_round(|| bears_a_crowd(&world)).await;
        world.proxy.set(Mode::Pass);
    }
}

async fn bears_a_crowd(world: &World) -> Result<(), String> {
    let (best, before) = phase(world, 16).await;
    let (mut crowded, beside) = phase(world, 10 * CROWD).await;
    // Before and after: what else this machine does changes what the source can bear.
    let (again, behind) = phase(world, 16).await;
    let best = best.answered.min(again.answered);
    let (answered, shed) = (crowded.answered, crowded.shed.len());
    println!("best {best} crowded {answered} shed {shed}");
    world.quiet().await;
    let (after, last) = phase(world, 4).await;
    for hits in [before, beside, behind, last] {
        hits.are_all()?;
    }
    require(best > 0 && answered * 10 >= best * 7, || {
        format!("{answered} of {best}")
    })?;
    let heard = crowded.shed_at(90);
    require(heard.is_some_and(|heard| heard < EARLY), || {
        format!("{shed} were shed, at {heard:?}")
    })?;
    let failed = (after.shed.len(), after.unavailable);
    require(failed == (0, 0), || format!("{failed:?} afterwards"))
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_in_memory_do_not_notice_a_silent_source_with_a_crowd_before_it() {
    let world = World::new(Some(Redis::start())).await;
    in_some_round(|| hits_notice_no_silence(&world)).await;
    world.proxy.set(Mode::Pass);
    is_quick_again(&world).await;
}

async fn hits_notice_no_silence(world: &World) -> Result<(), String> {
    world.proxy.set(Mode::Pass);
    is_quick_again(world).await;
    let (_, before) = phase(world, CROWD).await;
    world.proxy.set(Mode::Stall(Way::ToClient));
    let (mut crowded, beside) = phase(world, CROWD).await;
    let (unloaded, loaded) = (before.p99, beside.p99);
    let (shed, unavailable) = (crowded.shed.len(), crowded.unavailable);
    let heard = crowded.shed_at(50);
    println!(
        "p99 {unloaded:?}, beside a silent source {loaded:?}; shed {shed} at {heard:?}, unavailable {unavailable}"
    );
    assert_eq!(crowded.answered, 0);
    before.are_all()?;
    beside.are_all()?;
    // The same crowd, with less to do. Generous: two cores, everything on them.
    let bound = unloaded * 3 + Duration::from_millis(20);
    require(loaded < bound, || {
        format!("{loaded:?}, {unloaded:?} without")
    })?;
    require(shed > 2 * unavailable, || {
        format!("{shed} were shed, {unavailable} were not")
    })?;
    require(heard.is_some_and(|heard| heard < EARLY), || {
        format!("shed at {heard:?}")
    })
}

/// Everybody is answered soon.
async fn is_quick_again(world: &World) {
    eventually_async(SOON, "sixteen at once are answered", async || {
        let all = join_all((0..16).map(|_| world.ask(cold()))).await;
        all.iter()
            .all(|(answer, _)| answer.status == 200)
            .then_some(())
    })
    .await;
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_one_client_leave_half_of_the_source_to_the_others() {
    let world = World::new(None).await;
    world.proxy.set(Mode::Delay(Duration::from_millis(20)));
    phase(&world, 16).await;
    in_some_round(|| batches_leave_half(&world)).await;
    world.proxy.set(Mode::Pass);
    world.quiet().await;
}

async fn batches_leave_half(world: &World) -> Result<(), String> {
    let go_on = AtomicBool::new(true);
    let batches = async {
        let many = (0..4).map(|_| async {
            while go_on.load(SeqCst) {
                let users: Vec<u64> = (0..250).map(|_| cold()).collect();
                let body = json!({ "user_ids": users });
                let told = world.service.post("/api/v1/user/balances", &body).await;
                assert!([200, 429, 503, 504].contains(&told.status));
            }
        });
        join_all(many).await;
    };
    let singles = join(crowd(world, 4, &go_on), hits(world, &go_on));
    let ((), (singles, hits)) = tokio::join!(batches, singles);
    world.quiet().await;
    hits.are_all()?;
    let (answered, shed) = (singles.answered, singles.shed.len());
    println!("{answered} and {shed}");
    require(answered > 4 * shed.max(2), || {
        format!("{answered} were answered, {shed} were shed")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_user_who_always_wants_the_ledger_keeps_nobody_out() {
    let world = World::new(None).await;
    world.proxy.set(Mode::Delay(Duration::from_millis(20)));
    phase(&world, 16).await;
    in_some_round(|| hot_user_keeps_nobody_out(&world)).await;
    world.proxy.set(Mode::Pass);
    world.quiet().await;
}

async fn hot_user_keeps_nobody_out(world: &World) -> Result<(), String> {
    let go_on = AtomicBool::new(true);
    let hot = async {
        let path = "/api/user/balance?user_id=1";
        let many = (0..200).map(|_| async {
            let mut failed = 0_usize;
            while go_on.load(SeqCst) {
                let fresh = world.service.request(Method::GET, path);
                let fresh = fresh.header("cache-control", "no-cache");
                let told = world.service.send(fresh).await;
                assert!([200, 429, 503, 504].contains(&told.status), "{}", told.body);
                failed += usize::from(told.status >= 500);
            }
            failed
        });
        join_all(many).await.into_iter().sum::<usize>()
    };
    let others = join(crowd(world, 4, &go_on), hits(world, &go_on));
    let (failed, (others, hits)) = tokio::join!(hot, others);
    world.quiet().await;
    hits.are_all()?;
    let (answered, shed) = (others.answered, others.shed.len());
    println!("{answered} and {shed}, {failed} of the hot user failed");
    require(answered > 20 && shed == 0 && failed == 0, || {
        format!("{answered} were answered, {shed} were shed, {failed} of the hot user failed")
    })
}
