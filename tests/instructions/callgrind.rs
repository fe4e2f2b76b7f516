//! Counts the instructions of this program under valgrind.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use super::hits::Kind;

/// Hits of a run. So many that moka's housekeeping, which comes by number and by time, does not move the figure.
const HITS: u64 = 2_000;

/// What is counted, and nothing before or after it: starting and setting up costs more, and not always the same.
const COUNTED: &str = "instructions::hits::repeated";

/// Tells the process that is counted what to do: `Usual:2000`.
const TOLD: &str = "BALANCE_CACHE_TEST_HITS";

/// The test that the process runs.
const CHILD: &str = "tests::every_request_that_is_counted_is_a_hit_in_memory";

/// Functions that are named where it is too much.
const COSTLIEST: usize = 5;

/// What was counted.
pub struct Count {
    /// Instructions.
    pub per_hit: u64,
    /// By functions, of all hits.
    pub profile: String,
}

/// What this process was told to do, if it is one that is counted.
pub fn told() -> Option<(Kind, u64)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the process that is counted is told by its environment what to do"
    )]
    let told = std::env::var(TOLD).ok()?;
    let (kind, hits) = told.split_once(':').unwrap();
    let kind = Kind::ALL.into_iter().find(|of| format!("{of:?}") == kind);
    Some((kind.unwrap(), hits.parse().unwrap()))
}

/// Counts a process of its own, on one thread.
pub fn count(kind: Kind) -> Count {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--test-threads=1", "--nocapture"])
        .env(TOLD, format!("{kind:?}:{HITS}"))
        .output()
        .unwrap_or_else(|error| {
            panic!("valgrind cannot be run ({error}): apt-get install valgrind, or run ./test")
        });
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let all = instructions(&file);
    assert!(all > HITS, "no function is called {COUNTED}");
    Count {
        per_hit: all / HITS,
        profile: annotated(&file),
    }
}

/// All instructions of a run.
fn instructions(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total.unwrap().trim().parse().unwrap()
}

/// The profile as `callgrind_annotate` writes it; empty where it cannot be run.
fn annotated(file: &Path) -> String {
    let output = Command::new("callgrind_annotate").arg(file).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// The functions of a profile that cost most by themselves.
pub fn costliest(profile: &str) -> String {
    let functions = profile
        .lines()
        .filter(|line| line.contains("%)") && !line.contains("PROGRAM TOTALS"))
        // Behind it: the program's own path.
        .map(|line| line.split(" [").next().unwrap_or(line));
    let lines: Vec<&str> = functions.take(COSTLIEST).collect();
    lines.join("\n")
}
