//! The row that a reader missed first, and what reads cost.

use super::*;
use crate::{
    domain::Seq,
    ledger::{Cost, RowAbove},
};

#[tokio::test]
async fn the_lowest_row_above_a_seq_is_told_with_when_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let before = clock::wall_now();
    let ledger = open_ledger(&folder);
    let rows: Vec<_> = [3, 7, i64::MAX].map(|seq| test_entry(5, 1, seq, 10)).into();
    write_all(&ledger, &rows).await;
    write_all(&ledger, &[test_entry(5, 2, 1, 10)]).await;
    let above = async |seq: Option<i64>| {
        let seq = seq.map(|seq| Seq::new(seq).unwrap());
        ledger
            .row_above(test_user(5), test_assets(&[1])[0], seq)
            .await
            .unwrap()
    };
    let number = async |seq| above(seq).await.map(|row: RowAbove| row.seq.get());
    assert_eq!(number(None).await, Some(3));
    assert_eq!(number(Some(3)).await, Some(7));
    assert_eq!(number(Some(8)).await, Some(i64::MAX));
    assert_eq!(number(Some(i64::MAX)).await, None);
    let row = above(None).await.unwrap();
    assert_eq!(row.created_at, Some(UnixMillis(3)));
    let written = row.written_at.unwrap();
    assert!((before..=clock::wall_now()).contains(&written));
    drop(ledger);
    let opened = clock::wall_now();
    let ledger = open_ledger(&folder);
    let row = ledger
        .row_above(test_user(5), test_assets(&[1])[0], None)
        .await;
    assert!(
        row.unwrap().unwrap().written_at.unwrap() >= opened,
        "before this life"
    );
}

#[tokio::test]
async fn a_read_says_how_many_rows_it_took_whatever_the_history() {
    let (_folder, ledger) = new_ledger();
    for seq in 1..50 {
        write_all(
            &ledger,
            &[test_entry(5, 1, seq, 10), test_entry(5, 2, seq, 10)],
        )
        .await;
    }
    let cost = Cost::default();
    ledger.load_counting(test_user(5), &cost).await.unwrap();
    assert_eq!((cost.statement_count(), cost.row_count()), (1, 2));
    ledger
        .latest_counting(test_user(5), &test_assets(&[1]), &cost)
        .await
        .unwrap();
    assert_eq!((cost.statement_count(), cost.row_count()), (2, 3));
}
