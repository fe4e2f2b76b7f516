//! Which offset of each partition may be committed: the first record that is not done yet.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RecordPlace {
    pub partition: i32,
    pub offset: i64,
}

/// The received records of each partition, and how far all of them are done.
#[derive(Debug, Default)]
pub(super) struct PartitionProgress(BTreeMap<i32, Received>);

#[derive(Debug)]
struct Received {
    /// Records that are not done yet.
    open: BTreeSet<i64>,
    /// The offset behind the last record that was received.
    next: i64,
    /// The offset that was given out last; at first, that of the first record.
    given: i64,
}

impl PartitionProgress {
    /// A record was received. Records of one partition come in the order of their offsets.
    pub(super) fn begin_record(&mut self, place: RecordPlace) {
        let partition = self.0.entry(place.partition).or_insert(Received {
            open: BTreeSet::new(),
            next: place.offset,
            given: place.offset,
        });
        partition.open.insert(place.offset);
        partition.next = place.offset.saturating_add(1);
    }

    /// A record took effect, or was put aside. A record that is not known is of a partition that was revoked.
    pub(super) fn finish_record(&mut self, place: RecordPlace) {
        if let Some(partition) = self.0.get_mut(&place.partition) {
            partition.open.remove(&place.offset);
        }
    }

    /// The partition is another consumer's now.
    pub(super) fn forget_partition(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    /// The offset to go on at, for each partition where it moved since the last call: everything before it is done.
    pub(super) fn moved_offsets(&mut self) -> Vec<RecordPlace> {
        let partitions = self.0.iter_mut();
        partitions
            .filter_map(|(partition, received)| {
                let offset = received.open.first().copied().unwrap_or(received.next);
                let moved = received.given != offset;
                received.given = offset;
                moved.then_some(RecordPlace {
                    partition: *partition,
                    offset,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_at(partition: i32, offset: i64) -> RecordPlace {
        RecordPlace { partition, offset }
    }

    #[test]
    fn nothing_behind_a_record_that_is_open_may_be_committed() {
        let mut progress = PartitionProgress::default();
        for offset in [10, 11, 13, 14] {
            progress.begin_record(place_at(0, offset));
        }
        for offset in [11, 13, 14] {
            progress.finish_record(place_at(0, offset));
        }
        assert_eq!(progress.moved_offsets(), []);
        progress.finish_record(place_at(0, 10));
        assert_eq!(progress.moved_offsets(), [place_at(0, 15)]);
        assert_eq!(progress.moved_offsets(), []);
    }

    #[test]
    fn the_offset_stops_at_the_first_open_record_and_partitions_are_apart() {
        let mut progress = PartitionProgress::default();
        for place in [
            place_at(0, 0),
            place_at(0, 1),
            place_at(0, 2),
            place_at(7, 100),
        ] {
            progress.begin_record(place);
        }
        progress.finish_record(place_at(0, 0));
        progress.finish_record(place_at(7, 100));
        assert_eq!(progress.moved_offsets(), [place_at(0, 1), place_at(7, 101)]);
        progress.finish_record(place_at(0, 2));
        assert_eq!(progress.moved_offsets(), []);
        progress.finish_record(place_at(0, 1));
        assert_eq!(progress.moved_offsets(), [place_at(0, 3)]);
    }

    #[test]
    fn a_partition_that_comes_back_begins_anew_wherever_it_stands() {
        let mut progress = PartitionProgress::default();
        progress.begin_record(place_at(0, 50));
        progress.forget_partition(0);
        progress.finish_record(place_at(0, 50));
        assert_eq!(progress.moved_offsets(), []);
        progress.begin_record(place_at(0, 40));
        progress.finish_record(place_at(0, 40));
        assert_eq!(progress.moved_offsets(), [place_at(0, 41)]);
    }
}
