//! `ledger simulate` against real services, that are killed meanwhile; and a checker of its own of what readers saw and of what
//! stands: each transaction once and whole, seqs without gaps, no read that shows half of a trade.
//!
//! The long run: `BALANCE_CACHE_TEST_TRADES=100000 BALANCE_CACHE_TEST_KILLS=1000 cargo test --features failpoints --test it -- \
//! --nocapture ledger_simulated::killed`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli_support::Said,
    settlement_support::short,
    support::{
        eventually::{eventually_async, pause},
        process::Process,
        redis::Redis,
        service::{Service, Setup, answer},
    },
};
use standing::{no_answer_is_torn, read_standing, seqs_are_gapless, seqs_of};

const BATCH: &str = "/api/v1/user/balances";
/// Users of one simulation, without the house.
const USERS: i64 = 6;
/// The ledger that a simulation writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    /// A database, and the service assigns seqs.
    Journal,
    /// A database, and the sender assigns seqs.
    External,
}

impl Kind {
    /// Transactions stand in the order of their seqs. Elsewhere a higher seq does not show that a lower one arrived.
    fn assigns_seqs(self) -> bool {
        self != Self::External
    }

    /// No reader of several users sees half of a transaction.
    fn isolates(self) -> bool {
        self == Self::Embedded
    }
}

/// One user's asset.
type Pair = (i64, String);
/// The seqs of one answer.
type Seqs = BTreeMap<Pair, i64>;

#[expect(
    clippy::disallowed_methods,
    reason = "the environment makes the run longer"
)]
fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// The users and ids of a seed, as the simulator makes them.
struct Seed(i64);

impl Seed {
    fn users(&self) -> Vec<i64> {
        let first = (self.0 + 1) * 1_000_000_000 + 1;
        (first..=first + USERS).collect()
    }

    fn deposits(&self) -> impl Iterator<Item = i64> {
        let first = (self.0 + 1) * 1_000_000_000_000;
        (1..=USERS).map(move |seat| first + seat)
    }

    /// The ids of a flow: hold, trade, withdrawal, deposit.
    fn flow(&self, number: i64) -> [i64; 4] {
        let first = (self.0 + 1) * 1_000_000_000_000 + 10_000_000 + 4 * number;
        [0, 1, 2, 3].map(|at| first + at)
    }
}

fn arguments(seed: i64, trades: u64) -> Vec<String> {
    // A short run lasts for some seconds: also where the test stands still for a while, there is something to kill.
    let rate = if trades > 1_000 { 0 } else { 20 };
    let text = format!(
        "ledger simulate --users {USERS} --zipf 0.99 --rate {rate} --batch 3 --at-once 3 --patience-s 120 --json --seed {seed} --trades {trades}"
    );
    text.split(' ').map(str::to_owned).collect()
}

fn simulate(service: &Service, seed: i64, trades: u64) -> Said {
    let arguments = arguments(seed, trades);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Said::of(service.run(&arguments))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_conserves_repeats_itself_and_sees_what_was_changed_behind_it() {
    let service = Service::start_ready(Setup::default()).await;
    let page = |said: &Said| -> Value { serde_json::from_str(&said.out).unwrap() };
    let first = simulate(&service, 1, 40);
    assert_eq!(first.code, 0, "{first}");
    let report = page(&first);
    assert_eq!(
        (&report["same"], &report["writer"], &report["failed"]),
        (&json!(true), &json!("service"), &json!(0))
    );
    assert_eq!(
        report["compared"],
        json!(["the API", "the ledger", "user_balances"])
    );
    let again = simulate(&service, 1, 40);
    assert_eq!(
        (again.code, &page(&again)["written"]),
        (0, &json!(0)),
        "{again}"
    );
    let user = Seed(1).users()[0];
    let more = json!({"transaction_id": 1, "entries": [{"user_id": user, "asset_id": 1, "delta_avail": 1}]});
    assert_eq!(
        service
            .post("/api/v1/ledger/transactions", &more)
            .await
            .status,
        200
    );
    let mut without_grace = arguments(1, 40);
    without_grace.extend(["--grace-ms".to_owned(), "0".to_owned()]);
    let without_grace: Vec<&str> = without_grace.iter().map(String::as_str).collect();
    let differs = Said::of(service.run(&without_grace));
    assert_eq!(
        (differs.code, &page(&differs)["differences"]),
        (1, &json!(3)),
        "{differs}"
    );
    assert!(
        differs
            .err
            .contains(&format!("user {user} asset 1: the ledger has seq")),
        "{differs}"
    );
}

/// What readers saw.
#[derive(Default)]
struct Seen {
    /// Kills so far: an answer counts for the order of answers only if no kill came between.
    lives: AtomicU64,
    over: AtomicBool,
}

/// Reads until it is over: all users at once, or one after the other. Returns every different answer.
async fn read(
    url: String,
    seen: &Seen,
    users: Vec<i64>,
    together: bool,
) -> BTreeSet<Vec<(Pair, i64)>> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let mut all = BTreeSet::new();
    let mut before: (u64, Seqs) = (0, Seqs::new());
    let mut turn = 0_usize;
    while !seen.over.load(Ordering::SeqCst) {
        turn += 1;
        let some = if together {
            users.clone()
        } else {
            vec![users[turn % users.len()]]
        };
        let life = seen.lives.load(Ordering::SeqCst);
        let request = client
            .post(format!("{url}{BATCH}"))
            .json(&json!({"user_ids": some}));
        let Some(found) = answer(request)
            .await
            .ok()
            .filter(|found| found.status == 200)
        else {
            pause().await;
            continue;
        };
        let seqs = seqs_of(&found);
        if life == seen.lives.load(Ordering::SeqCst) {
            if before.0 != life {
                before = (life, Seqs::new());
            }
            for (pair, seq) in &seqs {
                let shown = before.1.entry(pair.clone()).or_default();
                assert!(seq >= shown, "backwards: {pair:?} {seq} after {shown}");
                *shown = *seq;
            }
        }
        all.insert(seqs.into_iter().collect());
    }
    all
}

/// Kills the service again and again while the simulation runs.
async fn kill_while_it_runs(
    service: &mut Service,
    simulation: &mut Process,
    seen: &Seen,
    kills: u64,
) -> u64 {
    let mut made = 0;
    for number in 0..kills {
        // Between one and a few dozen transactions of this life.
        let wanted = 1 + number * 7 % 23;
        let due = eventually_async(
            Duration::from_mins(1),
            "transactions, or the end",
            async || {
                let page = service.try_send(ops(service)).await.map(|page| page.body);
                let line = "balance_cache_ledger_transactions_total{result=\"written\"} ";
                let page = page.unwrap_or_default();
                let written = page
                    .lines()
                    .find_map(|at| at.strip_prefix(line)?.parse::<u64>().ok());
                written.filter(|written| *written >= wanted).map(drop)
            },
        );
        let ended = async {
            while simulation.exited().is_none() {
                pause().await;
            }
        };
        tokio::select! {
            () = due => {}
            () = ended => return made,
        }
        // The last answers of the old life are not those of the new one.
        service.kill9();
        seen.lives.fetch_add(1, Ordering::SeqCst);
        service.restart().await;
        made += 1;
    }
    made
}

fn ops(service: &Service) -> reqwest::RequestBuilder {
    reqwest::Client::new().get(format!("http://{}/metrics", service.ops()))
}

/// A simulation against a service that is killed meanwhile, and everything checked at the end.
async fn survives(setup: Setup, seed: i64, trades: u64, kind: Kind) {
    let kills = number("BALANCE_CACHE_TEST_KILLS", 6);
    let mut service = Service::start_ready(setup).await;
    let (seed, watched) = (Seed(seed), Seen::default());
    let url = format!("http://{}", service.http());
    let folder = TempDir::with_prefix("simulation-").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_balance-cache"));
    command
        .current_dir(folder.path())
        .args(arguments(seed.0, trades));
    for (key, value) in &service.setup().environment {
        command.env(key, value);
    }
    let mut simulation = Process::start(&command, folder.path());
    let readers = (0..2).map(|_| read(url.clone(), &watched, seed.users(), kind.isolates()));
    let readers = futures::future::join_all(readers);
    let killing = async {
        let made = kill_while_it_runs(&mut service, &mut simulation, &watched, kills).await;
        let code = loop {
            if let Some(code) = simulation.exited() {
                break code;
            }
            pause().await;
        };
        watched.over.store(true, Ordering::SeqCst);
        (made, code)
    };
    let (answers, (made, code)) = tokio::join!(readers, killing);
    let said = simulation.logs();
    assert_eq!(code, 0, "{said}");
    let report: Value = serde_json::from_str(&simulation.stdout()).unwrap();
    assert_eq!(
        (&report["same"], &report["differences"], &report["failed"]),
        (&json!(true), &json!(0), &json!(0)),
        "{said}"
    );
    assert!(made > 0, "it was never killed");
    let verified = Said::of(service.run(&["verify", "--conservation"]));
    assert_eq!(verified.code, 0, "{verified}");
    let (trades, others) = read_standing(&service, &seed, trades, kind.assigns_seqs()).await;
    let answers: BTreeSet<_> = answers.into_iter().flatten().collect();
    eprintln!(
        "{made} kills, {} different answers, {} sent again",
        answers.len(),
        report["sent_again"]
    );
    if kind.assigns_seqs() {
        no_answer_is_torn(&answers, &trades);
        let last = service
            .post(BATCH, &json!({"user_ids": seed.users()}))
            .await;
        seqs_are_gapless(trades.iter().chain(&others), &seqs_of(&last));
    }
}

mod killed;
mod standing;
