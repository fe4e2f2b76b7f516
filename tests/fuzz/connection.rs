//! Sequences of requests on one connection, cut at random: one answer for each, in order, and what comes behind the last.
//!
//! Each request is made together with the answer that it has to get. The service runs behind its real listener.

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use balance_cache::http::listener::{ListenerLimits, Listening};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    http::{Nobody, service},
    runner::fuzz,
};

/// Nothing here takes longer, or it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What has to happen to a request, as far as its bytes alone decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// An answer; the connection goes on.
    Answer(u16),
    /// An answer; the connection goes on if the unread body had arrived.
    MayClose(u16),
    /// An answer that announces the end.
    Last(u16),
    /// Whatever it may be: the request was damaged.
    Unknown,
}

/// A request, and what it has to bring about.
#[derive(Debug, Clone)]
struct Request {
    text: Vec<u8>,
    verdict: Verdict,
    is_head: bool,
    changes: bool,
}

/// Method, target, the status of its answer, whether it reads its body, the body.
type Route = (&'static str, &'static str, u16, bool, &'static str);

const SETTLEMENTS: &str = "/api/v1/settlements";
const GOOD: &str = r#"[{"user_id":5}]"#;

const ROUTES: [Route; 9] = [
    (
        "GET",
        "/api/user/balance?user_id=1001",
        200,
        false,
        "GET / HTTP/1.1\r\n\r\n",
    ),
    ("GET", "/api/user/balance?user_id=0", 400, false, "x"),
    ("HEAD", "/api/user/balance?user_id=7", 200, false, "[]"),
    ("GET", "/nowhere", 404, false, "0\r\n\r\n"),
    ("GET", "/docs/page.js", 200, false, "\r\n"),
    ("POST", SETTLEMENTS, 200, true, GOOD),
    ("POST", SETTLEMENTS, 400, true, r#"[{"user_id":0}]"#),
    ("PUT", SETTLEMENTS, 405, false, GOOD),
    ("POST", "/nowhere", 404, false, GOOD),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Length,
    Chunked,
    BrokenChunks,
    BadLength,
    TwoLengths,
    LengthAndChunks,
    Gzip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Good,
    Missing,
    Two,
    Bad,
}

/// How a request is dressed.
#[derive(Debug, Clone)]
struct Dress {
    old: bool,
    connection: &'static str,
    body: Body,
    host: Host,
    fields: usize,
    more: &'static str,
    chunk: usize,
    blank: usize,
}

fn dress() -> impl Strategy<Value = Dress> {
    use prop::sample::select;
    let connection = select(vec![
        "",
        "",
        "",
        "close",
        "keep-alive",
        "x",
        "Keep-Alive, x",
        "x,Close",
    ]);
    let mut bodies = vec![Body::None; 8];
    bodies.extend([Body::Length; 8]);
    bodies.extend([Body::Chunked; 8]);
    bodies.extend([
        Body::BrokenChunks,
        Body::BadLength,
        Body::TwoLengths,
        Body::LengthAndChunks,
        Body::Gzip,
    ]);
    let hosts = select(
        [
            vec![Host::Good; 40],
            vec![Host::Missing, Host::Two, Host::Bad],
        ]
        .concat(),
    );
    let more = select(vec![
        "",
        "",
        "Upgrade: h2c\r\n",
        "X-Request-Id: mine\r\n",
        "Cache-Control: no-cache\r\n",
    ]);
    (
        prop::bool::weighted(0.15),
        connection,
        select(bodies),
        hosts,
        0..40_usize,
        more,
        1..9_usize,
        0..3_usize,
    )
        .prop_map(
            |(old, connection, body, host, fields, more, chunk, blank)| Dress {
                old,
                connection,
                body,
                host,
                fields,
                more,
                chunk,
                blank,
            },
        )
}

impl Dress {
    fn closes(&self) -> bool {
        let says = |word: &str| self.connection.to_ascii_lowercase().contains(word);
        says("close") || (self.old && !says("keep-alive"))
    }

    fn is_bad(&self) -> bool {
        let host = match self.host {
            Host::Good => false,
            Host::Missing => !self.old,
            Host::Two | Host::Bad => true,
        };
        let body = match self.body {
            Body::None | Body::Length => false,
            Body::Chunked | Body::BrokenChunks => self.old,
            Body::BadLength | Body::TwoLengths | Body::LengthAndChunks | Body::Gzip => true,
        };
        host || body
    }

    fn on(&self, (method, target, status, reads, body): Route) -> Request {
        let empty = reads && self.body == Body::None;
        let status = if empty { 400 } else { status };
        let verdict = match self.body {
            _ if self.is_bad() => Verdict::Last(400),
            Body::BrokenChunks => Verdict::Last(if reads { 400 } else { status }),
            _ if self.closes() => Verdict::Last(status),
            Body::Chunked if !reads => Verdict::MayClose(status),
            _ => Verdict::Answer(status),
        };
        let broken = self.body == Body::BrokenChunks;
        Request {
            text: self.text(method, target, body).into_bytes(),
            verdict,
            is_head: method == "HEAD" && !self.is_bad(),
            changes: reads && status == 200 && !broken && !self.is_bad(),
        }
    }

    fn text(&self, method: &str, target: &str, body: &str) -> String {
        let version = if self.old { "1.0" } else { "1.1" };
        let host = match self.host {
            Host::Good => "Host: localhost\r\n",
            Host::Missing => "",
            Host::Two => "Host: localhost\r\nhost: localhost\r\n",
            Host::Bad => "Host: local/host\r\n",
        };
        let connection = match self.connection {
            "" => String::new(),
            some => format!("Connection: {some}\r\n"),
        };
        let length = format!("Content-Length: {}\r\n", body.len());
        let coding = "Transfer-Encoding: chunked\r\n";
        let (framing, body) = match self.body {
            Body::None => (String::new(), String::new()),
            Body::Length => (length, body.to_owned()),
            Body::Chunked => (coding.to_owned(), self.chunks(body) + "0\r\nx: y\r\n\r\n"),
            Body::BrokenChunks => (coding.to_owned(), self.chunks(body) + "x\r\n"),
            Body::BadLength => (length.replace(": ", ": +"), body.to_owned()),
            Body::TwoLengths => (length.repeat(2), body.to_owned()),
            Body::LengthAndChunks => (length + coding, self.chunks(body) + "0\r\n\r\n"),
            Body::Gzip => (coding.replace("chunked", "gzip"), body.to_owned()),
        };
        let (blank, fields) = ("\r\n".repeat(self.blank), "a: b\r\n".repeat(self.fields));
        let more = self.more;
        format!(
            "{blank}{method} {target} HTTP/{version}\r\n{host}{fields}{connection}{more}{framing}\r\n{body}"
        )
    }

    fn chunks(&self, body: &str) -> String {
        let pieces = body.as_bytes().chunks(self.chunk);
        pieces.fold(String::new(), |mut text, piece| {
            let data = str::from_utf8(piece).unwrap();
            write!(text, "{:x};e=1\r\n{data}\r\n", piece.len()).unwrap();
            text
        })
    }
}

fn request() -> impl Strategy<Value = Request> {
    (dress(), prop::sample::select(ROUTES.to_vec())).prop_map(|(dress, route)| dress.on(route))
}

/// A request with one byte changed, and something that is none.
fn damaged() -> impl Strategy<Value = Request> {
    let unknown = |text| Request {
        text,
        verdict: Verdict::Unknown,
        is_head: false,
        changes: false,
    };
    let changed = (request(), any::<prop::sample::Index>(), any::<u8>());
    prop_oneof![
        changed.prop_map(move |(request, at, byte)| {
            let mut text = request.text;
            let at = at.index(text.len());
            text[at] = byte;
            unknown(text)
        }),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(unknown),
    ]
}

fn sequences() -> impl Strategy<Value = (Vec<Request>, Vec<prop::sample::Index>)> {
    let requests = (
        prop::collection::vec(request(), 1..7),
        prop::option::weighted(0.2, damaged()),
    );
    let requests = requests.prop_map(|(mut requests, damaged)| {
        requests.extend(damaged);
        requests
    });
    (
        requests,
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    )
}

/// The service behind its listener.
struct Running {
    address: SocketAddr,
    settled: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Running {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let settled = Arc::new(AtomicUsize::new(0));
        let service = Arc::new(service(Nobody(Arc::clone(&settled))));
        let guard = runtime.enter();
        let listening = Listening::bind_address("127.0.0.1:0".parse().unwrap()).unwrap();
        drop(guard);
        let address = listening.bound_address();
        let limits = ListenerLimits {
            connections: 100,
            header_timeout: PATIENCE,
            drain: PATIENCE,
        };
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let serving = listening.serve_connections(service, limits, tracker.clone(), shutdown);
        tracker.spawn_on(serving, runtime.handle());
        Self {
            address,
            settled,
            _runtime: runtime,
        }
    }

    /// All that is answered to these pieces.
    fn answers(&self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for piece in pieces {
            // After a refusal there may be no one to take it.
            let _ = stream.write_all(piece);
            std::thread::yield_now();
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("the answers were lost");
        all
    }
}

/// An answer: its status, whether it announces the end, and how many bytes it is.
fn answer(bytes: &[u8], is_head: bool) -> Option<(u16, bool, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; 24];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).ok()? else {
        return None;
    };
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name == name);
        found.map(|field| str::from_utf8(field.value).unwrap().to_owned())
    };
    assert_eq!(field("x-content-type-options").as_deref(), Some("nosniff"));
    assert!(field("x-request-id").is_some());
    let length: usize = match field("content-length") {
        Some(length) if !is_head => length.parse().unwrap(),
        Some(_) | None => 0,
    };
    let closes = field("connection").as_deref() == Some("close");
    let behind = bytes.get(head..head + length)?;
    if field("content-type").as_deref() == Some("application/json") && !is_head {
        let envelope: serde_json::Value = serde_json::from_slice(behind).unwrap();
        assert_eq!(envelope["status"] == 0, response.code == Some(200));
    }
    Some((response.code.unwrap(), closes, head + length))
}

/// Whether something else than the next answer follows the head: a damaged request may still be a HEAD.
fn has_body(bytes: &[u8]) -> bool {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let behind = end.map_or(&[][..], |end| &bytes[end + 4..]);
    !behind.is_empty() && !behind.starts_with(b"HTTP/1.")
}

/// Compares all that was answered with what had to be: how many changes it says took effect; none where a damaged request
/// leaves that open.
fn check(requests: &[Request], mut bytes: &[u8]) -> Result<Option<usize>, TestCaseError> {
    let mut changes = 0;
    for request in requests {
        if request.verdict == Verdict::Unknown {
            while let Some((_, closes, len)) = answer(bytes, !has_body(bytes)) {
                bytes = &bytes[len..];
                prop_assert!(!closes || bytes.is_empty());
            }
            return Ok(None);
        }
        let Some((status, closes, len)) = answer(bytes, request.is_head) else {
            return Err(TestCaseError::fail(format!("no answer to {request:?}")));
        };
        bytes = &bytes[len..];
        let (expected, last) = match request.verdict {
            Verdict::Answer(status) => (status, false),
            Verdict::MayClose(status) => (status, closes),
            Verdict::Last(status) => (status, true),
            Verdict::Unknown => unreachable!("returned above"),
        };
        prop_assert_eq!((status, closes), (expected, last), "{:?}", request);
        changes += usize::from(request.changes);
        if closes {
            break;
        }
    }
    prop_assert!(
        bytes.is_empty(),
        "{:?} is too much",
        String::from_utf8_lossy(bytes)
    );
    Ok(Some(changes))
}

#[test]
fn fuzz_connection() {
    let running = Running::start();
    fuzz("fuzz_connection", &sequences(), |(requests, cuts)| {
        let text: Vec<u8> = requests
            .iter()
            .flat_map(|request| request.text.clone())
            .collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.sort_unstable();
        let mut pieces = vec![];
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            pieces.push(&text[from..cut]);
            from = cut;
        }
        let before = running.settled.load(Ordering::SeqCst);
        let bytes = running.answers(&pieces);
        let changes = running.settled.load(Ordering::SeqCst) - before;
        if let Some(expected) = check(&requests, &bytes)? {
            prop_assert_eq!(changes, expected, "changes without an answer");
        }
        Ok(())
    });
}
