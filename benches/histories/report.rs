//! Lines of the table of `histories`.

use std::time::Duration;

fn quantile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    let at = (times.len() - 1) * percent / 100;
    times.get(at).unwrap().as_secs_f64() * 1_000.0
}

/// One kind of page: times of the short history and of the long one.
pub fn line(what: &str, [few, many]: [Vec<Duration>; 2]) {
    let (small, large) = (quantile(&few, 50), quantile(&many, 50));
    println!(
        "| {what} | {small:.3} | {:.3} | {large:.3} | {:.3} | {:.2} |",
        quantile(&few, 99),
        quantile(&many, 99),
        large / small
    );
}

/// The head of a table: rows of the short history and of the long one, and rows of a page.
pub fn header([few, many]: [i64; 2], page: usize) {
    println!(
        "| page of {page} | {few} rows: p50 ms | p99 | {many} rows: p50 ms | p99 | p50 ratio |"
    );
    println!("|---|---|---|---|---|---|");
}
