use futures::future::BoxFuture;
use proptest::prelude::*;

use super::*;
use crate::{
    domain::{Amount, Snapshot, StatementRow},
    ledger::SourceReadiness,
};

/// A statement with rows by seq, and nothing else.
#[derive(Debug)]
struct FakeRows(Vec<(i64, Option<i64>)>);

impl FakeRows {
    fn first_not_later(&self, at: i64) -> Option<i64> {
        let not_later = |(_, created): &&(i64, Option<i64>)| created.is_some_and(|time| time <= at);
        self.0.iter().rev().find(not_later).map(|(seq, _)| *seq)
    }

    /// The most rows without a time that stand one after the other.
    fn most_undated(&self) -> usize {
        let runs = self.0.split(|(_, created)| created.is_some());
        runs.map(<[_]>::len).max().unwrap_or(0)
    }
}

impl Source for FakeRows {
    fn identity(&self) -> Option<std::sync::Arc<str>> {
        None
    }

    fn readiness(&self) -> SourceReadiness {
        SourceReadiness::Ready
    }

    fn load_counting<'a>(
        &'a self,
        _: UserId,
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async { Err(LedgerError::Timeout) })
    }

    fn latest_counting<'a>(
        &'a self,
        _: UserId,
        _: &'a [AssetId],
        _: &'a Cost,
    ) -> BoxFuture<'a, Result<Snapshot, LedgerError>> {
        Box::pin(async { Err(LedgerError::Timeout) })
    }

    fn read_statement<'a>(
        &'a self,
        slice: LedgerSlice,
        cost: &'a Cost,
    ) -> BoxFuture<'a, Result<Vec<StatementRow>, LedgerError>> {
        let in_slice = |seq: i64| (slice.lowest..=slice.highest).contains(&seq);
        let rows = self.0.iter().rev().filter(|(seq, _)| in_slice(*seq));
        let rows: Vec<_> = rows
            .take(slice.rows_max)
            .map(|(seq, created_at)| StatementRow {
                seq: Seq::new(*seq).unwrap(),
                avail: Amount::default(),
                frozen: Amount::default(),
                delta_avail: None,
                delta_frozen: None,
                event_type: None,
                ref_id: None,
                created_at: created_at.map(UnixMillis),
            })
            .collect();
        cost.add_statement(rows.len());
        Box::pin(async move { Ok(rows) })
    }
}

/// The seq that is found, and the reads that it took.
fn search_seq(rows: &FakeRows, at: i64) -> (Result<Option<i64>, LedgerError>, u64) {
    let cost = Cost::default();
    let found = find_seq_at(rows, (UserId::MAX, AssetId::MAX), UnixMillis(at), &cost);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let found = runtime.unwrap().block_on(found);
    (found.map(|seq| seq.map(Seq::get)), cost.statement_count())
}

proptest! {
    #[test]
    fn the_first_row_from_the_top_that_is_not_later_is_found_in_few_reads(
        seqs in proptest::collection::btree_set(prop_oneof![1_i64..50, 1..=i64::MAX], 0..60),
        steps in proptest::collection::vec(0_i64..3, 60),
        undated in proptest::collection::vec(any::<bool>(), 60),
        at in -1_i64..80,
    ) {
        let mut now = 0;
        let rows: Vec<_> = seqs.into_iter().zip(steps).zip(undated).map(|((seq, step), undated)| {
            now += step;
            (seq, (!undated).then_some(now))
        }).collect();
        let rows = FakeRows(rows);
        let (found, reads) = search_seq(&rows, at);
        prop_assert!(reads <= 64, "{reads}");
        prop_assert_eq!(found.unwrap(), rows.first_not_later(at));
    }

    #[test]
    fn only_a_thousand_rows_without_a_time_one_after_the_other_can_make_a_search_fail(
        runs in proptest::collection::vec((any::<bool>(), 1_usize..700, any::<bool>()), 1..16),
        at in -1_i64..20,
    ) {
        let lengths = runs.iter().map(|(_, length, _)| *length).sum::<usize>();
        let apart = i64::MAX / i64::try_from(lengths).unwrap();
        let (mut seq, mut rows) = (0, Vec::new());
        for ((undated, length, far), now) in runs.into_iter().zip(0..) {
            for _ in 0..length {
                seq += if far { apart } else { 1 };
                rows.push((seq, (!undated).then_some(now)));
            }
        }
        let rows = FakeRows(rows);
        let (found, reads) = search_seq(&rows, at);
        prop_assert!(reads <= 64, "{reads}");
        match found {
            Ok(found) => prop_assert_eq!(found, rows.first_not_later(at)),
            Err(error) => prop_assert!(rows.most_undated() >= 1_000, "{error}"),
        }
    }
}

#[test]
fn no_search_of_dated_rows_takes_more_than_64_reads() {
    let dense = FakeRows((1..=100_000).map(|seq| (seq, Some(seq))).collect());
    for at in [1, 2, 77_777, 99_999] {
        let (found, reads) = search_seq(&dense, at);
        assert_eq!(found.unwrap(), Some(at));
        assert!(reads <= 20, "{reads}");
    }
    assert_eq!(
        search_seq(&dense, i64::MAX).1,
        1,
        "the newest row is read first"
    );
    assert_eq!(search_seq(&dense, 0).0.unwrap(), None);
    let sparse = FakeRows(vec![
        (1, Some(1)),
        (i64::MAX - 1, Some(5)),
        (i64::MAX, Some(9)),
    ]);
    for (at, seq) in [
        (0, None),
        (1, Some(1)),
        (4, Some(1)),
        (5, Some(i64::MAX - 1)),
    ] {
        let (found, reads) = search_seq(&sparse, at);
        assert_eq!(found.unwrap(), seq);
        assert!(reads <= 64, "{reads}");
    }
    assert_eq!(search_seq(&FakeRows(vec![]), 1).0.unwrap(), None);
}

#[test]
fn rows_without_a_time_are_passed_over_and_too_many_of_them_are_an_error() {
    let some = FakeRows(
        (1..=30_000)
            .map(|seq| (seq, (seq <= 5 || seq > 29_000).then_some(seq)))
            .collect(),
    );
    assert_eq!(search_seq(&some, 28_000).0.unwrap(), Some(5));
    assert_eq!(search_seq(&some, 29_500).0.unwrap(), Some(29_500));
    let none = FakeRows((1..=40_000).map(|seq| (seq, None)).collect());
    assert_eq!(search_seq(&none, 5).0.unwrap(), None);
    let many = FakeRows((1..=200_000).map(|seq| (seq, None)).collect());
    let (found, reads) = search_seq(&many, 5);
    assert!(matches!(found, Err(LedgerError::Unavailable(_))));
    assert_eq!(reads, 64);
}

#[test]
fn a_short_history_with_far_seqs_is_found_whatever_rows_have_no_time() {
    let far = |number: i64| i64::MAX / 40 * number;
    for (undated, reads_max) in [(2, 2), (3, 64), (5, 2)] {
        let rows = (1..=40).map(|number| (far(number), (number % undated != 0).then_some(number)));
        let rows = FakeRows(rows.collect());
        for at in 0..=40 {
            let (found, reads) = search_seq(&rows, at);
            assert_eq!(found.unwrap(), rows.first_not_later(at));
            assert!(reads <= reads_max, "{reads}");
        }
    }
    // The last halving meets a row without a time.
    let (near, last) = (1 << 40, i64::MAX);
    let rows = FakeRows(vec![
        (40, Some(10)),
        (near, Some(20)),
        (last - 1, None),
        (last, Some(30)),
    ]);
    for at in [9, 10, 29, 30] {
        let (found, reads) = search_seq(&rows, at);
        assert_eq!(found.unwrap(), rows.first_not_later(at));
        assert!(reads <= 64, "{reads}");
    }
    // All of it within a moment of nanoseconds, and one row without a time in the midst.
    let rows = (0..=2_000).map(|number| {
        let seq = 1_765_352_441_955_000_000 + number;
        (seq, (number != 1_000).then_some(number))
    });
    let rows = FakeRows(rows.collect());
    for at in [0, 1, 999, 1_000, 1_001, 1_998] {
        let (found, reads) = search_seq(&rows, at);
        assert_eq!(found.unwrap(), rows.first_not_later(at));
        assert!(reads <= 64, "{reads}");
    }
}
