use proptest::prelude::*;

use super::*;

fn test_transaction(entries: &str, more: &str) -> Transaction {
    Transaction::parse_transaction(&format!(
        r#"{{"transaction_id":9,"entries":[{entries}]{more}}}"#
    ))
    .unwrap()
}

fn test_head(seq: i64, avail: i64, frozen: i64) -> BalanceHead {
    BalanceHead {
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(avail),
        frozen: Amount::from_raw(frozen),
    }
}

/// The reason, or seq, avail and frozen of the first row.
fn judge_entry(
    entry: &str,
    more: &str,
    head: Option<BalanceHead>,
) -> Result<(i64, i64, i64), RefusalReason> {
    let rows = test_transaction(&format!(r#"{{"user_id":1,"asset_id":1,{entry}}}"#), more)
        .rows_above(&[head], UnixMillis(77))
        .map_err(|refusal| refusal.reason)?;
    let row = &rows[0];
    Ok((row.seq.get(), row.avail.raw(), row.frozen.raw()))
}

#[test]
fn the_first_seq_is_1_and_the_next_follows_the_one_that_stands() {
    assert_eq!(judge_entry(r#""delta_avail":5"#, "", None), Ok((1, 5, 0)));
    let moved = judge_entry(
        r#""delta_avail":-5,"delta_frozen":5"#,
        "",
        Some(test_head(41, 5, 0)),
    );
    assert_eq!(moved, Ok((42, 0, 5)));
    let last = judge_entry(r#""delta_avail":5"#, "", Some(test_head(i64::MAX, 5, 0)));
    assert_eq!(last, Err(RefusalReason::LastSeq));
}

#[test]
fn only_an_amount_that_is_lowered_below_zero_refuses_and_overdraft_allows_it() {
    let lowered = |more| judge_entry(r#""delta_avail":-6"#, more, Some(test_head(1, 5, 0)));
    assert_eq!(lowered(""), Err(RefusalReason::AvailBelowZero));
    assert_eq!(lowered(r#","overdraft":true"#), Ok((2, -1, 0)));
    let frozen = judge_entry(r#""delta_frozen":-1"#, "", Some(test_head(1, 5, 0)));
    assert_eq!(frozen, Err(RefusalReason::FrozenBelowZero));
    let raised = judge_entry(r#""delta_avail":1"#, "", Some(test_head(1, -5, -5)));
    assert_eq!(raised, Ok((2, -4, -5)), "below zero before, and raised");
}

#[test]
fn what_does_not_fit_in_64_bits_is_refused_even_with_overdraft() {
    let over = judge_entry(
        r#""delta_avail":9223372036854775807"#,
        "",
        Some(test_head(1, 1, 0)),
    );
    assert_eq!(over, Err(RefusalReason::Overflow));
    let under = judge_entry(
        r#""delta_avail":-9223372036854775808"#,
        r#","overdraft":true"#,
        Some(test_head(1, -1, 0)),
    );
    assert_eq!(under, Err(RefusalReason::Overflow));
}

#[test]
fn expect_seq_is_the_seq_that_stands_and_0_is_none() {
    let expect =
        |seq: i64, head| judge_entry(&format!(r#""delta_avail":1,"expect_seq":{seq}"#), "", head);
    assert!(expect(0, None).is_ok());
    assert!(expect(3, Some(test_head(3, 0, 0))).is_ok());
    assert_eq!(expect(3, None), Err(RefusalReason::OtherSeq { stands: 0 }));
    assert_eq!(
        expect(0, Some(test_head(3, 0, 0))),
        Err(RefusalReason::OtherSeq { stands: 3 })
    );
    // Of a sum of zero too, which gets no row.
    let both =
        r#"{"user_id":1,"asset_id":1,"expect_seq":2},{"user_id":2,"asset_id":1,"delta_avail":1}"#;
    let both = test_transaction(both, "");
    let refused = both.rows_above(&[Some(test_head(3, 0, 0)), None], UnixMillis(0));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "user 1, asset 1: expect_seq is not the seq that stands, 3"
    );
    let rows = both
        .rows_above(&[Some(test_head(2, 0, 0)), None], UnixMillis(0))
        .unwrap();
    assert_eq!(rows.len(), 1, "a sum of zero gets no row");
}

#[test]
fn rows_say_what_they_are_of() {
    let rows = test_transaction(
        r#"{"user_id":1,"asset_id":1,"delta_avail":5}"#,
        r#","event_type":"deposit""#,
    )
    .rows_above(&[None], UnixMillis(77))
    .unwrap();
    assert_eq!(rows[0].event_type.as_deref(), Some("deposit"));
    assert_eq!(rows[0].ref_id, Some(9));
    assert_eq!(rows[0].created_at, Some(UnixMillis(77)));
    assert_eq!(rows[0].delta_avail, Some(Amount::from_raw(5)));
}

proptest! {
    #[test]
    fn a_row_is_exactly_the_head_and_the_change_or_nothing(
        head_amounts: (i64, i64), deltas: (i64, i64), overdraft: bool,
    ) {
        prop_assume!(deltas != (0, 0));
        let entry = format!(r#""delta_avail":{},"delta_frozen":{}"#, deltas.0, deltas.1);
        let more = format!(r#","overdraft":{overdraft}"#);
        let after = (
            i128::from(head_amounts.0) + i128::from(deltas.0),
            i128::from(head_amounts.1) + i128::from(deltas.1),
        );
        let fits = |amount: i128| i64::try_from(amount).is_ok();
        let below = |amount: i128, delta: i64| delta < 0 && amount < 0 && !overdraft;
        let good = fits(after.0) && fits(after.1) && !below(after.0, deltas.0) && !below(after.1, deltas.1);
        let judged = judge_entry(&entry, &more, Some(test_head(1, head_amounts.0, head_amounts.1)));
        prop_assert_eq!(judged.is_ok(), good);
        if let Ok((_, avail, frozen)) = judged {
            prop_assert_eq!((i128::from(avail), i128::from(frozen)), after);
        }
    }
}
