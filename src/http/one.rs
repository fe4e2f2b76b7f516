//! hyper for one request of a connection: it is given the bytes of that request, and the end of the stream once its
//! answer has been written. So it ends by itself, and the connection goes on.
//!
//! **Invariants.** hyper sees not one byte of what follows the request; what comes meanwhile is kept. It sees the end of the
//! stream only when the client is gone, or when the last byte of the answer has been given to the socket.
//!
//! **Limits.** [`AHEAD_MAX`] bytes of what follows are read while an answer is made; behind them a client that hangs up is
//! noticed only when the answer is written.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use hyper::{
    body::{Body, Frame, SizeHint},
    rt,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What is read of the requests behind this one.
const AHEAD_MAX: usize = 16 * 1024;
/// Bytes of one read.
const READ: usize = 8 * 1024;

/// A connection as hyper sees it.
#[derive(Debug)]
pub struct One {
    stream: TcpStream,
    here: Bytes,
    left: u64,
    ahead: Vec<u8>,
    made: Arc<AtomicBool>,
    written: bool,
    gone: bool,
}

/// An answer that says when hyper has taken all of it.
#[derive(Debug)]
pub struct Watched<B> {
    body: B,
    _made: Made,
}

#[derive(Debug)]
struct Made(Arc<AtomicBool>);

impl Drop for Made {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<B> Watched<B> {
    /// Tells `made` when it is dropped.
    pub const fn new(body: B, made: Arc<AtomicBool>) -> Self {
        Self {
            body,
            _made: Made(made),
        }
    }
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl One {
    /// The request is `here` and the next `left` bytes of the stream.
    pub const fn new(stream: TcpStream, here: Bytes, left: u64, made: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            here,
            left,
            ahead: Vec::new(),
            made,
            written: false,
            gone: false,
        }
    }

    /// The answer is written, and nothing of the request is left on the wire.
    pub const fn is_done(&self) -> bool {
        self.written && self.left == 0 && !self.gone
    }

    /// The connection, and what followed the request.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.ahead)
    }

    /// More of the body; nothing more at the end of the stream.
    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        cursor: &mut rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = [const { MaybeUninit::uninit() }; READ];
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(cursor.remaining())
            .min(READ);
        let mut came = ReadBuf::uninit(room.get_mut(..most).unwrap_or_default());
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut came))?;
        let bytes = came.filled();
        self.gone = bytes.is_empty();
        self.left = self
            .left
            .saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        cursor.put_slice(bytes);
        Poll::Ready(Ok(()))
    }

    /// Ready when the client is gone, or the answer is out.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.written && !self.gone {
            if self.ahead.len() >= AHEAD_MAX {
                return Poll::Pending;
            }
            let mut room = [const { MaybeUninit::uninit() }; READ];
            let mut came = ReadBuf::uninit(&mut room);
            std::task::ready!(Pin::new(&mut self.stream).poll_read(context, &mut came))?;
            self.gone = came.filled().is_empty();
            self.ahead.extend_from_slice(came.filled());
        }
        Poll::Ready(Ok(()))
    }
}

impl rt::Read for One {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.here.is_empty() {
            let most = self.here.len().min(cursor.remaining());
            cursor.put_slice(self.here.get(..most).unwrap_or_default());
            self.here.advance(most);
            Poll::Ready(Ok(()))
        } else if self.left > 0 {
            self.poll_body(context, &mut cursor)
        } else {
            self.poll_end(context)
        }
    }
}

impl rt::Write for One {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    /// hyper flushes when it has given the stream all it had.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.written && self.made.load(Ordering::Relaxed) {
            self.written = true;
            // The end of the stream is to be asked for.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}

/// What was read before hyper came, then the stream; hyper's shutdown does not reach it, so that there may be a last word
/// after hyper's.
#[derive(Debug)]
pub struct All {
    before: Bytes,
    stream: TokioIo<TcpStream>,
}

impl All {
    /// `before`, then the stream.
    pub fn new(before: Bytes, stream: TcpStream) -> Self {
        Self {
            before,
            stream: TokioIo::new(stream),
        }
    }

    /// The stream.
    pub fn into_inner(self) -> TcpStream {
        self.stream.into_inner()
    }
}

impl rt::Read for All {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, cursor);
        }
        let most = self.before.len().min(cursor.remaining());
        cursor.put_slice(self.before.get(..most).unwrap_or_default());
        self.before.advance(most);
        Poll::Ready(Ok(()))
    }
}

impl rt::Write for All {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }
}
