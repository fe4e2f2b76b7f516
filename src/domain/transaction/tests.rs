use super::*;

fn content_of(json: &str) -> String {
    Transaction::parse_transaction(json).unwrap().content
}

#[test]
fn a_transaction_is_the_same_whatever_the_order_of_keys_and_entries() {
    let plain = r#"{"transaction_id":9,"entries":[{"user_id":1,"asset_id":1,"delta_avail":5},{"user_id":2,"asset_id":1,"delta_avail":-5,"expect_seq":3}]}"#;
    for same in [
        r#"{"entries":[{"asset_id":1,"user_id":2,"delta_avail":-5,"expect_seq":3},{"delta_frozen":0,"user_id":1,"asset_id":1,"delta_avail":5}],"transaction_id":9}"#,
        r#"{"transaction_id":9,"event_type":"adjustment","overdraft":false,"created_at":null,"entries":[{"user_id":1,"asset_id":1,"delta_avail":5,"delta_frozen":null,"expect_seq":null},{"user_id":2,"asset_id":1,"delta_avail":-5,"expect_seq":3}]}"#,
    ] {
        assert_eq!(content_of(same), content_of(plain), "{same}");
    }
    for other in [
        plain.replace(":9", ":8"),
        plain.replace("\"entries\"", "\"created_at\":1,\"entries\""),
        plain.replace("\"entries\"", "\"overdraft\":true,\"entries\""),
        plain.replace("\"entries\"", "\"event_type\":\"deposit\",\"entries\""),
        plain.replace("\"expect_seq\":3", "\"expect_seq\":4"),
        plain.replace(
            "avail\":5}",
            "avail\":4},{\"user_id\":1,\"asset_id\":1,\"delta_avail\":1}",
        ),
    ] {
        assert_ne!(content_of(&other), content_of(plain), "{other}");
    }
}

#[test]
fn entries_of_one_user_and_asset_count_as_their_sum() {
    let json = r#"{"transaction_id":1,"entries":[
        {"user_id":2,"asset_id":1,"delta_avail":9223372036854775807},
        {"user_id":1,"asset_id":3,"delta_frozen":7},
        {"user_id":2,"asset_id":1,"delta_avail":9223372036854775807,"delta_frozen":-1}]}"#;
    let changes = Transaction::parse_transaction(json).unwrap().changes;
    let sums: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change.user.get(),
                change.asset.get(),
                change.delta_avail,
                change.delta_frozen,
            )
        })
        .collect();
    assert_eq!(sums, [(1, 3, 0, 7), (2, 1, 2 * i128::from(i64::MAX), -1)]);
}

#[test]
fn what_is_no_transaction_is_refused_with_its_place() {
    let with = |entries: &str| format!(r#"{{"transaction_id":1,"entries":{entries}}}"#);
    let many = vec![r#"{"user_id":1,"asset_id":1,"delta_avail":1}"#; 65].join(",");
    let cases = [
        (with("[]"), "at least one"),
        (with("{}"), "sequence"),
        (with("[[1,1,5,0,null]]"), "entries[0]"),
        (with(r#"[{"user_id":1,"asset_id":1}]"#), "every sum is zero"),
        (with(r#"[{"user_id":1,"asset_id":1,"delta_avail":1},{"user_id":1,"asset_id":1,"delta_avail":-1}]"#), "every sum is zero"),
        (with(r#"[{"user_id":1,"asset_id":1,"delta_avail":1},{"user_id":0,"asset_id":1,"delta_avail":1}]"#), "entries[1]: user_id"),
        (with(r#"[{"user_id":1,"asset_id":2147483648,"delta_avail":1}]"#), "entries[0]: asset_id"),
        (with(r#"[{"user_id":1,"asset_id":1,"delta_avail":9223372036854775808}]"#), "entries[0]"),
        (with(r#"[{"user_id":1,"asset_id":1,"delta_avail":1.5}]"#), "entries[0]"),
        (with(r#"[{"user_id":1,"asset_id":1,"delta_avail":"1"}]"#), "entries[0]"),
        (with(r#"[{"user_id":1,"asset_id":1,"delta_avail":1,"expected_seq":1}]"#), "expected_seq"),
        (with(r#"[{"user_id":1,"asset_id":1,"delta_avail":1,"expect_seq":-1}]"#), "expect_seq"),
        (with(r#"[{"user_id":1,"asset_id":1,"delta_avail":1,"expect_seq":1},{"user_id":1,"asset_id":1,"delta_avail":1,"expect_seq":2}]"#), "entries[1]: expect_seq"),
        (with(&format!("[{many}]")), "more than 64"),
        (r#"{"transaction_id":0,"entries":[{"user_id":1,"asset_id":1,"delta_avail":1}]}"#.to_owned(), "transaction_id"),
        (r#"{"entries":[{"user_id":1,"asset_id":1,"delta_avail":1}]}"#.to_owned(), "transaction_id"),
        (r#"{"transaction_id":1,"event_type":"","entries":[{"user_id":1,"asset_id":1,"delta_avail":1}]}"#.to_owned(), "event_type"),
        (r#"{"transaction_id":1,"event_type":"Deposit","entries":[{"user_id":1,"asset_id":1,"delta_avail":1}]}"#.to_owned(), "event_type"),
        (r#"{"transaction_id":1,"event_type":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","entries":[{"user_id":1,"asset_id":1,"delta_avail":1}]}"#.to_owned(), "event_type"),
        (r#"{"transaction_id":1,"created_at":-1,"entries":[{"user_id":1,"asset_id":1,"delta_avail":1}]}"#.to_owned(), "created_at"),
        (r#"{"transaction_id":1,"ref":1,"entries":[{"user_id":1,"asset_id":1,"delta_avail":1}]}"#.to_owned(), "ref"),
    ];
    for (json, says) in cases {
        let what = Transaction::parse_transaction(&json).unwrap_err();
        assert!(what.contains(says), "{json}: {what}");
    }
}
