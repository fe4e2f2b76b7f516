//! A connection before hyper: requests that can be answered from their heads are, and everything else is handed on.
//!
//! Most requests are for what memory holds. Such an answer is made of the bytes that came and the bytes that are
//! ready, in one read and one write; of pipelined requests all answers go out together.
//!
//! **Invariants.** Answers go out in the order of their requests: what is handed on is handed on after all that was answered
//! before it has been written. Every byte that came is used once: by an answer, by what is handed on, or by what follows.
//! Nothing is read while an answer waits to be taken. A client that hangs up drops the answer that is being made for it.
//!
//! **Cancellation.** [`Front::next`] may be dropped at any point and called again.
//!
//! **Limits.** A request of more than [`HEAD_MAX`] bytes before its body is handed on; so a connection holds no more than
//! that and one read, and the answers to them. While an answer is made, [`AHEAD_MAX`] bytes of what follows are read; behind
//! them a client that hangs up is noticed only when the answer is written.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    head::{self, Framing, Parsed},
    socket,
    waits::{Waited, Waits},
};

/// The longest head that is waited for here.
const HEAD_MAX: usize = 8 * 1024;
/// What is read while an answer is made.
const AHEAD_MAX: usize = 16 * 1024;
/// What is kept of the room that answers took.
const ROOM_MAX: usize = 4 * 1024;

thread_local! {
    /// Room for answers, of all connections that this thread serves in turn: it stays in the core's nearest cache. Only who
    /// does not take an answer at once keeps it for longer.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Room for what comes.
    static CAME: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Room for an answer, if this thread has some: it comes back when the answer was sent.
#[must_use]
pub fn room() -> Vec<u8> {
    ROOM.take()
}

/// An answer, whole.
#[derive(Debug)]
pub struct Late {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where among them another field may be put in.
    pub fields_end: usize,
}

/// An answer that takes its time.
pub type Later = Pin<Box<dyn Future<Output = Late> + Send>>;

/// What says that a connection ends.
pub const CLOSE: &[u8] = b"\r\nconnection: close";

/// What is said to a request.
pub enum Said {
    /// The whole answer: it has been appended.
    All,
    /// It is being made.
    Later(Later),
    /// Nothing: somebody else has to be asked.
    Nothing,
}

/// Whoever can answer some requests from nothing but their heads.
pub trait Says {
    /// Appends the whole answer to a request that came at `now` to `out`, or leaves `out` as it is. With `last` the answer
    /// says that the connection is closed behind it.
    fn say(&self, head: &head::Head<'_, '_>, now: Instant, last: bool, out: &mut Vec<u8>) -> Said {
        let _ = (head, now, last, out);
        Said::Nothing
    }
}

/// What a connection needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is over.
    End,
    /// To be told that what it said cannot be understood.
    Refusal,
    /// Somebody who answers one request: its head and so much of its body are the first `here` bytes of [`Front::held`],
    /// and `left` bytes of its body are still to come.
    One {
        /// Bytes.
        here: usize,
        /// Bytes.
        left: u64,
    },
    /// Somebody who knows what to do with all that is held and all that will come.
    All,
}

/// A connection, and what of it was read and not used yet.
pub struct Front {
    /// The connection.
    pub stream: TcpStream,
    /// What was read and not used.
    pub held: Vec<u8>,
    /// Somebody put into `held` what nobody has looked at yet.
    unseen: bool,
    out: Vec<u8>,
    sent: usize,
    later: Option<Later>,
    then: Option<Next>,
}

/// What the bytes at the beginning of an input need.
enum Then {
    More,
    Later(Later, Option<Next>),
    Next(Next),
}

impl Front {
    /// A connection that nothing was read from yet.
    pub const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            held: Vec::new(),
            unseen: false,
            out: Vec::new(),
            sent: 0,
            later: None,
            then: None,
        }
    }

    /// A connection that was handed on, back: `came` behind what was held.
    pub fn back(stream: TcpStream, mut held: Vec<u8>, came: &[u8]) -> Self {
        held.extend_from_slice(came);
        Self {
            unseen: !held.is_empty(),
            held,
            ..Self::new(stream)
        }
    }

    /// Answers what `who` can answer at once, until something else is needed.
    pub async fn next<F: Future<Output = ()>>(
        &mut self,
        who: &impl Says,
        waits: &mut Waits<'_, F>,
    ) -> Next {
        std::future::poll_fn(|context| self.poll_next(who, waits, context)).await
    }

    fn poll_next<F: Future<Output = ()>>(
        &mut self,
        who: &impl Says,
        waits: &mut Waits<'_, F>,
        context: &mut Context<'_>,
    ) -> Poll<Next> {
        let (ends, mut worked) = (waits.ends.has_begun(), false);
        loop {
            match self.poll_send(context) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Next::End),
                // Who does not take an answer is not waited for longer than who does not ask.
                Poll::Pending => {
                    return match waits.poll(context, false, ends) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(Waited::TooLong) => Poll::Ready(Next::End),
                        Poll::Ready(Waited::Stopped) => {
                            waits.cut.as_mut().poll(context).map(|()| Next::End)
                        }
                    };
                }
            }
            if let Some(later) = &mut self.later {
                match later.as_mut().poll(context) {
                    Poll::Ready(Late {
                        mut bytes,
                        fields_end,
                    }) => {
                        self.later = None;
                        if self.then.is_none() && ends {
                            bytes.splice(fields_end..fields_end, CLOSE.iter().copied());
                            self.then = Some(Next::End);
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
                    Poll::Ready(None) => return Poll::Ready(Next::End),
                    Poll::Pending => {
                        return waits
                            .poll(context, worked, ends)
                            .map(|waited| match waited {
                                // A request that was begun is still answered.
                                Waited::Stopped if !self.held.is_empty() => Next::All,
                                Waited::Stopped | Waited::TooLong => Next::End,
                            });
                    }
                }
            };
            worked = true;
            if !self.out.is_empty() {
                waits.since = now;
            }
        }
    }

    /// While an answer is made: over if the client is gone, or has been waited for long enough.
    fn poll_meanwhile<F: Future<Output = ()>>(
        &mut self,
        waits: &mut Waits<'_, F>,
        worked: bool,
        ends: bool,
        context: &mut Context<'_>,
    ) -> Poll<Next> {
        while self.held.len() < AHEAD_MAX {
            match self.poll_recv(context, |front, came| front.held.extend_from_slice(came)) {
                Poll::Pending => break,
                Poll::Ready(true) => self.unseen = true,
                Poll::Ready(false) => return Poll::Ready(Next::End),
            }
        }
        match waits.poll(context, worked, ends) {
            Poll::Ready(Waited::Stopped) => waits.cut.as_mut().poll(context).map(|()| Next::End),
            // It is we who take long.
            Poll::Ready(Waited::TooLong) | Poll::Pending => Poll::Pending,
        }
    }

    /// Whether all that was answered has been written; false where it cannot be.
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
        who: &impl Says,
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
            let (used, then) = answer_all(who, came, now, ends, &mut out);
            let rest = came.get(used..).unwrap_or_default();
            front.held.extend_from_slice(rest);
            front.go_on(out, then);
        });
        read.map(|_| now)
    }

    /// Reads once, and has what came looked at; false at the end of the stream.
    fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
        look: impl FnOnce(&mut Self, &[u8]),
    ) -> Poll<bool> {
        let mut came = CAME.take();
        let read = socket::poll_recv(&self.stream, &mut came, context);
        if !came.is_empty() {
            look(self, &came);
            came.clear();
        }
        CAME.set(came);
        read.map(|read| matches!(read, Ok(1..)))
    }

    fn look_at_held(&mut self, who: &impl Says, now: Instant, ends: bool) {
        let mut out = ROOM.take();
        let (used, then) = answer_all(who, &self.held, now, ends, &mut out);
        self.held.drain(..used.min(self.held.len()));
        self.go_on(out, then);
    }

    fn go_on(&mut self, out: Vec<u8>, then: Then) {
        if out.is_empty() {
            ROOM.set(out);
        } else {
            self.out = out;
        }
        match then {
            Then::More => {}
            Then::Next(next) => self.then = Some(next),
            Then::Later(later, next) => {
                (self.later, self.then) = (Some(later), next);
                self.unseen = !self.held.is_empty();
            }
        }
    }
}

/// Answers the requests that `input` begins with, which came at `now`: how many bytes they were, and what the rest needs. Where
/// the service `ends`, the first of them is the last.
fn answer_all(
    who: &impl Says,
    input: &[u8],
    now: Instant,
    ends: bool,
    out: &mut Vec<u8>,
) -> (usize, Then) {
    let mut used: usize = 0;
    while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
        let mut room = head::room();
        let head = match head::parse(rest, &mut room) {
            Parsed::Partial if rest.len() < HEAD_MAX => break,
            Parsed::Partial | Parsed::TooMany => return (used, Then::Next(Next::All)),
            Parsed::Unreadable => return (used, Then::Next(Next::Refusal)),
            Parsed::Head(head) => head,
        };
        let last = ends || head.framing == Framing::Last;
        let said = match head.framing {
            Framing::None | Framing::Last => who.say(&head, now, last, out),
            Framing::Body(_) | Framing::Other => Said::Nothing,
        };
        let behind = used.saturating_add(head.len);
        match (said, head.framing) {
            (Said::All, _) if last => return (input.len(), Then::Next(Next::End)),
            (Said::All, _) => used = behind,
            (Said::Later(later), _) if last => {
                return (input.len(), Then::Later(later, Some(Next::End)));
            }
            (Said::Later(later), _) => return (behind, Then::Later(later, None)),
            (Said::Nothing, _) if head.target.parse::<http::Uri>().is_err() => {
                return (used, Then::Next(Next::Refusal));
            }
            (Said::Nothing, Framing::None) => return (used, Then::Next(one(&head, rest, 0))),
            (Said::Nothing, Framing::Body(bytes)) => {
                return (used, Then::Next(one(&head, rest, bytes)));
            }
            (Said::Nothing, Framing::Last | Framing::Other) => {
                return (used, Then::Next(Next::All));
            }
        }
    }
    (used, Then::More)
}

/// One request, at the beginning of `rest`, with a body of so many bytes.
fn one(head: &head::Head<'_, '_>, rest: &[u8], body: u64) -> Next {
    let behind = rest.len().saturating_sub(head.len);
    let here = usize::try_from(body).unwrap_or(usize::MAX).min(behind);
    Next::One {
        here: head.len.saturating_add(here),
        left: body.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX)),
    }
}
