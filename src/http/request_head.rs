//! The head of a request as it stands on the wire: parsed by httparse, its framing judged here (RFC 9112).
//!
//! **Invariants.** A head that two programs could understand differently is refused: `Content-Length` beside
//! `Transfer-Encoding`, either of them twice, another coding than `chunked`, a second `Host`. A verdict depends on the
//! bytes of the head only, never on how they arrived.
//!
//! **Limits.** [`HEAD_MAX`] bytes and [`FIELDS_MAX`] fields; the fast path takes up to [`FAST_FIELDS_MAX`].

use std::mem::MaybeUninit;

use http::HeaderValue;
use httparse::{Header, Request, Status};

use super::request_id;

/// Bytes of a head, with its empty line.
pub const HEAD_MAX: usize = 16 * 1024;
/// Header fields of a request.
pub const FIELDS_MAX: usize = 100;
/// Header fields of a request that the fast path may answer.
pub const FAST_FIELDS_MAX: usize = 32;

/// The array of header fields that the fast path parses into.
pub type Room<'b> = [MaybeUninit<Header<'b>>; FAST_FIELDS_MAX];

/// Makes an empty array of [`FAST_FIELDS_MAX`] fields.
pub const fn empty_fields<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; FAST_FIELDS_MAX]
}

/// Makes an empty array of [`FIELDS_MAX`] fields.
pub const fn large_room<'b>() -> [MaybeUninit<Header<'b>>; FIELDS_MAX] {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

#[derive(Debug)]
pub struct RequestHead<'h, 'b> {
    /// The method as the client spelled it.
    pub method: &'b str,
    /// Path and query, or whatever the client put in their place.
    pub target: &'b str,
    pub fields: &'h [Header<'b>],
    /// Bytes of the head, with its empty line.
    pub len: usize,
    /// The bytes that belong to the request behind its head.
    pub framing: Framing,
    /// The connection ends behind the answer.
    pub close: bool,
    pub is_http_1_0: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The value of `Host`; only a request of HTTP/1.0 may lack it.
    pub host: Option<&'b [u8]>,
}

impl RequestHead<'_, '_> {
    /// The client's request id, if it is fit to be repeated.
    pub fn request_id(&self) -> Option<HeaderValue> {
        client_id(self.fields)
    }
}

/// How the body behind a head is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// `Content-Length` bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// The meaning of the first bytes of an input.
#[derive(Debug)]
pub enum Parsed<'h, 'b> {
    /// The beginning of a head.
    Partial,
    /// More header fields than the array holds.
    TooMany,
    /// No head.
    Unreadable,
    /// A head that must not be served.
    Bad {
        /// For the client.
        reason: &'static str,
        request_id: Option<HeaderValue>,
    },
    Head(RequestHead<'h, 'b>),
}

/// Parses the head that `input` begins with.
pub fn parse_head<'h, 'b>(
    input: &'b [u8],
    room: &'h mut [MaybeUninit<Header<'b>>],
) -> Parsed<'h, 'b> {
    let mut request = Request::new(&mut []);
    let len = match request.parse_with_uninit_headers(input, room) {
        Ok(Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::TooMany,
        Err(_) => return Parsed::Unreadable,
        Ok(Status::Complete(len)) => len,
    };
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Parsed::Unreadable;
    };
    let is_http_1_0 = request.version == Some(0);
    match HeaderFacts::from_fields(request.headers, is_http_1_0) {
        Ok(meaning) => Parsed::Head(RequestHead {
            method,
            target,
            fields: request.headers,
            len,
            framing: meaning.framing,
            close: meaning.close,
            is_http_1_0,
            expects_continue: meaning.expects_continue,
            host: meaning.host,
        }),
        Err(reason) => Parsed::Bad {
            reason,
            request_id: client_id(request.headers),
        },
    }
}

/// The connection, body framing and host that the header fields declare.
struct HeaderFacts<'b> {
    framing: Framing,
    close: bool,
    expects_continue: bool,
    host: Option<&'b [u8]>,
}

impl<'b> HeaderFacts<'b> {
    fn from_fields(fields: &[Header<'b>], is_http_1_0: bool) -> Result<Self, &'static str> {
        let (mut length, mut chunked) = (None, false);
        let (mut close, mut keep_alive) = (false, false);
        let (mut host, mut two_hosts, mut expects_continue) = (None, false, false);
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("host") => two_hosts |= host.replace(field.value).is_some(),
                6 if is("expect") => {
                    expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
                }
                10 if is("connection") => {
                    for option in field.value.split(|byte| *byte == b',') {
                        let option = option.trim_ascii();
                        close |= option.eq_ignore_ascii_case(b"close");
                        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if is("content-length") => {
                    let bytes = parse_length(field.value).ok_or("Content-Length is no length")?;
                    if length.replace(bytes).is_some() {
                        return Err("Content-Length is given twice");
                    }
                }
                17 if is("transfer-encoding") => {
                    if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err("Transfer-Encoding may be chunked, once, and nothing else");
                    }
                    chunked = true;
                }
                _ => {}
            }
        }
        if chunked && (length.is_some() || is_http_1_0) {
            return Err(
                "Transfer-Encoding stands beside Content-Length, or in a request of HTTP/1.0",
            );
        }
        if two_hosts || (host.is_none() && !is_http_1_0) {
            return Err("Host has to be given, and once");
        }
        Ok(Self {
            framing: match length {
                _ if chunked => Framing::Chunked,
                None | Some(0) => Framing::None,
                Some(bytes) => Framing::Length(bytes),
            },
            close: close || (is_http_1_0 && !keep_alive),
            expects_continue: expects_continue && !is_http_1_0,
            host,
        })
    }
}

/// Digits and nothing else.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

fn client_id(fields: &[Header<'_>]) -> Option<HeaderValue> {
    let id = fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("x-request-id"))?;
    HeaderValue::from_bytes(id.value)
        .ok()
        .filter(|id| request_id::is_fit(id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_framing(version: &str, fields: &str) -> Option<(Framing, bool)> {
        let text = format!("GET /x HTTP/{version}\r\nx-request-id: 7\r\n{fields}\r\n");
        match parse_head(text.as_bytes(), &mut empty_fields()) {
            Parsed::Head(head) => {
                assert_eq!(
                    (head.method, head.target, head.len),
                    ("GET", "/x", text.len())
                );
                assert_eq!(head.request_id().unwrap(), "7");
                Some((head.framing, head.close))
            }
            Parsed::Bad { request_id, .. } => {
                assert_eq!(request_id.unwrap(), "7");
                None
            }
            Parsed::Partial | Parsed::TooMany | Parsed::Unreadable => panic!("{fields:?}"),
        }
    }

    #[test]
    fn the_framing_of_a_request_follows_from_its_fields() {
        for (fields, expected) in [
            ("Connection: Keep-Alive\r\n", (Framing::None, false)),
            ("content-length: 0\r\n", (Framing::None, false)),
            ("Content-Length: 17\r\n", (Framing::Length(17), false)),
            ("connection: CLOSE\r\n", (Framing::None, true)),
            ("connection: x , close\r\n", (Framing::None, true)),
            (
                "connection: x\r\nconnection: close\r\n",
                (Framing::None, true),
            ),
            (
                "connection: upgrade\r\nupgrade: h2c\r\n",
                (Framing::None, false),
            ),
            ("Transfer-Encoding: Chunked\r\n", (Framing::Chunked, false)),
            (
                "content-length: 18446744073709551615\r\n",
                (Framing::Length(u64::MAX), false),
            ),
        ] {
            let fields = format!("host: x\r\n{fields}");
            assert_eq!(parse_framing("1.1", &fields), Some(expected), "{fields:?}");
        }
        for (fields, close) in [
            ("", true),
            ("host: x\r\n", true),
            ("connection: keep-alive\r\n", false),
            ("connection: keep-alive, close\r\n", true),
        ] {
            assert_eq!(
                parse_framing("1.0", fields),
                Some((Framing::None, close)),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn what_can_be_understood_in_two_ways_is_refused() {
        for fields in [
            "transfer-encoding: gzip\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: identity\r\ncontent-length: 3\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
            "content-length: 3\r\ncontent-length: 3\r\n",
            "content-length: 3\r\ncontent-length: 4\r\n",
            "content-length: 3, 3\r\n",
            "content-length: +3\r\n",
            "content-length: -3\r\n",
            "content-length: 0x3\r\n",
            "content-length:\r\n",
            "content-length: 18446744073709551616\r\n",
            "host: x\r\n",
        ] {
            let fields = format!("host: x\r\n{fields}");
            assert_eq!(parse_framing("1.1", &fields), None, "{fields:?}");
        }
        assert_eq!(parse_framing("1.1", ""), None, "without Host");
        assert_eq!(parse_framing("1.0", "transfer-encoding: chunked\r\n"), None);
        assert_eq!(parse_framing("1.0", "host: x\r\nhost: y\r\n"), None);
    }

    #[test]
    fn more_fields_than_there_is_room_for_and_half_a_head_are_told_apart() {
        let many = |fields: usize| {
            format!(
                "GET / HTTP/1.1\r\nhost: x\r\n{}\r\n",
                "a: b\r\n".repeat(fields)
            )
        };
        for (fields, fast, large) in [(31, true, true), (32, false, true), (100, false, false)] {
            let text = many(fields);
            let (mut small_room, mut large_room) = (empty_fields(), large_room());
            let small = parse_head(text.as_bytes(), &mut small_room);
            assert_eq!(matches!(small, Parsed::Head(_)), fast, "{fields}");
            let big = parse_head(text.as_bytes(), &mut large_room);
            assert_eq!(matches!(big, Parsed::Head(_)), large, "{fields}");
            assert!(large || matches!(big, Parsed::TooMany), "{fields}");
        }
        let half = parse_head(b"GET / HTTP/1.1\r\na", &mut empty_fields()).is_partial();
        assert!(half);
        for none in ["\u{16}\u{3}\u{1}", "GET / HTTP/2.0\r\n\r\n"] {
            assert!(matches!(
                parse_head(none.as_bytes(), &mut empty_fields()),
                Parsed::Unreadable
            ));
        }
    }

    impl Parsed<'_, '_> {
        const fn is_partial(&self) -> bool {
            matches!(self, Self::Partial)
        }
    }
}
