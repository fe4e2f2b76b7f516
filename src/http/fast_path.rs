//! The fast path of a connection: answers balance reads from their heads, and hands every other request (one with a body
//! included) to the service.
//!
//! One read and one write of the socket serve a hit. Answers to pipelined requests go out together.
//!
//! **Invariants.** Answers go out in the order of their requests. Every byte that came is used once. Nothing is read while an answer
//! waits to be taken. A client that ended its side still gets its answers; a broken connection drops the answer under way.
//!
//! **Cancellation.** [`BufferedConnection::serve_next`] may be dropped at any point and called again.
//!
//! **Limits.** One head, one read, and answers of [`requests::OUT_MAX`] bytes and one more; [`AHEAD_MAX`] bytes are read ahead while
//! an answer is made.

mod requests;

use std::{
    cell::Cell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{net::TcpStream, time::Instant};

pub use self::requests::{BadRequest, BadRequestReason, HandOff, NextStep};
use self::requests::{RequestStep, answer_all};
use super::{
    hosts,
    request_head::RequestHead,
    socket,
    timeouts::{self, ConnectionWaits, WaitEnd},
};

/// The bytes read while an answer is made.
const AHEAD_MAX: usize = 16 * 1024;
/// The part of the room of answers that is kept.
const ROOM_MAX: usize = 4 * 1024;
thread_local! {
    /// The response buffer that all connections of this thread share, so that it stays in the L1 cache. A connection keeps it
    /// only while its client is slow.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The read buffer that all connections of this thread share.
    static CAME: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Takes this thread's response buffer, which comes back after the response was sent.
pub fn take_response_buffer() -> Vec<u8> {
    ROOM.take()
}

/// A whole response.
#[derive(Debug)]
pub struct FastPathResponse {
    pub bytes: Vec<u8>,
    /// The offset among the bytes at which a further header field may be inserted.
    pub fields_end: usize,
}

/// A response that another tier is still making.
pub type PendingResponse = Pin<Box<dyn Future<Output = FastPathResponse> + Send>>;

/// The field that says that a connection ends.
pub const CLOSE: &[u8] = b"\r\nconnection: close";

/// The answer to a request.
pub enum FastPathOutcome {
    /// The whole response was appended to the output.
    Written,
    /// Another tier makes the response; this future yields it.
    Pending(PendingResponse),
    /// The fast path does not answer this request; the service does.
    Unhandled,
}

/// The fast path's side of a service.
pub trait FastPath {
    /// Appends the whole answer to a request that came at `now` to `out`, or leaves `out` as it is. With `last` the answer
    /// says that the connection is closed behind it.
    fn try_answer(
        &self,
        head: &RequestHead<'_, '_>,
        now: Instant,
        last: bool,
        out: &mut Vec<u8>,
    ) -> FastPathOutcome {
        let _ = (head, now, last, out);
        FastPathOutcome::Unhandled
    }

    /// Checks the value of `Host`.
    /// Errors: the request is not to be served under this name.
    fn check_host(&self, host: &[u8]) -> Result<(), hosts::HostError>;
}

/// A connection with the bytes that were read and not used yet.
pub struct BufferedConnection {
    /// The connection.
    pub stream: Arc<TcpStream>,
    /// The bytes read and not used.
    pub held: Vec<u8>,
    /// The `Host` that was checked last: most clients say the same in every request.
    host: Vec<u8>,
    /// `held` has bytes that were not parsed yet.
    unseen: bool,
    /// The client sends nothing more.
    read_closed: bool,
    out: Vec<u8>,
    sent: usize,
    later: Option<PendingResponse>,
    then: Option<NextStep>,
}

impl BufferedConnection {
    /// A connection that nothing was read from yet.
    pub const fn new(stream: Arc<TcpStream>) -> Self {
        Self {
            stream,
            held: Vec::new(),
            host: Vec::new(),
            unseen: false,
            read_closed: false,
            out: Vec::new(),
            sent: 0,
            later: None,
            then: None,
        }
    }

    /// Continues after a request that was handed off. `held` are the bytes that were read behind that request.
    pub fn resume_reading(&mut self, held: Vec<u8>) {
        self.unseen = !held.is_empty();
        self.held = held;
    }

    /// Serves pipelined requests from the fast path until one of them needs the service or the connection ends.
    pub async fn serve_next<F: Future<Output = ()>>(
        &mut self,
        who: &impl FastPath,
        waits: &mut ConnectionWaits<'_, F>,
    ) -> NextStep {
        std::future::poll_fn(|context| self.poll_next(who, waits, context)).await
    }

    fn poll_next<F: Future<Output = ()>>(
        &mut self,
        who: &impl FastPath,
        waits: &mut ConnectionWaits<'_, F>,
        context: &mut Context<'_>,
    ) -> Poll<NextStep> {
        let (ends, mut worked) = (waits.ends.has_begun(), false);
        loop {
            match self.poll_send(context) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(NextStep::Abort),
                Poll::Pending => {
                    waits.extra = timeouts::transfer_time(self.out.len());
                    return match waits.poll_waits(context, false, ends) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(WaitEnd::TooLong) => Poll::Ready(NextStep::Abort),
                        Poll::Ready(WaitEnd::Stopped) => {
                            waits.poll_last(context).map(|()| NextStep::Abort)
                        }
                    };
                }
            }
            if let Some(later) = &mut self.later {
                match later.as_mut().poll(context) {
                    Poll::Ready(FastPathResponse {
                        mut bytes,
                        fields_end,
                    }) => {
                        self.later = None;
                        if self.then.is_none() && ends {
                            bytes.splice(fields_end..fields_end, CLOSE.iter().copied());
                            self.then = Some(NextStep::Close);
                        }
                        self.out = bytes;
                        waits.since = Instant::now();
                        worked = true;
                        continue;
                    }
                    Poll::Pending => return self.poll_meanwhile(waits, worked, ends, context),
                }
            }
            if let Some(next) = self.then.take() {
                return Poll::Ready(next);
            }
            let now = if std::mem::take(&mut self.unseen) {
                let now = Instant::now();
                self.look_at_held(who, now, ends);
                now
            } else {
                match self.poll_read(who, ends, context) {
                    Poll::Ready(Some(now)) => now,
                    Poll::Ready(None) => return Poll::Ready(NextStep::End),
                    Poll::Pending => {
                        waits.extra = std::time::Duration::ZERO;
                        return match waits.poll_waits(context, worked, ends) {
                            Poll::Pending => Poll::Pending,
                            // A request that was begun is still answered.
                            Poll::Ready(WaitEnd::Stopped) if self.has_begun() => {
                                waits.poll_last(context).map(|()| NextStep::End)
                            }
                            Poll::Ready(WaitEnd::Stopped | WaitEnd::TooLong) => {
                                Poll::Ready(NextStep::End)
                            }
                        };
                    }
                }
            };
            worked = true;
            if !self.out.is_empty() {
                waits.since = now;
            }
        }
    }

    /// Reads ahead while a response is made. Ends if the connection breaks or the shutdown cuts it.
    fn poll_meanwhile<F: Future<Output = ()>>(
        &mut self,
        waits: &mut ConnectionWaits<'_, F>,
        worked: bool,
        ends: bool,
        context: &mut Context<'_>,
    ) -> Poll<NextStep> {
        while !self.read_closed && self.held.len() < AHEAD_MAX {
            match self.poll_recv(context, |front, came| front.held.extend_from_slice(came)) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.read_closed = true,
                Poll::Ready(Ok(_)) => self.unseen = true,
                Poll::Ready(Err(_)) => return Poll::Ready(NextStep::Abort),
            }
        }
        match waits.poll_waits(context, worked, ends) {
            Poll::Ready(WaitEnd::Stopped) => {
                waits.cut.as_mut().poll(context).map(|()| NextStep::Abort)
            }
            // The service is slow, not the client, so the client's timeout does not count.
            Poll::Ready(WaitEnd::TooLong) | Poll::Pending => Poll::Pending,
        }
    }

    /// Writes the pending responses. False if the connection does not take them.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match socket::poll_send(&self.stream, rest, context) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => self.sent = self.sent.saturating_add(bytes),
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        if !self.out.is_empty() {
            self.sent = 0;
            self.out.clear();
            self.out.shrink_to(ROOM_MAX);
            ROOM.set(std::mem::take(&mut self.out));
        }
        Poll::Ready(true)
    }

    /// Reads once and answers what it can: when that came; none at the end of the stream.
    fn poll_read(
        &mut self,
        who: &impl FastPath,
        ends: bool,
        context: &mut Context<'_>,
    ) -> Poll<Option<Instant>> {
        let mut now = None;
        let read = self.poll_recv(context, |front, came| {
            let now = *now.insert(Instant::now());
            if !front.held.is_empty() {
                front.held.extend_from_slice(came);
                return front.look_at_held(who, now, ends);
            }
            // The usual case: whole requests, answered from where they were read to.
            let mut out = ROOM.take();
            let (used, then) = answer_all(who, &mut front.host, came, now, ends, &mut out);
            let rest = came.get(used..).unwrap_or_default();
            front.held.extend_from_slice(rest);
            front.go_on(out, then);
        });
        read.map(|_| now)
    }

    /// Whether a part of a request has come.
    fn has_begun(&self) -> bool {
        !matches!(self.held.as_slice(), b"" | b"\r")
    }

    /// Reads once, and has what came looked at: how many bytes, none at the end of the stream.
    fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
        look: impl FnOnce(&mut Self, &[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut came = CAME.take();
        let read = socket::poll_recv(&self.stream, &mut came, context);
        if !came.is_empty() {
            look(self, &came);
            came.clear();
        }
        CAME.set(came);
        read
    }

    fn look_at_held(&mut self, who: &impl FastPath, now: Instant, ends: bool) {
        let mut out = ROOM.take();
        let (used, then) = answer_all(who, &mut self.host, &self.held, now, ends, &mut out);
        self.held.drain(..used.min(self.held.len()));
        self.go_on(out, then);
    }

    fn go_on(&mut self, out: Vec<u8>, then: RequestStep) {
        if out.is_empty() {
            ROOM.set(out);
        } else {
            self.out = out;
        }
        match then {
            RequestStep::More => {}
            RequestStep::SendFirst => self.unseen = true,
            RequestStep::Next(next) => self.then = Some(next),
            RequestStep::Pending(later, next) => {
                (self.later, self.then) = (Some(later), next);
                self.unseen = !self.held.is_empty();
            }
        }
    }
}
