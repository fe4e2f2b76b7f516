//! Whatever a client sends: no panic, and an answer that blames the client or nobody.
//!
//! 256 cases each; `BALANCE_CACHE_FUZZ_SECONDS` makes it that many seconds.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::*;
use crate::http::{json, query::Question};

fn fuzz<S: Strategy>(strategy: &S, check: impl Fn(S::Value)) {
    #[expect(
        clippy::disallowed_methods,
        reason = "set by whoever runs the fuzz tests"
    )]
    let seconds = std::env::var("BALANCE_CACHE_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let began = std::time::Instant::now();
    loop {
        let mut runner = TestRunner::new(Config::with_cases(256));
        let ran = runner.run(strategy, |value| {
            check(value);
            Ok(())
        });
        if let Err(error) = ran {
            panic!("{error}\n{runner}");
        }
        if began.elapsed() >= Duration::from_secs(seconds) {
            return;
        }
    }
}

/// Nearly right bodies: pieces of JSON in any order, and good ones with a byte changed.
fn bodies(good: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "null",
            "true",
            "1",
            "0",
            "-1",
            "1e9",
            "1.0",
            "9223372036854775807",
            "9223372036854775808",
            r#""user_ids""#,
            r#""floors""#,
            r#""user_id""#,
            r#""asset_id""#,
            r#""seq""#,
            r#""avail""#,
            r#""frozen""#,
            r#""\u0000""#,
            "\\",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    prop_oneof![
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat()),
        (any::<proptest::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
            move |(at, byte, insert)| {
                let mut body = good.as_bytes().to_vec();
                let at = at.index(body.len());
                if insert {
                    body.insert(at, byte);
                } else {
                    body[at] = byte;
                }
                body
            }
        ),
        proptest::collection::vec(any::<u8>(), 0..64),
    ]
}

fn answered(path: &'static str, body: Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let request = Request::builder()
        .method("POST")
        .uri(path)
        .body(Full::from(body))
        .unwrap();
    let told = runtime.block_on(Asked::new().call(request));
    assert!(matches!(told.status, 200 | 400), "{}", told.status);
    told.code();
}

#[test]
fn fuzz_query_string() {
    let catalogue = catalogue();
    let pair = "(user_id|asset|min_seq|us%65r_id|x|)=?(1001|[0-9+%:,A-Za-z-]{0,12}|BTC:17(,ETH:[0-9]{1,20}){0,3}|%[0-9a-fA-F]{1,2}|\\PC{0,6})";
    let strategy = prop_oneof![
        proptest::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&")),
        ".*",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    fuzz(&strategy, |query| {
        let parsed = Question::parse(Some(&query), &catalogue);
        let Ok(request) = Request::get(format!("/api/user/balance?{query}")).body(Full::default())
        else {
            return;
        };
        // A fragment is not part of the query.
        if query.contains('#') {
            return;
        }
        let told = runtime.block_on(Asked::new().call(request));
        told.code();
        match parsed {
            Err(_) => assert_eq!(told.status, 400),
            Ok(_) => assert!(matches!(told.status, 200 | 503), "{}", told.status),
        }
    });
}

#[test]
fn fuzz_batch_body() {
    fuzz(
        &bodies(r#"{"user_ids":[1001,2,9223372036854775807]}"#),
        |body| {
            if let Ok(users) = json::users::<{ json::BATCH_MAX }>(&body) {
                assert!(users.len() <= json::BATCH_MAX);
            }
            answered("/api/v1/user/balances", body);
        },
    );
}

#[test]
fn fuzz_invalidate_body() {
    fuzz(&bodies(r#"{"user_ids":[1001,2],"floors":true}"#), |body| {
        let _ = json::invalidation(&body);
        answered("/api/v1/cache/invalidate", body);
    });
}

#[test]
fn fuzz_settlement_body() {
    let good = r#"[{"user_id":1001,"asset_id":1,"seq":18,"avail":9,"frozen":0,"created_at":null},{"user_id":1}]"#;
    fuzz(&bodies(good), |body| {
        let _ = json::notifications(&body);
        answered("/api/v1/settlements", body);
    });
}

#[test]
fn fuzz_entries_body() {
    let good =
        r#"[{"user_id":1,"asset_id":2,"seq":3,"avail":4,"frozen":5,"event_type":"x","ref_id":1}]"#;
    fuzz(&bodies(good), |body| {
        let _ = json::entries(&body);
        answered("/api/v1/ledger/entries", body);
    });
}
