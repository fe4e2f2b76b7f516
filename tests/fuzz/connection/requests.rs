//! Requests, each made together with the answer that it has to get.

use std::fmt::Write as _;

use proptest::prelude::*;

/// What has to happen to a request, as far as its bytes alone decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// An answer; the connection goes on.
    Answer(u16),
    /// An answer; the connection goes on if the unread body had arrived.
    MayClose(u16),
    /// An answer that announces the end.
    Last(u16),
    /// Whatever it may be: the request was damaged.
    Unknown,
}

/// A request, and what it has to bring about.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) text: Vec<u8>,
    pub(super) verdict: Verdict,
    pub(super) is_head: bool,
    pub(super) changes: bool,
}

/// Method, target, the status of its answer, whether it reads its body, the body.
type Route = (&'static str, &'static str, u16, bool, &'static str);

const SETTLEMENTS: &str = "/api/v1/settlements";
const GOOD: &str = r#"[{"user_id":5}]"#;

const ROUTES: [Route; 9] = [
    (
        "GET",
        "/api/user/balance?user_id=1001",
        200,
        false,
        "GET / HTTP/1.1\r\n\r\n",
    ),
    ("GET", "/api/user/balance?user_id=0", 400, false, "x"),
    ("HEAD", "/api/user/balance?user_id=7", 200, false, "[]"),
    ("GET", "/nowhere", 404, false, "0\r\n\r\n"),
    ("GET", "/docs/page.js", 200, false, "\r\n"),
    ("POST", SETTLEMENTS, 200, true, GOOD),
    ("POST", SETTLEMENTS, 400, true, r#"[{"user_id":0}]"#),
    ("PUT", SETTLEMENTS, 405, false, GOOD),
    ("POST", "/nowhere", 404, false, GOOD),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    None,
    Length,
    Chunked,
    BrokenChunks,
    BadLength,
    TwoLengths,
    LengthAndChunks,
    Gzip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Good,
    Missing,
    Two,
    Bad,
}

/// How a request is dressed.
#[derive(Debug, Clone)]
struct Dress {
    old: bool,
    connection: &'static str,
    body: Body,
    host: Host,
    fields: usize,
    more: &'static str,
    chunk: usize,
    blank: usize,
}

fn dress() -> impl Strategy<Value = Dress> {
    use prop::sample::select;
    let connection = select(vec![
        "",
        "",
        "",
        "close",
        "keep-alive",
        "x",
        "Keep-Alive, x",
        "x,Close",
    ]);
    let mut bodies = vec![Body::None; 8];
    bodies.extend([Body::Length; 8]);
    bodies.extend([Body::Chunked; 8]);
    bodies.extend([
        Body::BrokenChunks,
        Body::BadLength,
        Body::TwoLengths,
        Body::LengthAndChunks,
        Body::Gzip,
    ]);
    let hosts = select(
        [
            vec![Host::Good; 40],
            vec![Host::Missing, Host::Two, Host::Bad],
        ]
        .concat(),
    );
    let more = select(vec![
        "",
        "",
        "Upgrade: h2c\r\n",
        "X-Request-Id: mine\r\n",
        "Cache-Control: no-cache\r\n",
    ]);
    (
        prop::bool::weighted(0.15),
        connection,
        select(bodies),
        hosts,
        0..40_usize,
        more,
        1..9_usize,
        0..3_usize,
    )
        .prop_map(
            |(old, connection, body, host, fields, more, chunk, blank)| Dress {
                old,
                connection,
                body,
                host,
                fields,
                more,
                chunk,
                blank,
            },
        )
}

impl Dress {
    fn closes(&self) -> bool {
        let says = |word: &str| self.connection.to_ascii_lowercase().contains(word);
        says("close") || (self.old && !says("keep-alive"))
    }

    fn is_bad(&self) -> bool {
        let host = match self.host {
            Host::Good => false,
            Host::Missing => !self.old,
            Host::Two | Host::Bad => true,
        };
        let body = match self.body {
            Body::None | Body::Length => false,
            Body::Chunked | Body::BrokenChunks => self.old,
            Body::BadLength | Body::TwoLengths | Body::LengthAndChunks | Body::Gzip => true,
        };
        host || body
    }

    fn on(&self, (method, target, status, reads, body): Route) -> Request {
        let empty = reads && self.body == Body::None;
        let status = if empty { 400 } else { status };
        let verdict = match self.body {
            _ if self.is_bad() => Verdict::Last(400),
            Body::BrokenChunks => Verdict::Last(if reads { 400 } else { status }),
            _ if self.closes() => Verdict::Last(status),
            Body::Chunked if !reads => Verdict::MayClose(status),
            _ => Verdict::Answer(status),
        };
        let broken = self.body == Body::BrokenChunks;
        Request {
            text: self.text(method, target, body).into_bytes(),
            verdict,
            is_head: method == "HEAD" && !self.is_bad(),
            changes: reads && status == 200 && !broken && !self.is_bad(),
        }
    }

    fn text(&self, method: &str, target: &str, body: &str) -> String {
        let version = if self.old { "1.0" } else { "1.1" };
        let host = match self.host {
            Host::Good => "Host: localhost\r\n",
            Host::Missing => "",
            Host::Two => "Host: localhost\r\nhost: localhost\r\n",
            Host::Bad => "Host: local/host\r\n",
        };
        let connection = match self.connection {
            "" => String::new(),
            some => format!("Connection: {some}\r\n"),
        };
        let length = format!("Content-Length: {}\r\n", body.len());
        let coding = "Transfer-Encoding: chunked\r\n";
        let (framing, body) = match self.body {
            Body::None => (String::new(), String::new()),
            Body::Length => (length, body.to_owned()),
            Body::Chunked => (coding.to_owned(), self.chunks(body) + "0\r\nx: y\r\n\r\n"),
            Body::BrokenChunks => (coding.to_owned(), self.chunks(body) + "x\r\n"),
            Body::BadLength => (length.replace(": ", ": +"), body.to_owned()),
            Body::TwoLengths => (length.repeat(2), body.to_owned()),
            Body::LengthAndChunks => (length + coding, self.chunks(body) + "0\r\n\r\n"),
            Body::Gzip => (coding.replace("chunked", "gzip"), body.to_owned()),
        };
        let (blank, fields) = ("\r\n".repeat(self.blank), "a: b\r\n".repeat(self.fields));
        let more = self.more;
        format!(
            "{blank}{method} {target} HTTP/{version}\r\n{host}{fields}{connection}{more}{framing}\r\n{body}"
        )
    }

    fn chunks(&self, body: &str) -> String {
        let pieces = body.as_bytes().chunks(self.chunk);
        pieces.fold(String::new(), |mut text, piece| {
            let data = str::from_utf8(piece).unwrap();
            write!(text, "{:x};e=1\r\n{data}\r\n", piece.len()).unwrap();
            text
        })
    }
}

fn request() -> impl Strategy<Value = Request> {
    (dress(), prop::sample::select(ROUTES.to_vec())).prop_map(|(dress, route)| dress.on(route))
}

/// A request with one byte changed, and something that is none.
fn damaged() -> impl Strategy<Value = Request> {
    let unknown = |text| Request {
        text,
        verdict: Verdict::Unknown,
        is_head: false,
        changes: false,
    };
    let changed = (request(), any::<prop::sample::Index>(), any::<u8>());
    prop_oneof![
        changed.prop_map(move |(request, at, byte)| {
            let mut text = request.text;
            let at = at.index(text.len());
            text[at] = byte;
            unknown(text)
        }),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(unknown),
    ]
}

pub(super) fn sequences() -> impl Strategy<Value = (Vec<Request>, Vec<prop::sample::Index>)> {
    let requests = (
        prop::collection::vec(request(), 1..7),
        prop::option::weighted(0.2, damaged()),
    );
    let requests = requests.prop_map(|(mut requests, damaged)| {
        requests.extend(damaged);
        requests
    });
    (
        requests,
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    )
}
