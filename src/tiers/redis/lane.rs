//! A connection on which whole hashes are asked for, of many keys at once: what every hit in Redis goes through.
//!
//! The driver's connections make a value of each field and of each field's name, some twenty for a user of three assets, before
//! anybody looks at them. Here an answer stays the bytes that came, found complete and cut into replies, and whoever asked reads it there.
//!
//! Speaks RESP 2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>) to one server, by TCP or a Unix socket. To a
//! cluster, or by TLS, the driver's connections are used instead.
//!
//! **Invariants.** Answers come in the order of the questions. What is no RESP ends the connection: nobody is given another's
//! answer.
//!
//! **Cancellation.** An answer that nobody waits for any more is read and dropped.
//!
//! **Limits.** [`ASKS_MAX`] questions wait to be sent. Time is the caller's business.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io};

use bytes::{Buf, Bytes, BytesMut};
use redis::{Cmd, ConnectionAddr, ConnectionInfo, RedisResult};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::{mpsc, oneshot},
};

use super::entry::Corrupt;

/// Questions that wait to be sent.
const ASKS_MAX: usize = 128;
/// Room for what comes, and how much of it there is for one read at least. Answers share it while they are looked at.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_MIN: usize = 16 << 10;
/// The longest string that Redis has (`proto-max-bulk-len`), and more than an answer has parts.
const LENGTH_MAX: usize = 512 << 20;

/// A connection that many may use at once.
#[derive(Debug)]
pub(super) struct Lane(mpsc::Sender<Ask>);

/// A question under way.
#[derive(Debug)]
struct Ask {
    packed: Vec<u8>,
    replies: usize,
    back: oneshot::Sender<Answer>,
}

/// The replies to one question, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    bytes: Bytes,
    /// Where each reply ends.
    ends: Vec<usize>,
}

/// One reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply<'a>(&'a [u8]);

/// The pairs of a hash.
#[derive(Debug)]
pub(super) struct Pairs<'a> {
    rest: &'a [u8],
    left: usize,
}

/// How far an answer was looked through.
#[derive(Debug)]
struct Progress {
    at: usize,
    /// Values that belong to the reply that `at` is in.
    pending: usize,
    ends: Vec<usize>,
    replies: usize,
}

impl Lane {
    /// Opens one where there is a way for it; none for TLS.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing of it is to be drained: it ends with the session that asks, as the driver's own connections do"
    )]
    pub(super) async fn open(info: &ConnectionInfo) -> RedisResult<Option<Self>> {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                tokio::spawn(drive(stream, asked));
            }
            ConnectionAddr::Unix(path) => {
                tokio::spawn(drive(UnixStream::connect(path).await?, asked));
            }
            _ => return Ok(None),
        }
        let lane = Self(asks);
        lane.greet(info).await?;
        Ok(Some(lane))
    }

    async fn greet(&self, info: &ConnectionInfo) -> RedisResult<()> {
        let settings = info.redis_settings();
        let mut greetings = Vec::new();
        if let Some(password) = settings.password() {
            let mut auth = redis::cmd("AUTH");
            if let Some(name) = settings.username() {
                auth.arg(name);
            }
            auth.arg(password);
            greetings.push(auth);
        }
        if settings.db() != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(settings.db());
            greetings.push(select);
        }
        for greeting in greetings {
            let answer = self.ask_one(&greeting).await?;
            if !answer.bytes.starts_with(b"+") {
                return Err((
                    redis::ErrorKind::AuthenticationFailed,
                    "AUTH or SELECT was refused",
                )
                    .into());
            }
        }
        Ok(())
    }

    /// `INFO`, as text.
    pub(super) async fn info(&self) -> RedisResult<String> {
        let answer = self.ask_one(&redis::cmd("INFO")).await?;
        let text = answer.replies().next().and_then(Reply::text);
        let text = text.ok_or_else(|| not_resp("INFO"))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// `HGETALL` of each key, in one write.
    pub(super) async fn hashes(&self, keys: impl Iterator<Item = String>) -> RedisResult<Answer> {
        let (mut packed, mut replies) = (Vec::new(), 0_usize);
        let mut digits = itoa::Buffer::new();
        for key in keys {
            packed.extend_from_slice(b"*2\r\n$7\r\nHGETALL\r\n$");
            packed.extend_from_slice(digits.format(key.len()).as_bytes());
            packed.extend_from_slice(b"\r\n");
            packed.extend_from_slice(key.as_bytes());
            packed.extend_from_slice(b"\r\n");
            replies = replies.saturating_add(1);
        }
        self.ask(packed, replies).await
    }

    async fn ask_one(&self, command: &Cmd) -> RedisResult<Answer> {
        self.ask(command.get_packed_command(), 1).await
    }

    async fn ask(&self, packed: Vec<u8>, replies: usize) -> RedisResult<Answer> {
        let (back, answer) = oneshot::channel();
        let ask = Ask {
            packed,
            replies,
            back,
        };
        self.0.send(ask).await.map_err(|_| broken())?;
        Ok(answer.await.map_err(|_| broken())?)
    }
}

impl Answer {
    /// Each reply.
    pub(super) fn replies(&self) -> impl Iterator<Item = Reply<'_>> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let reply = self.bytes.get(begin..*end).unwrap_or_default();
            begin = *end;
            Reply(reply)
        })
    }
}

impl<'a> Reply<'a> {
    /// Its fields and their values; an error of the server, and whatever else is no hash, is [`Corrupt`].
    pub(super) fn pairs(self) -> Result<Pairs<'a>, Corrupt> {
        let (b'*', length, rest) = head(self.0).ok_or(Corrupt)? else {
            return Err(Corrupt);
        };
        let length = length.ok_or(Corrupt)?;
        if length % 2 != 0 {
            return Err(Corrupt);
        }
        Ok(Pairs {
            rest,
            left: length / 2,
        })
    }

    fn text(self) -> Option<&'a [u8]> {
        string(&mut { self.0 })
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Corrupt>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut next = || string(&mut self.rest);
        Some(next().zip(next()).ok_or(Corrupt))
    }
}

/// Reads a string off the front.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (b'$', length, behind) = head(rest)? else {
        return None;
    };
    let (text, behind) = behind.split_at_checked(length?)?;
    *rest = behind.strip_prefix(b"\r\n")?;
    Some(text)
}

/// Kind, length where the kind has one (none for null), and what stands behind the line; none where the line is not all there,
/// or is no RESP.
fn head(bytes: &[u8]) -> Option<(u8, Option<usize>, &[u8])> {
    let (line, rest) = line(bytes)?;
    let (kind, length) = line.split_first()?;
    Some((*kind, number(length), rest))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.strip_prefix(b"\r\n")?))
}

fn number(digits: &[u8]) -> Option<usize> {
    let next = |number: usize, byte: &u8| match byte {
        b'0'..=b'9' => {
            let digit = usize::from(byte.wrapping_sub(b'0'));
            let number = number.checked_mul(10)?.checked_add(digit)?;
            (number <= LENGTH_MAX).then_some(number)
        }
        _ => None,
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, next)
}

impl Progress {
    const fn new(replies: usize) -> Self {
        Self {
            at: 0,
            pending: 1,
            ends: Vec::new(),
            replies,
        }
    }

    /// Goes on with what is there. True when the whole answer is.
    ///
    /// # Errors
    /// What is there is no RESP.
    fn look(&mut self, bytes: &[u8]) -> io::Result<bool> {
        while self.ends.len() < self.replies {
            let Some((line, rest)) = bytes.get(self.at..).and_then(line) else {
                let seen = bytes.get(self.at..).unwrap_or_default();
                // Its end may still come; a line that is that long, or goes on behind its end, is none.
                let ends = seen.iter().position(|byte| *byte == b'\r');
                let torn = ends.is_some_and(|end| seen.len() > end.saturating_add(1));
                return if torn || seen.len() > READ_BYTES {
                    Err(no_resp())
                } else {
                    Ok(false)
                };
            };
            let (kind, length) = line.split_first().ok_or_else(no_resp)?;
            let mut end = bytes.len().saturating_sub(rest.len());
            let mut more = 0;
            match (kind, number(length), length) {
                (b'+' | b'-' | b':', ..) | (b'$' | b'*', _, b"-1") => {}
                (b'$', Some(length), _) => {
                    let behind = rest.get(length..).unwrap_or_default();
                    match behind {
                        [b'\r', b'\n', ..] => {
                            end = end.saturating_add(length).saturating_add(2);
                        }
                        [] | [b'\r'] => return Ok(false),
                        _ => return Err(no_resp()),
                    }
                }
                (b'*', Some(length), _) => more = length,
                _ => return Err(no_resp()),
            }
            self.at = end;
            self.pending = self.pending.saturating_sub(1).saturating_add(more);
            if self.pending == 0 {
                self.ends.push(self.at);
                self.pending = 1;
            }
        }
        Ok(true)
    }
}

/// Sends what is asked and hands out what comes, until nobody can ask any more or the connection fails: then all who wait are
/// let go.
async fn drive(mut stream: impl AsyncRead + AsyncWrite + Unpin, mut asked: mpsc::Receiver<Ask>) {
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let (mut out, mut read) = (BytesMut::new(), BytesMut::with_capacity(READ_BYTES));
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            ask = asked.recv() => match ask {
                Some(ask) => {
                    out.extend_from_slice(&ask.packed);
                    waiting.push_back((Progress::new(ask.replies), ask.back));
                }
                None => return,
            },
            written = writer.write(&out), if !out.is_empty() => match written {
                Ok(0) | Err(_) => return,
                Ok(count) => out.advance(count),
            },
            came = reader.read_buf(&mut read) => {
                if !matches!(came, Ok(1..)) || hand_out(&mut read, &mut waiting).is_err() {
                    return;
                }
            },
        }
        if read.capacity().saturating_sub(read.len()) < READ_BYTES_MIN {
            read.reserve(READ_BYTES);
        }
    }
}

/// Whole answers go to those who wait for them.
fn hand_out(
    read: &mut BytesMut,
    waiting: &mut VecDeque<(Progress, oneshot::Sender<Answer>)>,
) -> io::Result<()> {
    while let Some((progress, _)) = waiting.front_mut() {
        if !progress.look(read)? {
            return Ok(());
        }
        let Some((progress, back)) = waiting.pop_front() else {
            return Ok(());
        };
        let bytes = read.split_to(progress.at.min(read.len())).freeze();
        let _ = back.send(Answer {
            bytes,
            ends: progress.ends,
        });
    }
    // Nobody asked for what is left.
    if read.is_empty() {
        Ok(())
    } else {
        Err(no_resp())
    }
}

fn no_resp() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn not_resp(to: &'static str) -> redis::RedisError {
    (
        redis::ErrorKind::Parse,
        "not the answer to be expected",
        to.to_owned(),
    )
        .into()
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
