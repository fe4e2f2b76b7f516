use super::*;
use crate::domain::Receipt;

const NOW: UnixMillis = UnixMillis(5);

fn transaction(id: i64, legs: &[(i64, i64)]) -> Request {
    let leg = |(user, delta): &(i64, i64)| serde_json::json!({"user_id": user, "asset_id": 1, "delta_avail": delta});
    let entries: Vec<_> = legs.iter().map(leg).collect();
    let json = serde_json::json!({"transaction_id": id, "entries": entries});
    Request::Transaction(Transaction::parse(&json.to_string()).unwrap())
}

fn entry(user: i64, seq: i64, avail: i64) -> Entry {
    let json = serde_json::json!({"user_id": user, "asset_id": 1, "seq": seq, "avail": avail, "frozen": 0});
    Entry::parse(&json.to_string()).unwrap()
}

fn with_head(user: i64, seq: i64, avail: i64) -> Facts {
    let mut facts = Facts::default();
    facts.advance(&Item {
        claim: None,
        rows: vec![fresh(entry(user, seq, avail))],
    });
    facts
}

/// seq and avail of each row, by item.
fn rows(judged: &Judged) -> Vec<Vec<(i64, i64)>> {
    let of = |row: &Row| (row.entry.seq.get(), row.entry.avail.raw());
    let items = judged.items.iter();
    items
        .map(|item| item.rows.iter().map(of).collect())
        .collect()
}

#[test]
fn each_is_judged_by_what_stands_after_those_before_it_and_a_refused_one_refuses_nobody() {
    let group = [
        transaction(1, &[(7, -6)]),
        transaction(2, &[(7, -6), (8, 6)]),
        transaction(3, &[(7, -4), (8, 4)]),
        transaction(1, &[(7, -6)]),
        transaction(1, &[(7, -5)]),
        transaction(4, &[(8, -4)]),
    ];
    let judged = judge(&group, with_head(7, 9, 10), NOW);
    assert_eq!(
        rows(&judged),
        [vec![(10, 4)], vec![(11, 0), (1, 4)], vec![(2, 0)]]
    );
    let word = |answer: &Answer| match answer {
        Answer::Outcome(Outcome::Written(_)) => "written",
        Answer::Outcome(Outcome::Repeated(_)) => "repeated",
        Answer::Outcome(Outcome::Refused(_)) => "refused",
        Answer::Outcome(Outcome::Conflict(_)) => "conflict",
        Answer::Entries(_) | Answer::Taken(_) => "entries",
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
        Request::Entries(vec![entry(7, 12, 3), entry(7, 11, 2), entry(7, 12, 3)]),
        Request::Entries(vec![entry(7, 13, 4), entry(7, 11, 1)]),
        Request::Entries(vec![entry(7, 9, 10)]),
        transaction(1, &[(7, 1)]),
    ];
    let judged = judge(&group, with_head(7, 9, 10), NOW);
    assert_eq!(
        rows(&judged),
        [vec![(12, 3), (11, 2)], vec![(9, 10)], vec![(13, 4)]]
    );
    let written = |written, repeated| Answer::Entries(Written { written, repeated });
    assert_eq!(
        judged.answers[..3],
        [written(2, 1), Answer::Taken(1), written(0, 1)]
    );
    assert!(judged.items[1].rows[0].stood);
}

#[test]
fn a_claim_that_broke_off_is_completed_with_its_own_rows() {
    let Request::Transaction(one) = transaction(1, &[(7, 1)]) else {
        return;
    };
    let balance = PostedBalance::from(&entry(7, 4, 40));
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
    let again = transaction(2, &[(7, 1)]);
    let judged = judge(&[Request::Transaction(one), again], facts, NOW);
    assert!(matches!(
        judged.answers[0],
        Answer::Outcome(Outcome::Repeated(_))
    ));
    // The second goes on from the highest seq, not from the row that was completed.
    assert_eq!(rows(&judged), [vec![(4, 40)], vec![(10, 11)]]);
}
