//! Random input for a given time.
//!
//! `BALANCE_CACHE_FUZZ_SECONDS` is the time of all targets together (3 without it); each gets an equal part, and they
//! run side by side. The seed is new in each run and is printed with a finding; `BALANCE_CACHE_FUZZ_SEED` (64 hex
//! digits) repeats it.

use std::{
    cell::Cell,
    fmt::{Debug, Write as _},
    time::{Duration, Instant},
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};

use crate::TARGETS;

/// Inputs between two looks at the clock.
const BATCH: u32 = 64;

/// Without a word about it: enough to see that the targets run.
const SECONDS: u64 = 3;

/// Tries `holds` on random inputs until the target's time is over. `holds` panics or fails where it is not so; the
/// input is then made smaller and printed.
pub fn fuzz<S: Strategy>(
    target: &str,
    inputs: &S,
    holds: impl Fn(S::Value) -> Result<(), TestCaseError>,
) where
    S::Value: Debug,
{
    assert!(
        TARGETS.contains(&target),
        "{target} is not in the list of targets"
    );
    let shares = u32::try_from(TARGETS.len()).unwrap();
    let end = Instant::now() + Duration::from_secs(seconds()) / shares;
    let seed = seed();
    let config = Config {
        cases: BATCH,
        failure_persistence: None,
        ..Config::default()
    };
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut seeds = TestRunner::new_with_rng(config.clone(), random);
    let tried = Cell::new(0_u64);
    println!("{target}: BALANCE_CACHE_FUZZ_SEED={}", hex(&seed));
    // At least one batch, also where the machine stood still meanwhile.
    while Instant::now() < end || tried.get() == 0 {
        // A runner tries its number of cases once and is done.
        let mut runner = TestRunner::new_with_rng(config.clone(), seeds.new_rng());
        let finding = runner.run(inputs, |input| {
            tried.set(tried.get() + 1);
            holds(input)
        });
        if let Err(finding) = finding {
            panic!("{target}, after {} inputs: {finding}", tried.get());
        }
    }
    let tried = tried.get();
    println!("{target}: {tried} inputs");
    assert!(
        tried >= u64::from(BATCH),
        "{target} tried {tried} inputs only"
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long and from where is said to the test process"
)]
fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn seconds() -> u64 {
    told("BALANCE_CACHE_FUZZ_SECONDS").map_or(SECONDS, |text| text.parse().unwrap())
}

fn seed() -> [u8; 32] {
    match told("BALANCE_CACHE_FUZZ_SEED") {
        None => rand::random(),
        Some(text) => {
            assert_eq!(text.len(), 64, "the seed has 64 hex digits");
            let digit = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
            std::array::from_fn(digit)
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
