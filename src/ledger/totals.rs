//! A scan of all balances: how fast it may go, how far it is, and what it found.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::time::{Duration, Instant, sleep_until};

use crate::domain::{AssetId, AssetSum, Totals};

/// The delay that a scan makes up for at most, by reading faster than its limit.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// The result of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScannedTotals {
    /// The sums of the rows.
    pub totals: Totals,
    /// The same sums, maintained by the writer of the rows as it wrote them, of the very moment of the scan. None where the source
    /// cannot say.
    pub maintained: Option<BTreeMap<AssetId, AssetSum>>,
    /// Rows that were not written as the service writes them: the ledger's rows were counted in their place.
    pub untrusted_rows: u64,
}

/// The pace and progress of one scan, shared with metrics and dashboard.
#[derive(Debug)]
pub struct TotalsScan {
    rows_per_second: u32,
    rows: AtomicU64,
    permille: AtomicU32,
    /// When the next rows may be read.
    due: Mutex<Instant>,
}

impl TotalsScan {
    /// A scan that begins now and reads at most so many rows a second (at least 1).
    pub fn begin_scan(rows_per_second: u32) -> Self {
        Self {
            rows_per_second: rows_per_second.max(1),
            rows: AtomicU64::new(0),
            permille: AtomicU32::new(0),
            due: Mutex::new(Instant::now()),
        }
    }

    /// How many rows to read at once, at most `most`: a fifth of a second's.
    pub fn step_rows(&self, most: u32) -> u32 {
        (self.rows_per_second / 5).clamp(1, most.max(1))
    }

    /// Counts rows, and waits while the scan is faster than its limit. A scan that stood still does not catch up.
    pub async fn pace_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        sleep_until(self.defer_next(rows)).await;
    }

    /// When the next rows may be read, after these.
    fn defer_next(&self, rows: u64) -> Instant {
        let nanos = rows
            .saturating_mul(1_000_000_000)
            .checked_div(u64::from(self.rows_per_second))
            .unwrap_or(0);
        let now = Instant::now();
        let earliest = now.checked_sub(CATCH_UP_MAX).unwrap_or(now);
        let mut due = self.due.lock();
        let next = (*due)
            .max(earliest)
            .checked_add(Duration::from_nanos(nanos));
        *due = next.unwrap_or(now);
        *due
    }

    /// The part that is done, in thousandths.
    pub fn set_progress(&self, permille: u32) {
        self.permille.store(permille.min(1_000), Ordering::Relaxed);
    }

    /// The part that is done, in thousandths.
    pub fn progress_permille(&self) -> u32 {
        self.permille.load(Ordering::Relaxed)
    }

    pub fn rows_read(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

/// `done` of `all` in thousandths.
pub fn permille_of(done: u64, all: u64) -> u32 {
    let part = done.saturating_mul(1_000).checked_div(all);
    u32::try_from(part.unwrap_or(0)).unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_scan_reads_no_more_rows_a_second_than_it_may() {
        let scan = TotalsScan::begin_scan(100);
        let began = Instant::now();
        assert_eq!(scan.step_rows(1_000), 20);
        for _ in 0..10 {
            scan.pace_rows(20).await;
        }
        assert_eq!(scan.rows_read(), 200);
        assert_eq!(began.elapsed().as_millis() / 10, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_scan_that_stood_still_goes_on_at_its_pace() {
        let scan = TotalsScan::begin_scan(100);
        scan.pace_rows(20).await;
        advance(Duration::from_mins(1)).await;
        let resumed = Instant::now();
        for _ in 0..10 {
            scan.pace_rows(20).await;
        }
        // 200 rows take two seconds, of which a fifth of a second is made up for.
        assert_eq!(resumed.elapsed().as_millis() / 10, 180);
    }
}
