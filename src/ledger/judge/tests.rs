use super::*;
use crate::domain::Receipt;

const NOW: UnixMillis = UnixMillis(5);

fn test_transaction(id: i64, legs: &[(i64, i64)]) -> LedgerRequest {
    let leg = |(user, delta): &(i64, i64)| serde_json::json!({"user_id": user, "asset_id": 1, "delta_avail": delta});
    let entries: Vec<_> = legs.iter().map(leg).collect();
    let json = serde_json::json!({"transaction_id": id, "entries": entries});
    LedgerRequest::Transaction(Transaction::parse_transaction(&json.to_string()).unwrap())
}

fn test_entry(user: i64, seq: i64, avail: i64) -> Entry {
    let json = serde_json::json!({"user_id": user, "asset_id": 1, "seq": seq, "avail": avail, "frozen": 0});
    Entry::parse_entry(&json.to_string()).unwrap()
}

fn with_head(user: i64, seq: i64, avail: i64) -> LedgerFacts {
    let mut facts = LedgerFacts::default();
    facts.advance_by(&Item {
        claim: None,
        rows: vec![fresh_row(test_entry(user, seq, avail))],
    });
    facts
}

/// seq and avail of each row, by item.
fn rows_by_item(judged: &Judged) -> Vec<Vec<(i64, i64)>> {
    let of = |row: &RowToWrite| (row.entry.seq.get(), row.entry.avail.raw());
    let items = judged.items.iter();
    items
        .map(|item| item.rows.iter().map(of).collect())
        .collect()
}

#[test]
fn each_is_judged_by_what_stands_after_those_before_it_and_a_refused_one_refuses_nobody() {
    let group = [
        test_transaction(1, &[(7, -6)]),
        test_transaction(2, &[(7, -6), (8, 6)]),
        test_transaction(3, &[(7, -4), (8, 4)]),
        test_transaction(1, &[(7, -6)]),
        test_transaction(1, &[(7, -5)]),
        test_transaction(4, &[(8, -4)]),
    ];
    let judged = judge_requests(&group, with_head(7, 9, 10), NOW);
    assert_eq!(
        rows_by_item(&judged),
        [vec![(10, 4)], vec![(11, 0), (1, 4)], vec![(2, 0)]]
    );
    let word = |answer: &JudgedAnswer| match answer {
        JudgedAnswer::Outcome(SettleOutcome::Written(_)) => "written",
        JudgedAnswer::Outcome(SettleOutcome::Repeated(_)) => "repeated",
        JudgedAnswer::Outcome(SettleOutcome::Refused(_)) => "refused",
        JudgedAnswer::Outcome(SettleOutcome::Conflict(_)) => "conflict",
        JudgedAnswer::Entries(_) | JudgedAnswer::Taken(_) => "entries",
    };
    let words: Vec<_> = judged.answers.iter().map(word).collect();
    assert_eq!(
        words,
        [
            "written", "refused", "written", "repeated", "conflict", "written"
        ]
    );
    assert!(judged.answers[1].is_refusal());
}

#[test]
fn entries_stand_all_or_none_and_seqs_go_on_from_the_highest() {
    let group = [
        LedgerRequest::Entries(vec![
            test_entry(7, 12, 3),
            test_entry(7, 11, 2),
            test_entry(7, 12, 3),
        ]),
        LedgerRequest::Entries(vec![test_entry(7, 13, 4), test_entry(7, 11, 1)]),
        LedgerRequest::Entries(vec![test_entry(7, 9, 10)]),
        test_transaction(1, &[(7, 1)]),
    ];
    let judged = judge_requests(&group, with_head(7, 9, 10), NOW);
    assert_eq!(
        rows_by_item(&judged),
        [vec![(12, 3), (11, 2)], vec![(9, 10)], vec![(13, 4)]]
    );
    let written = |written, repeated| JudgedAnswer::Entries(WrittenCounts { written, repeated });
    assert_eq!(
        judged.answers[..3],
        [written(2, 1), JudgedAnswer::Taken(1), written(0, 1)]
    );
    assert!(judged.items[1].rows[0].stood);
}

#[test]
fn a_claim_that_broke_off_is_completed_with_its_own_rows() {
    let LedgerRequest::Transaction(one) = test_transaction(1, &[(7, 1)]) else {
        return;
    };
    let balance = PostedBalance::from(&test_entry(7, 4, 40));
    let stored = StoredTransaction {
        state: SettleState::Pending,
        content: one.content.clone(),
        receipt: Receipt {
            balances: vec![balance],
            created_at: UnixMillis(3),
        },
    };
    let mut facts = with_head(7, 9, 10);
    facts.stored.insert(one.reference, stored);
    let again = test_transaction(2, &[(7, 1)]);
    let judged = judge_requests(&[LedgerRequest::Transaction(one), again], facts, NOW);
    assert!(matches!(
        judged.answers[0],
        JudgedAnswer::Outcome(SettleOutcome::Repeated(_))
    ));
    // The second goes on from the highest seq, not from the row that was completed.
    assert_eq!(rows_by_item(&judged), [vec![(4, 40)], vec![(10, 11)]]);
}
