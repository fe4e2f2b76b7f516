//! How long a question takes: the middle and the slow end of some that were asked one after the other.

use std::time::Duration;

use tokio::time::Instant;

use super::DoctorReport;
use crate::cli::output::millis_text;

/// Questions for one figure.
pub(super) const ROUNDS: usize = 100;

/// A slow source is asked less often: at least so many times, and no more once this time is over.
const ROUNDS_MIN: usize = 10;
const ENOUGH: Duration = Duration::from_secs(2);

/// The part of a timeout that the slow end may take before it is worth a word.
const PART: u32 = 4;

/// Sorted times.
#[derive(Debug)]
pub(super) struct SortedTimes(Vec<Duration>);

impl SortedTimes {
    /// Asks [`ROUNDS`] times, or for [`ENOUGH`]; the first failure ends it.
    pub(super) async fn measure_times<E>(
        mut ask: impl AsyncFnMut() -> Result<Duration, E>,
    ) -> Result<Self, E> {
        // The first question pays for what is cached from then on.
        ask().await?;
        let mut times = Vec::with_capacity(ROUNDS);
        let begun = Instant::now();
        while times.len() < ROUNDS && (times.len() < ROUNDS_MIN || begun.elapsed() < ENOUGH) {
            times.push(ask().await?);
        }
        times.sort();
        Ok(Self(times))
    }

    /// The time that so many of a hundred do not exceed.
    fn percentile_time(&self, percent: usize) -> Duration {
        let rank = self.0.len().saturating_mul(percent).div_ceil(100);
        self.0
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// Says it: a fault where most take longer than `timeout`, a warning where the slow end takes a quarter of it.
    pub(super) fn report_times(
        &self,
        report: &mut DoctorReport,
        name: &'static str,
        what: &str,
        timeout: (&str, Duration),
        remedy: &str,
    ) {
        let (key, timeout) = timeout;
        let slow = self.percentile_time(99);
        let said = format!(
            "{what}: p50 {}, p99 {}",
            millis_text(self.percentile_time(50)),
            millis_text(slow)
        );
        if self.percentile_time(50) > timeout {
            report.report_failure(
                name,
                format!("{said}, longer than {key} ({})", millis_text(timeout)),
                remedy,
            );
        } else if slow > timeout.checked_div(PART).unwrap_or_default() {
            report.report_warning(
                name,
                format!("{said}, of {} that {key} allows", millis_text(timeout)),
                remedy,
            );
        } else {
            report.report_ok(name, said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::CheckState;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = SortedTimes((1..=50).map(Duration::from_millis).collect());
        assert_eq!(times.percentile_time(50), Duration::from_millis(25));
        assert_eq!(times.percentile_time(99), Duration::from_millis(50));
        assert_eq!(SortedTimes(Vec::new()).percentile_time(99), Duration::ZERO);
    }

    #[test]
    fn slow_is_a_warning_and_slower_than_the_timeout_a_fault() {
        let mut report = DoctorReport {
            json: true,
            ..DoctorReport::default()
        };
        for slow in [1, 30, 200] {
            let times = SortedTimes(vec![Duration::from_millis(slow)]);
            times.report_times(
                &mut report,
                "x",
                "PING",
                ("redis.timeout_ms", Duration::from_millis(100)),
                "y",
            );
        }
        let states: Vec<_> = report.checks.iter().map(|check| check.state).collect();
        assert_eq!(states, [CheckState::Ok, CheckState::Warn, CheckState::Fail]);
    }
}
