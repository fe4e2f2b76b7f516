//! How the tools of the command line ask a running instance for its ledger: a Unix socket beside the file.
//!
//! A line of JSON is a request, a line of JSON the answer; behind the answer to a backup come its bytes, and the end.
//!
//! **Invariants.** The socket belongs to its owner alone (mode 600): no page of a browser and no other machine can reach it.
//! Nothing can be changed through it. All answers of one connection are of one moment.
//!
//! **Limits.** [`CONNECTIONS_MAX`] connections at once; one that is silent, or takes nothing, for [`SILENT_MAX`] is closed.

use std::{
    io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener as Bound, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::UnixListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    backup, file,
    keeper::Keeper,
    queries::{PlaceKey, Queries},
    transactions::TransactionKey,
};
use crate::ledger::records::RowKey;

const CONNECTIONS_MAX: usize = 4;
const SILENT_MAX: Duration = Duration::from_secs(30);

/// How long a silent connection can delay the end of the process.
const POLL: Duration = Duration::from_millis(200);

/// Bytes of a request.
const REQUEST_MAX: u64 = 4096;

/// How long to wait when connections cannot be accepted.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToolRequest {
    Id,
    Sample,
    Count,
    Table {
        user: i64,
    },
    Ledger {
        user: i64,
    },
    History {
        user: i64,
        asset: i32,
        most: usize,
    },
    Pairs {
        from: Option<PlaceKey>,
        most: usize,
    },
    RowsBelow {
        below: Option<RowKey>,
        most: usize,
    },
    RecordsAbove {
        above: Option<TransactionKey>,
        most: usize,
    },
    Backup,
}

fn socket_path(ledger: &Path) -> PathBuf {
    file::path_beside(ledger, ".sock")
}

// === the instance ===

/// Answers until `stop` is cancelled.
pub(super) async fn serve_tools(keeper: Arc<Keeper>, stop: CancellationToken) {
    let path = socket_path(keeper.file().path());
    let listener = match bind_socket(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(
                path = %path.display(),
                reason = %error,
                "the socket for ledger backup, verify, doctor and get --trace cannot be made"
            );
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (listener.accept().await, place)
            } => accepted,
        };
        let (Ok((stream, _)), Ok(place)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(stream) = stream.into_std() else {
            continue;
        };
        let (keeper, stop) = (Arc::clone(&keeper), stop.clone());
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = answer_connection(&keeper, &stream, &stop) {
                tracing::debug!(reason = %error, "a tool's connection ended");
            }
            drop((keeper, place));
        }));
    }
    drop(std::fs::remove_file(&path));
}

/// The lock on the ledger is held, so a socket that is there is a leftover.
fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let place = file::path_beside(path, ".new");
    for leftover in [&place, path] {
        match std::fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let listener = Bound::bind(&place)?;
    // Its name comes after its mode: it is never open to others.
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&place, path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Answers one connection from one read transaction.
fn answer_connection(
    keeper: &Keeper,
    stream: &UnixStream,
    stop: &CancellationToken,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(POLL))?;
    stream.set_write_timeout(Some(SILENT_MAX))?;
    let session = keeper.session();
    let queries = Queries::begin_read(session.tables.database()).map_err(io::Error::other)?;
    let mut reader = BufReader::new(stream);
    let mut out = BufWriter::new(stream);
    while let Some(line) = next_line(&mut reader, stop)? {
        let request = serde_json::from_slice(&line)?;
        match request {
            ToolRequest::Id => write_reply(&mut out, queries.read_id()),
            ToolRequest::Sample => write_reply(&mut out, queries.is_sample()),
            ToolRequest::Count => write_reply(&mut out, queries.count_pairs()),
            ToolRequest::Table { user } => write_reply(&mut out, queries.read_table(user)),
            ToolRequest::Ledger { user } => write_reply(&mut out, queries.read_ledger(user)),
            ToolRequest::History { user, asset, most } => {
                write_reply(&mut out, queries.read_history(user, asset, most))
            }
            ToolRequest::Pairs { from, most } => {
                write_reply(&mut out, queries.read_pairs(from, most))
            }
            ToolRequest::RowsBelow { below, most } => {
                write_reply(&mut out, queries.rows_below(below, most))
            }
            ToolRequest::RecordsAbove { above, most } => {
                write_reply(&mut out, queries.records_above(above, most))
            }
            ToolRequest::Backup => {
                write_reply(&mut out, Ok(()))?;
                let mut out = Stoppable {
                    out: &mut out,
                    stop,
                };
                return backup::write_backup(&queries.transaction, &mut out)
                    .map(drop)
                    .map_err(io::Error::other);
            }
        }?;
    }
    Ok(())
}

/// The next request; none at the end of the connection.
fn next_line(
    reader: &mut BufReader<&UnixStream>,
    stop: &CancellationToken,
) -> io::Result<Option<Vec<u8>>> {
    let began = Instant::now();
    let mut line = Vec::new();
    loop {
        let room = REQUEST_MAX.saturating_sub(u64::try_from(line.len()).unwrap_or(u64::MAX));
        match reader.by_ref().take(room).read_until(b'\n', &mut line) {
            Ok(_) if line.last() == Some(&b'\n') => return Ok(Some(line)),
            Ok(_) => return Ok(None),
            Err(error) if is_timeout(&error) => {
                if stop.is_cancelled() || began.elapsed() > SILENT_MAX {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn write_reply<T: Serialize>(
    out: &mut BufWriter<&UnixStream>,
    answer: Result<T, redb::Error>,
) -> io::Result<()> {
    let answer = answer.map_err(|error| error.to_string());
    serde_json::to_writer(&mut *out, &answer)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A backup ends, unfinished, with the process.
struct Stoppable<'a, 'b> {
    out: &'a mut BufWriter<&'b UnixStream>,
    stop: &'a CancellationToken,
}

impl io::Write for Stoppable<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the instance stops"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

// === the tools ===

/// A connection to the instance that has a ledger open.
pub(super) struct ToolClient {
    stream: Mutex<BufReader<UnixStream>>,
}

impl ToolClient {
    pub(super) fn connect_to(ledger: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket_path(ledger))?;
        stream.set_read_timeout(Some(SILENT_MAX))?;
        stream.set_write_timeout(Some(SILENT_MAX))?;
        Ok(Self {
            stream: Mutex::new(BufReader::new(stream)),
        })
    }

    pub(super) fn ask_instance<T: DeserializeOwned>(&self, request: &ToolRequest) -> io::Result<T> {
        let mut stream = self.stream.lock();
        send_request(&mut stream, request)
    }

    /// Copies a backup to `out`, and says how many rows it has.
    pub(super) fn copy_backup(&self, out: &mut dyn io::Write) -> io::Result<u64> {
        let mut stream = self.stream.lock();
        let () = send_request(&mut stream, &ToolRequest::Backup)?;
        backup::copy_backup(&mut *stream, out)
    }
}

fn send_request<T: DeserializeOwned>(
    stream: &mut BufReader<UnixStream>,
    request: &ToolRequest,
) -> io::Result<T> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.get_mut().write_all(&line)?;
    line.clear();
    stream.read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::other("the instance closed the connection"));
    }
    let answer: Result<T, String> = serde_json::from_slice(&line)?;
    answer.map_err(io::Error::other)
}
