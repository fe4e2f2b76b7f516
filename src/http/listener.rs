//! Accepting connections, for every listener of this process.
//!
//! **Invariants.** At most `connections` are open; more wait in the backlog. Running out of file descriptors stops
//! nothing for longer than [`ACCEPT_PAUSE`]. After shutdown no request that was begun is cut before `drain` is over.
//!
//! **Cancellation.** [`Listening::serve_connections`] ends by its token only; dropped, it stops accepting and leaves its connections
//! to the tracker, and to their clients.
//!
//! **Limits.** No connection is kept for ever: `header_timeout` bounds the wait for a head, and for a client that does not take its
//! answer (an idle connection is closed by it too).
//!
//! **Deliberately absent**: TLS, HTTP/2.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use super::connection::Answers;
pub use super::fast_path::{BadRequest, BadRequestReason, FastPath};
use super::{connection::Connection, shutdown::ShutdownSignal};
use crate::telemetry::RateLimitedLog;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// The pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
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
pub struct ListenError {
    pub address: SocketAddr,
    /// The system's message.
    pub source: io::Error,
}

/// A bound socket that does not accept connections yet.
#[derive(Debug)]
pub struct Listening {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Listens on `address`; port 0 lets the system choose. To be called on a runtime.
    /// Errors: the address is taken, not ours, or not allowed.
    pub fn bind_address(address: SocketAddr) -> Result<Self, ListenError> {
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
        bound().map_err(|source| ListenError { address, source })
    }

    /// Returns the bound address, with the port that the system chose.
    pub const fn bound_address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and serves until `shutdown`; then lets requests in flight finish, at most `limits.drain`, and cuts the rest.
    pub async fn serve_connections(
        self,
        service: impl Answers,
        limits: ListenerLimits,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) {
        let all = u32::try_from(limits.connections).unwrap_or(u32::MAX).max(1);
        let room = Arc::new(Semaphore::new(usize::try_from(all).unwrap_or(usize::MAX)));
        let log = RateLimitedLog::default();
        let (ending, cut) = (ShutdownSignal::default(), CancellationToken::new());
        while let Some((stream, permit)) = self.accept_connection(&room, &shutdown, &log).await {
            let connection = Connection {
                service: service.clone(),
                header_timeout: limits.header_timeout,
                // Children: where a connection waits, no other one does.
                ending: ending.child_signal(),
                cut: cut.child_token(),
                _permit: permit,
            };
            tracker.spawn(connection.serve_connection(stream));
        }
        ending.begin_shutdown();
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

    /// Accepts the next connection with its permit; none after shutdown.
    async fn accept_connection(
        &self,
        room: &Arc<Semaphore>,
        shutdown: &CancellationToken,
        log: &RateLimitedLog,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let accepted = async {
            let permit = Arc::clone(room).acquire_owned().await.ok()?;
            loop {
                match self.socket.accept().await {
                    Ok((stream, _)) => return Some((stream, permit)),
                    Err(error) => {
                        if let Some(left_out) = log.permit_line() {
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
