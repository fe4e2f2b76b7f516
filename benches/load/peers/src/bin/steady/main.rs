//! A generator that does not wait for the server: requests of a class are due at random times (Poisson, `rate` a second),
//! and a latency is counted from when a request was due, whether or not a connection was free. Without a rate a class is a
//! closed loop, as wrk's. It reports, as JSON, each class as a whole and in windows.
//!
//!     steady --target 127.0.0.1:3001 --window-ms 100 --class "name=hot file=users rate=1000 connections=32 from=0 until=9"
//!
//! A line of the file is `GET /path` or `POST /path body`; lines are sent in their order, again and again, or once
//! (`count=`). `@SEQ@` in a body becomes a number of 16 digits that rises with every request: microseconds since 1970 at
//! the start, and one more each time.
//!
//! One thread that turns without sleeping while anything is due: it needs a core of its own. Classes take short turns, so
//! that the latency of one is not the time that the answers of another take here.

mod class;
mod report;
mod wire;

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use balance_cache_load::Arguments;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use serde_json::{Value, json};

use self::{
    report::{Record, report},
    wire::{Request, SEQ_DIGITS, head},
};

/// How long what is still unanswered at the end is waited for.
const LAST_WAIT: f64 = 3.0;
/// Due requests that wait for a connection; more are counted only.
const BACKLOG_MAX: usize = 1_000_000;
/// Answers a second of a class without a rate that there is room for.
const CLOSED_MOST: f64 = 250_000.0;

/// Requests sent, and events looked at, before the next class has its turn.
const TURN: usize = 16;

struct Class {
    name: String,
    poll: Poll,
    requests: Vec<Request>,
    next: usize,
    left: usize,
    rate: f64,
    from: f64,
    until: f64,
    due: f64,
    waiting: VecDeque<f64>,
    idle: Vec<usize>,
    begun: bool,
    sent: usize,
    broken: usize,
    records: Vec<Record>,
}

#[derive(PartialEq)]
enum State {
    Connecting,
    Idle,
    Busy,
}

struct Connection {
    stream: TcpStream,
    class: usize,
    state: State,
    due: f64,
    out: Vec<u8>,
    written: usize,
    got: Vec<u8>,
    need: Option<usize>,
}

struct Generator {
    target: SocketAddr,
    start: Instant,
    classes: Vec<Class>,
    connections: Vec<Connection>,
    seq: u64,
    random: u64,
    buffer: Vec<u8>,
}

impl Generator {
    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// An exponential gap, xorshift64*.
    fn gap(&mut self, rate: f64) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        -(1.0 - bits as f64 / (1_u64 << 53) as f64).ln() / rate
    }

    fn connect(&self, class: usize, token: usize) -> TcpStream {
        let mut stream = TcpStream::connect(self.target).expect("a socket");
        let _ = stream.set_nodelay(true);
        let both = Interest::READABLE | Interest::WRITABLE;
        self.classes[class]
            .poll
            .registry()
            .register(&mut stream, Token(token), both)
            .expect("epoll takes it");
        stream
    }

    fn open(&mut self, class: usize, connections: usize) {
        for _ in 0..connections {
            let token = self.connections.len();
            let stream = self.connect(class, token);
            self.connections.push(Connection {
                stream,
                class,
                state: State::Connecting,
                due: 0.0,
                out: Vec::new(),
                written: 0,
                got: Vec::new(),
                need: None,
            });
        }
    }

    fn reopen(&mut self, at: usize) {
        let stream = self.connect(self.connections[at].class, at);
        let connection = &mut self.connections[at];
        if connection.state == State::Busy {
            self.classes[connection.class].broken += 1;
        }
        connection.stream = stream;
        connection.state = State::Connecting;
        connection.got.clear();
        connection.need = None;
    }

    /// What has become due of a class since its last turn.
    fn fall_due(&mut self, at: usize, now: f64) {
        let class = &self.classes[at];
        let (rate, until) = (class.rate, class.until);
        if now < class.from {
            return;
        }
        if !class.begun {
            let gap = if rate > 0.0 { self.gap(rate) } else { 0.0 };
            let class = &mut self.classes[at];
            class.begun = true;
            class.due = class.from + gap;
        }
        while rate > 0.0 && self.classes[at].due <= now.min(until) && self.classes[at].left > 0 {
            let gap = self.gap(rate);
            let class = &mut self.classes[at];
            if class.waiting.len() < BACKLOG_MAX {
                class.waiting.push_back(class.due);
            }
            class.left -= 1;
            class.due += gap;
        }
        self.feed(at, now);
    }

    /// Gives free connections what waits.
    fn feed(&mut self, at: usize, now: f64) {
        for _ in 0..TURN {
            let class = &mut self.classes[at];
            if now > class.until || now < class.from || class.idle.is_empty() {
                return;
            }
            let due = if class.rate > 0.0 {
                let Some(due) = class.waiting.pop_front() else {
                    return;
                };
                due
            } else if class.left > 0 {
                class.left -= 1;
                now
            } else {
                return;
            };
            let connection = class.idle.pop().expect("one is idle");
            self.send(at, connection, due);
        }
    }

    fn send(&mut self, at: usize, connection: usize, due: f64) {
        let class = &mut self.classes[at];
        let request = &class.requests[class.next % class.requests.len()];
        class.next += 1;
        class.sent += 1;
        let connection_at = connection;
        let connection = &mut self.connections[connection_at];
        connection.out.clear();
        connection.out.extend_from_slice(&request.bytes);
        if let Some(seq_at) = request.seq_at {
            self.seq += 1;
            let digits = format!("{:016}", self.seq);
            connection.out[seq_at..seq_at + SEQ_DIGITS].copy_from_slice(digits.as_bytes());
        }
        connection.due = due;
        connection.written = 0;
        connection.state = State::Busy;
        self.write(connection_at);
    }

    fn write(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        while connection.written < connection.out.len() {
            match connection
                .stream
                .write(&connection.out[connection.written..])
            {
                Ok(count) => connection.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.reopen(at),
            }
        }
    }

    fn read(&mut self, at: usize) {
        loop {
            let connection = &mut self.connections[at];
            let count = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return self.reopen(at),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.reopen(at),
            };
            connection.got.extend_from_slice(&self.buffer[..count]);
            if connection
                .need
                .is_none_or(|need| connection.got.len() >= need)
                && self.complete(at)
            {
                return;
            }
        }
    }

    /// Whether the answer is whole; then the connection is free again.
    fn complete(&mut self, at: usize) -> bool {
        let now = self.now();
        let connection = &mut self.connections[at];
        let Some((status, need, close)) = head(&connection.got) else {
            return false;
        };
        connection.need = Some(need);
        if connection.got.len() < need {
            return false;
        }
        connection.got.clear();
        connection.need = None;
        connection.state = State::Idle;
        let (class, due) = (connection.class, connection.due);
        self.classes[class].records.push(Record {
            done: now,
            took: now - due,
            status,
        });
        if close {
            self.reopen(at);
        } else {
            self.classes[class].idle.push(at);
            self.feed(class, now);
        }
        true
    }

    fn ready(&mut self, at: usize, readable: bool, writable: bool) {
        if writable && self.connections[at].state == State::Connecting {
            let connection = &mut self.connections[at];
            if let Ok(Some(_)) | Err(_) = connection.stream.take_error() {
                return self.reopen(at);
            }
            if connection.stream.peer_addr().is_err() {
                return;
            }
            connection.state = State::Idle;
            let class = connection.class;
            self.classes[class].idle.push(at);
            let now = self.now();
            self.feed(class, now);
        }
        if writable && self.connections[at].state == State::Busy {
            self.write(at);
        }
        if readable {
            match self.connections[at].state {
                State::Busy => self.read(at),
                State::Idle => self.closed_while_idle(at),
                State::Connecting => {}
            }
        }
    }

    fn closed_while_idle(&mut self, at: usize) {
        if let Err(error) = self.connections[at].stream.read(&mut self.buffer)
            && error.kind() == io::ErrorKind::WouldBlock
        {
            return;
        }
        let class = self.connections[at].class;
        self.classes[class].idle.retain(|idle| *idle != at);
        self.reopen(at);
    }

    fn over(&self, now: f64) -> bool {
        let all_asked = self.classes.iter().all(|class| {
            now > class.until || (class.begun && class.left == 0 && class.waiting.is_empty())
        });
        let end = self
            .classes
            .iter()
            .map(|class| class.until)
            .fold(0.0, f64::max);
        let busy = self
            .connections
            .iter()
            .any(|connection| connection.state == State::Busy);
        all_asked && (!busy || now > end + LAST_WAIT)
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(TURN);
        let mut turns = 0_u64;
        loop {
            for at in 0..self.classes.len() {
                let now = self.now();
                self.fall_due(at, now);
                self.classes[at]
                    .poll
                    .poll(&mut events, Some(Duration::ZERO))
                    .expect("epoll turns");
                for event in &events {
                    let (readable, writable) = (event.is_readable(), event.is_writable());
                    self.ready(event.token().0, readable, writable);
                }
            }
            turns += 1;
            if turns.is_multiple_of(64) && self.over(self.now()) {
                return;
            }
        }
    }
}

fn main() {
    let arguments = Arguments::read();
    let target: SocketAddr = arguments.need("target");
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let mut generator = Generator {
        target,
        start: Instant::now(),
        classes: Vec::new(),
        connections: Vec::new(),
        seq: u64::try_from(since.as_micros()).expect("64 bits last"),
        random: 0x9E37_79B9_7F4A_7C15,
        buffer: vec![0; 256 * 1024],
    };
    for (at, text) in arguments.all("class").iter().enumerate() {
        let (class, connections) = class::class(text, target);
        generator.classes.push(class);
        generator.open(at, connections);
    }
    generator.start = Instant::now();
    generator.run();
    let window = arguments.get("window-ms").unwrap_or(0.0) / 1e3;
    let classes: Vec<Value> = generator
        .classes
        .iter()
        .map(|class| report(class, window))
        .collect();
    println!("{}", json!({ "classes": classes }));
}
