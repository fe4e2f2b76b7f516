//! Clients that do not take their answers, or give their bodies drop by drop: each costs little, and none stays.

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    wire::{GET, PATIENCE, Running, read_to_close, receive_ok, receive_response, send_text},
    *,
};

const PAGE: &str = "GET /docs/page.js HTTP/1.1\r\nhost: x\r\n\r\n";

/// Sends requests until the server takes no more: how many bytes that were.
async fn flood_requests(stream: &mut TcpStream, request: &str) -> usize {
    let text = request.repeat(200);
    let mut sent = 0;
    while let Ok(Ok(bytes)) =
        timeout(Duration::from_millis(100), stream.write(text.as_bytes())).await
    {
        sent += bytes;
    }
    sent
}

#[tokio::test]
async fn clients_that_never_read_make_room_for_others() {
    for request in [
        GET.to_owned(),
        PAGE.to_owned(),
        PAGE.replace("host", "upgrade: h2c\r\nhost"),
        PAGE.replace("1.1", "1.0")
            .replace("host", "connection: keep-alive\r\nhost"),
        PAGE.replace("host", "transfer-encoding: chunked\r\nhost") + "0\r\n\r\n",
        GET.replace("user_id=1001", "user_id=0"),
    ] {
        let running = Running::start_server(TestApi::new(), 3, PATIENCE);
        let mut floods = vec![];
        for _ in 0..3 {
            let mut stream = running.connect_client().await;
            flood_requests(&mut stream, &request).await;
            floods.push(stream);
        }
        let mut late = running.connect_client().await;
        send_text(&mut late, GET).await;
        let (head, _) = receive_response(&mut late, true).await;
        assert!(head.starts_with("http/1.1 200"), "{request}");
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_bounded_as_a_whole() {
    let running = Running::usual_of(TestApi::with_body_wait(Duration::from_millis(200)));
    for (fields, drop) in [
        ("content-length: 5000", " "),
        ("transfer-encoding: chunked", "1\r\n \r\n"),
    ] {
        let mut stream = running.connect_client().await;
        send_text(
            &mut stream,
            &format!("POST /api/v1/settlements HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n"),
        )
        .await;
        let (mut reader, mut writer) = stream.split();
        let dripping = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            loop {
                ticks.tick().await;
                if writer.write_all(drop.as_bytes()).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut text = Vec::new();
        let answer = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut text);
        tokio::select! {
            read = timeout(PATIENCE, answer) => drop_result(read.expect("it may trickle for ever")),
            () = dripping => unreachable!("it never ends"),
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("HTTP/1.1 504"), "{text}");
    }
}

fn drop_result<T, E>(_: Result<T, E>) {}

#[tokio::test]
async fn a_client_that_has_ended_its_side_gets_its_answers() {
    let running = Running::start_usual();
    let mut stream = running.connect_client().await;
    let waiting = GET
        .replace("1001", "7")
        .replace("host", "cache-control: no-cache\r\nhost");
    running
        .asked
        .fake
        .memory
        .store(false, std::sync::atomic::Ordering::Relaxed);
    for first in [GET.replace("1001", "7"), waiting] {
        send_text(&mut stream, &format!("{first}{GET}")).await;
        stream.shutdown().await.unwrap();
        running.wait_entered().await;
        running.asked.fake.gate.notify_one();
        for _ in 0..2 {
            receive_ok(&mut stream).await;
        }
        assert_eq!(read_to_close(&mut stream).await, "");
        stream = running.connect_client().await;
    }
}

#[tokio::test]
async fn a_broken_connection_drops_its_request() {
    let running = Running::start_server(TestApi::new(), 1, PATIENCE);
    for waiting in ["no-cache", "max-age=0"] {
        let mut stream = running.connect_client().await;
        running
            .asked
            .fake
            .memory
            .store(false, std::sync::atomic::Ordering::Relaxed);
        let fields = format!("cache-control: {waiting}\r\nhost");
        send_text(
            &mut stream,
            &GET.replace("1001", "7").replace("host", &fields),
        )
        .await;
        running.wait_entered().await;
        stream.set_zero_linger().unwrap();
        drop(stream);
        // The only place is free again, though nothing opened the gate.
        let mut next = running.connect_client().await;
        send_text(&mut next, GET).await;
        receive_ok(&mut next).await;
    }
}
