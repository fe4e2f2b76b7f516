//! A response as the bytes of HTTP/1: its head, and how its body is delimited.
//!
//! **Invariants.** The fields stand in the order in which the fast path writes them. A response whose length is known carries
//! it; only a stream is chunked.

use std::io::Write;

use http::{
    Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
    response::Parts,
};

use super::{balance_read, fast_path::CLOSE};
use crate::domain::UnixMillis;

/// The request's demands on its response.
#[derive(Debug, Clone, Copy)]
pub struct ResponseForm {
    /// The request's method was HEAD.
    pub is_head: bool,
    /// The request was one of HTTP/1.0.
    pub is_http_1_0: bool,
    /// The connection ends behind the response.
    pub close: bool,
}

impl ResponseForm {
    pub fn new(method: &Method, is_http_1_0: bool, close: bool) -> Self {
        Self {
            is_head: method == Method::HEAD,
            is_http_1_0,
            close,
        }
    }
}

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// Without a body.
    Nothing,
    /// As plain bytes: `Content-Length` or the end of the connection delimits them.
    Plain,
    Chunked,
}

/// Appends the head of a response whose body has `length` bytes, if that is known. Says how the body follows; `form.close`
/// may be set by it.
pub fn write_head(
    parts: &Parts,
    length: Option<u64>,
    form: &mut ResponseForm,
    now: UnixMillis,
    out: &mut Vec<u8>,
) -> Sending {
    let status = parts.status;
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let announced = parts.headers.contains_key(CONTENT_LENGTH);
    let chunked = !bodiless && !announced && length.is_none();
    form.close |= chunked && form.is_http_1_0;
    let version = if form.is_http_1_0 { "1.0" } else { "1.1" };
    // A Vec takes whatever is written to it.
    drop(write!(out, "HTTP/{version} {status}"));
    for (name, value) in &parts.headers {
        if name == CONNECTION || name == TRANSFER_ENCODING {
            continue;
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    if form.close {
        out.extend_from_slice(CLOSE);
    } else if form.is_http_1_0 {
        out.extend_from_slice(b"\r\nconnection: keep-alive");
    }
    match length {
        Some(bytes) if !bodiless && !announced => {
            drop(write!(out, "\r\ncontent-length: {bytes}"));
        }
        None if chunked && !form.is_http_1_0 => {
            out.extend_from_slice(b"\r\ntransfer-encoding: chunked");
        }
        Some(_) | None => {}
    }
    balance_read::write_date(now, out);
    if bodiless || form.is_head {
        Sending::Nothing
    } else if chunked && !form.is_http_1_0 {
        Sending::Chunked
    } else {
        Sending::Plain
    }
}

/// Appends a piece of a body.
pub fn write_piece(piece: &[u8], sending: Sending, out: &mut Vec<u8>) {
    match sending {
        Sending::Nothing => {}
        Sending::Plain => out.extend_from_slice(piece),
        Sending::Chunked if piece.is_empty() => {}
        Sending::Chunked => {
            drop(write!(out, "{:x}\r\n", piece.len()));
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends what stands behind a whole body.
pub fn write_end(sending: Sending, out: &mut Vec<u8>) {
    if sending == Sending::Chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Response};

    use super::*;

    fn write_sample_head(
        status: u16,
        length: Option<u64>,
        method: &Method,
        old: bool,
    ) -> (String, Sending, bool) {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(status).unwrap();
        parts.headers.insert("a", HeaderValue::from_static("b"));
        let (mut form, mut out) = (ResponseForm::new(method, old, false), Vec::new());
        let sending = write_head(&parts, length, &mut form, UnixMillis(0), &mut out);
        let text = String::from_utf8(out).unwrap();
        let date = "\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
        (
            text.strip_suffix(date).unwrap().to_owned(),
            sending,
            form.close,
        )
    }

    #[test]
    fn a_body_is_delimited_as_its_client_can_read_it() {
        let get = &Method::GET;
        for (status, length, method, old, head, sending, close) in [
            (
                200,
                Some(3),
                get,
                false,
                "content-length: 3",
                Sending::Plain,
                false,
            ),
            (
                200,
                Some(3),
                &Method::HEAD,
                false,
                "content-length: 3",
                Sending::Nothing,
                false,
            ),
            (
                200,
                None,
                get,
                false,
                "transfer-encoding: chunked",
                Sending::Chunked,
                false,
            ),
            (304, Some(0), get, false, "", Sending::Nothing, false),
            (204, None, get, false, "", Sending::Nothing, false),
            (
                200,
                Some(0),
                get,
                true,
                "connection: keep-alive\r\ncontent-length: 0",
                Sending::Plain,
                false,
            ),
            (
                200,
                None,
                get,
                true,
                "connection: close",
                Sending::Plain,
                true,
            ),
        ] {
            let (text, how, closes) = write_sample_head(status, length, method, old);
            let lines: Vec<_> = text.lines().skip(2).collect();
            assert_eq!(
                (lines.join("\r\n").as_str(), how, closes),
                (head, sending, close)
            );
            let version = if old { "HTTP/1.0 " } else { "HTTP/1.1 " };
            assert!(text.starts_with(version), "{text}");
        }
    }

    #[test]
    fn a_stream_is_chunks_and_an_empty_piece_does_not_end_it() {
        let mut out = Vec::new();
        for piece in ["hello, world and all", "", "!"] {
            write_piece(piece.as_bytes(), Sending::Chunked, &mut out);
        }
        write_end(Sending::Chunked, &mut out);
        assert_eq!(out, b"14\r\nhello, world and all\r\n1\r\n!\r\n0\r\n\r\n");
    }
}
