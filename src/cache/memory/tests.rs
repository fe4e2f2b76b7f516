use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::*;
use crate::domain::{Amount, Balance, UnixMillis};

/// No test takes as long.
const LONG_LIFE: Duration = Duration::from_mins(10);

fn test_balance(asset: i32, seq: i64) -> Balance {
    Balance::sample_of(asset, seq, seq)
}

fn moved_to(asset: i32, seq: i64) -> BalanceChange {
    let balance = test_balance(asset, seq);
    BalanceChange::Moved {
        asset: balance.asset,
        seq: balance.seq,
        balance: Some(balance),
    }
}

/// A change to this seq, without values.
fn changed_to(asset: i32, seq: i64) -> BalanceChange {
    BalanceChange::Moved {
        asset: AssetId::new(asset).unwrap(),
        seq: Seq::new(seq).unwrap(),
        balance: None,
    }
}

fn test_memory() -> Memory {
    Memory::new(1 << 20, LONG_LIFE, Arc::default(), Meters::new())
}

fn kept_entry(generation: u64, balances: Vec<Balance>) -> CacheEntry {
    let snapshot = Snapshot::new(balances);
    let held = RenderedSnapshot::new(&Catalogue::default(), &snapshot, UnixMillis(0));
    let until = Instant::now().checked_add(LONG_LIFE).unwrap();
    CacheEntry {
        held,
        until,
        loaded: Instant::now(),
        from_ledger: false,
        generation,
        invalidated: false,
    }
}

fn kept_seqs(memory: &Memory, generation: u64) -> Option<Vec<i64>> {
    let kept = memory.get_entry(test_user(), generation)?;
    Some(
        kept.held
            .read_snapshot()
            .balances()
            .iter()
            .map(|balance| balance.seq.get())
            .collect(),
    )
}

fn test_user() -> UserId {
    UserId::new(7).unwrap()
}

fn keep_entry(
    memory: &Memory,
    kept: &CacheEntry,
    guard: impl FnOnce(&Snapshot) -> bool,
) -> Option<RenderedSnapshot> {
    memory.keep_merged(test_user(), kept, &kept.held.read_snapshot(), guard)
}

/// Keeps balances by asset and seq.
fn keep_seqs(memory: &Memory, generation: u64, balances: &[(i32, i64)]) {
    let balances = balances
        .iter()
        .map(|(asset, seq)| test_balance(*asset, *seq));
    let kept = kept_entry(generation, balances.collect());
    keep_entry(memory, &kept, |_| true);
}

#[test]
fn what_is_held_only_moves_forward() {
    let memory = test_memory();
    keep_seqs(&memory, 1, &[(1, 5), (2, 5)]);
    keep_seqs(&memory, 1, &[(1, 3), (2, 8)]);
    assert_eq!(kept_seqs(&memory, 1), Some(vec![5, 8]));
    memory.advance_user(test_user(), &[moved_to(1, 4)]);
    memory.advance_user(test_user(), &[moved_to(1, 9)]);
    memory.advance_user(test_user(), &[moved_to(3, 1)]);
    assert_eq!(kept_seqs(&memory, 1), Some(vec![9, 8, 1]));
    let kept = memory.get_entry(test_user(), 1).unwrap();
    let body = kept.held.body_bytes();
    assert!(
        std::str::from_utf8(body).unwrap().contains(r#""seq":9"#),
        "the body moves with it"
    );
}

#[test]
fn what_was_shown_and_not_kept_raises_what_is_held_and_makes_no_snapshot() {
    let memory = test_memory();
    let shown = Snapshot::new(vec![test_balance(1, 9)]);
    memory.raise_shown(test_user(), &shown, || true);
    assert_eq!(kept_seqs(&memory, 1), None);
    keep_seqs(&memory, 1, &[(1, 5), (2, 5)]);
    let shown = Snapshot::new(vec![test_balance(1, 9), test_balance(2, 3)]);
    memory.raise_shown(test_user(), &shown, || false);
    assert_eq!(
        kept_seqs(&memory, 1),
        Some(vec![5, 5]),
        "it binds nobody any more"
    );
    memory.raise_shown(test_user(), &shown, || true);
    assert_eq!(kept_seqs(&memory, 1), Some(vec![9, 5]));
}

#[test]
fn a_notification_does_not_make_a_snapshot_of_one_asset() {
    let memory = test_memory();
    memory.advance_user(test_user(), &[moved_to(1, 4)]);
    assert_eq!(kept_seqs(&memory, 1), None);
}

#[test]
fn what_is_below_a_floor_is_doubted_until_it_is_loaded_again() {
    let invalidated = |memory: &Memory| {
        memory
            .get_entry(test_user(), 1)
            .map(|kept| kept.invalidated)
    };
    let memory = test_memory();
    keep_seqs(&memory, 1, &[(1, 5)]);
    memory.advance_user(test_user(), &[changed_to(1, 5)]);
    assert_eq!(invalidated(&memory), Some(false));
    memory.advance_user(test_user(), &[changed_to(2, 1)]);
    assert_eq!(
        invalidated(&memory),
        Some(true),
        "an asset with a floor is missing"
    );
    keep_seqs(&memory, 1, &[(2, 1)]);
    assert_eq!(
        (invalidated(&memory), kept_seqs(&memory, 1)),
        (Some(false), Some(vec![5, 1]))
    );
    memory.advance_user(test_user(), &[BalanceChange::Unknown { asset: None }]);
    assert_eq!(invalidated(&memory), Some(true));
}

#[test]
fn changes_of_one_request_are_one_step_and_the_values_among_them_meet_the_seqs() {
    let memory = test_memory();
    keep_seqs(&memory, 1, &[(1, 5), (2, 5)]);
    let version = memory.stripes.stable_version(test_user()).unwrap();
    memory.advance_user(
        test_user(),
        &[changed_to(1, 6), moved_to(2, 6), moved_to(1, 6)],
    );
    assert_eq!(
        memory.stripes.stable_version(test_user()),
        Some(version + 2),
        "one step"
    );
    assert_eq!(kept_seqs(&memory, 1), Some(vec![6, 6]));
    assert!(!memory.get_entry(test_user(), 1).unwrap().invalidated);
    memory.advance_user(test_user(), &[moved_to(1, 7), changed_to(2, 7)]);
    assert_eq!(kept_seqs(&memory, 1), Some(vec![7, 6]));
    assert!(
        memory.get_entry(test_user(), 1).unwrap().invalidated,
        "the second is read again before either is shown"
    );
}

#[test]
fn at_equal_seq_the_word_of_the_later_load_counts() {
    let memory = test_memory();
    let of = |avail: i64, loaded: Instant| {
        let balance = Balance {
            avail: Amount::from_raw(avail),
            ..test_balance(1, 5)
        };
        CacheEntry {
            loaded,
            ..kept_entry(1, vec![balance])
        }
    };
    let avail = || {
        let held = memory
            .get_entry(test_user(), 1)
            .unwrap()
            .held
            .read_snapshot();
        held.balances()[0].avail.raw()
    };
    let early = Instant::now();
    let late = early.checked_add(Duration::from_secs(1)).unwrap();
    keep_entry(&memory, &of(10, early), |_| true);
    memory.advance_user(test_user(), &[moved_to(1, 5)]);
    assert_eq!(avail(), 10, "a notification of that seq changes nothing");
    keep_entry(&memory, &of(20, late), |_| true);
    assert_eq!(avail(), 20, "the ledger was asked again");
    keep_entry(&memory, &of(10, early), |_| true);
    assert_eq!(avail(), 20, "an answer that is older");
}

#[test]
fn an_older_generation_is_not_there_and_the_guard_is_asked() {
    let memory = test_memory();
    keep_seqs(&memory, 1, &[(1, 5)]);
    assert_eq!(kept_seqs(&memory, 2), None);
    keep_seqs(&memory, 2, &[(1, 3)]);
    assert_eq!(
        kept_seqs(&memory, 2),
        Some(vec![3]),
        "nothing of the older generation is merged in"
    );
    assert!(keep_entry(&memory, &kept_entry(2, vec![test_balance(1, 9)]), |_| false).is_none());
    assert_eq!(kept_seqs(&memory, 2), Some(vec![3]));
    memory.forget_user(test_user());
    assert_eq!(kept_seqs(&memory, 2), None);
}

/// The copies that this thread shows without the map, which it asks now and then all the same.
fn shown_copy(memory: &Memory, generation: u64, now: Instant) -> Option<Vec<u8>> {
    let show = || {
        memory.show_hot_copy(test_user(), generation, now, |held, _| {
            held.whole_piece().to_vec()
        })
    };
    show().or_else(show)
}

#[test]
fn what_is_near_is_what_the_map_holds() {
    let (memory, now) = (test_memory(), Instant::now());
    let near_now = |generation| shown_copy(&memory, generation, now);
    let of_map = || {
        memory
            .get_entry(test_user(), 1)
            .map(|kept| kept.held.whole_piece().to_vec())
    };
    keep_seqs(&memory, 1, &[(1, 5), (2, 5)]);
    assert_eq!(near_now(1), None, "only what was asked for");
    assert!(of_map().is_some());
    assert_eq!(near_now(1), of_map());
    assert_eq!(near_now(2), None, "another generation");

    memory.advance_user(test_user(), &[moved_to(1, 9)]);
    assert_eq!(near_now(1), None, "it was changed");
    let newer = of_map();
    assert_eq!(near_now(1), newer);

    let until = memory.get_entry(test_user(), 1).unwrap().until;
    let before = until.checked_sub(Duration::from_nanos(1)).unwrap();
    assert_eq!(shown_copy(&memory, 1, before), newer);
    assert_eq!(shown_copy(&memory, 1, until), None, "its time is over");

    memory.advance_user(test_user(), &[BalanceChange::Unknown { asset: None }]);
    assert!(of_map().is_some());
    assert_eq!(near_now(1), None, "what is invalidated is not shown");
    keep_seqs(&memory, 1, &[(1, 9)]);
    assert!(of_map().is_some() && near_now(1).is_some());
    memory.forget_user(test_user());
    assert_eq!(near_now(1), None, "it was dropped");
}

#[test]
fn one_use_in_256_is_told_to_the_map() {
    let memory = test_memory();
    keep_seqs(&memory, 1, &[(1, 5)]);
    memory.get_entry(test_user(), 1).unwrap();
    let shown = (0..2_560).filter(|_| {
        memory
            .show_hot_copy(test_user(), 1, Instant::now(), |_, _| ())
            .is_some()
    });
    assert_eq!(shown.count(), 2_550);
}

#[test]
fn what_does_not_fit_into_a_place_is_shown_by_the_map() {
    let memory = test_memory();
    keep_entry(
        &memory,
        &kept_entry(1, (1..=20).map(|asset| test_balance(asset, 5)).collect()),
        |_| true,
    );
    assert!(memory.get_entry(test_user(), 1).is_some());
    assert_eq!(shown_copy(&memory, 1, Instant::now()), None);
}

#[test]
fn two_memories_of_a_process_do_not_show_what_the_other_holds() {
    let (one, other) = (test_memory(), test_memory());
    keep_seqs(&one, 1, &[(1, 5)]);
    one.get_entry(test_user(), 1).unwrap();
    assert!(shown_copy(&one, 1, Instant::now()).is_some());
    assert_eq!(shown_copy(&other, 1, Instant::now()), None);
}

#[test]
fn a_map_that_is_nearly_full_hears_of_each_use() {
    let memory = test_memory();
    for id in 1_000..5_000 {
        let kept = kept_entry(1, vec![test_balance(1, 5)]);
        memory.keep_merged(
            UserId::new(id).unwrap(),
            &kept,
            &kept.held.read_snapshot(),
            |_| true,
        );
    }
    // The map's housekeeping does a bounded part each time, and may refuse a user whom few ask for.
    let is_full = (0..1_000).any(|_| memory.measure_size().0 < 4_000);
    assert!(is_full, "{:?}", memory.measure_size());
    let is_kept = (0..1_000).any(|_| {
        keep_seqs(&memory, 1, &[(1, 5)]);
        memory.get_entry(test_user(), 1).is_some()
    });
    assert!(is_kept);
    assert_eq!(shown_copy(&memory, 1, Instant::now()), None);
}

mod threads;
