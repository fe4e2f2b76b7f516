//! Promises among threads that read and change one memory.

use std::sync::Barrier;

use super::*;

/// Promises P2 and P3 among threads that each have copies of their own.
#[test]
fn nobody_is_shown_less_than_was_acknowledged_or_shown_before() {
    let memory = test_memory();
    keep_seqs(&memory, 1, &[(1, 1)]);
    let (least, over) = (AtomicI64::new(1), AtomicBool::new(false));
    let all_run = Barrier::new(4);
    let seq_of = |held: RenderedSnapshot<&[u8]>| {
        let snapshot = held.read_snapshot();
        snapshot.get(AssetId::new(1).unwrap()).unwrap().seq.get()
    };
    let read = || {
        all_run.wait();
        let (mut from_copies, mut last_reads) = (0_u64, 3_i32);
        // The last reads begin after the last change, so a copy is at hand by then, however late this thread ran.
        while last_reads > 0 {
            last_reads -= i32::from(over.load(Ordering::SeqCst));
            let (before, now) = (least.load(Ordering::SeqCst), Instant::now());
            let copy = memory.show_hot_copy(test_user(), 1, now, |held, _| seq_of(held));
            from_copies += u64::from(copy.is_some());
            let shown = copy.unwrap_or_else(|| {
                seq_of(
                    memory
                        .get_entry(test_user(), 1)
                        .unwrap()
                        .held
                        .borrowed_view(),
                )
            });
            assert!(shown >= before, "{shown} after {before}");
            least.fetch_max(shown, Ordering::SeqCst);
        }
        from_copies
    };
    std::thread::scope(|threads| {
        let readers: Vec<_> = (0..3).map(|_| threads.spawn(read)).collect();
        all_run.wait();
        for seq in 2..=5_000 {
            memory.advance_user(test_user(), &[moved_to(1, seq)]);
            least.fetch_max(seq, Ordering::SeqCst);
            // Now and then long enough for the readers to have it at hand.
            if seq % 64 == 0 {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.join().unwrap() > 0, "no copy was shown");
        }
    });
}

/// Promise P10 among threads that each have copies of their own.
#[test]
fn no_thread_is_shown_half_of_a_settlement() {
    let memory = test_memory();
    keep_seqs(&memory, 1, &[(1, 1), (2, 1)]);
    let over = AtomicBool::new(false);
    let torn_in = |held: RenderedSnapshot<&[u8]>| {
        let snapshot = held.read_snapshot();
        let [one, other] = snapshot.balances() else {
            return true;
        };
        one.seq != other.seq
    };
    let read = || {
        let (mut reads, mut torn) = (0_u64, 0_u64);
        while !over.load(Ordering::SeqCst) {
            let copy =
                memory.show_hot_copy(test_user(), 1, Instant::now(), |held, _| torn_in(held));
            let half = copy.unwrap_or_else(|| {
                torn_in(
                    memory
                        .get_entry(test_user(), 1)
                        .unwrap()
                        .held
                        .borrowed_view(),
                )
            });
            reads += 1;
            torn += u64::from(half);
        }
        (reads, torn)
    };
    std::thread::scope(|threads| {
        let readers: Vec<_> = (0..3).map(|_| threads.spawn(read)).collect();
        for seq in 2..5_000 {
            memory.advance_user(test_user(), &[moved_to(1, seq), moved_to(2, seq)]);
            if seq % 64 == 0 {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::SeqCst);
        for reader in readers {
            let (reads, torn) = reader.join().unwrap();
            assert_eq!(torn, 0, "of {reads}");
        }
    });
}
