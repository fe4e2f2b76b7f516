//! Over real sockets: what only the listener can do.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    wire::{GET, PATIENCE, Running, read_to_close, receive_ok, receive_response, send_text},
    *,
};
use crate::http::listener::Listening;

#[tokio::test]
async fn a_connection_is_kept_and_requests_may_be_pipelined() {
    let running = Running::start_usual();
    let mut stream = running.connect_client().await;
    send_text(&mut stream, GET).await;
    let (head, first) = receive_response(&mut stream, true).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("\r\ndate: ") && head.contains("\r\nx-request-id: "));
    send_text(&mut stream, &GET.repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(receive_response(&mut stream, true).await.1, first);
    }
    drop(stream);
    running.shutdown.cancel();
    running.wait_ended().await;
}

#[tokio::test]
async fn both_ways_are_the_same_on_the_wire() {
    let direct = Running::start_usual();
    let routed = Running::usual_of(direct.asked.without_fast_path());
    let etag = direct.asked.get("/api/user/balance?user_id=1001").await;
    let etag = format!("if-none-match: {}\r\n", etag.header_value("etag"));
    for (method, query, headers, status) in [
        ("GET", "user_id=1001", "", "200"),
        ("GET", "user_id=1001&asset=ETH", "", "200"),
        ("GET", "user_id=1001", etag.as_str(), "304"),
        ("HEAD", "user_id=1001", "", "200"),
        ("HEAD", "user_id=0", "", "400"),
        ("GET", "user_id=0", "", "400"),
        ("GET", "user_id=1001&min_seq=BTC:99", "", "503"),
    ] {
        let mut told = Vec::new();
        for running in [&direct, &routed] {
            let mut stream = running.connect_client().await;
            let text = format!(
                "{method} /api/user/balance?{query} HTTP/1.1\r\nhost: x\r\nx-request-id: same\r\n{headers}\r\n{GET}"
            );
            send_text(&mut stream, &text).await;
            let (head, body) = receive_response(&mut stream, method == "GET").await;
            let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
            lines.retain(|line| !line.starts_with("date: "));
            told.push((lines, body));
            // The connection still speaks HTTP: nothing was sent too much.
            receive_ok(&mut stream).await;
        }
        assert!(
            told[0]
                .0
                .iter()
                .any(|line| line.starts_with(&format!("http/1.1 {status}")))
        );
        assert_eq!(told[0], told[1], "{method} {query}");
    }
}

#[tokio::test]
async fn a_304_and_a_head_have_no_body_and_no_false_length() {
    let running = Running::start_usual();
    let mut stream = running.connect_client().await;
    send_text(&mut stream, GET).await;
    let (_, body) = receive_response(&mut stream, true).await;
    send_text(&mut stream, &GET.replace("GET", "HEAD")).await;
    let (head, _) = receive_response(&mut stream, false).await;
    assert!(
        head.contains(&format!("content-length: {}\r\n", body.len())),
        "{head}"
    );
    send_text(
        &mut stream,
        &GET.replace("host", "if-none-match: *\r\nhost"),
    )
    .await;
    let (head, _) = receive_response(&mut stream, false).await;
    assert!(head.starts_with("http/1.1 304"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
}

#[tokio::test]
async fn headers_that_do_not_come_end_the_connection() {
    let running = Running::start_server(TestApi::new(), 100, PATIENCE);
    for begun in ["", "GET /api", "GET / HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = running.connect_client().await;
        send_text(&mut stream, begun).await;
        read_to_close(&mut stream).await;
    }
    // Idle after an answer, too.
    let mut stream = running.connect_client().await;
    send_text(&mut stream, GET).await;
    receive_response(&mut stream, true).await;
    assert_eq!(read_to_close(&mut stream).await, "");
}

const POST: &str = "POST /api/v1/settlements HTTP/1.1\r\nhost: x\r\n";

#[tokio::test]
async fn a_body_that_stops_coming_is_504_and_the_connection_ends() {
    let running = Running::usual_of(TestApi::with_body_wait(Duration::from_millis(200)));
    for body in [
        "content-length: 100\r\n\r\n[",
        "transfer-encoding: chunked\r\n\r\n1\r\n[\r\n",
    ] {
        let mut stream = running.connect_client().await;
        send_text(&mut stream, &format!("{POST}{body}")).await;
        let (head, told) = receive_response(&mut stream, true).await;
        assert!(head.starts_with("http/1.1 504"), "{head}");
        assert!(told.contains("5041"));
        read_to_close(&mut stream).await;
    }
    assert!(running.asked.fake.asked.lock().is_empty());
}

#[tokio::test]
async fn a_body_that_is_too_long_is_413_with_and_without_a_length() {
    let asked = TestApi::with_auth(&auth_settings(AuthMode::None, vec![]), 1_000);
    let running = Running::usual_of(asked);
    let long = " ".repeat(1_001);
    for rest in [
        format!("content-length: 1001\r\n\r\n{long}"),
        "content-length: 99999999999\r\nexpect: 100-continue\r\n\r\n".to_owned(),
        format!("transfer-encoding: chunked\r\n\r\n3e9\r\n{long}\r\n0\r\n\r\n"),
    ] {
        let mut stream = running.connect_client().await;
        send_text(&mut stream, &format!("{POST}{rest}")).await;
        let (head, told) = receive_response(&mut stream, true).await;
        assert!(head.starts_with("http/1.1 413"), "{head}");
        assert!(told.contains("4131"));
    }
    for fits in [
        format!("content-length: 1000\r\n\r\n[]{}", " ".repeat(998)),
        "transfer-encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n".to_owned(),
    ] {
        let mut stream = running.connect_client().await;
        send_text(&mut stream, &format!("{POST}{fits}")).await;
        receive_ok(&mut stream).await;
    }
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_until_another_ends() {
    let running = Running::start_server(TestApi::new(), 1, PATIENCE);
    let mut first = running.connect_client().await;
    send_text(&mut first, "GET /api/user/balance?user_id=7 HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncache-control: no-cache\r\n\r\n").await;
    running.wait_entered().await;
    let mut second = running.connect_client().await;
    send_text(&mut second, GET).await;
    let mut byte = [0];
    let early = timeout(Duration::from_millis(100), second.peek(&mut byte)).await;
    assert!(early.is_err(), "answered beyond the limit");
    running.asked.fake.gate.notify_one();
    receive_response(&mut first, true).await;
    receive_ok(&mut second).await;
}

#[tokio::test]
async fn a_drain_ends_idle_connections_and_finishes_requests_in_flight() {
    let running = Running::start_usual();
    let mut idle = running.connect_client().await;
    send_text(&mut idle, GET).await;
    receive_response(&mut idle, true).await;
    let mut fresh = running.connect_client().await;
    let mut busy = running.connect_client().await;
    send_text(
        &mut busy,
        &GET.replace("1001", "7")
            .replace("host", "cache-control: no-cache\r\nhost"),
    )
    .await;
    running.wait_entered().await;

    running.shutdown.cancel();
    assert_eq!(read_to_close(&mut idle).await, "");
    assert_eq!(read_to_close(&mut fresh).await, "");
    assert!(!running.served.is_finished());
    running.asked.fake.gate.notify_one();
    let (head, _) = receive_response(&mut busy, true).await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("connection: close"),
        "{head}"
    );
    assert_eq!(read_to_close(&mut busy).await, "");
    let address = running.address;
    running.wait_ended().await;
    assert!(
        TcpStream::connect(address).await.is_err(),
        "still listening"
    );
}

#[tokio::test]
async fn a_drain_cuts_what_does_not_finish() {
    let running = Running::start_server(TestApi::new(), 5, Duration::from_millis(50));
    let mut busy = running.connect_client().await;
    send_text(
        &mut busy,
        &GET.replace("1001", "7")
            .replace("host", "cache-control: no-cache\r\nhost"),
    )
    .await;
    running.wait_entered().await;
    running.shutdown.cancel();
    assert_eq!(read_to_close(&mut busy).await, "");
    running.wait_ended().await;
}

#[tokio::test]
async fn garbage_is_refused_and_the_listener_goes_on() {
    let running = Running::start_usual();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200_000));
    for (garbage, status, code) in [
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400 Bad Request", 1001),
        (&many, "431 Request Header Fields Too Large", 4311),
        (&long, "431 Request Header Fields Too Large", 4311),
    ] {
        let mut stream = running.connect_client().await;
        let _ = stream.write_all(garbage.as_bytes()).await;
        let mut all = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut all))
            .await
            .unwrap();
        let all = String::from_utf8(all).unwrap();
        assert!(
            all.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{all:?}"
        );
        for field in [
            "x-request-id: ",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
        ] {
            assert!(all.contains(&format!("\r\n{field}")), "{all}");
        }
        assert!(
            all.ends_with(r#""data":null}"#) && all.contains(&format!(r#"{{"status":{code},"#)),
            "{all}"
        );
    }
    let mut stream = running.connect_client().await;
    send_text(&mut stream, GET).await;
    receive_ok(&mut stream).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let running = Running::start_usual();
    let error = Listening::bind_address(running.address)
        .unwrap_err()
        .to_string();
    assert!(error.contains(&running.address.to_string()), "{error}");
}
