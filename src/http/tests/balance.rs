//! The single read: parameters, headers, and both ways through the service.

use std::sync::atomic::Ordering;

use http::Request;

use super::*;

const PATH: &str = "/api/user/balance?user_id=1001";
const BTC: &str =
    r#"{"asset":"BTC","avail":"9100","frozen":"0","seq":17,"updated_at":1765352441955}"#;
const ETH: &str =
    r#"{"asset":"ETH","avail":"-0.00000001","frozen":"0","seq":5,"updated_at":1765352441955}"#;
const RAW: &str =
    r#"{"asset":"9","avail":"77","frozen":"0","seq":2,"updated_at":1765352441955,"unit":"raw"}"#;

fn in_envelope(balances: &[&str]) -> String {
    format!(
        r#"{{"status":0,"msg":"ok","data":[{}]}}"#,
        balances.join(",")
    )
}

/// Both ways, which must not differ in anything but their request ids.
async fn both_ways(asked: &TestApi, make: impl Fn() -> Request<Full<Bytes>>) -> TestResponse {
    let mut direct = asked.call_service(make()).await;
    let mut routed = asked.without_fast_path().call_service(make()).await;
    for told in [&mut direct, &mut routed] {
        assert!(told.headers.remove(REQUEST_ID).is_some());
        // Written by the router, or by hyper later.
        if let Some(length) = told.headers.remove(CONTENT_LENGTH)
            && make().method() != Method::HEAD
        {
            assert_eq!(length, told.body.len().to_string());
        }
    }
    if make().method() == Method::HEAD {
        direct.body.clear();
        routed.body.clear();
    }
    assert_eq!(direct, routed);
    direct
}

#[tokio::test]
async fn every_form_of_the_question_gets_its_answer_both_ways() {
    let all = in_envelope(&[BTC, ETH, RAW]);
    let table: &[(&str, &str)] = &[
        ("user_id=1001", &all),
        ("user_id=9223372036854775807", &in_envelope(&[])),
        ("user_id=999999", &in_envelope(&[])),
        ("user_id=1001&asset=BTC", &in_envelope(&[BTC])),
        ("asset=ETH&user_id=1001", &in_envelope(&[ETH])),
        ("user_id=1001&asset=9", &in_envelope(&[RAW])),
        ("user_id=1001&asset=USDT", &in_envelope(&[])),
        ("user_id=1001&asset=12345", &in_envelope(&[])),
        ("user_id=1001&min_seq=BTC:17", &all),
        ("user_id=1001&min_seq=BTC:17,ETH:5,9:2", &all),
        ("user_id=1001&min_seq=BTC:17,BTC:3", &all),
        ("user_id=1001&min_seq=BTC%3A17%2CETH%3A1", &all),
        (
            "user_id=1001&asset=ETH&min_seq=BTC:17",
            &in_envelope(&[ETH]),
        ),
        ("user%5Fid=%31001", &all),
        ("&user_id=1001&", &all),
    ];
    let asked = TestApi::new();
    for (query, body) in table {
        for path in routes::BALANCE {
            let told = both_ways(&asked, || {
                build_request("GET", &format!("{path}?{query}"), &[], "")
            })
            .await;
            assert_eq!((told.status, told.body.as_str()), (200, *body), "{query}");
        }
    }
}

#[tokio::test]
async fn every_malformed_question_is_400_both_ways() {
    let long = format!("user_id=1001&min_seq={}BTC:1", "BTC:1,".repeat(1_000));
    let table = [
        "",
        "user_id",
        "user_id=",
        "user_id=0",
        "user_id=-1",
        "user_id=+1",
        "user_id=%2B1",
        "user_id=01001",
        "user_id=1001.0",
        "user_id=1e3",
        "user_id=abc",
        "user_id=%20 1001".split(' ').next().unwrap(),
        "user_id=9223372036854775808",
        "user_id=99999999999999999999999999",
        "user_id=%D9%A3",
        "user_id=1001&user_id=1001",
        "user_id=1001&user%5fid=1001",
        "user_id=1001&x=1",
        "user_id=1001&User_id=1",
        "user_id=1001&=1",
        "user_id=1001&asset=",
        "user_id=1001&asset=btc",
        "user_id=1001&asset=1",
        "user_id=1001&asset=0",
        "user_id=1001&asset=09",
        "user_id=1001&asset=2147483648",
        "user_id=1001&asset=BTC&asset=BTC",
        "user_id=1001&min_seq=",
        "user_id=1001&min_seq=BTC",
        "user_id=1001&min_seq=BTC:",
        "user_id=1001&min_seq=BTC:0",
        "user_id=1001&min_seq=BTC:017",
        "user_id=1001&min_seq=BTC:-1",
        "user_id=1001&min_seq=BTC:+1",
        "user_id=1001&min_seq=BTC:9223372036854775808",
        "user_id=1001&min_seq=BTC:1,",
        "user_id=1001&min_seq=BTC:1:2",
        "user_id=1001&min_seq=DOGE:1",
        "user_id=1001&min_seq=1:17",
        "user_id=1001&min_seq=BTC:1&min_seq=ETH:1",
        "user_id=100%",
        "user_id=100%4",
        "user_id=100%zz",
        "user_id=1001&asset=%ff",
        &long,
    ];
    let asked = TestApi::new();
    for query in table {
        let told = both_ways(&asked, || {
            build_request("GET", &format!("/api/user/balance?{query}"), &[], "")
        })
        .await;
        told.assert_failure(400, 1001, query);
    }
    assert_eq!(asked.get("/api/user/balance").await.status, 400);
}

#[tokio::test]
async fn a_min_seq_that_is_not_reached_is_5032_whatever_is_shown() {
    let asked = TestApi::new();
    for query in [
        "&min_seq=BTC:18",
        "&min_seq=USDT:1",
        "&asset=ETH&min_seq=BTC:18",
        "&min_seq=BTC:18,BTC:3",
    ] {
        let told = both_ways(&asked, || {
            build_request("GET", &format!("{PATH}{query}"), &[], "")
        })
        .await;
        told.assert_failure(503, 5032, query);
        assert_eq!(told.header_value("retry-after"), "1");
    }
}

#[tokio::test]
async fn a_read_has_the_headers_of_the_contract() {
    let asked = TestApi::new();
    let told = both_ways(&asked, || build_request("GET", PATH, &[], "")).await;
    assert_eq!(told.header_value("cache-control"), "private, no-cache");
    assert_eq!(told.header_value("cache-status"), "memory; hit; ttl=9");
    assert_eq!(told.header_value("content-type"), "application/json");
    assert_eq!(told.header_value("age"), "12", "the oldest of those shown");
    let etag = told.header_value("etag");
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() == 18);

    let btc = both_ways(&asked, || {
        build_request("GET", &format!("{PATH}&asset=BTC"), &[], "")
    })
    .await;
    assert_eq!(btc.header_value("age"), "4");
    assert_ne!(btc.header_value("etag"), etag);

    let nobody = both_ways(&asked, || {
        build_request("GET", "/api/user/balance?user_id=5", &[], "")
    })
    .await;
    assert_eq!(
        nobody.header_value("age"),
        "7",
        "when the source said that there is nothing"
    );
}

#[tokio::test]
async fn what_is_wrong_with_an_answer_is_in_its_cache_status() {
    let asked = TestApi::new();
    for (detail, word) in [(Detail::Stale, "stale"), (Detail::Behind, "behind")] {
        *asked.fake.detail.lock() = Some(detail);
        let told = both_ways(&asked, || build_request("GET", PATH, &[], "")).await;
        assert_eq!(told.status, 200);
        assert!(
            told.header_value("cache-status")
                .contains(&format!("detail={word}"))
        );
    }
}

#[tokio::test]
async fn if_none_match_is_304_for_lists_weak_tags_and_stars() {
    let asked = TestApi::new();
    let etag = asked.get(PATH).await.header_value("etag").to_owned();
    let table = [
        (etag.clone(), 304),
        (format!("W/{etag}"), 304),
        (format!(r#""other", {etag}"#), 304),
        (format!(r#"W/"a",W/{etag} ,"b""#), 304),
        ("*".to_owned(), 304),
        (r#""other""#.to_owned(), 200),
        (etag.trim_matches('"').to_owned(), 200),
        (String::new(), 200),
    ];
    for (tags, status) in table {
        for method in ["GET", "HEAD"] {
            let headers = [("if-none-match", tags.as_str())];
            let told = both_ways(&asked, || build_request(method, PATH, &headers, "")).await;
            assert_eq!(told.status, status, "{method} {tags}");
            assert_eq!(told.header_value("etag"), etag);
            assert_eq!(told.header_value("cache-control"), "private, no-cache");
            assert_eq!(told.header_value("cache-status"), "memory; hit; ttl=9");
            assert_eq!(told.header_value("age"), "12");
            if status == 304 {
                assert_eq!(told.body, "");
                assert!(!told.headers.contains_key("content-type"));
            }
        }
    }
    // An asset's tag is its own.
    let told = asked
        .send(
            "GET",
            &format!("{PATH}&asset=BTC"),
            &[("if-none-match", &etag)],
            "",
        )
        .await;
    assert_eq!(told.status, 200);
}

#[tokio::test]
async fn no_cache_asks_for_the_ledger_in_any_spelling() {
    let asked = TestApi::new();
    for (value, wanted) in [
        ("no-cache", true),
        ("No-Cache", true),
        ("max-age=0, no-cache", true),
        ("max-stale=3 ,\tNO-CACHE", true),
        ("max-age=0", false),
        ("no-store", false),
        ("no-cachee", false),
    ] {
        let headers = [("cache-control", value)];
        both_ways(&asked, || build_request("GET", PATH, &headers, "")).await;
        let last = asked.fake.last.lock().take().unwrap();
        assert_eq!(last.no_cache, wanted, "{value}");
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let asked = TestApi::new();
    let get = asked.get(PATH).await;
    let head = asked.send("HEAD", PATH, &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(
        head.header_value("content-length"),
        get.body.len().to_string()
    );
    assert_eq!(head.header_value("etag"), get.header_value("etag"));
}

#[tokio::test]
async fn a_request_id_is_the_clients_if_it_is_fit_for_a_log() {
    let asked = TestApi::new();
    let long = "x".repeat(128);
    for good in ["a", "7f3c-\"!~", &long] {
        for path in [PATH, "/nowhere", "/api/user/balance"] {
            let told = asked.send("GET", path, &[("x-request-id", good)], "").await;
            assert_eq!(told.header_value("x-request-id"), good);
        }
    }
    let mut new = std::collections::HashSet::new();
    for bad in ["", "a b", "a\tb", &"x".repeat(129)] {
        let told = asked.send("GET", PATH, &[("x-request-id", bad)], "").await;
        let id = told.header_value("x-request-id").to_owned();
        assert!(id.starts_with("0000000000000abc") && id.len() == 32, "{id}");
        assert!(new.insert(id));
    }
}

#[tokio::test]
async fn what_memory_may_not_give_is_read_once_and_shown_the_same() {
    let asked = TestApi::new();
    let held = asked.get(PATH).await;
    assert!(asked.fake.last.lock().is_none(), "memory was enough");
    asked.fake.memory.store(false, Ordering::Relaxed);
    let read = asked.get(PATH).await;
    assert!(asked.fake.last.lock().is_some());
    assert_eq!((held.status, held.body), (read.status, read.body));
}
