//! The records that the consumer received and has not finished.

use tokio::time::Instant;

use super::{
    dead_letters::DeadLetters,
    progress::{PartitionProgress, RecordPlace},
};
use crate::domain::Notification;

/// Notifications that are applied together: few enough not to keep a thread from serving readers.
pub(super) const AT_ONCE: usize = 2_000;

/// A record that did not take effect yet.
#[derive(Debug)]
pub(super) struct PendingRecord {
    pub place: RecordPlace,
    pub notifications: Vec<Notification>,
}

/// The records of one consumer that are not finished.
#[derive(Default)]
pub(super) struct UnfinishedRecords {
    pub progress: PartitionProgress,
    /// Received, and not in effect yet.
    pub fresh: Vec<PendingRecord>,
    /// Failed tries of `fresh`.
    pub tries: usize,
    /// Records that Redis refused one by one; they are tried again beside new records.
    pub refused: Vec<PendingRecord>,
    pub refused_due: Option<Instant>,
    pub letters: DeadLetters,
    pub paused: bool,
}

impl UnfinishedRecords {
    /// The number of notifications that have not taken effect.
    pub(super) fn notification_count(&self) -> usize {
        let records = self.fresh.iter();
        records.fold(0, |sum, record| {
            sum.saturating_add(record.notifications.len())
        })
    }

    /// Whether the partitions have to pause until some of the records are finished.
    pub(super) fn is_full(&self) -> bool {
        let refused = self.refused.iter();
        let refused = refused.fold(0_usize, |sum, it| {
            sum.saturating_add(it.notifications.len())
        });
        !self.fresh.is_empty() || refused >= AT_ONCE || self.letters.is_full()
    }

    /// Whether some records wait for another try.
    pub(super) fn is_pending(&self) -> bool {
        !(self.fresh.is_empty() && self.refused.is_empty() && self.letters.is_empty())
    }

    /// Drops the records of a partition that was revoked.
    pub(super) fn forget_partition(&mut self, partition: i32) {
        let others = |record: &PendingRecord| record.place.partition != partition;
        self.progress.forget_partition(partition);
        self.fresh.retain(others);
        self.refused.retain(others);
        self.letters.forget_partition(partition);
    }
}
