use balance_cache::ledger::records::RecordedRow;

use super::*;

fn sample_row(key: RowKey, avail: i64, delta: Option<i64>) -> HistoryRow {
    HistoryRow {
        key,
        avail,
        frozen: 0,
        delta_avail: delta,
        delta_frozen: None,
        is_trade: false,
        ref_id: Some(7),
    }
}

fn find_broken(rows: &[(HistoryRow, bool)]) -> (Vec<RowKey>, Conservation) {
    let mut all = Conservation::default();
    let found = rows
        .iter()
        .filter_map(|(row, of_trade)| all.add_row(*row, *of_trade));
    let found = found.map(|broken| broken.newer.key).collect();
    all.end_rows();
    (found, all)
}

#[test]
fn what_is_held_is_what_was_there_and_everything_that_moved() {
    let (found, all) = find_broken(&[
        (sample_row((2, 1, 9), 70, Some(-30)), true),
        (sample_row((2, 1, 5), 100, None), false),
        (sample_row((1, 1, 3), 130, Some(30)), true),
        (sample_row((1, 1, 2), 100, None), false),
        (sample_row((1, 1, 1), 40, Some(40)), false),
    ]);
    assert_eq!(found, []);
    assert_eq!(all.sums_of(1), [200, 100, 0, 100]);
    let catalogue = Catalogue::default();
    assert_eq!(
        all.asset_sentences(&catalogue, false),
        [
            "1: 200 in the ledger = 100 at the beginning + 0 by trades + 0 by transactions + 100 by everything else; 2 of 5 rows have no deltas"
        ]
    );
}

#[test]
fn a_row_that_does_not_add_up_is_named_with_what_it_should_be() {
    let (found, all) = find_broken(&[
        (sample_row((1, 1, 3), 6, Some(1)), false),
        (sample_row((1, 1, 2), 5, Some(3)), false),
        (sample_row((1, 1, 1), 1, Some(1)), false),
    ]);
    assert_eq!(found, [(1, 1, 2)]);
    assert_eq!(all.sums_of(1), [6, 0, 0, 5]);
}

#[test]
fn a_record_wants_its_rows_as_they_were() {
    let record = SettledRecord {
        is_trade: true,
        id: 7,
        content: String::new(),
        balances: "[[1,1,3,50,0]]".to_owned(),
        is_done: true,
    };
    let catalogue = Catalogue::default();
    let rows = record.recorded_rows(&catalogue).unwrap();
    let with_deltas = RecordedRow {
        deltas: Some((5, 0)),
        ..rows[0]
    };
    let kind = |recorded_row: &RecordedRow, stands: Option<HistoryRow>| {
        let found = compare_recorded(&record, recorded_row, stands.as_ref(), &catalogue);
        found.map(|found| found.kind)
    };
    let right = sample_row((1, 1, 3), 50, Some(5));
    assert_eq!(kind(&with_deltas, Some(right)), None);
    assert_eq!(
        kind(&rows[0], Some(sample_row((1, 1, 3), 50, Some(6)))),
        None,
        "unknown"
    );
    assert_eq!(
        kind(&with_deltas, None),
        Some(DifferenceKind::RecordIncomplete)
    );
    for wrong in [
        sample_row((1, 1, 3), 51, Some(5)),
        sample_row((1, 1, 3), 50, Some(6)),
        HistoryRow {
            ref_id: Some(8),
            ..right
        },
    ] {
        assert_eq!(
            kind(&with_deltas, Some(wrong)),
            Some(DifferenceKind::RecordDiffers)
        );
    }
}

#[test]
fn units_are_written_whole() {
    assert_eq!(Units(910_000_000_000).decimal_text(8), "9100");
    assert_eq!(Units(-12_345).decimal_text(8), "-0.00012345");
    assert_eq!(
        Units(i128::from(i64::MAX) * 4).decimal_text(0),
        "36893488147419103228"
    );
}
