//! Connections of the real process: what one can cost, and how many there are.

use std::{fs, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    eventually::eventually_async,
    service::{Service, Setup},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the process may grow by for one connection that reads nothing, with all that the allocator keeps.
const GROWTH_MAX_KIB: u64 = 24 * 1024;

/// The most memory that a process ever had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Sends requests and reads nothing, until the server takes no more of them.
async fn flood(stream: &mut TcpStream, requests: &str) {
    let writing = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    let _ = timeout(Duration::from_secs(1), writing).await;
}

/// The answer to a request on a connection of its own. None where the server gave that up before the request came.
async fn answer_to(address: SocketAddr, request: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok()?;
    (!text.is_empty()).then_some(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_cost_little_and_end_with_their_connection() {
    let setup = Setup::default()
        .with("limits.header_timeout_ms", 1_500)
        .with("limits.connections", 3);
    let mut service = Service::start_ready(setup).await;
    let pid = service.process().pid();
    let page = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n";
    service.get("/openapi.json").await;
    service.get_ops("/metrics").await;
    for (address, request) in [
        (service.http(), format!("{page}\r\n")),
        (service.http(), format!("{page}upgrade: h2c\r\n\r\n")),
        (
            service.http(),
            format!("{page}connection: keep-alive\r\n\r\n").replace("1.1", "1.0"),
        ),
        (
            service.http(),
            format!("{page}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            service.http(),
            "GET /api/user/balance?user_id=1001 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
        ),
        (service.ops(), format!("{page}\r\n")),
        (
            service.ops(),
            "GET /metrics HTTP/1.1\r\nhost: localhost\r\nupgrade: h2c\r\n\r\n".to_owned(),
        ),
    ] {
        let before = peak(pid);
        let mut floods = vec![];
        for _ in 0..3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            flood(&mut stream, &request.repeat(1_000)).await;
            floods.push(stream);
        }
        // The system counts in batches: the figure may fall a little.
        let grown = peak(pid).saturating_sub(before);
        assert!(grown < 3 * GROWTH_MAX_KIB, "{grown} KiB: {request}");
        // All places are taken; they become free though the clients stay.
        let late = format!("{page}connection: close\r\n\r\n");
        let what = "clients that read nothing do not shut the others out";
        let text = eventually_async(PATIENCE, what, async || answer_to(address, &late).await).await;
        assert!(text.starts_with(b"HTTP/1.1 200"), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_few_open_files_clients_wait_and_operators_are_answered() {
    let setup = Setup {
        shell: "ulimit -n 64;".to_owned(),
        ..Setup::default()
    };
    let mut service = Service::start_ready(setup).await;
    let log = service.process().stderr();
    assert!(!log.contains("WARN"), "{log}");
    let mut clients = vec![];
    for _ in 0..120 {
        clients.push(TcpStream::connect(service.http()).await.unwrap());
    }
    let get = "GET /api/user/balance?user_id=1001 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for client in &mut clients {
        client.write_all(get.as_bytes()).await.unwrap();
    }
    let mut byte = [0];
    timeout(PATIENCE, clients[0].peek(&mut byte))
        .await
        .unwrap()
        .unwrap();
    // Each on a connection of its own.
    for _ in 0..5 {
        let mut probe = TcpStream::connect(service.ops()).await.unwrap();
        let ask = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        probe.write_all(ask.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        timeout(PATIENCE, probe.read_to_end(&mut text))
            .await
            .unwrap()
            .unwrap();
        assert!(text.starts_with(b"HTTP/1.1 200"));
    }
    // The others wait for their turn, and get it.
    let last = clients.pop().unwrap();
    drop(clients);
    eventually_async(PATIENCE, "the last client is answered", async || {
        let mut room = [0; 12];
        let read = timeout(Duration::from_millis(200), last.peek(&mut room)).await;
        matches!(read, Ok(Ok(1..))).then_some(())
    })
    .await;
    let log = service.process().stderr();
    assert!(!log.contains("accept failed"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ports_refuse_a_host_that_is_missing_double_or_none() {
    let service = Service::start_ready(Setup::default()).await;
    for (address, path) in [
        (service.http(), "/api/user/balance?user_id=1001"),
        (service.http(), "/openapi.json"),
        (service.ops(), "/livez"),
        (service.ops(), "/metrics"),
    ] {
        for (version, host, status) in [
            ("1.1", "host: localhost\r\n", 200),
            ("1.1", "", 400),
            ("1.1", "host:\r\n", 400),
            ("1.1", "host: a/b\r\n", 400),
            ("1.1", "host: localhost\r\nhost: localhost\r\n", 400),
            ("1.1", "host: elsewhere.test\r\n", 403),
            ("1.0", "", 200),
            ("1.0", "host: elsewhere.test\r\n", 403),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let text = format!("GET {path} HTTP/{version}\r\n{host}x-request-id: mine\r\n\r\n");
            stream.write_all(text.as_bytes()).await.unwrap();
            // As `nc -N` does.
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut answer))
                .await
                .unwrap()
                .unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert_eq!(answer[9..12], status.to_string(), "{text}{answer}");
            assert!(answer.contains("\r\nx-request-id: mine\r\n"), "{answer}");
            assert!(
                answer.contains("\r\nx-content-type-options: nosniff\r\n"),
                "{answer}"
            );
        }
    }
}
