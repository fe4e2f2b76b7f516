use super::*;

fn row(key: RowKey, avail: i64, delta: Option<i64>) -> HistoryRow {
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

fn broken(rows: &[(HistoryRow, bool)]) -> (Vec<RowKey>, Conservation) {
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
    let (found, all) = broken(&[
        (row((2, 1, 9), 70, Some(-30)), true),
        (row((2, 1, 5), 100, None), false),
        (row((1, 1, 3), 130, Some(30)), true),
        (row((1, 1, 2), 100, None), false),
        (row((1, 1, 1), 40, Some(40)), false),
    ]);
    assert_eq!(found, []);
    assert_eq!(all.of(1), [200, 100, 0, 100]);
    let catalogue = Catalogue::default();
    assert_eq!(
        all.lines(&catalogue, false),
        [
            "1: 200 in the ledger = 100 at the beginning + 0 by trades + 100 by everything else; 2 of 5 rows have no deltas"
        ]
    );
}

#[test]
fn a_row_that_does_not_add_up_is_named_with_what_it_should_be() {
    let (found, all) = broken(&[
        (row((1, 1, 3), 6, Some(1)), false),
        (row((1, 1, 2), 5, Some(3)), false),
        (row((1, 1, 1), 1, Some(1)), false),
    ]);
    assert_eq!(found, [(1, 1, 2)]);
    assert_eq!(all.of(1), [6, 0, 0, 5]);
}

#[test]
fn a_record_wants_its_rows_as_they_were() {
    let record = Record {
        is_trade: true,
        id: 7,
        content: String::new(),
        balances: "[[1,1,3,50,0]]".to_owned(),
        is_done: true,
    };
    let catalogue = Catalogue::default();
    let rows = record.rows(&catalogue).unwrap();
    let with_deltas = RecordedRow {
        deltas: Some((5, 0)),
        ..rows[0]
    };
    let kind = |recorded_row: &RecordedRow, stands: Option<HistoryRow>| {
        let found = recorded(&record, recorded_row, stands.as_ref(), &catalogue);
        found.map(|found| found.kind)
    };
    let right = row((1, 1, 3), 50, Some(5));
    assert_eq!(kind(&with_deltas, Some(right)), None);
    assert_eq!(
        kind(&rows[0], Some(row((1, 1, 3), 50, Some(6)))),
        None,
        "unknown"
    );
    assert_eq!(kind(&with_deltas, None), Some(Kind::RecordIncomplete));
    for wrong in [
        row((1, 1, 3), 51, Some(5)),
        row((1, 1, 3), 50, Some(6)),
        HistoryRow {
            ref_id: Some(8),
            ..right
        },
    ] {
        assert_eq!(kind(&with_deltas, Some(wrong)), Some(Kind::RecordDiffers));
    }
}

#[test]
fn units_are_written_whole() {
    assert_eq!(Units(910_000_000_000).decimal(8), "9100");
    assert_eq!(Units(-12_345).decimal(8), "-0.00012345");
    assert_eq!(
        Units(i128::from(i64::MAX) * 4).decimal(0),
        "36893488147419103228"
    );
}
