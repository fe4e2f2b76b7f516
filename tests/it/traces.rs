//! Spans, at a collector that keeps what it is sent.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

use reqwest::Method;

use crate::support::service::{Service, Setup};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

fn collector() -> (String, Arc<TcpListener>) {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    (
        format!("http://{}", listener.local_addr().unwrap()),
        listener,
    )
}

/// A request, and where its answer is waited for.
fn received(listener: &TcpListener) -> (Vec<u8>, TcpStream) {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut all, mut part) = (Vec::new(), [0; 4_096]);
    loop {
        let more = stream.read(&mut part).unwrap();
        all.extend_from_slice(&part[..more]);
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let head = end.map(|end| String::from_utf8_lossy(&all[..end]).to_lowercase());
        let length = head.as_deref().and_then(|head| {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            length?.parse::<usize>().ok()
        });
        if more == 0
            || end
                .zip(length)
                .is_some_and(|(end, length)| all.len() >= end + 4 + length)
        {
            return (all, stream);
        }
    }
}

#[tokio::test]
async fn a_read_that_goes_to_the_source_is_a_trace_of_its_caller_and_a_hit_is_none() {
    let (endpoint, listener) = collector();
    let (told, hear) = mpsc::sync_channel(1_000);
    thread::spawn(move || {
        loop {
            // Told before it is answered: what an instance that has ended was able to send is told.
            let (request, mut stream) = received(&listener);
            if told.send(request).is_err() {
                break;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).unwrap();
        }
    });
    let setup = Setup::default()
        .with("telemetry.otlp_endpoint", endpoint)
        .with("memory.ttl_ms", 60_000);
    let mut service = Service::start_ready(setup).await;
    let path = "/api/user/balance?user_id=1001";
    let header = format!("00-{TRACE}-{PARENT}-01");
    for _ in 0..2 {
        let request = service.request(Method::GET, path);
        let answer = service.send(request.header("traceparent", &header)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(service.terminate(), 0, "{}", service.process().logs());
    // The spans of a request may be sent in two batches.
    let requests: Vec<Vec<u8>> = hear.try_iter().collect();
    let to_traces = |request: &Vec<u8>| request.starts_with(b"POST /v1/traces");
    assert!(!requests.is_empty() && requests.iter().all(to_traces));
    let body = requests.concat();
    for span in ["request", "read", "load"] {
        assert!(holds(&body, span.as_bytes()), "{span}");
    }
    assert!(holds(&body, &bytes(TRACE)) && holds(&body, &bytes(PARENT)));
    let trace = bytes(TRACE);
    let spans = body.windows(16).filter(|window| *window == trace).count();
    assert_eq!(spans, 3, "the hit made none");
    assert!(
        !service.process().stderr().contains("request{"),
        "spans are not in the log"
    );
}
