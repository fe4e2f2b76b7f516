//! What held users take of the system, with the program's allocator: a process of its own, because its size is what counts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../benches/memory/users.rs"]
mod users;

use std::{sync::Arc, time::Duration};

use balance_cache::{
    cache::memory::{CacheEntry, Memory},
    domain::{Catalogue, UnixMillis},
    render::RenderedSnapshot,
    telemetry::Meters,
};
use tokio::time::Instant;
use users::{NOW, catalogue, snapshot, user};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAX_BYTES: u64 = 96 << 20;
/// Fewer than fit.
const FIT: i64 = 140_000;
/// More than three times as many as fit.
const ALL: i64 = 420_000;
const HOUR: Duration = Duration::from_hours(1);

/// Bytes of this process in memory.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1_024
}

fn keep(memory: &Memory, catalogue: &Catalogue, number: i64) {
    let (now, snapshot) = (Instant::now(), snapshot(number));
    let kept = CacheEntry {
        held: RenderedSnapshot::new(catalogue, &snapshot, UnixMillis(NOW)),
        until: now.checked_add(HOUR).unwrap(),
        loaded: now,
        from_ledger: false,
        generation: 1,
        invalidated: false,
    };
    memory.keep_merged(user(number), &kept, &snapshot, |_| true);
}

#[test]
fn a_user_of_three_assets_takes_700_bytes_and_max_bytes_is_kept_within_a_tenth() {
    let names = Arc::new(catalogue());
    let memory = Memory::new(MAX_BYTES, HOUR, Arc::clone(&names), Meters::new());
    let base = rss();
    for number in 0..FIT {
        keep(&memory, &names, number);
    }
    let (entries, weighed) = memory.measure_size();
    assert_eq!(entries, FIT.unsigned_abs(), "all of them fit");
    let each = (rss() - base) / entries;
    println!("{each} bytes by RSS, {} as weighed", weighed / entries);
    assert!(each <= 700, "{each} bytes for a user");

    for number in FIT..ALL {
        // Who is asked for twice is let in, for somebody who was not.
        for _ in 0..2 {
            assert!(memory.get_entry(user(number), 1).is_none());
        }
        keep(&memory, &names, number);
    }
    let (entries, weighed) = memory.measure_size();
    let took = rss() - base;
    println!("{entries} entries, {weighed} weighed, {took} by RSS");
    assert!(weighed <= MAX_BYTES && weighed > MAX_BYTES / 10 * 9);
    assert!(took <= MAX_BYTES / 10 * 11, "{took} bytes for {MAX_BYTES}");
    assert!(took >= MAX_BYTES / 10 * 9, "{took} bytes for {MAX_BYTES}");
}
