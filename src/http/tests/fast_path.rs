//! Many requests on one connection: some answered by the fast path, some by the router, and no client can tell which.

use tokio::io::AsyncWriteExt;

use super::{
    wire::{GET, PATIENCE, Running, read_to_close, receive_response, send_text},
    *,
};

const POST: &str =
    "POST /api/v1/settlements HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
const SETTLEMENT: &str = r#"{"user_id":5,"asset_id":1,"seq":3}"#;

fn post_text(body: &str) -> String {
    format!("{POST}content-length: {}\r\n\r\n{body}", body.len())
}

fn chunked_text(body: &str) -> String {
    format!(
        "{POST}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    )
}

/// The parts that belong together, and the answer to each.
fn mixed_requests() -> (String, Vec<&'static str>) {
    let parts = [
        (GET.to_owned(), "200"),
        (GET.replace("1001", "x"), "400"),
        (GET.to_owned(), "200"),
        (post_text(SETTLEMENT), "200"),
        (GET.to_owned(), "200"),
        // A body that looks like a request is a body.
        (post_text(GET), "400"),
        (
            GET.replace("user_id=1001", "user_id=1001&min_seq=BTC:99"),
            "503",
        ),
        (GET.replace("/api/user/balance", "/nowhere"), "404"),
        (GET.to_owned(), "200"),
        (chunked_text(SETTLEMENT), "200"),
        (
            GET.replace("1.1", "1.0")
                .replace("host", "connection: keep-alive\r\nhost"),
            "200",
        ),
        (
            GET.replace("host", "upgrade: h2c\r\nconnection: upgrade\r\nhost"),
            "200",
        ),
        (GET.replace("host", "connection: close\r\nhost"), "200"),
    ];
    let statuses = parts.iter().map(|(_, status)| *status).collect();
    (parts.map(|(text, _)| text).concat(), statuses)
}

async fn receive_statuses(stream: &mut tokio::net::TcpStream, count: usize) -> Vec<String> {
    let mut all = vec![];
    for _ in 0..count {
        let (head, _) = receive_response(stream, true).await;
        all.push(head.split(' ').nth(1).unwrap().to_owned());
    }
    all
}

#[tokio::test]
async fn answers_come_in_the_order_of_their_requests_wherever_the_bytes_are_cut() {
    let running = Running::start_usual();
    let (text, expected) = mixed_requests();
    for cut in 0..text.len() {
        let mut stream = running.connect_client().await;
        stream.set_nodelay(true).unwrap();
        send_text(&mut stream, &text[..cut]).await;
        tokio::task::yield_now().await;
        send_text(&mut stream, &text[cut..]).await;
        assert_eq!(
            receive_statuses(&mut stream, expected.len()).await,
            expected,
            "cut at {cut}"
        );
        assert_eq!(read_to_close(&mut stream).await, "", "cut at {cut}");
    }
    // Every request took effect once.
    let asked = running.asked.fake.asked.lock();
    assert_eq!(asked.len(), 2 * text.len());
}

#[tokio::test]
async fn one_byte_at_a_time_is_enough() {
    let running = Running::start_usual();
    let (text, expected) = mixed_requests();
    let mut stream = running.connect_client().await;
    stream.set_nodelay(true).unwrap();
    for byte in text.as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(
        receive_statuses(&mut stream, expected.len()).await,
        expected
    );
    assert_eq!(read_to_close(&mut stream).await, "");
}

#[tokio::test]
async fn a_client_that_does_not_take_answers_is_read_no_further_until_it_does() {
    let running = Running::start_usual();
    let mut stream = running.connect_client().await;
    let count = 20_000;
    let (mut reader, mut writer) = stream.split();
    let asking = async {
        for _ in 0..count / 100 {
            writer.write_all(GET.repeat(100).as_bytes()).await.unwrap();
        }
    };
    let taking = async {
        let mut text = Vec::new();
        let mut seen = 0;
        while seen < count {
            let mut room = vec![0; 1 << 16];
            let bytes = tokio::io::AsyncReadExt::read(&mut reader, &mut room)
                .await
                .unwrap();
            assert!(bytes > 0, "closed after {seen}");
            text.extend_from_slice(&room[..bytes]);
            seen += text.windows(12).filter(|at| at == b"HTTP/1.1 200").count();
            let keep = text.len().saturating_sub(11);
            text.drain(..keep);
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(asking, taking) })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_connection_that_shall_be_closed_is_closed_behind_its_answer() {
    let running = Running::start_usual();
    let mut stream = running.connect_client().await;
    send_text(
        &mut stream,
        &GET.replace("host", "connection: close\r\nhost").repeat(2),
    )
    .await;
    let (head, _) = receive_response(&mut stream, true).await;
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(read_to_close(&mut stream).await, "");
}

#[tokio::test]
async fn who_never_takes_its_answers_does_not_hold_up_the_end() {
    let running = Running::start_server(TestApi::new(), 100, Duration::from_millis(100));
    let mut stream = running.connect_client().await;
    let flood = async {
        loop {
            stream.write_all(GET.repeat(100).as_bytes()).await.unwrap();
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(100), flood).await;
    running.shutdown.cancel();
    running.wait_ended().await;
}
