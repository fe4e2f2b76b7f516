//! Accepting connections and speaking HTTP/1 on them, for every listener of this process.
//!
//! The interface to hyper's server is localised here.
//!
//! **Invariants.** At most `connections` are open; more wait in the backlog. Running out of file descriptors stops
//! nothing for longer than [`ACCEPT_PAUSE`]. After shutdown no request that was begun is cut before `drain` is over.
//!
//! **Cancellation.** [`Listening::serve`] ends by its token only; dropped, it stops accepting and leaves its connections
//! to the tracker, and to their clients.
//!
//! A connection is answered by [`super::front`] as long as it asks for nothing else than what can be answered at once; hyper is
//! given each other request by itself ([`super::one`]), or the connection for good, where its framing is out of the ordinary.
//!
//! **Limits.** Headers have `header_timeout` from the first wait for them (an idle connection is closed by it too),
//! [`HEAD_BYTES`] and hyper's 100 fields.
//!
//! **Deliberately absent**: TLS, HTTP/2, a timeout for clients that do not read their answer (a connection is all they take).

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, rt, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioTimer;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use super::front::Says;
use super::{
    Body,
    ending::Ending,
    front::{Front, Next},
    one::{All, One, Watched},
    waits::Waits,
};
use crate::telemetry::Sparing;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Request line and headers.
const HEAD_BYTES: usize = 64 * 1024;
/// How long, and for how many bytes, a client is listened to whose request could not be read.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: u64 = 1024 * 1024;
/// After an accept that failed for want of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whoever answers requests.
pub trait Answers: Says + Clone + Send + Sync + 'static {
    /// Answers one.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;

    /// The bytes of an answer to what cannot be read as a request; the connection is closed after it.
    fn refusal(&self) -> Vec<u8> {
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec()
    }
}

/// Bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// `limits.connections`.
    pub connections: usize,
    /// `limits.header_timeout_ms`.
    pub header_timeout: Duration,
    /// `limits.drain_ms`.
    pub drain: Duration,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct Error {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// A socket that listens; nobody is accepted yet.
#[derive(Debug)]
pub struct Listening {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Listens on `address`; port 0 lets the system choose. To be called on a runtime.
    ///
    /// # Errors
    /// The address is taken, not ours, or not allowed.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let bound = || -> io::Result<Self> {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::STREAM,
                Some(Protocol::TCP),
            )?;
            // A restart does not wait for the connections of the life before.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let socket = TcpListener::from_std(socket.into())?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address })
        };
        bound().map_err(|source| Error { address, source })
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and serves until `shutdown`; then lets requests in flight finish, at most `limits.drain`, and cuts the rest.
    pub async fn serve(
        self,
        service: impl Answers,
        limits: Limits,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) {
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX).max(1);
        let room = Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(usize::MAX)));
        let (builder, log) = (builder(limits.header_timeout), Sparing::default());
        let (ending, cut) = (Ending::default(), CancellationToken::new());
        while let Some((stream, permit)) = self.next(&room, &shutdown, &log).await {
            let connection = Connection {
                service: service.clone(),
                builder: builder.clone(),
                header_timeout: limits.header_timeout,
                // Children: where a connection waits, no other one does.
                ending: ending.child(),
                cut: cut.child_token(),
                _permit: permit,
            };
            tracker.spawn(connection.run(stream));
        }
        ending.begin();
        drop(self.socket);
        if timeout(limits.drain, room.acquire_many(all)).await.is_err() {
            let open = limits.connections.saturating_sub(room.available_permits());
            tracing::warn!(
                listener.address = %self.address,
                listener.open = open,
                "drain took too long, cutting connections"
            );
            cut.cancel();
            let _ = room.acquire_many(all).await;
        }
    }

    /// The next connection with its place; none after shutdown.
    async fn next(
        &self,
        room: &Arc<Semaphore>,
        shutdown: &CancellationToken,
        log: &Sparing,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let accepted = async {
            let permit = Arc::clone(room).acquire_owned().await.ok()?;
            loop {
                match self.socket.accept().await {
                    Ok((stream, _)) => return Some((stream, permit)),
                    Err(error) => {
                        if let Some(left_out) = log.line() {
                            tracing::warn!(%error, lines.left_out = left_out, "accept failed");
                        }
                        if let Some(pause) = pause_after(&error) {
                            sleep(pause).await;
                        }
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            next = accepted => next,
        }
    }
}

fn builder(header_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES)
        .pipeline_flush(true);
    builder
}

/// A connection that broke while it waited costs nothing; everything else (no descriptors, no memory) needs time.
fn pause_after(error: &io::Error) -> Option<Duration> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::Interrupted => None,
        _ => Some(ACCEPT_PAUSE),
    }
}

/// One connection's surroundings.
struct Connection<S> {
    service: S,
    builder: http1::Builder,
    header_timeout: Duration,
    ending: Ending,
    cut: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl<S: Answers> Connection<S> {
    async fn run(self, stream: TcpStream) {
        // Answers are written whole: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let (stop, cut) = (pin!(self.ending.begun()), pin!(self.cut.cancelled()));
        let alarm = pin!(sleep(self.header_timeout));
        let mut waits = Waits::new(&self.ending, stop, cut, alarm, self.header_timeout);
        let mut front = Front::new(stream);
        loop {
            match front.next(&self.service, &mut waits).await {
                Next::End => return close(front.stream).await,
                Next::Refusal => return refuse(front.stream, &self.service.refusal()).await,
                Next::All => {
                    // Boxed: what few connections need takes no room in the others.
                    return Box::pin(self.all(front)).await;
                }
                Next::One { here, left } => match Box::pin(self.one(front, here, left)).await {
                    Some(back) => front = back,
                    None => return,
                },
            }
            waits.since = Instant::now();
        }
    }

    /// One request by hyper. The connection is back if it may go on.
    async fn one(&self, mut front: Front, here: usize, left: u64) -> Option<Front> {
        let held = front.held.split_off(here.min(front.held.len()));
        let made = Arc::new(AtomicBool::new(false));
        let one = One::new(front.stream, front.held.into(), left, Arc::clone(&made));
        let service = service_fn(|request| async {
            let response = self.service.answer(request).await;
            Ok::<_, Infallible>(response.map(|body| Watched::new(body, Arc::clone(&made))))
        });
        let mut builder = self.builder.clone();
        builder.keep_alive(!self.ending.has_begun());
        let mut connection = builder.serve_connection(one, service);
        self.drive(Pin::new(&mut connection)).await?.ok();
        let one = connection.into_parts().io;
        let goes_on = one.is_done() && !self.ending.has_begun();
        let (stream, ahead) = one.into_parts();
        if goes_on {
            return Some(Front::back(stream, held, &ahead));
        }
        close(stream).await;
        None
    }

    /// Everything by hyper, to the end.
    async fn all(&self, front: Front) {
        let all = All::new(front.held.into(), front.stream);
        let service =
            service_fn(|request| async { Ok::<_, Infallible>(self.service.answer(request).await) });
        let mut connection = self.builder.serve_connection(all, service);
        let Some(ended) = self.drive(Pin::new(&mut connection)).await else {
            return;
        };
        let stream = connection.into_parts().io.into_inner();
        if ended.is_err_and(|error| error.is_parse()) {
            // hyper's own answer stays in its buffer: with pipelining it waits for the rest of what cannot be read.
            refuse(stream, &self.service.refusal()).await;
        } else {
            close(stream).await;
        }
    }

    /// Until hyper is done: how it ended is the client's affair, what was wrong with a request was said in its answer. None
    /// if it was cut.
    async fn drive<I, X>(
        &self,
        mut connection: Pin<&mut http1::Connection<I, X>>,
    ) -> Option<hyper::Result<()>>
    where
        I: rt::Read + rt::Write + Unpin,
        X: hyper::service::HttpService<Incoming>,
        X::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        X::ResBody: 'static,
        <X::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return Some(ended),
            () = self.ending.begun() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            biased;
            ended = connection => Some(ended),
            () = self.cut.cancelled() => None,
        }
    }
}

/// Answers what could not be read.
async fn refuse(mut stream: TcpStream, refusal: &[u8]) {
    let refused = async {
        stream.write_all(refusal).await?;
        finish(stream).await
    };
    let _ = timeout(LINGER, refused).await;
}

/// Ends a connection. A client that is still sending would lose the last answer to a reset: it is listened to for a while.
async fn close(mut stream: TcpStream) {
    let sends = matches!(stream.try_read(&mut [0]), Ok(bytes) if bytes > 0);
    if sends {
        let _ = timeout(LINGER, finish(stream)).await;
    } else {
        let _ = stream.shutdown().await;
    }
}

async fn finish(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = tokio::io::AsyncReadExt::take(stream, LINGER_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink())
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_pauses_and_a_broken_connection_does_not() {
        // EMFILE and ENFILE
        for code in [24, 23] {
            assert_eq!(
                pause_after(&io::Error::from_raw_os_error(code)),
                Some(ACCEPT_PAUSE)
            );
        }
        assert_eq!(pause_after(&io::ErrorKind::ConnectionAborted.into()), None);
    }
}
