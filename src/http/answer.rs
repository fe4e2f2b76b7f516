//! Answers: the envelope, and the headers of a balance read.
//!
//! **Invariants.** One function makes the answer to a balance read, whichever way the request came. Balances are shown as
//! they were rendered when they were filled; nothing is serialised twice.

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use http_body_util::Full;

use super::{prepared::Prepared, query::Question};
use crate::{
    domain::{Catalogue, UnixMillis, UserId},
    read::Answer,
};

/// The type of every body here.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const CACHE_STATUS: http::HeaderName = http::HeaderName::from_static("cache-status");

/// The answer to a balance read: 200, or 304 if the client has these balances already.
pub fn balances(
    question: &Question,
    headers: &HeaderMap,
    answer: &Answer,
    catalogue: &Catalogue,
    prepared: &Prepared,
    now: UnixMillis,
) -> Response<Full<Bytes>> {
    let only = question
        .asset
        .map(|asset| answer.held.only(catalogue, asset));
    let held = only.as_ref().unwrap_or(&answer.held);
    let etag = held.etag();
    let known = client_has(headers, &etag);
    let mut response = Response::new(if known {
        Full::default()
    } else {
        Full::new(held.body())
    });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let out = response.headers_mut();
    out.reserve(8);
    if !known {
        out.insert(CONTENT_TYPE, JSON);
    }
    out.insert(ETAG, etag);
    out.insert(CACHE_CONTROL, PRIVATE);
    out.insert(AGE, prepared.age(held.said_at().seconds_until(now)));
    if let Some(status) = prepared.status(&answer.trail) {
        out.insert(CACHE_STATUS, status);
    }
    response
}

/// `If-None-Match`: a list of tags, weak or strong, or `*`. Ours have neither commas nor spaces in them.
fn client_has(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes()
        })
    })
}

/// Whether the client asks for the ledger: `no-cache` among its `Cache-Control`.
pub fn wants_ledger(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
    })
}

/// The answer to a batch read.
pub fn batch(users: &[UserId], answers: &[Answer]) -> Response<Body> {
    let size = answers.iter().fold(64_usize, |size, answer| {
        size.saturating_add(answer.held.body_len())
            .saturating_add(64)
    });
    let mut data = Vec::with_capacity(size);
    data.extend_from_slice(br#"{"status":0,"msg":"ok","data":["#);
    for (at, (user, answer)) in users.iter().zip(answers).enumerate() {
        if at > 0 {
            data.push(b',');
        }
        data.extend_from_slice(format!(r#"{{"user_id":{user},"balances":"#).as_bytes());
        data.extend_from_slice(&answer.held.balances());
        if let Some(detail) = answer.trail.detail {
            data.extend_from_slice(format!(r#","detail":"{}""#, detail.word()).as_bytes());
        }
        data.push(b'}');
    }
    data.extend_from_slice(b"]}");
    json(data)
}

/// Success, with `data` that is JSON already.
pub fn ok(data: &str) -> Response<Body> {
    json(format!(r#"{{"status":0,"msg":"ok","data":{data}}}"#).into_bytes())
}

fn json(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
