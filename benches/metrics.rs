//! What a memory hit's metrics cost, with one thread and with two at once: to be at most 50 ns.
//!
//!     cargo bench --bench metrics
//!
//! prints a table; a loop of its own, because what two threads do to each other's cache lines is the point.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints nanoseconds"
)]

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use balance_cache::{
    cache_status::{ReadOutcome, Tier},
    telemetry::{Meters, Op, slowest::SlowRead},
};

const ROUNDS: u32 = 3_000_000;
const TRIES: usize = 5;

/// Nanoseconds a round of the slowest thread, in the best of some tries.
fn measured(threads: usize, round: &(impl Fn(u32) + Sync)) -> f64 {
    let one = || {
        let begun = Instant::now();
        for at in 0..ROUNDS {
            round(at);
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
    };
    let all = || {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            let times = threads.into_iter().map(|thread| thread.join().unwrap());
            times.fold(0.0, f64::max)
        })
    };
    (0..TRIES).map(|_| all()).fold(f64::MAX, f64::min)
}

/// Exactly what `Reader::held` does with its meters on a hit.
fn count(meters: &Meters, took: Duration) {
    meters.record_tier(Tier::Memory, Op::Get, took);
    meters.record_read(ReadOutcome::Memory, took);
    meters.offer_slow_read(took, || -> SlowRead { unreachable!("none is slow") });
}

fn main() {
    let meters = Meters::new();
    for _ in 0..balance_cache::telemetry::slowest::KEPT {
        meters.offer_slow_read(Duration::from_secs(1), || SlowRead {
            at: balance_cache::domain::UnixMillis(0),
            user: balance_cache::domain::UserId::MAX,
            outcome: ReadOutcome::Memory,
            took: Duration::from_secs(1),
            redis: None,
            source: None,
            assets: None,
            rows: None,
        });
    }
    let took = |at: u32| Duration::from_nanos(1_500 + u64::from(at & 0x3ff));
    let begun = Instant::now();
    println!("| ns per memory hit | one thread | each of two |");
    println!("|---|---|---|");
    let row = |name: &str, round: &(dyn Fn(u32) + Sync)| {
        let (one, two) = (measured(1, &round), measured(2, &round));
        println!("| {name} | {one:.1} | {two:.1} |");
    };
    row("one histogram", &|at| {
        meters.record_read(ReadOutcome::Memory, black_box(took(at)));
    });
    row("all metrics of a hit", &|at| {
        count(&meters, black_box(took(at)));
    });
    row("all, and reading the clock", &|_| {
        black_box(begun.elapsed());
        count(&meters, black_box(took(1)));
    });
}
