//! A request as bytes, and what is read of an answer.

use std::net::SocketAddr;

const SEQ: &str = "@SEQ@";
/// Of the number that takes its place.
pub const SEQ_DIGITS: usize = 16;

/// A line of the file.
pub struct Request {
    pub bytes: Vec<u8>,
    /// Where the number stands.
    pub seq_at: Option<usize>,
}

impl Request {
    /// `METHOD /path body`.
    pub fn parse(line: &str, host: SocketAddr) -> Self {
        let mut words = line.splitn(3, ' ');
        let (method, path) = (
            words.next().unwrap_or(""),
            words.next().expect("METHOD /path"),
        );
        let body = words
            .next()
            .unwrap_or("")
            .replace(SEQ, &"0".repeat(SEQ_DIGITS));
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        if !body.is_empty() {
            let length = body.len();
            text += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        text += "\r\n";
        let before = line.splitn(3, ' ').nth(2).and_then(|body| body.find(SEQ));
        let seq_at = before.map(|before| text.len() + before);
        text += &body;
        Self {
            bytes: text.into_bytes(),
            seq_at,
        }
    }
}

/// Status, length of head and body, and whether the connection is closed after it.
pub fn head(got: &[u8]) -> Option<(u16, usize, bool)> {
    let end = got.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&got[..end])
        .expect("a head is ASCII")
        .to_ascii_lowercase();
    let status = text
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let length = value("content-length:").expect("answers have a content-length");
    let length: usize = length.parse().expect("a number");
    Some((status, end + length, value("connection:") == Some("close")))
}
