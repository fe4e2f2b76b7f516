//! What a held user takes of this process' memory, whether `memory.max_bytes` is kept, and what a look into memory costs.
//!
//!     cargo bench --bench memory
//!
//! prints tables. Each case is a process of its own, with the allocator of the program; memory is what the system says of
//! the process (RSS).

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench prints ratios"
)]

#[path = "memory/users.rs"]
mod users;

use std::{
    env,
    hint::black_box,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant as Clock},
};

use balance_cache::{
    cache::memory::{CacheEntry, Memory},
    domain::{Catalogue, Snapshot, UnixMillis, UserId},
    protocol::ChangeLog,
    render::RenderedSnapshot,
    telemetry::Meters,
};
use tokio::time::Instant;
use users::{NOW, snapshot, user};

/// Room for what is known of a million users.
const CHANGE_LOG_MAX_BYTES: u64 = 1 << 30;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GENERATION: u64 = 1;
const HOUR: Duration = Duration::from_hours(1);
const MIB: u64 = 1 << 20;

/// Bytes of this process in memory.
fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

struct Tier {
    memory: Memory,
    change_log: ChangeLog,
    catalogue: Arc<Catalogue>,
}

impl Tier {
    fn new(max_bytes: u64) -> Self {
        let catalogue = Arc::new(users::catalogue());
        Self {
            memory: Memory::new(max_bytes, HOUR, Arc::clone(&catalogue), Meters::new()),
            change_log: ChangeLog::new(HOUR, CHANGE_LOG_MAX_BYTES),
            catalogue,
        }
    }

    /// As `Reader::keep` does it.
    fn keep(&self, number: i64, with_marks: bool) {
        let (user, snapshot) = (user(number), snapshot(number));
        if with_marks {
            let knowledge = self.change_log.knowledge_of(user);
            self.change_log.note_shown(user, knowledge, &snapshot);
        }
        let now = Instant::now();
        let kept = CacheEntry {
            held: RenderedSnapshot::new(&self.catalogue, &snapshot, UnixMillis(NOW)),
            until: now.checked_add(HOUR).unwrap(),
            loaded: now,
            from_ledger: false,
            generation: GENERATION,
            invalidated: false,
        };
        let guard = |held: &Snapshot| self.change_log.changes_of(user).floors.met_by(held);
        self.memory.keep_merged(user, &kept, &snapshot, guard);
    }

    fn body_bytes(&self, user: UserId) -> usize {
        let kept = self.memory.get_entry(user, GENERATION);
        kept.map_or(0, |kept| kept.held.body_len())
    }
}

/// That many users, all of them held.
fn held(users: i64, with_marks: bool) {
    let tier = Tier::new(u64::try_from(users).unwrap() * 1_024);
    let before = rss();
    for number in 0..users {
        tier.keep(number, with_marks);
    }
    let (entries, weighed) = tier.memory.measure_size();
    assert_eq!(entries, u64::try_from(users).unwrap(), "all are held");
    let took = rss() - before;
    let body: usize = (0..1_000).map(|number| tier.body_bytes(user(number))).sum();
    let each = |bytes: u64| bytes as f64 / users as f64;
    println!(
        "| {users}{} | {} | {:.0} | {:.0} | {:.2} | {} |",
        if with_marks { " and their marks" } else { "" },
        body / 1_000,
        each(took),
        each(weighed),
        took as f64 / weighed as f64,
        took / MIB,
    );
}

/// Four times as many users as fit, by that many threads at once; each is asked for twice, so that some are let in.
fn churn(max_bytes: u64, threads: i64) {
    let tier = Tier::new(max_bytes);
    let before = rss();
    let users = i64::try_from(max_bytes / 700 * 4).unwrap();
    let share = users / threads;
    let peak = thread::scope(|scope| {
        let work = |thread: i64| {
            let tier = &tier;
            move || {
                let mut peak = 0;
                for at in 0..share {
                    let number = thread * share + at;
                    for _ in 0..2 {
                        let _ = tier.memory.get_entry(user(number), GENERATION);
                    }
                    tier.keep(number, false);
                    if at % 1_000 == 0 {
                        peak = peak.max(rss());
                    }
                }
                peak.max(rss())
            }
        };
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(work(thread)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .max()
    });
    let (entries, weighed) = tier.memory.measure_size();
    let ratio = |bytes: u64| bytes.saturating_sub(before) as f64 / max_bytes as f64;
    println!(
        "| {} MiB, {threads} threads, {users} users | {entries} | {:.2} | {:.2} | {:.2} |",
        max_bytes / MIB,
        weighed as f64 / max_bytes as f64,
        ratio(peak.unwrap()),
        ratio(rss()),
    );
}

/// A look into memory, and what the answer takes of what it finds.
fn hits() {
    const USERS: i64 = 10_000;
    const ROUNDS: u32 = 1_000_000;
    let tier = Tier::new(64 * MIB);
    (0..USERS).for_each(|number| tier.keep(number, false));
    let _ = tier.memory.measure_size();
    let measured = || {
        let begun = Clock::now();
        for round in 0..ROUNDS {
            let number = i64::from(round) * 7_919 % USERS;
            let kept = tier.memory.get_entry(user(number), GENERATION).unwrap();
            black_box((
                kept.held.body_bytes(),
                kept.held.entity_tag(),
                kept.held.said_at(),
            ));
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
    };
    let best = (0..7).map(|_| measured()).fold(f64::MAX, f64::min);
    println!("| look, body, tag, age | {best:.0} |");
}

fn main() {
    let asked: Vec<String> = env::args().filter(|word| word != "--bench").collect();
    let number = |at: usize| asked[at].parse::<i64>().unwrap();
    match asked.get(1).map(String::as_str) {
        Some("held") => held(number(2), false),
        Some("marked") => held(number(2), true),
        Some("churn") => churn(u64::try_from(number(2)).unwrap() * MIB, number(3)),
        Some("hits") => hits(),
        _ => {
            println!(
                "| users held | body | bytes each, RSS | weighed | RSS / weighed | RSS in MiB |"
            );
            println!("|---|---|---|---|---|---|");
            case(&["held", "100000"]);
            case(&["held", "1000000"]);
            case(&["marked", "1000000"]);
            println!(
                "\n| four times what fits | held | weighed / max | RSS at most / max | RSS at the end / max |"
            );
            println!("|---|---|---|---|---|");
            case(&["churn", "64", "1"]);
            case(&["churn", "256", "1"]);
            case(&["churn", "256", "2"]);
            println!("\n| ns | |\n|---|---|");
            case(&["hits"]);
        }
    }
}

fn case(words: &[&str]) {
    let exe = env::current_exe().unwrap();
    assert!(Command::new(exe).args(words).status().unwrap().success());
}
