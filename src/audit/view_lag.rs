//! Measures how long a notification is ahead of the loads that do not ask the ledger.
//!
//! The time runs from the notification's effect here until the first load by `source.read_from` shows its seq, by this process' own
//! clock. It is an upper bound: looks come after a quarter of the time that has passed. If the view shows nothing for
//! `settlement.floor_ttl_ms` and the ledger has the row, that time is recorded and logged. Loads that name the asset in the ledger
//! itself do not lag and are not recorded.
//!
//! **Limits.** [`FOLLOWS_MAX`] at a time, one new one a second.

use std::time::Duration;

use tokio::time::Instant;

use super::sampler::ToldChange;

/// Notifications that are followed at the same time.
pub(super) const FOLLOWS_MAX: usize = 16;
/// The pause between two notifications that are followed.
pub(super) const NEWS_EVERY: Duration = Duration::from_secs(1);

const PAUSE_MIN: Duration = Duration::from_millis(5);
/// A look that comes later than this, or than half of what it measures, would measure the auditor.
const LATE_MIN: Duration = Duration::from_millis(100);

/// A notification under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follow {
    pub(super) news: ToldChange,
    /// When to look.
    pub(super) next: Instant,
}

impl Follow {
    /// A notification that is to be checked at once.
    pub(super) const fn new(news: ToldChange) -> Self {
        Self {
            news,
            next: news.told,
        }
    }

    /// Schedules the next check after a quarter of the time that has passed.
    pub(super) fn schedule_again(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.news.told);
        let pause = passed.checked_div(4).unwrap_or_default().max(PAUSE_MIN);
        Self {
            next: now.checked_add(pause).unwrap_or(now),
            ..self
        }
    }

    /// The time to look is over.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.news.told);
        let late_max = passed.checked_div(2).unwrap_or_default().max(LATE_MIN);
        now.saturating_duration_since(self.next) > late_max
    }
}
