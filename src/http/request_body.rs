//! The body of one request, read from the connection as the service asks for it.
//!
//! **Invariants.** Not one byte behind the body is consumed: what was read beyond it stays in the buffer, for the next request.
//! After the answer the connection takes the buffer back; a body that is still held somewhere yields an error from then on.
//!
//! **Limits.** One read beside what is being decoded. [`DRAIN_NOW_MAX`] bytes that have already arrived are skipped before the
//! answer, [`DRAIN_LATER_MAX`] that have not are waited for behind it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::{chunked::Chunked, request_head::Framing, socket};

/// Bytes of an unread body that are skipped if they are there.
const DRAIN_NOW_MAX: usize = 256 * 1024;
/// Bytes of an unread body that are waited for, so that the connection can be kept.
const DRAIN_LATER_MAX: u64 = 64 * 1024;
/// Bytes of one read of a body that has not arrived yet.
const READ: usize = 16 * 1024;
/// The interim answer for a client that asked for it.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The part of a body that is unread when its request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadBody {
    /// Nothing: the next request follows.
    Nothing,
    /// At most `DRAIN_LATER_MAX` bytes: they are skipped, and the connection goes on.
    Little,
    /// More than that, or a body that cannot be read: the connection ends.
    Rest,
}

/// The connection's side of a body.
#[derive(Debug)]
pub struct Incoming(Arc<Mutex<BodyState>>);

/// The service's side.
#[derive(Debug)]
pub struct RequestBody(Arc<Mutex<BodyState>>);

#[derive(Debug)]
struct BodyState {
    stream: Arc<TcpStream>,
    buffer: Vec<u8>,
    remaining: Remaining,
    /// Bytes of `CONTINUE` that are still to be sent.
    to_say: &'static [u8],
}

#[derive(Debug)]
enum Remaining {
    Length(u64),
    Chunked(Chunked),
    /// The body broke off, or the connection took its buffer back.
    Broken,
}

impl Remaining {
    const fn is_done(&self) -> bool {
        match self {
            Self::Length(bytes) => *bytes == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::Broken => false,
        }
    }

    /// Moves the data at the beginning of `input` to `out`: how many bytes of the input that took.
    fn decode_body(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Length(remaining) => {
                let most = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let data = input.get(..most).unwrap_or(input);
                out.extend_from_slice(data);
                let taken = u64::try_from(data.len()).unwrap_or(u64::MAX);
                *remaining = remaining.saturating_sub(taken);
                Ok(data.len())
            }
            Self::Chunked(chunked) => chunked.decode_chunks(input, out).map_err(io::Error::other),
            Self::Broken => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Incoming {
    /// The body behind a head; `buffer` was read behind it already.
    pub fn new(
        stream: Arc<TcpStream>,
        buffer: Vec<u8>,
        framing: Framing,
        expects_continue: bool,
    ) -> Self {
        let waits = expects_continue && framing != Framing::None && buffer.is_empty();
        Self(Arc::new(Mutex::new(BodyState {
            stream,
            buffer,
            remaining: match framing {
                Framing::None => Remaining::Length(0),
                Framing::Length(bytes) => Remaining::Length(bytes),
                Framing::Chunked => Remaining::Chunked(Chunked::new()),
            },
            to_say: if waits { CONTINUE } else { &[] },
        })))
    }

    pub fn request_body(&self) -> RequestBody {
        RequestBody(Arc::clone(&self.0))
    }

    /// Skips what has arrived of the body, and says what is left. Without waiting.
    pub fn skip_arrived(&self) -> UnreadBody {
        let mut state = self.0.lock();
        // Without `100 Continue` the client may send the body or leave it out.
        if state.to_say.len() == CONTINUE.len() {
            return UnreadBody::Rest;
        }
        let mut skipped: usize = 0;
        loop {
            match state.skip_buffered() {
                Ok(bytes) => skipped = skipped.saturating_add(bytes),
                Err(_) => return UnreadBody::Rest,
            }
            if state.remaining.is_done() {
                return UnreadBody::Nothing;
            }
            if skipped > DRAIN_NOW_MAX || !state.read_arrived() {
                break;
            }
        }
        match state.remaining {
            Remaining::Length(..=DRAIN_LATER_MAX) => UnreadBody::Little,
            Remaining::Length(_) | Remaining::Chunked(_) | Remaining::Broken => UnreadBody::Rest,
        }
    }

    /// Waits for the rest of the body and skips it.
    /// Errors: the rest of the body cannot be read.
    pub async fn skip_rest(&self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            let mut state = self.0.lock();
            loop {
                match ready!(state.poll_data(context)) {
                    None => return Poll::Ready(Ok(())),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }

    /// Bytes that were read behind the body.
    pub fn take_buffer(&self) -> Vec<u8> {
        let mut state = self.0.lock();
        state.remaining = Remaining::Broken;
        std::mem::take(&mut state.buffer)
    }
}

impl BodyState {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let mut data = Vec::new();
            match self.remaining.decode_body(&self.buffer, &mut data) {
                Ok(used) => drop(self.buffer.drain(..used.min(self.buffer.len()))),
                Err(error) => return self.fail_body(error),
            }
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data.into())));
            }
            if self.remaining.is_done() {
                return Poll::Ready(None);
            }
            while !self.to_say.is_empty() {
                match ready!(socket::poll_send(&self.stream, self.to_say, context)) {
                    Ok(sent) => self.to_say = self.to_say.get(sent..).unwrap_or_default(),
                    Err(error) => return self.fail_body(error),
                }
            }
            self.buffer.reserve(READ);
            match ready!(socket::poll_recv(&self.stream, &mut self.buffer, context)) {
                Ok(0) => return self.fail_body(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return self.fail_body(error),
            }
        }
    }

    fn fail_body(&mut self, error: io::Error) -> Poll<Option<io::Result<Bytes>>> {
        self.remaining = Remaining::Broken;
        Poll::Ready(Some(Err(error)))
    }

    fn skip_buffered(&mut self) -> io::Result<usize> {
        let used = self.remaining.decode_body(&self.buffer, &mut Vec::new())?;
        self.buffer.drain(..used.min(self.buffer.len()));
        Ok(used)
    }

    /// Whether something more was there.
    fn read_arrived(&mut self) -> bool {
        self.buffer.reserve(READ);
        matches!(self.stream.try_read_buf(&mut self.buffer), Ok(1..))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let data = ready!(self.0.lock().poll_data(context));
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().remaining.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.lock().remaining {
            Remaining::Length(bytes) => SizeHint::with_exact(bytes),
            Remaining::Chunked(_) | Remaining::Broken => SizeHint::default(),
        }
    }
}
