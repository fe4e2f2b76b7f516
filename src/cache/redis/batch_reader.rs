//! A connection that asks for whole hashes of many keys at once; every hit in Redis goes through it.
//!
//! The driver would make a value of each field and name. Here an answer stays the bytes that came: found complete, cut into replies,
//! and read in place by the caller. Speaks RESP 2 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>) to one server,
//! by TCP or a Unix socket. For a cluster or TLS the driver's connections are used instead.
//!
//! **Invariants.** Answers come in the order of the questions. Bytes that are no RESP end the connection: no caller gets another's answer.
//!
//! **Cancellation.** An answer whose caller has gone is read and dropped.
//!
//! **Limits.** [`ASKS_MAX`] questions wait to be sent. Time is the caller's business.

mod resp;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io};

use bytes::{Buf, BytesMut};
use redis::{Cmd, ConnectionAddr, ConnectionInfo, RedisResult};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::{mpsc, oneshot},
};

use crate::domain::UserId;
pub(super) use resp::RespReplies;
use resp::{Reply, RespParser, no_resp};

/// Questions that wait to be sent.
const ASKS_MAX: usize = 128;
/// Bytes of the read buffer, and the fewest that one read gets. Replies share the buffer while they are decoded.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_MIN: usize = 16 << 10;
/// A connection that many may use at once.
#[derive(Debug)]
pub(super) struct BatchReader(mpsc::Sender<PendingCommands>);

/// A question under way.
#[derive(Debug)]
struct PendingCommands {
    packed: Vec<u8>,
    replies: usize,
    back: oneshot::Sender<RespReplies>,
}

impl BatchReader {
    /// Opens one where there is a way for it; none for TLS.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing of it is to be drained: it ends with the session that asks, as the driver's own connections do"
    )]
    pub(super) async fn open_batch_reader(info: &ConnectionInfo) -> RedisResult<Option<Self>> {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                tokio::spawn(drive_connection(stream, asked));
            }
            ConnectionAddr::Unix(path) => {
                tokio::spawn(drive_connection(UnixStream::connect(path).await?, asked));
            }
            _ => return Ok(None),
        }
        let batch_reader = Self(asks);
        batch_reader.greet_server(info).await?;
        Ok(Some(batch_reader))
    }

    async fn greet_server(&self, info: &ConnectionInfo) -> RedisResult<()> {
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
            if !answer.replies().all(Reply::is_ok) {
                return Err((
                    redis::ErrorKind::AuthenticationFailed,
                    "AUTH or SELECT was refused",
                )
                    .into());
            }
        }
        Ok(())
    }

    /// Whether the server answers.
    pub(super) async fn ping_server(&self) -> RedisResult<()> {
        self.ask_one(&redis::cmd("PING")).await.map(drop)
    }

    /// `INFO`, as text.
    pub(super) async fn read_info(&self) -> RedisResult<String> {
        let answer = self.ask_one(&redis::cmd("INFO")).await?;
        let text = answer.replies().next().and_then(Reply::string_bytes);
        let text = text.ok_or_else(|| not_resp("INFO"))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// `HGETALL` of each key, made of this prefix and an id, in one write.
    pub(super) async fn read_hashes(
        &self,
        prefix: &str,
        users: &[UserId],
    ) -> RedisResult<RespReplies> {
        let (mut packed, mut replies) = (Vec::new(), 0_usize);
        let (mut id, mut length) = (itoa::Buffer::new(), itoa::Buffer::new());
        for user in users {
            let id = id.format(user.get());
            let length = length.format(prefix.len().saturating_add(id.len()));
            let parts = [
                "*2\r\n$7\r\nHGETALL\r\n$",
                length,
                "\r\n",
                prefix,
                id,
                "\r\n",
            ];
            for part in parts {
                packed.extend_from_slice(part.as_bytes());
            }
            replies = replies.saturating_add(1);
        }
        self.send_commands(packed, replies).await
    }

    async fn ask_one(&self, command: &Cmd) -> RedisResult<RespReplies> {
        self.send_commands(command.get_packed_command(), 1).await
    }

    async fn send_commands(&self, packed: Vec<u8>, replies: usize) -> RedisResult<RespReplies> {
        let (back, answer) = oneshot::channel();
        let ask = PendingCommands {
            packed,
            replies,
            back,
        };
        self.0.send(ask).await.map_err(|_| broken_pipe())?;
        Ok(answer.await.map_err(|_| broken_pipe())?)
    }
}

/// Sends commands and hands out replies until all senders are gone or the connection fails; waiting callers get an error then.
async fn drive_connection(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut asked: mpsc::Receiver<PendingCommands>,
) {
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let (mut out, mut read) = (BytesMut::new(), BytesMut::with_capacity(READ_BYTES));
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            ask = asked.recv() => match ask {
                Some(ask) => {
                    out.extend_from_slice(&ask.packed);
                    waiting.push_back((RespParser::new(ask.replies), ask.back));
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

/// Hands complete replies to their callers.
fn hand_out(
    read: &mut BytesMut,
    waiting: &mut VecDeque<(RespParser, oneshot::Sender<RespReplies>)>,
) -> io::Result<()> {
    while let Some((progress, _)) = waiting.front_mut() {
        if !progress.look_on(read)? {
            return Ok(());
        }
        let Some((progress, back)) = waiting.pop_front() else {
            return Ok(());
        };
        let _ = back.send(progress.take_answer(read));
    }
    // Bytes behind the last answer that was asked for.
    if read.is_empty() {
        Ok(())
    } else {
        Err(no_resp())
    }
}

fn not_resp(to: &'static str) -> redis::RedisError {
    (
        redis::ErrorKind::Parse,
        "not the answer to be expected",
        to.to_owned(),
    )
        .into()
}

fn broken_pipe() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
