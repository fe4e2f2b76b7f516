//! How many instructions a hit in memory costs, held by bounds: from the head of the request as it stands on the wire to
//! the bytes of its answer. Counted by valgrind's callgrind, because a count is the same on a busy machine and on an idle one.
//!
//!     cargo test --test instructions -- --nocapture             as the bounds hold it, unoptimised
//!     cargo test --release --test instructions -- --nocapture   optimised: figures only
//!
//! What is counted is this program itself, started again for one test, with the allocator of the service; and of it only the
//! function that answers 2,000 requests. Runs of the same program differ by less than 0.5 %, on whatever busy machine.
//!
//! **Limits.** The tests are built unoptimised, so the bounds hold unoptimised code. It is good enough for what they are
//! for: a lock, a copy, an allocation or a format that is added to a hit costs there, too. What only the optimiser does or
//! leaves undone is not seen. Sockets and the runtime are not in it.

#[cfg(test)]
mod backend;
#[cfg(test)]
mod callgrind;
#[cfg(test)]
mod hits;

/// As in the service: what the allocator does is part of a hit.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{
        callgrind::{self, Count},
        hits::{self, Kind},
    };

    /// What a hit costs, in instructions of unoptimised code.
    ///
    /// To renew them, where it is meant that a hit costs more (or less: a bound far above its figure holds nothing), or
    /// with another compiler: run this test with `--nocapture`, write each figure here and into docs/PERFORMANCE.md, and
    /// say in the commit what it pays for.
    const MEASURED: [(Kind, u64); 5] = [
        (Kind::Usual, 32_500),
        (Kind::Browser, 88_440),
        (Kind::Token, 70_000),
        (Kind::Unchanged, 37_210),
        (Kind::OneAsset, 152_880),
    ];

    /// A bound is one part in so many above its figure: 2 %. Runs differ by less than 0.5 %, and one allocation with one
    /// format makes 3 % of the usual hit.
    const SLACK: u64 = 50;

    fn bound(kind: Kind) -> u64 {
        let measured = MEASURED.iter().find(|(of, _)| *of == kind);
        let (_, instructions) = measured.unwrap();
        instructions + instructions / SLACK
    }

    /// Why it is too much, if it is.
    fn complaint(count: &Count, kind: Kind) -> Option<String> {
        let bound = bound(kind);
        (count.per_hit > bound).then(|| {
            format!(
                "{kind:?}: {} instructions per hit, {bound} at most\n{}",
                count.per_hit,
                callgrind::costliest(&count.profile)
            )
        })
    }

    fn counted(kind: Kind) -> Count {
        let count = callgrind::count(kind);
        let built = if cfg!(debug_assertions) {
            "unoptimised"
        } else {
            "optimised"
        };
        println!("{kind:?}: {} instructions per hit, {built}", count.per_hit);
        count
    }

    #[test]
    fn a_hit_costs_no_more_instructions_than_it_did() {
        let counts = thread::scope(|scope| {
            let runs = MEASURED.map(|(kind, _)| (kind, scope.spawn(move || counted(kind))));
            runs.map(|(kind, run)| (kind, run.join().unwrap()))
        });
        // The bounds are of unoptimised code.
        let held = cfg!(debug_assertions);
        let complaints: Vec<String> = counts
            .iter()
            .filter_map(|(kind, count)| complaint(count, *kind).filter(|_| held))
            .collect();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn one_allocation_and_one_format_more_per_hit_are_seen() {
        let count = counted(Kind::UsualAndMore);
        if cfg!(debug_assertions) {
            let complaint = complaint(&count, Kind::Usual).expect("it is not seen");
            assert!(
                complaint.starts_with(&format!("Usual: {} instructions", count.per_hit)),
                "{complaint}"
            );
        }
    }

    /// The process that is counted is this test, told by its environment what to do. Without a word about it, it tries all.
    #[test]
    fn every_request_that_is_counted_is_a_hit_in_memory() {
        if let Some((kind, hits)) = callgrind::told() {
            hits::answer(kind, hits);
        } else {
            for kind in Kind::ALL {
                hits::answer(kind, 3);
            }
        }
    }
}
