//! Sequences of requests on one connection, cut at random: one answer for each, in order, and what comes behind the last.
//!
//! Each request is made together with the answer that it has to get. The service runs behind its real listener.

mod requests;

use std::{
    io::{Read, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use balance_cache::http::listener::{ListenerLimits, Listening};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::requests::{Request, Verdict, sequences};
use crate::{
    http::{Nobody, service},
    runner::fuzz,
};

/// Nothing here takes longer, or it is broken.
const PATIENCE: Duration = Duration::from_mins(1);
/// Half of what the service waits for the rest of a body that nobody reads.
const LATE: Duration = Duration::from_secs(1);

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

    /// All that is answered to these pieces; none where this thread stood still between two of them: the service gives up a
    /// client that does.
    fn answers(&self, pieces: &[&[u8]]) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let begun = Instant::now();
        for piece in pieces {
            // After a refusal there may be no one to take it.
            let _ = stream.write_all(piece);
            std::thread::yield_now();
        }
        let _ = stream.shutdown(Shutdown::Write);
        let is_late = begun.elapsed() > LATE;
        let mut all = Vec::new();
        let read = stream.read_to_end(&mut all);
        if is_late {
            return None;
        }
        read.expect("the answers were lost");
        Some(all)
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
        let Some(bytes) = running.answers(&pieces) else {
            return Ok(());
        };
        let changes = running.settled.load(Ordering::SeqCst) - before;
        if let Some(expected) = check(&requests, &bytes)? {
            prop_assert_eq!(changes, expected, "changes without an answer");
        }
        Ok(())
    });
}
