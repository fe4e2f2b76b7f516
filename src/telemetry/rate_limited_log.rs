//! Rate-limited log lines: at most [`LINES_MAX`] in a second, with the number of lines left out.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines in one [`WINDOW`].
const LINES_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// The rate limit of one kind of log line.
#[derive(Debug, Default)]
pub struct RateLimitedLog(Mutex<LogWindow>);

#[derive(Debug, Default)]
struct LogWindow {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl RateLimitedLog {
    /// Allows a line or not: some with the number of lines left out since the last one.
    pub fn permit_line(&self) -> Option<u64> {
        let now = Instant::now();
        let mut window = self.0.lock();
        if window
            .began
            .is_none_or(|began| now.duration_since(began) >= WINDOW)
        {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines >= LINES_MAX {
            window.left_out = window.left_out.saturating_add(1);
            return None;
        }
        window.lines = window.lines.saturating_add(1);
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_and_what_was_left_out_is_said() {
        let limited_log = RateLimitedLog::default();
        let written = (0..25)
            .filter(|_| limited_log.permit_line() == Some(0))
            .count();
        assert_eq!(written, 10);
        tokio::time::advance(WINDOW).await;
        assert_eq!(limited_log.permit_line(), Some(15));
        assert_eq!(limited_log.permit_line(), Some(0));
    }
}
