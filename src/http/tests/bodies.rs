//! Bodies of POST requests: forms, limits, types, lengths.

use super::*;

const BATCH: &str = "/api/v1/user/balances";
const SETTLE: &str = "/api/v1/settlements";
const ENTRIES: &str = "/api/v1/ledger/entries";
const INVALIDATE: &str = "/api/v1/cache/invalidate";
const WARM: &str = "/api/v1/cache/warm";

fn users_body(count: usize) -> String {
    let ids: Vec<_> = (1..=count).map(|id| id.to_string()).collect();
    format!(r#"{{"user_ids":[{}]}}"#, ids.join(","))
}

fn repeat_element(count: usize, element: &str) -> String {
    format!("[{}]", vec![element; count].join(","))
}

const ENTRY: &str = r#"{"user_id":1,"asset_id":2,"seq":3,"avail":4,"frozen":5}"#;

#[tokio::test]
async fn a_batch_answers_in_the_order_asked_with_duplicates() {
    let asked = TestApi::new();
    let told = asked.post_json(BATCH, r#"{"user_ids":[5,1001,5]}"#).await;
    let single = asked.get("/api/user/balance?user_id=1001").await.body;
    let single = single.trim_start_matches(r#"{"status":0,"msg":"ok","data":"#);
    let balances = single.strip_suffix('}').unwrap();
    let nobody = r#"{"user_id":5,"balances":[]}"#;
    assert_eq!(
        told.body,
        format!(
            r#"{{"status":0,"msg":"ok","data":[{nobody},{{"user_id":1001,"balances":{balances}}},{nobody}]}}"#
        )
    );
    assert_eq!(told.header_value("content-type"), "application/json");
}

#[tokio::test]
async fn a_batch_says_what_is_wrong_with_an_answer_beside_its_balances() {
    let asked = TestApi::new();
    for (detail, word) in [(Detail::Stale, "stale"), (Detail::Behind, "behind")] {
        *asked.fake.detail.lock() = Some(detail);
        let told = asked.post_json(BATCH, r#"{"user_ids":[5]}"#).await;
        let data = format!(r#""data":[{{"user_id":5,"balances":[],"detail":"{word}"}}]}}"#);
        assert!(told.body.ends_with(&data), "{}", told.body);
    }
}

#[tokio::test]
async fn good_bodies_are_done_and_counted() {
    let full = r#"{"user_id":1001,"asset_id":1,"seq":18,"avail":910000000000,"frozen":0,"created_at":1765352441955,"event_type":"x"}"#;
    let table = [
        (
            SETTLE,
            full.to_owned(),
            r#"{"applied":1,"old":0}"#,
            "settle 1",
        ),
        (
            SETTLE,
            format!(" \n[{full},{full}]\n"),
            r#"{"applied":2,"old":0}"#,
            "settle 2",
        ),
        (
            SETTLE,
            repeat_element(10_000, full),
            r#"{"applied":10000,"old":0}"#,
            "settle 10000",
        ),
        (
            ENTRIES,
            ENTRY.to_owned(),
            r#"{"written":1,"repeated":0}"#,
            "write 1",
        ),
        (
            ENTRIES,
            repeat_element(1_000, ENTRY),
            r#"{"written":1000,"repeated":0}"#,
            "write 1000",
        ),
        (
            INVALIDATE,
            users_body(10_000),
            r#"{"users":10000}"#,
            "invalidate 10000 false",
        ),
        (
            INVALIDATE,
            r#"{"floors":true,"user_ids":[1]}"#.to_owned(),
            r#"{"users":1}"#,
            "invalidate 1 true",
        ),
        (
            INVALIDATE,
            r#"{"floors":false,"user_ids":[9223372036854775807]}"#.to_owned(),
            r#"{"users":1}"#,
            "invalidate 1 false",
        ),
        (
            WARM,
            users_body(10_000),
            r#"{"users":10000,"loaded":10000,"failed":0}"#,
            "warm 10000",
        ),
    ];
    for (path, body, data, asked_for) in table {
        let asked = TestApi::new();
        let told = asked.post_json(path, &body).await;
        assert_eq!(told.status, 200, "{path} {}", told.body);
        assert_eq!(
            told.body,
            format!(r#"{{"status":0,"msg":"ok","data":{data}}}"#)
        );
        assert_eq!(*asked.fake.asked.lock(), [asked_for]);
    }
    let many = TestApi::new().post_json(BATCH, &users_body(1_000)).await;
    assert_eq!(many.status, 200);
}

#[tokio::test]
async fn an_empty_array_is_200_and_nobody_is_asked() {
    let asked = TestApi::with_trouble(FakeTrouble::Apply(apply::ApplyError::Unavailable(
        "down".into(),
    )));
    for (path, body, data) in [
        (BATCH, r#"{"user_ids":[]}"#, "[]"),
        (SETTLE, "[]", r#"{"applied":0,"old":0}"#),
        (ENTRIES, " [ ] ", r#"{"written":0,"repeated":0}"#),
        (INVALIDATE, r#"{"user_ids":[]}"#, r#"{"users":0}"#),
        (
            WARM,
            r#"{"user_ids":[]}"#,
            r#"{"users":0,"loaded":0,"failed":0}"#,
        ),
    ] {
        let told = asked.post_json(path, body).await;
        assert_eq!(told.status, 200, "{path}");
        assert_eq!(
            told.body,
            format!(r#"{{"status":0,"msg":"ok","data":{data}}}"#)
        );
    }
    assert!(asked.fake.asked.lock().is_empty());
}

/// Bodies that are no list of users.
const NO_LISTS: [&str; 23] = [
    "",
    " ",
    "null",
    "1",
    "\"x\"",
    "{",
    "[",
    "{}",
    "[[1]]",
    "\u{feff}{}",
    r#"{"user_ids":null}"#,
    r#"{"user_ids":1}"#,
    r#"{"user_ids":{}}"#,
    r#"{"user_ids":[1],"x":1}"#,
    r#"{"user_ids":[1],"user_ids":[2]}"#,
    r#"{"user_ids":[1]}x"#,
    r#"{"user_ids":[1,]}"#,
    r#"{"user_ids":[1],}"#,
    "[1,2]",
    "[[1,2]]",
    r#"{"User_ids":[1]}"#,
    r#"{"user_ids":[1],"floors":1}"#,
    r#"{"user_ids":[1],"floors":null}"#,
];

#[tokio::test]
async fn malformed_bodies_are_400_and_nothing_is_done() {
    let elements = [
        "",
        "null",
        "1",
        "{",
        "[1]",
        "[null]",
        "{}",
        "[[1001,1,18,1,1,null]]",
        "[1001,1,18]",
        "[[1,2,3,4,5,null,null,null,null,null]]",
        r#"{"user_id":1}x"#,
        r#"[{"user_id":1},]"#,
        r#"{"user_id":1,"user_id":1}"#,
        r#"{"user_id":0}"#,
        r#"{"user_id":"1"}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":1}"#,
        r#"{"user_id":1,"seq":1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":0,"avail":1,"frozen":1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":9223372036854775808,"frozen":1}"#,
        r#"{"user_id":1,"asset_id":1,"seq":1,"avail":1.0,"frozen":1}"#,
    ];
    let mut table: Vec<(&str, String)> = vec![
        (BATCH, users_body(1_001)),
        (BATCH, r#"{"user_ids":[1],"floors":true}"#.to_owned()),
        (WARM, r#"{"user_ids":[1],"floors":true}"#.to_owned()),
        (INVALIDATE, users_body(10_001)),
        (WARM, users_body(10_001)),
        (SETTLE, repeat_element(10_001, r#"{"user_id":1}"#)),
        (ENTRIES, repeat_element(1_001, ENTRY)),
        (ENTRIES, ENTRY.replace('}', r#","typo":1}"#)),
    ];
    for path in [BATCH, INVALIDATE, WARM] {
        table.extend(NO_LISTS.iter().map(|body| (path, (*body).to_owned())));
    }
    for path in [SETTLE, ENTRIES] {
        table.extend(elements.iter().map(|body| (path, (*body).to_owned())));
    }
    let asked = TestApi::new();
    for (path, body) in table {
        let told = asked.post_json(path, &body).await;
        let told = (told.status, told.envelope_code());
        let shown: String = body.chars().take(80).collect();
        assert_eq!(told, (400, 1001), "{path} {shown}");
    }
    assert!(asked.fake.asked.lock().is_empty());
}

#[tokio::test]
async fn a_bad_element_is_named_by_its_index_from_0() {
    let good = r#"{"user_id":1,"asset_id":1,"seq":7,"avail":1,"frozen":1}"#;
    let other = r#"{"user_id":1,"asset_id":1,"seq":7,"avail":2,"frozen":1}"#;
    let table = [
        (BATCH, r#"{"user_ids":[0]}"#.to_owned(), "user_ids[0]"),
        (BATCH, r#"{"user_ids":[1,2,"3"]}"#.to_owned(), "user_ids[2]"),
        (WARM, r#"{"user_ids":[1,-2]}"#.to_owned(), "user_ids[1]"),
        (
            INVALIDATE,
            r#"{"user_ids":[1,1.0]}"#.to_owned(),
            "user_ids[1]",
        ),
        (
            INVALIDATE,
            r#"{"user_ids":[9223372036854775807,9223372036854775808]}"#.to_owned(),
            "user_ids[1]",
        ),
        (WARM, r#"{"user_ids":[1,2,3,nul]}"#.to_owned(), "element 3"),
        (SETTLE, format!("[{good},null]"), "element 1"),
        (
            SETTLE,
            format!(r#"[{good},{good},{{"user_id":1,"seq":2}}]"#),
            "element 2",
        ),
        (SETTLE, format!("[{good},{good},{other}]"), "element 2"),
        (ENTRIES, format!("[{good},{other},{good}]"), "element 1"),
        (ENTRIES, format!(r#"[{good},{{"user_id":1}}]"#), "element 1"),
    ];
    let asked = TestApi::new();
    for (path, body, named) in table {
        let told = asked.post_json(path, &body).await;
        told.assert_failure(400, 1001, &body);
        assert!(told.body.contains(named), "{body}: {}", told.body);
    }
    assert!(asked.fake.asked.lock().is_empty());
}

#[tokio::test]
async fn a_seq_may_be_said_again_with_the_same_amounts_or_with_none() {
    let value = r#"{"user_id":1,"asset_id":1,"seq":7,"avail":1,"frozen":1}"#;
    let bare = r#"{"user_id":1,"asset_id":1,"seq":7}"#;
    let others = r#"{"user_id":2,"asset_id":1,"seq":7,"avail":9,"frozen":1},{"user_id":1,"asset_id":2,"seq":7,"avail":9,"frozen":1}"#;
    let body = format!("[{value},{bare},{others},{value}]");
    assert_eq!(TestApi::new().post_json(SETTLE, &body).await.status, 200);
}

#[tokio::test]
async fn another_type_than_json_is_415() {
    let asked = TestApi::new();
    for path in [BATCH, SETTLE, ENTRIES, INVALIDATE, WARM] {
        let body = if matches!(path, SETTLE | ENTRIES) {
            "[]"
        } else {
            r#"{"user_ids":[]}"#
        };
        assert_eq!(asked.send("POST", path, &[], body).await.status, 200);
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.x+json ;a=b",
        ] {
            let told = asked
                .send("POST", path, &[("content-type", good)], body)
                .await;
            assert_eq!(told.status, 200, "{good}");
        }
        for bad in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
            "json",
            "application/jsonp",
            "text/x+json",
            "application/xml; a=application/json",
        ] {
            let told = asked
                .send("POST", path, &[("content-type", bad)], body)
                .await;
            told.assert_failure(415, 4151, bad);
        }
    }
}

#[tokio::test]
async fn a_post_takes_no_parameters() {
    let asked = TestApi::new();
    for path in [BATCH, SETTLE, ENTRIES, INVALIDATE, WARM] {
        let told = asked.post_json(&format!("{path}?x=1"), "[]").await;
        told.assert_failure(400, 1001, path);
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_413_and_one_of_the_limit_is_not() {
    let asked = TestApi::with_auth(&auth_settings(AuthMode::None, vec![]), 100);
    let told = asked
        .post_json(SETTLE, &format!("[]{}", " ".repeat(98)))
        .await;
    assert_eq!(told.status, 200);
    for more in [99, 10_000] {
        let told = asked
            .post_json(SETTLE, &format!("[]{}", " ".repeat(more)))
            .await;
        told.assert_failure(413, 4131, ());
    }
}
