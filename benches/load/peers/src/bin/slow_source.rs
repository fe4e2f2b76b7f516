//! Stands before a CQL database and lets so many of its results through in a second, in the order in which they came, as a
//! database does that can do no more: the more is asked at once, the longer each waits.
//!
//! What is no result (the handshake, errors, events) passes at once.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use balance_cache_load::Arguments;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

/// A frame's header: version, flags, stream (2), opcode, length of what follows (4).
const HEADER: usize = 9;
const OPCODE: usize = 4;
const RESULT: u8 = 8;
/// How often what is due is sent on.
const TICK: Duration = Duration::from_millis(1);
/// Frames of a connection that wait; far more than a driver has in flight.
const WAITING_MAX: usize = 65_536;

/// When the next result of any connection may pass.
struct Pace {
    each: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn turn(&self) -> Instant {
        let mut next = self.next.lock().expect("nobody panics with it");
        let turn = (*next).max(Instant::now());
        *next = turn + self.each;
        turn
    }
}

type Frame = (Instant, Vec<u8>);

async fn read(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<Frame>,
    pace: Arc<Pace>,
) -> io::Result<()> {
    loop {
        let mut frame = vec![0; HEADER];
        from.read_exact(&mut frame).await?;
        let length = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
        frame.resize(HEADER + usize::try_from(length).expect("64 bits"), 0);
        from.read_exact(&mut frame[HEADER..]).await?;
        let due = if frame[OPCODE] == RESULT {
            pace.turn()
        } else {
            Instant::now()
        };
        if queue.send((due, frame)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut queue: mpsc::Receiver<Frame>) -> io::Result<()> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut due = Vec::new();
    while let Some((turn, frame)) = queue.recv().await {
        while Instant::now() < turn {
            if !due.is_empty() {
                to.write_all(&due).await?;
                due.clear();
            }
            ticks.tick().await;
        }
        due.extend(frame);
        if queue.is_empty() {
            to.write_all(&due).await?;
            due.clear();
        }
    }
    Ok(())
}

async fn pass(client: TcpStream, target: SocketAddr, pace: Arc<Pace>) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asks, answers) = client.into_split();
    let (results, mut statements) = server.into_split();
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::select! {
        ended = io::copy(&mut asks, &mut statements) => ended.map(drop),
        ended = read(results, sender, pace) => ended,
        ended = write(answers, receiver) => ended,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::read();
    let target = arguments.need::<SocketAddr>("target");
    let pace = Arc::new(Pace {
        each: Duration::from_secs(1) / arguments.need("rate"),
        next: Mutex::new(Instant::now()),
    });
    let listener = TcpListener::bind(arguments.need::<SocketAddr>("listen"))
        .await
        .expect("the address is free");
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        tokio::spawn(pass(client, target, Arc::clone(&pace)));
    }
}
