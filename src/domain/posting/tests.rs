use proptest::prelude::*;

use super::*;

fn transaction(entries: &str, more: &str) -> Transaction {
    Transaction::parse(&format!(
        r#"{{"transaction_id":9,"entries":[{entries}]{more}}}"#
    ))
    .unwrap()
}

fn head(seq: i64, avail: i64, frozen: i64) -> Head {
    Head {
        seq: Seq::new(seq).unwrap(),
        avail: Amount::from_raw(avail),
        frozen: Amount::from_raw(frozen),
    }
}

/// The reason, or seq, avail and frozen of the first row.
fn judged(entry: &str, more: &str, head: Option<Head>) -> Result<(i64, i64, i64), Reason> {
    let rows = transaction(&format!(r#"{{"user_id":1,"asset_id":1,{entry}}}"#), more)
        .rows(&[head], UnixMillis(77))
        .map_err(|refusal| refusal.reason)?;
    let row = &rows[0];
    Ok((row.seq.get(), row.avail.raw(), row.frozen.raw()))
}

#[test]
fn the_first_seq_is_1_and_the_next_follows_the_one_that_stands() {
    assert_eq!(judged(r#""delta_avail":5"#, "", None), Ok((1, 5, 0)));
    let moved = judged(
        r#""delta_avail":-5,"delta_frozen":5"#,
        "",
        Some(head(41, 5, 0)),
    );
    assert_eq!(moved, Ok((42, 0, 5)));
    let last = judged(r#""delta_avail":5"#, "", Some(head(i64::MAX, 5, 0)));
    assert_eq!(last, Err(Reason::LastSeq));
}

#[test]
fn only_an_amount_that_is_lowered_below_zero_refuses_and_overdraft_allows_it() {
    let lowered = |more| judged(r#""delta_avail":-6"#, more, Some(head(1, 5, 0)));
    assert_eq!(lowered(""), Err(Reason::AvailBelowZero));
    assert_eq!(lowered(r#","overdraft":true"#), Ok((2, -1, 0)));
    let frozen = judged(r#""delta_frozen":-1"#, "", Some(head(1, 5, 0)));
    assert_eq!(frozen, Err(Reason::FrozenBelowZero));
    let raised = judged(r#""delta_avail":1"#, "", Some(head(1, -5, -5)));
    assert_eq!(raised, Ok((2, -4, -5)), "below zero before, and raised");
}

#[test]
fn what_does_not_fit_in_64_bits_is_refused_even_with_overdraft() {
    let over = judged(
        r#""delta_avail":9223372036854775807"#,
        "",
        Some(head(1, 1, 0)),
    );
    assert_eq!(over, Err(Reason::Overflow));
    let under = judged(
        r#""delta_avail":-9223372036854775808"#,
        r#","overdraft":true"#,
        Some(head(1, -1, 0)),
    );
    assert_eq!(under, Err(Reason::Overflow));
}

#[test]
fn expect_seq_is_the_seq_that_stands_and_0_is_none() {
    let expect =
        |seq: i64, head| judged(&format!(r#""delta_avail":1,"expect_seq":{seq}"#), "", head);
    assert!(expect(0, None).is_ok());
    assert!(expect(3, Some(head(3, 0, 0))).is_ok());
    assert_eq!(expect(3, None), Err(Reason::OtherSeq { stands: 0 }));
    assert_eq!(
        expect(0, Some(head(3, 0, 0))),
        Err(Reason::OtherSeq { stands: 3 })
    );
    // Of a sum of zero too, which gets no row.
    let both =
        r#"{"user_id":1,"asset_id":1,"expect_seq":2},{"user_id":2,"asset_id":1,"delta_avail":1}"#;
    let both = transaction(both, "");
    let refused = both.rows(&[Some(head(3, 0, 0)), None], UnixMillis(0));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "user 1, asset 1: expect_seq is not the seq that stands, 3"
    );
    let rows = both
        .rows(&[Some(head(2, 0, 0)), None], UnixMillis(0))
        .unwrap();
    assert_eq!(rows.len(), 1, "a sum of zero gets no row");
}

#[test]
fn rows_say_what_they_are_of() {
    let rows = transaction(
        r#"{"user_id":1,"asset_id":1,"delta_avail":5}"#,
        r#","event_type":"deposit""#,
    )
    .rows(&[None], UnixMillis(77))
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
        let judged = judged(&entry, &more, Some(head(1, head_amounts.0, head_amounts.1)));
        prop_assert_eq!(judged.is_ok(), good);
        if let Ok((_, avail, frozen)) = judged {
            prop_assert_eq!((i128::from(avail), i128::from(frozen)), after);
        }
    }
}
