//! A listener on a port of the system's choice, and a client that sees every byte.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::TestApi;
use crate::http::listener::{ListenerLimits, Listening};

/// Nothing here takes longer, however busy the machine is, or it is broken.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);
/// The shortest time after which the server gives up a client that stands still.
const STANDSTILL_MAX: Duration = Duration::from_secs(2);
pub(super) const GET: &str = "GET /api/user/balance?user_id=1001 HTTP/1.1\r\nhost: x\r\n\r\n";

pub(super) struct Running {
    pub asked: TestApi,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    tracker: TaskTracker,
    pub served: JoinHandle<()>,
}

impl Running {
    /// With little patience for heads and for clients that do not read.
    pub fn start_server(asked: TestApi, connections: usize, drain: Duration) -> Self {
        Self::start_patient(asked, connections, drain, Duration::from_millis(300))
    }

    fn start_patient(
        asked: TestApi,
        connections: usize,
        drain: Duration,
        header_timeout: Duration,
    ) -> Self {
        let listening = Listening::bind_address("127.0.0.1:0".parse().unwrap()).unwrap();
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let limits = ListenerLimits {
            connections,
            header_timeout,
            drain,
        };
        let address = listening.bound_address();
        let service = Arc::new(asked.service.clone());
        let served = tracker.spawn(listening.serve_connections(
            service,
            limits,
            tracker.clone(),
            shutdown.clone(),
        ));
        Self {
            asked,
            address,
            shutdown,
            tracker,
            served,
        }
    }

    pub(super) fn start_usual() -> Self {
        Self::usual_of(TestApi::new())
    }

    pub(super) fn usual_of(asked: TestApi) -> Self {
        Self::start_patient(asked, 100, PATIENCE, PATIENCE)
    }

    pub(super) async fn connect_client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A read of user 7 waits at the gate.
    pub async fn wait_entered(&self) {
        let entered = self.asked.fake.entered.notified();
        timeout(PATIENCE, entered).await.unwrap();
    }

    /// Everything has ended.
    pub async fn wait_ended(self) {
        timeout(PATIENCE, self.served).await.unwrap().unwrap();
        self.tracker.close();
        timeout(PATIENCE, self.tracker.wait()).await.unwrap();
    }
}

pub(super) async fn send_text(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// One response: head, and the body that its length announces (none for HEAD).
pub(super) async fn receive_response(stream: &mut TcpStream, has_body: bool) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.unwrap();
        head.push(byte.expect("the head was cut off"));
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; if has_body { length } else { 0 }];
    timeout(PATIENCE, stream.read_exact(&mut body))
        .await
        .unwrap()
        .unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// One response, which is 200.
pub(super) async fn receive_ok(stream: &mut TcpStream) {
    let (head, _) = receive_response(stream, true).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

/// Whether the other side has closed, with whatever it said before.
pub(super) async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .expect("the connection stays open");
    String::from_utf8(all).unwrap()
}

/// Sends `text` in two pieces, ends the client's side, and reads all answers: their statuses, and how the last one ended.
/// `100 Continue` is left out. The fake forgets first which changes it was asked for. An exchange in which the client may have stood
/// still for too long is repeated.
pub(super) async fn statuses_of(running: &Running, text: &[u8], cut: usize) -> Vec<u16> {
    for _ in 0..10 {
        running.asked.fake.asked.lock().clear();
        let begun = Instant::now();
        let answers = exchange_bytes(running, text, cut).await;
        if begun.elapsed() < STANDSTILL_MAX {
            return statuses_in(&answers.expect("the answers were lost"));
        }
    }
    panic!("no exchange took less than {STANDSTILL_MAX:?}");
}

async fn exchange_bytes(running: &Running, text: &[u8], cut: usize) -> io::Result<Vec<u8>> {
    let mut stream = running.connect_client().await;
    stream.set_nodelay(true).unwrap();
    let (first, second) = text.split_at(cut);
    for piece in [first, second] {
        // A server that has refused the first piece may be gone.
        let _ = stream.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let _ = stream.shutdown().await;
    let mut all = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    read.expect("the connection stays open").map(|_| all)
}

/// The statuses of whole answers, and nothing else.
fn statuses_in(mut bytes: &[u8]) -> Vec<u16> {
    let mut statuses = vec![];
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 24];
        let mut response = httparse::Response::new(&mut fields);
        let head = response.parse(bytes).unwrap().unwrap();
        let status = response.code.unwrap();
        let length = response
            .headers
            .iter()
            .find(|field| field.name == "content-length");
        let length = length.map_or(0, |field| {
            str::from_utf8(field.value).unwrap().parse().unwrap()
        });
        bytes = &bytes[head + length..];
        if status != 100 {
            statuses.push(status);
        }
    }
    statuses
}
