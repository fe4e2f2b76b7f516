//! Accepting connections and speaking HTTP/1 on them, for every listener of this process.
//!
//! The interface to hyper's server is localised here.
//!
//! **Invariants.** At most `connections` are open; more wait in the backlog. Running out of file descriptors stops
//! nothing for longer than [`ACCEPT_PAUSE`]. After shutdown no request that was begun is cut before `drain` is over.
//!
//! **Cancellation.** [`Listening::serve`] ends by its token only; dropped, it stops accepting and leaves its connections
//! to the tracker.
//!
//! **Limits.** Headers have `header_timeout` from the first wait for them (an idle connection is closed by it too),
//! [`HEAD_BYTES`] and hyper's 100 fields.
//!
//! **Deliberately absent**: TLS, HTTP/2, a timeout for clients that do not read their answer (a connection is all they take).

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, rt, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Body;
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
pub trait Answers: Clone + Send + Sync + 'static {
    /// Answers one without waiting, if it can: the request is gone before its answer is written, and hyper goes on reading
    /// into the same buffer, which its headers would hold.
    fn at_once(&self, _request: &Request<Incoming>) -> Option<Response<Body>> {
        None
    }

    /// Answers one that was not answered at once.
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
        let (builder, cut, log) = (
            builder(limits.header_timeout),
            CancellationToken::new(),
            Sparing::default(),
        );
        while let Some((stream, permit)) = self.next(&room, &shutdown, &log).await {
            let connection = Connection {
                builder: builder.clone(),
                // Children: what a connection looks at with every wake-up is its own.
                shutdown: shutdown.child_token(),
                cut: cut.child_token(),
                _permit: permit,
            };
            tracker.spawn(connection.run(stream, service.clone()));
        }
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
struct Connection {
    builder: http1::Builder,
    shutdown: CancellationToken,
    cut: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, service: impl Answers) {
        // Answers are written whole: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        let answering = service.clone();
        let answer = service_fn(move |request| {
            let at_once = match answering.at_once(&request) {
                Some(response) => Ok(response),
                None => Err((answering.clone(), request)),
            };
            async move {
                Ok::<_, Infallible>(match at_once {
                    Ok(response) => response,
                    Err((service, request)) => service.answer(request).await,
                })
            }
        });
        let mut connection = self
            .builder
            .serve_connection(KeptOpen(TokioIo::new(stream)), answer);
        // How a connection ends is the client's affair; what was wrong with a request was said in its answer.
        let ended = tokio::select! {
            biased;
            ended = &mut connection => ended,
            () = self.shutdown.cancelled() => {
                Pin::new(&mut connection).graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = &mut connection => ended,
                    () = self.cut.cancelled() => return,
                }
            }
        };
        let mut stream = connection.into_parts().io.0.into_inner();
        if ended.is_err_and(|error| error.is_parse()) {
            // hyper's own answer stays in its buffer: with pipelining it waits for the rest of what cannot be read.
            let _ = timeout(LINGER, refuse(stream, &service.refusal())).await;
        } else {
            let _ = stream.shutdown().await;
        }
    }
}

/// A stream that hyper does not shut down, so that there may be a last word after hyper's.
struct KeptOpen(TokioIo<TcpStream>);

impl rt::Read for KeptOpen {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl rt::Write for KeptOpen {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, buffers)
    }
}

/// Answers, and reads on for a while: a client that is still sending would lose the answer to a reset.
async fn refuse(mut stream: TcpStream, refusal: &[u8]) -> io::Result<()> {
    stream.write_all(refusal).await?;
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
