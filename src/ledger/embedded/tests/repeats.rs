use redb::{ReadableDatabase as _, TableDefinition};

use super::*;

#[rustfmt::skip]
type OldLedgerRow = (
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<&'static str>,
    Option<i64>,
    Option<i64>,
);
const LEDGER: TableDefinition<(i64, i32, i64), OldLedgerRow> =
    TableDefinition::new("balance_ledger");
type OldBalanceRow = (i64, i64, i64, Option<i64>);
const BALANCES: TableDefinition<(i64, i32), OldBalanceRow> = TableDefinition::new("user_balances");

/// The same amounts under the same seq, everything else another.
fn otherwise_same(entry: &Entry) -> Entry {
    Entry {
        delta_avail: Some(Amount::from_raw(7)),
        delta_frozen: Some(Amount::from_raw(8)),
        event_type: Some("trade".to_owned()),
        ref_id: Some(9),
        created_at: Some(UnixMillis(999_999)),
        ..entry.clone()
    }
}

#[tokio::test]
async fn the_repeat_of_an_entry_leaves_the_row_that_stands_as_it_is() {
    let (folder, ledger) = new_ledger();
    let first = test_entry(1, 1, 5, 50);
    let repeat = [otherwise_same(&first)];
    write_all(&ledger, &[first]).await;
    // Alone, and beside an entry that is new.
    let done = write_all(&ledger, &repeat).await;
    assert_eq!((done.written, done.repeated), (0, 1));
    let done = write_all(&ledger, &[repeat[0].clone(), test_entry(1, 2, 1, 1)]).await;
    assert_eq!((done.written, done.repeated), (1, 1));
    let stands = (1, 5, 50, -50, Some(5));
    let latest = load_newest(&ledger, 1, &[1]).await;
    assert_eq!(plain_balances(&latest), [stands]);
    assert_eq!(held_balances(&ledger, 1).await[0], stands);
    drop(ledger);
    let table = open_file(&folder)
        .begin_read()
        .unwrap()
        .open_table(LEDGER)
        .unwrap();
    let row = table.get((1, 1, 5)).unwrap().unwrap();
    let expected = (50, -50, None, None, Some("deposit"), None, Some(5));
    assert_eq!(row.value(), expected);
}

#[tokio::test]
async fn within_one_request_the_first_of_equal_amounts_stands() {
    let (_folder, ledger) = new_ledger();
    let first = test_entry(1, 1, 5, 50);
    let done = ledger
        .write_entries(&[first.clone(), otherwise_same(&first)])
        .await;
    let done = done.unwrap();
    assert_eq!((done.written, done.repeated), (1, 1));
    let latest = load_newest(&ledger, 1, &[1]).await;
    assert_eq!(plain_balances(&latest), [(1, 5, 50, -50, Some(5))]);
}

#[tokio::test]
async fn a_repeat_completes_the_current_state_from_the_row_that_stands() {
    let (folder, mut ledger) = new_ledger();
    let rows = [test_entry(1, 1, 5, 50), test_entry(1, 1, 9, 90)];
    write_all(&ledger, &rows).await;
    for held in [None, Some((30, -30, 3, Some(3)))] {
        drop(ledger);
        let transaction = open_file(&folder).begin_write().unwrap();
        {
            let mut balances = transaction.open_table(BALANCES).unwrap();
            balances.remove((1, 1)).unwrap();
            if let Some(row) = held {
                balances.insert((1, 1), row).unwrap();
            }
        }
        transaction.commit().unwrap();
        ledger = open_ledger(&folder);
        let repeats = [otherwise_same(&rows[1]), otherwise_same(&rows[0])];
        let done = write_all(&ledger, &repeats).await;
        assert_eq!((done.written, done.repeated), (0, 2));
        let loaded = ledger.load_snapshot(test_user(1)).await.unwrap();
        assert_eq!(
            plain_balances(&loaded),
            [(1, 9, 90, -90, Some(9))],
            "{held:?}"
        );
    }
}
