//! How often a memory hit asks the allocator for something, from connection to connection, beside what hyper needs to answer
//! the same bytes from a constant. A process of its own, because what counts is the whole process' allocator.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use balance_cache::{config, service::RunningService};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{CONTENT_LENGTH, DATE},
};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, runtime::Builder};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const REQUEST: &[u8] = b"GET /api/user/balance?user_id=1001 HTTP/1.1\r\nhost: localhost\r\n\r\n";
const PATIENCE: Duration = Duration::from_mins(1);
/// Requests that are counted together, after as many that are not.
const ROUNDS: u32 = 64;
/// Of many short countings the least is taken: once a second the process looks after itself too, and a busy machine is slow.
const TRIES: u32 = 32;

/// A server on a thread of its own: how it is asked, and how it ends.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Running {
    /// What `serve` makes is run on one thread; it says where it listens.
    fn start<F: Future<Output = ()>>(
        serve: impl FnOnce(mpsc::SyncSender<SocketAddr>, CancellationToken) -> F + Send + 'static,
    ) -> Self {
        let (say, said) = mpsc::sync_channel(1);
        let stop = CancellationToken::new();
        let token = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(say, token));
        });
        Self {
            address: said.recv_timeout(PATIENCE).unwrap(),
            stop,
            thread,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn end(self) {
        self.stop.cancel();
        self.thread.join().unwrap();
    }

    /// Allocations for a request, on a connection that is warm.
    fn allocations(&self) -> f64 {
        let mut stream = self.connect();
        let mut room = [0; 4_096];
        let counted = |stream: &mut TcpStream, room: &mut [u8]| {
            let before = dhat::HeapStats::get().total_blocks;
            for _ in 0..ROUNDS {
                ask(stream, room);
            }
            dhat::HeapStats::get().total_blocks - before
        };
        counted(&mut stream, &mut room);
        let least = (0..TRIES).map(|_| counted(&mut stream, &mut room)).min();
        f64::from(u32::try_from(least.unwrap()).unwrap()) / f64::from(ROUNDS)
    }
}

/// One request and its answer, which ends as the balances do; nothing is allocated here.
fn ask(stream: &mut TcpStream, room: &mut [u8]) -> usize {
    stream.write_all(REQUEST).unwrap();
    let mut len = 0;
    loop {
        let more = stream.read(&mut room[len..]).unwrap();
        assert!(more > 0, "the connection was closed");
        len += more;
        if room[..len].ends_with(b"]}") {
            return len;
        }
    }
}

/// The service as it is run, with an embedded ledger and its sample users.
async fn service(say: mpsc::SyncSender<SocketAddr>, stop: CancellationToken) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.redb");
    let settings = [
        ("BALANCE_CACHE__HTTP__LISTEN", "127.0.0.1:0"),
        ("BALANCE_CACHE__OPS__LISTEN", "127.0.0.1:0"),
        ("BALANCE_CACHE__EMBEDDED__PATH", ledger.to_str().unwrap()),
        // A machine that stands still is not what is counted: the first read is answered, and what it read is held.
        ("BALANCE_CACHE__LIMITS__DEADLINE_MS", "60000"),
        ("BALANCE_CACHE__SOURCE__TIMEOUT_MS", "60000"),
        ("BALANCE_CACHE__MEMORY__TTL_MS", "300000"),
        ("BALANCE_CACHE__LIMITS__HEADER_TIMEOUT_MS", "60000"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = config::load_settings(None, settings).unwrap();
    let service = RunningService::open_service(settings, stop).unwrap();
    say.send(service.bound_addresses().0).unwrap();
    service.run_until_shutdown().await;
}

/// Bare hyper with these headers and this body, both prepared.
async fn constant(
    headers: HeaderMap,
    body: Bytes,
    say: mpsc::SyncSender<SocketAddr>,
    stop: CancellationToken,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    say.send(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    let answer = service_fn(|_| {
        let mut response = Response::new(Full::new(body.clone()));
        *response.headers_mut() = headers.clone();
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        () = stop.cancelled() => {}
        ended = connection => drop(ended),
    }
}

/// Headers and body of an answer, without what hyper adds by itself.
fn parts(answer: &[u8]) -> (HeaderMap, Bytes) {
    let text = std::str::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let fields = head.lines().skip(1).map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    });
    let ours = fields.filter(|(name, _)| name != CONTENT_LENGTH && name != DATE);
    (ours.collect(), Bytes::from(body.to_owned()))
}

#[test]
fn a_memory_hit_allocates_no_more_than_a_constant_answer_of_bare_hyper() {
    let _counting = dhat::Profiler::builder().testing().build();
    let ours = Running::start(service);
    let mut room = [0; 4_096];
    let mut stream = ours.connect();
    ask(&mut stream, &mut room);
    let len = ask(&mut stream, &mut room);
    let (headers, body) = parts(&room[..len]);
    let status = headers.get("cache-status").unwrap().to_str().unwrap();
    assert!(status.starts_with("memory; hit"), "{status}");
    assert_eq!(headers.len(), 7, "{headers:?}");
    let hit = ours.allocations();
    drop(stream);
    ours.end();

    let theirs = Running::start(|say, stop| constant(headers, body, say, stop));
    let bare = theirs.allocations();
    theirs.end();
    println!("allocations for a hit: {hit:.2}, for a constant of bare hyper: {bare:.2}");
    assert!(hit <= bare, "{hit:.2} for a hit, {bare:.2} for a constant");
}
