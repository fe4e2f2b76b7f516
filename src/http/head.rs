//! The head of a request as it stands on the wire, looked at before hyper sees it.
//!
//! **Invariants.** Nothing is decided here about a head that could be understood in two ways: such a head has
//! [`Framing::Other`], and is hyper's business from its first byte on. What is read here is read by the parser that hyper
//! reads with.
//!
//! **Limits.** [`FIELDS_MAX`] header fields; more are hyper's business too.

use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

/// Header fields of a request that is looked at here.
pub const FIELDS_MAX: usize = 32;

/// Where the fields of a head are kept while it is looked at.
pub type Room<'b> = [MaybeUninit<Header<'b>>; FIELDS_MAX];

/// An empty one.
#[must_use]
pub const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// The head of a request.
#[derive(Debug)]
pub struct Head<'h, 'b> {
    /// As it stands there.
    pub method: &'b str,
    /// Path and query, or whatever the client put in their place.
    pub target: &'b str,
    /// Names and values.
    pub fields: &'h [Header<'b>],
    /// Bytes, with the empty line.
    pub len: usize,
    /// What belongs to the request behind its head.
    pub framing: Framing,
}

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The next request, or nothing: HTTP/1.1, kept open, without a body.
    None,
    /// The same, with a body of so many bytes.
    Body(u64),
    /// The same as [`Framing::None`], and the client wants the connection closed.
    Last,
    /// Something else: chunks, another version, another protocol, a length that is none.
    Other,
}

/// What the first bytes of an input are.
#[derive(Debug)]
pub enum Parsed<'h, 'b> {
    /// The beginning of a head.
    Partial,
    /// More fields than are read here.
    TooMany,
    /// No head.
    Unreadable,
    /// A head.
    Head(Head<'h, 'b>),
}

/// Looks at the head that `input` begins with.
pub fn parse<'h, 'b>(input: &'b [u8], room: &'h mut Room<'b>) -> Parsed<'h, 'b> {
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(input, room) {
        Ok(Status::Partial) => Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => Parsed::TooMany,
        Err(_) => Parsed::Unreadable,
        Ok(Status::Complete(len)) => match (request.method, request.path) {
            (Some(method), Some(target)) => Parsed::Head(Head {
                method,
                target,
                framing: if request.version == Some(1) {
                    framing(request.headers)
                } else {
                    Framing::Other
                },
                fields: request.headers,
                len,
            }),
            _ => Parsed::Unreadable,
        },
    }
}

fn framing(fields: &[Header<'_>]) -> Framing {
    let (mut body, mut last) = (None, false);
    for field in fields {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            6 if is("expect") => return Framing::Other,
            7 if is("upgrade") => return Framing::Other,
            10 if is("connection") => {
                if field.value.eq_ignore_ascii_case(b"close") {
                    last = true;
                } else if !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return Framing::Other;
                }
            }
            14 if is("content-length") => match (body, length(field.value)) {
                (None, Some(bytes)) => body = Some(bytes),
                _ => return Framing::Other,
            },
            17 if is("transfer-encoding") => return Framing::Other,
            _ => {}
        }
    }
    match (body, last) {
        (None | Some(0), false) => Framing::None,
        (None, true) => Framing::Last,
        (Some(bytes), false) => Framing::Body(bytes),
        (Some(_), true) => Framing::Other,
    }
}

/// Digits and nothing else.
fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing_of(fields: &str) -> Option<Framing> {
        let text = format!("GET /x HTTP/1.1\r\n{fields}\r\n");
        match parse(text.as_bytes(), &mut room()) {
            Parsed::Head(head) => {
                assert_eq!(
                    (head.method, head.target, head.len),
                    ("GET", "/x", text.len())
                );
                Some(head.framing)
            }
            Parsed::Partial | Parsed::TooMany | Parsed::Unreadable => None,
        }
    }

    #[test]
    fn what_can_be_understood_in_two_ways_is_left_to_hyper() {
        for (fields, framing) in [
            ("", Framing::None),
            ("Host: x\r\nConnection: Keep-Alive\r\n", Framing::None),
            ("content-length: 0\r\n", Framing::None),
            ("Content-Length: 17\r\n", Framing::Body(17)),
            ("connection: CLOSE\r\n", Framing::Last),
            ("connection: close\r\ncontent-length: 1\r\n", Framing::Other),
            ("connection: close, x\r\n", Framing::Other),
            ("connection: upgrade\r\n", Framing::Other),
            ("upgrade: h2c\r\n", Framing::Other),
            ("expect: 100-continue\r\n", Framing::Other),
            ("Transfer-Encoding: chunked\r\n", Framing::Other),
            (
                "transfer-encoding: identity\r\ncontent-length: 3\r\n",
                Framing::Other,
            ),
            ("content-length: 3\r\ncontent-length: 3\r\n", Framing::Other),
            ("content-length: 3, 3\r\n", Framing::Other),
            ("content-length: +3\r\n", Framing::Other),
            ("content-length: -3\r\n", Framing::Other),
            ("content-length: 0x3\r\n", Framing::Other),
            ("content-length:\r\n", Framing::Other),
            ("content-length: 18446744073709551616\r\n", Framing::Other),
        ] {
            assert_eq!(framing_of(fields), Some(framing), "{fields:?}");
        }
    }

    #[test]
    fn other_versions_and_too_many_fields_are_not_read_here() {
        let old = parse(b"GET / HTTP/1.0\r\n\r\n", &mut room()).is_other();
        assert!(old);
        assert_eq!(
            framing_of(&"a: b\r\n".repeat(FIELDS_MAX)),
            Some(Framing::None)
        );
        assert_eq!(framing_of(&"a: b\r\n".repeat(FIELDS_MAX + 1)), None);
        assert!(matches!(
            parse(b"GET / HTTP/1.1\r\na", &mut room()),
            Parsed::Partial
        ));
        assert!(matches!(
            parse(b"\x16\x03\x01", &mut room()),
            Parsed::Unreadable
        ));
    }

    impl Parsed<'_, '_> {
        fn is_other(&self) -> bool {
            matches!(self, Self::Head(head) if head.framing == Framing::Other)
        }
    }
}
