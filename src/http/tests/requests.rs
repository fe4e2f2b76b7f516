//! One request, one answer, in order, whatever follows it and wherever its bytes are cut.

use super::{
    wire::{GET, Running, statuses_of},
    *,
};
use crate::http::request_head::{FIELDS_MAX, HEAD_MAX};

const POST: &str = "POST /api/v1/settlements HTTP/1.1\r\nhost: x\r\n";
const BODY: &str = r#"{"user_id":5,"asset_id":1,"seq":3}"#;

fn post_text(fields: &str) -> String {
    format!("{POST}{fields}content-length: {}\r\n\r\n{BODY}", BODY.len())
}

fn chunked_text(chunks: &str) -> String {
    format!("{POST}transfer-encoding: chunked\r\n\r\n{chunks}")
}

fn entry_text() -> String {
    chunked_text(&format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len()))
}

fn as_http_1_0(text: &str) -> String {
    text.replace("HTTP/1.1", "HTTP/1.0")
}

fn with_fields(text: &str, fields: &str) -> String {
    text.replacen("host: x\r\n", &format!("host: x\r\n{fields}"), 1)
}

/// The bytes that are sent, the statuses of the answers, and how many changes take effect.
#[expect(clippy::too_many_lines, reason = "a table")]
fn request_cases() -> Vec<(String, Vec<u16>, usize)> {
    let both = |fields: &str| with_fields(&entry_text(), fields);
    let answered = vec![
        // Bytes behind the last request of a connection do not touch its answer.
        (format!("{}\r\n", as_http_1_0(GET)), vec![200], 0),
        (
            format!("{}\r\n", post_text("connection: close\r\n")),
            vec![200],
            1,
        ),
        (
            format!("{}{GET}", post_text("connection: close\r\n")),
            vec![200],
            1,
        ),
        (format!("{}\r\n", entry_text()), vec![200], 1),
        (format!("{}GET /api/us", entry_text()), vec![200], 1),
        (
            format!("{}\r\n\r\n{GET}\r\n", entry_text()),
            vec![200, 200],
            1,
        ),
        (format!("{}\0\r\n\r\n", entry_text()), vec![200, 400], 1),
        (format!("{}\0\r\n\r\n", post_text("")), vec![200, 400], 1),
        (format!("{GET}\0\r\n\r\n{GET}"), vec![200, 400], 0),
        (
            format!("{}{}", both("connection: close\r\n"), GET),
            vec![200],
            1,
        ),
        (
            format!("{POST}content-length: 18446744073709551615\r\n\r\n[]"),
            vec![413],
            0,
        ),
        (GET.replace("GET /", "GET http://y:1/"), vec![200], 0),
        (as_http_1_0(GET).replace("host: x\r\n", ""), vec![200], 0),
        // Versions, protocols, kept connections.
        (
            with_fields(&as_http_1_0(GET), "connection: keep-alive\r\n").repeat(2),
            vec![200, 200],
            0,
        ),
        (
            format!(
                "{}{GET}",
                as_http_1_0(&post_text("connection: keep-alive\r\n"))
            ),
            vec![200, 200],
            1,
        ),
        (as_http_1_0(GET).repeat(2), vec![200], 0),
        (
            with_fields(GET, "upgrade: h2c\r\n").repeat(3),
            vec![200, 200, 200],
            0,
        ),
        (
            format!("{}{GET}", post_text("expect: 100-continue\r\n")),
            vec![200, 200],
            1,
        ),
        // Bodies that no route reads.
        (
            format!(
                "{}{GET}",
                with_fields(GET, "content-length: 5\r\n").replace("\r\n\r\n", "\r\n\r\nGET /")
            ),
            vec![200, 200],
            0,
        ),
        (
            format!("{}{GET}", post_text("").replace("settlements", "nowhere")),
            vec![404, 200],
            0,
        ),
        (
            format!("{}{GET}", post_text("content-type: text/plain\r\n")),
            vec![415, 200],
            0,
        ),
        (
            format!("{}{GET}", post_text("").replace("POST", "PUT")),
            vec![405, 200],
            0,
        ),
        (
            format!(
                "{}{GET}",
                post_text("").replace("settlements", "settlements?x=1")
            ),
            vec![400, 200],
            0,
        ),
        (
            post_text("expect: 100-continue\r\n").replace("settlements", "nowhere"),
            vec![404],
            0,
        ),
        ("\r\n".repeat(9_000) + GET, vec![200], 0),
    ];
    let refused = refused_texts().into_iter();
    let refused = refused.map(|text| (text, vec![400], 0));
    answered.into_iter().chain(refused).collect()
}

/// Requests that get a 400 and change nothing.
fn refused_texts() -> Vec<String> {
    let both = |fields: &str| with_fields(&entry_text(), fields);
    vec![
        // A body whose end is unclear changes nothing.
        both("content-length: 3\r\n"),
        chunked_text("x\r\n"),
        chunked_text(&format!("22\r\n{BODY}\r\nx\r\n\r\n")),
        chunked_text(&format!("22\r\n{BODY}\r\n")),
        chunked_text("0\r\nGET / HTTP/1.1\r\n\r\n"),
        post_text("")[..post_text("").len() - 1].to_owned(),
        post_text("").replace("content-length: 34", "content-length: x"),
        post_text("content-length: 34\r\n"),
        post_text("transfer-encoding: gzip\r\n"),
        as_http_1_0(&entry_text()),
        format!("{POST}content-length: 18446744073709551616\r\n\r\n[]"),
        // Host.
        GET.replace("host: x\r\n", ""),
        GET.replace("host: x", "host:"),
        GET.replace("host: x", "host: x/y"),
        with_fields(GET, "host: x\r\n"),
        post_text("").replace("host: x\r\n", ""),
        with_fields(&post_text(""), "host: x\r\n"),
        post_text("").replace("host: x", "host: @"),
        GET.replace("GET /", "GET http://a@b/"),
        GET.replace("GET /api/user/balance?user_id=1001", "GET x"),
        "CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        with_fields(&as_http_1_0(GET), "host: x\r\n"),
        GET.replace("HTTP/1.1", "HTTP/2.0"),
        "GET /a b HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
    ]
}

#[tokio::test]
async fn each_request_has_one_answer_wherever_its_bytes_are_cut() {
    for (text, expected, changes) in request_cases() {
        let running = Running::start_usual();
        let text = text.as_bytes();
        let step = text.len().div_ceil(300);
        for cut in (0..=text.len()).step_by(step) {
            let statuses = statuses_of(&running, text, cut).await;
            // An expectation that is refused at once may find the body of a client that did not wait.
            let shown = String::from_utf8_lossy(text);
            assert_eq!(statuses, expected, "cut at {cut}: {shown:?}");
            let asked = running.asked.fake.asked.lock().len();
            assert_eq!(asked, changes, "cut at {cut}: {shown:?}");
        }
    }
}

#[tokio::test]
async fn a_head_may_have_16_kib_and_100_fields_and_not_one_more() {
    let running = Running::start_usual();
    let long = |method: &str, bytes: usize| {
        let head = |filling: usize| {
            let filling = "x".repeat(filling);
            format!(
                "{method} /api/user/balance?user_id=1001 HTTP/1.1\r\nhost: x\r\na: {filling}\r\n\r\n"
            )
        };
        head(bytes - head(0).len())
    };
    let many = |method: &str, fields: usize| {
        let fields = "a: b\r\n".repeat(fields - 1);
        format!("{method} /api/user/balance?user_id=1001 HTTP/1.1\r\nhost: x\r\n{fields}\r\n")
    };
    for (method, ok) in [("GET", 200), ("PUT", 405)] {
        for (text, expected) in [
            (long(method, HEAD_MAX), ok),
            (long(method, HEAD_MAX + 1), 431),
            (long(method, 3 * HEAD_MAX), 431),
            (many(method, FIELDS_MAX), ok),
            (many(method, FIELDS_MAX + 1), 431),
        ] {
            for cut in [0, 1, 4_096, HEAD_MAX - 1, HEAD_MAX, HEAD_MAX + 1] {
                let cut = cut.min(text.len());
                let statuses = statuses_of(&running, text.as_bytes(), cut).await;
                assert_eq!(
                    statuses,
                    [expected],
                    "{method}, {} bytes, cut at {cut}",
                    text.len()
                );
            }
        }
    }
}

#[tokio::test]
async fn a_refused_request_is_answered_under_its_own_id() {
    let running = Running::start_usual();
    for bad in ["content-length: x", "host: y", "transfer-encoding: gzip"] {
        let mut stream = running.connect_client().await;
        let text = with_fields(GET, &format!("x-request-id: mine\r\n{bad}\r\n"));
        super::wire::send_text(&mut stream, &text).await;
        let (head, body) = super::wire::receive_response(&mut stream, true).await;
        assert!(head.contains("\r\nx-request-id: mine\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        assert!(body.contains("1001"), "{body}");
    }
}

#[tokio::test]
async fn the_answer_to_a_large_body_that_is_refused_arrives() {
    let token = config::TokenSettings {
        name: "t".to_owned(),
        sha256: "00".repeat(32),
        scopes: vec![config::Scope::Settle],
    };
    let asked = TestApi::with_auth(&auth_settings(AuthMode::Token, vec![token]), 1_000_000);
    let running = Running::usual_of(asked);
    let large = " ".repeat(3_000_000);
    let plain = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n{large}")
    };
    let chunks = chunked_text(&format!("2dc6c0\r\n{large}\r\n0\r\n\r\n"));
    for (text, expected) in [
        (plain("/api/v1/settlements"), 401),
        (plain("/nowhere"), 404),
        (plain("/api/user/balance"), 405),
        (chunks, 401),
    ] {
        let statuses = statuses_of(&running, text.as_bytes(), 100).await;
        assert_eq!(statuses, [expected]);
    }
}
