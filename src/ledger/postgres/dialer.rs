//! Opens one connection, to the first of several servers that will do.
//!
//! All are tried at the same time, and the first that takes writes is used (`target_session_attrs=read-write`) unless it is an old
//! primary: a standby, or a server that accepts connections and says nothing, delays nobody. A replica is taken as it is.
//!
//! **Limits.** `postgres.connect_timeout_ms` for each server; [`OTHERS_MAX`] for the others, where no primary is known yet.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use deadpool_postgres::Connect;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error as PgError, NoTls, Socket};
use tokio_util::task::TaskTracker;

use super::{
    faults,
    timeline::{NewestPrimary, PrimaryTimeline, refuse_connection},
    tls::TlsInForce,
};
use crate::diagnosis::Code;

/// How long the first connection of a process waits for the other servers, of which one may be a newer primary.
const OTHERS_MAX: Duration = Duration::from_secs(1);

/// Opens connections to one of these hosts.
pub(super) struct PgDialer {
    pub(super) hosts: Vec<Config>,
    pub(super) tls: Option<Arc<TlsInForce>>,
    pub(super) timeout: Duration,
    pub(super) connections: TaskTracker,
    /// Hears of each NOTIFY.
    pub(super) wakeups: Option<mpsc::Sender<()>>,
    pub(super) newest: Arc<NewestPrimary>,
}

type Opened = Result<(Client, JoinHandle<()>), PgError>;

/// A connection, and its server's timeline.
struct OpenedHost {
    client: Client,
    task: JoinHandle<()>,
    timeline: Option<PrimaryTimeline>,
}

impl Connect for PgDialer {
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Opened> + Send + '_>> {
        Box::pin(self.open_connection())
    }
}

impl PgDialer {
    pub(super) async fn open_connection(&self) -> Opened {
        let waits_for_others = self.newest.is_unknown();
        let mut tries: FuturesUnordered<_> = self
            .hosts
            .iter()
            .map(|host| self.open_host(host).boxed())
            .collect();
        let mut chosen: Option<OpenedHost> = None;
        let mut failed: Vec<PgError> = Vec::new();
        loop {
            let attempt = match &chosen {
                None => tries.next().await,
                Some(_) if waits_for_others => {
                    timeout(OTHERS_MAX, tries.next()).await.ok().flatten()
                }
                Some(_) => None,
            };
            match attempt {
                Some(Some(Ok(host))) => {
                    let newer = chosen.as_ref().is_none_or(|chosen| host.replaces(chosen));
                    if newer {
                        chosen = Some(host);
                    }
                }
                Some(Some(Err(error))) => failed.push(error),
                Some(None) => {}
                None => break,
            }
        }
        if let Some(OpenedHost { client, task, .. }) = chosen {
            return Ok((client, task));
        }
        match failed.into_iter().max_by_key(severity) {
            Some(telling) => Err(telling),
            // Each was silent: the pool has given up, or is about to.
            None => std::future::pending().await,
        }
    }

    /// Asks each host for its timeline, so that an old primary is known as such.
    pub(super) async fn look_for_primaries(&self) {
        let tries = self.hosts.iter().map(|host| self.open_host(host));
        drop(futures::future::join_all(tries).await);
    }

    /// None where the host was silent, or is not used.
    async fn open_host(&self, host: &Config) -> Option<Result<OpenedHost, PgError>> {
        let opening = async {
            let (client, task) = if let Some(tls) = &self.tls {
                let (client, connection) = host.connect(tls.make_connector()).await?;
                (client, self.run_connection(connection))
            } else {
                let (client, connection) = host.connect(NoTls).await?;
                (client, self.run_connection(connection))
            };
            let timeline = PrimaryTimeline::read_timeline(&client).await?;
            if timeline.is_some_and(|timeline| !self.newest.admit_primary(timeline)) {
                refuse_connection(&client).await?;
                return Ok(None);
            }
            Ok(Some(OpenedHost {
                client,
                task,
                timeline,
            }))
        };
        let opened: Result<Option<OpenedHost>, PgError> =
            timeout(self.timeout, opening).await.ok()?;
        opened.transpose()
    }

    fn run_connection<T>(&self, connection: Connection<Socket, T>) -> JoinHandle<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let wakeups = self.wakeups.clone();
        self.connections.spawn(run_connection(connection, wakeups))
    }
}

impl OpenedHost {
    fn replaces(&self, other: &Self) -> bool {
        match (self.timeline, other.timeline) {
            (Some(own), Some(other)) => own.is_newer_than(other),
            _ => false,
        }
    }
}

/// Runs a connection until it ends.
async fn run_connection<T>(mut connection: Connection<Socket, T>, wakeups: Option<mpsc::Sender<()>>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(_), Some(wakeups)) = (message, &wakeups) {
            // A token that is not taken yet stands for this one, too.
            let _ = wakeups.try_send(());
        }
    }
}

/// How much the failure of one host says about the failure of all: a standby says little beside a wrong password.
fn severity(error: &PgError) -> u8 {
    match faults::find_fault(error).code {
        Code::PostgresUnreachable => 0,
        Code::PostgresRefused => 1,
        Code::PostgresReadOnly => 2,
        Code::PostgresReplaced => 3,
        Code::PostgresStarting => 4,
        _ => 5,
    }
}
