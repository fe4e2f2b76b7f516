//! A listener on a port of the system's choice, and a client that sees every byte.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Asked;
use crate::http::listener::{Limits, Listening};

/// Nothing here takes longer, or it is broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const GET: &str = "GET /api/user/balance?user_id=1001 HTTP/1.1\r\nhost: x\r\n\r\n";

pub(super) struct Running {
    pub asked: Asked,
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    tracker: TaskTracker,
    pub served: JoinHandle<()>,
}

impl Running {
    pub fn start(asked: Asked, connections: usize, drain: Duration) -> Self {
        let listening = Listening::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let limits = Limits {
            connections,
            header_timeout: Duration::from_millis(300),
            drain,
        };
        let address = listening.address();
        let service = Arc::new(asked.service.clone());
        let served =
            tracker.spawn(listening.serve(service, limits, tracker.clone(), shutdown.clone()));
        Self {
            asked,
            address,
            shutdown,
            tracker,
            served,
        }
    }

    pub(super) fn usual() -> Self {
        Self::start(Asked::new(), 100, PATIENCE)
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything has ended.
    pub async fn ended(self) {
        timeout(PATIENCE, self.served).await.unwrap().unwrap();
        self.tracker.close();
        timeout(PATIENCE, self.tracker.wait()).await.unwrap();
    }
}

pub(super) async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// One response: head, and the body that its length announces (none for HEAD).
pub(super) async fn receive(stream: &mut TcpStream, has_body: bool) -> (String, String) {
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

/// Whether the other side has closed, with whatever it said before.
pub(super) async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .expect("the connection stays open");
    String::from_utf8(all).unwrap()
}
