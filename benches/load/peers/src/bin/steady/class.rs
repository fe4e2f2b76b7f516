//! Classes of requests, read from the command line.

use std::{collections::VecDeque, fs, net::SocketAddr};

use mio::Poll;

use crate::{CLOSED_MOST, Class, report::Record, wire::Request};

/// Room for what will be recorded, touched: who has to find it while requests are due lets them wait, for up to 40 ms.
fn room(rate: f64, seconds: f64, left: usize) -> Vec<Record> {
    let rate = if rate > 0.0 { rate * 1.1 } else { CLOSED_MOST };
    let most = (rate * seconds) as usize + 1_000;
    // Written, because zeros are no pages yet.
    let written = Record {
        done: 0.0,
        took: 0.0,
        status: 1,
    };
    let mut records = vec![written; most.min(left)];
    records.clear();
    records
}

/// A class as its argument describes it, and its connections.
pub fn class(text: &str, host: SocketAddr) -> (Class, usize) {
    let value = |name: &str| {
        let mut words = text
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        words
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    };
    let number = |name: &str, default: f64| {
        value(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let file = fs::read_to_string(value("file").expect("file=")).expect("the file is there");
    let requests: Vec<_> = file
        .lines()
        .map(|line| Request::parse(line, host))
        .collect();
    assert!(!requests.is_empty(), "an empty file");
    let left = number("count", f64::MAX) as usize;
    let (rate, from, until) = (
        number("rate", 0.0),
        number("from", 0.0),
        number("until", 10.0),
    );
    let class = Class {
        name: value("name").unwrap_or("all").to_owned(),
        poll: Poll::new().expect("epoll"),
        requests,
        next: 0,
        left,
        rate,
        from,
        until,
        due: 0.0,
        waiting: VecDeque::new(),
        idle: Vec::new(),
        begun: false,
        sent: 0,
        broken: 0,
        records: room(rate, until - from, left),
    };
    (class, number("connections", 64.0) as usize)
}
