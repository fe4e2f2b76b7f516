//! A TCP proxy that breaks the wire on command.
//!
//! It runs on threads of its own, so it works for any test, also one whose runtime is blocked.
//!
//! **Invariants.** When [`Proxy::set`] returns, the mode holds: after `Cut` nothing listens and no connection is left.
//! Bytes are never dropped from the middle of a connection that goes on, as TCP does not do that either: a connection
//! that lost bytes to `Swallow` is reset when that mode ends.
//!
//! **Limits.** What is on its way at most: 256 pieces of 16 KiB in each direction of a connection.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::port::Port;

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Requests and answers.
    Both,
    /// Requests only.
    ToServer,
    /// Answers only.
    ToClient,
}

/// What is done to the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Pass,
    /// Connections are reset, new ones refused.
    Cut,
    /// A black hole: connections are accepted and stay open, bytes are lost.
    Swallow(Way),
    /// As if packets were lost until the mode ends: bytes arrive then.
    Stall(Way),
    /// Each byte arrives this much later, both ways.
    Delay(Duration),
}

impl Mode {
    fn swallows(self, way: Way) -> bool {
        matches!(self, Self::Swallow(which) if which == Way::Both || which == way)
    }

    fn stalls(self, way: Way) -> bool {
        matches!(self, Self::Stall(which) if which == Way::Both || which == way)
    }

    fn delay(self) -> Duration {
        match self {
            Self::Delay(delay) => delay,
            Self::Pass | Self::Cut | Self::Swallow(_) | Self::Stall(_) => Duration::ZERO,
        }
    }
}

/// What went through.
#[derive(Debug, Default)]
pub struct Counts {
    accepted: AtomicU64,
    open: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    swallowed: AtomicU64,
}

impl Counts {
    /// Connections ever accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(SeqCst)
    }

    /// Bytes that the server was given.
    pub fn to_server(&self) -> u64 {
        self.to_server.load(SeqCst)
    }

    /// Bytes that clients were given.
    pub fn to_client(&self) -> u64 {
        self.to_client.load(SeqCst)
    }

    /// Bytes that nobody was given.
    pub fn swallowed(&self) -> u64 {
        self.swallowed.load(SeqCst)
    }

    fn delivered(&self, way: Way) -> &AtomicU64 {
        if way == Way::ToServer {
            &self.to_server
        } else {
            &self.to_client
        }
    }
}

type Order = (Mode, SyncSender<()>);

/// A running proxy, gone when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: mpsc::Sender<Order>,
    counts: Arc<Counts>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Forwards to `server`, which need not be there yet. Listens on the same address with another port: a CQL driver goes on
    /// to the address that the node names, by the port that it was given.
    pub fn start(server: SocketAddr) -> Self {
        let port = Port::reserve_on(server.ip());
        let address = port.address();
        let (orders, receiver) = mpsc::channel(1);
        let counts = Arc::new(Counts::default());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(serve(port, server, receiver, Arc::clone(&counts)));
        let proxy = Self {
            address,
            orders,
            counts,
            runtime: Some(runtime),
        };
        proxy.set(Mode::Pass);
        proxy
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What went through so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Changes the mode, for open connections too. It holds when this returns.
    pub fn set(&self, mode: Mode) {
        let (done, holds) = sync_channel(1);
        self.orders.try_send((mode, done)).unwrap();
        holds.recv().unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(
    port: Port,
    server: SocketAddr,
    mut orders: mpsc::Receiver<Order>,
    counts: Arc<Counts>,
) {
    let modes = watch::Sender::new(Mode::Cut);
    let mut listener: Option<TcpListener> = None;
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            order = orders.recv() => {
                let Some((mode, done)) = order else { return };
                modes.send_replace(mode);
                if mode == Mode::Cut {
                    listener = None;
                    while connections.join_next().await.is_some() {}
                } else if listener.is_none() {
                    listener = Some(TcpListener::bind(port.address()).await.unwrap());
                }
                done.send(()).unwrap();
            }
            Some(_) = connections.join_next() => {}
            accepted = accept => {
                let Ok((client, _)) = accepted else { continue };
                counts.accepted.fetch_add(1, SeqCst);
                counts.open.fetch_add(1, SeqCst);
                let (modes, counts) = (modes.subscribe(), Arc::clone(&counts));
                connections.spawn(async move {
                    let _ = carry(client, server, modes, &counts).await;
                    counts.open.fetch_sub(1, SeqCst);
                });
            }
        }
    }
}

/// One connection, until both sides closed it or it is reset.
async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    counts: &Counts,
) -> io::Result<()> {
    let server = tokio::select! {
        server = TcpStream::connect(server) => server,
        _ = modes.wait_for(|mode| *mode == Mode::Cut) => Err(io::ErrorKind::ConnectionReset.into()),
    };
    let Ok(mut server) = server else {
        return client.set_zero_linger();
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    if both_closed(&mut client, &mut server, &mut modes, counts).await {
        return Ok(());
    }
    // Closing sends RST now, and drops what the kernel still holds.
    client.set_zero_linger()?;
    server.set_zero_linger()
}

/// Whether the connection came to its own end.
async fn both_closed(
    client: &mut TcpStream,
    server: &mut TcpStream,
    modes: &mut watch::Receiver<Mode>,
    counts: &Counts,
) -> bool {
    let lost = AtomicBool::new(false);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let pump = |way| Pump {
        way,
        modes: modes.clone(),
        counts,
        lost: &lost,
    };
    let up = pump(Way::ToServer).run(from_client, to_server);
    let down = pump(Way::ToClient).run(from_server, to_client);
    tokio::select! {
        biased;
        () = to_be_reset(modes, &lost) => false,
        ended = async { tokio::try_join!(up, down) } => ended.is_ok(),
    }
}

async fn to_be_reset(modes: &mut watch::Receiver<Mode>, lost: &AtomicBool) {
    loop {
        let mode = *modes.borrow_and_update();
        if mode == Mode::Cut || (lost.load(SeqCst) && !matches!(mode, Mode::Swallow(_))) {
            return;
        }
        if modes.changed().await.is_err() {
            return;
        }
    }
}

/// One direction of a connection.
struct Pump<'a> {
    way: Way,
    modes: watch::Receiver<Mode>,
    counts: &'a Counts,
    lost: &'a AtomicBool,
}

impl Pump<'_> {
    async fn run(self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let (pieces, mut arriving) = mpsc::channel::<(Instant, Bytes)>(256);
        let modes = self.modes.clone();
        let read = async move {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let length = from.read(&mut buffer).await?;
                let due = Instant::now() + modes.borrow().delay();
                let piece = Bytes::copy_from_slice(&buffer[..length]);
                if pieces.send((due, piece)).await.is_err() || length == 0 {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        let write = async move {
            let mut modes = self.modes;
            while let Some((due, piece)) = arriving.recv().await {
                sleep_until(due).await;
                let length = u64::try_from(piece.len()).unwrap();
                let mode = match modes.wait_for(|mode| !mode.stalls(self.way)).await {
                    Ok(mode) => *mode,
                    Err(_) => return Ok(()),
                };
                if mode.swallows(self.way) {
                    self.lost.store(true, SeqCst);
                    self.counts.swallowed.fetch_add(length, SeqCst);
                } else if length == 0 {
                    to.shutdown().await?;
                } else {
                    to.write_all(&piece).await?;
                    self.counts.delivered(self.way).fetch_add(length, SeqCst);
                }
            }
            Ok(())
        };
        tokio::try_join!(read, write).map(|_| ())
    }
}
