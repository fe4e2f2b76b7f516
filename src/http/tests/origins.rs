//! Requests that web pages make: changes from other origins, and names that point here.

use super::{
    wire::{GET, Running, receive_response, send_text},
    *,
};
use crate::http::{Hosts, routes};

const HOST: (&str, &str) = ("host", "127.0.0.1:3001");

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let asked = TestApi::new();
    for path in [
        routes::SETTLEMENTS,
        routes::ENTRIES,
        routes::INVALIDATE,
        routes::WARM,
    ] {
        for foreign in [
            ("origin", "http://evil.test"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:3002"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let told = asked.send("POST", path, &[HOST, foreign], "[]").await;
            told.assert_failure(403, 2003, (path, foreign));
            assert!(told.body.contains("another origin"), "{}", told.body);
        }
    }
    assert!(asked.fake.asked.lock().is_empty());
    let own = ("origin", "http://127.0.0.1:3001");
    let same = ("sec-fetch-site", "same-origin");
    let settlement = r#"{"user_id":1}"#;
    let told = asked
        .send("POST", routes::SETTLEMENTS, &[HOST, own, same], settlement)
        .await;
    assert_eq!(told.status, 200);
    // It may read, if its browser lets it.
    let foreign = ("origin", "http://evil.test");
    let told = asked
        .send(
            "POST",
            routes::BATCH,
            &[HOST, foreign],
            r#"{"user_ids":[1]}"#,
        )
        .await;
    assert_eq!(told.status, 200);
}

#[tokio::test]
async fn without_tokens_only_local_names_are_served_on_both_ways() {
    let mut asked = TestApi::new();
    asked.set_hosts(Hosts::Local([127, 0, 0, 1].into()));
    let running = Running::usual_of(asked);
    let post = "POST /api/v1/settlements HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n[]";
    for text in [
        GET,
        post,
        &GET.replace("1.1", "1.0"),
        &GET.replace("1001", "0"),
    ] {
        for (host, foreign) in [
            ("evil.test", true),
            ("127.0.0.1.evil.test:3001", true),
            ("localhost:9", false),
            ("127.0.0.1", false),
            ("[::1]:3001", false),
        ] {
            let mut stream = running.connect_client().await;
            send_text(
                &mut stream,
                &text.replace("host: x", &format!("host: {host}")),
            )
            .await;
            let (head, body) = receive_response(&mut stream, true).await;
            assert_eq!(head.contains(" 403 "), foreign, "{host}: {head}");
            assert_eq!(body.contains("2003"), foreign, "{host}: {body}");
        }
    }
    // A second request under another name is looked at again.
    let mut stream = running.connect_client().await;
    let local = GET.replace("host: x", "host: localhost");
    send_text(
        &mut stream,
        &format!(
            "{local}{local}{}",
            GET.replace("host: x", "host: evil.test")
        ),
    )
    .await;
    for status in ["200", "200", "403"] {
        let (head, _) = receive_response(&mut stream, true).await;
        assert!(head.contains(status), "{head}");
    }
    // So is a target with a name of its own.
    let mut stream = running.connect_client().await;
    send_text(
        &mut stream,
        &local.replace("GET /", "GET http://evil.test/"),
    )
    .await;
    assert!(
        receive_response(&mut stream, true)
            .await
            .0
            .contains(" 403 ")
    );
}

#[tokio::test]
async fn every_answer_forbids_to_take_it_for_something_else() {
    let running = Running::start_usual();
    for text in [
        GET.to_owned(),
        GET.replace("host", "if-none-match: *\r\nhost"),
        GET.replace("1001", "0"),
        GET.replace("/api/user/balance", "/nowhere"),
        GET.replace("GET", "DELETE"),
        GET.replace("host: x\r\n", ""),
        "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "POST /api/v1/settlements HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n[]".to_owned(),
    ] {
        let mut stream = running.connect_client().await;
        send_text(&mut stream, &text).await;
        let (head, _) = receive_response(&mut stream, true).await;
        let count = head
            .matches("\r\nx-content-type-options: nosniff\r\n")
            .count();
        assert_eq!(count, 1, "{text}{head}");
    }
}
