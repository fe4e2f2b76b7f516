//! Reads from a connection and writes to it by plain system calls.
//!
//! libc makes `recv` and `send` points where a thread can be cancelled, which in a process of several threads takes two atomic
//! exchanges for each; no thread is cancelled here. tokio still decides which socket is ready and which task is woken.
//!
//! **Invariants.** A call that moved less than it could have shows that the socket is drained, or full, as it does to tokio: it is
//! asked again only when the system says so.

use std::{
    io,
    net::Shutdown,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    net::{RecvFlags, SendFlags, recv, send},
};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

/// Bytes of one read.
const READ: usize = 4096;

/// Reads once, behind what `came`: how many bytes; none at the end of the stream.
pub fn poll_recv(
    stream: &TcpStream,
    came: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        came.reserve(READ);
        let room = came.capacity().saturating_sub(came.len());
        let read = || Ok(recv(stream, spare_capacity(came), RecvFlags::empty())?.0);
        if let Some(bytes) = try_transfer(stream, Interest::READABLE, room, read)? {
            return Poll::Ready(Ok(bytes));
        }
    }
}

/// Writes once: how many bytes were taken.
pub fn poll_send(
    stream: &TcpStream,
    bytes: &[u8],
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        let write = || send(stream, bytes, SendFlags::NOSIGNAL);
        if let Some(bytes) = try_transfer(stream, Interest::WRITABLE, bytes.len(), write)? {
            return Poll::Ready(Ok(bytes));
        }
    }
}

/// Reads once, behind what `came`: how many bytes; none at the end of the stream.
pub async fn receive_bytes(stream: &TcpStream, came: &mut Vec<u8>) -> io::Result<usize> {
    std::future::poll_fn(|context| poll_recv(stream, came, context)).await
}

/// Writes all of it.
pub async fn send_all(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let sent = std::future::poll_fn(|context| poll_send(stream, rest, context)).await?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Tells the client that nothing more is sent.
pub fn end_sending(stream: &TcpStream) {
    // It fails where the client is gone already.
    drop(SockRef::from(stream).shutdown(Shutdown::Write));
}

/// Lets the system forget what the client does not take, as soon as the connection is dropped.
pub fn forget_unsent(stream: &TcpStream) {
    drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
}

/// Ready when the connection has broken; the end of what the client sends is no break.
pub async fn wait_broken(stream: &TcpStream) {
    drop(stream.ready(Interest::ERROR).await);
}

/// Runs a call that can move `most` bytes and returns how many it moved; none if the socket is not ready.
fn try_transfer(
    stream: &TcpStream,
    interest: Interest,
    most: usize,
    call: impl FnOnce() -> rustix::io::Result<usize>,
) -> io::Result<Option<usize>> {
    let mut moved = None;
    let tried = stream.try_io(interest, || {
        let bytes = call()?;
        moved = Some(bytes);
        match bytes {
            0 => Ok(()),
            few if few < most => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    });
    match tried {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Ok(moved),
    }
}
