//! Answers: the envelope, and the headers of a balance read.
//!
//! **Invariants.** [`BalanceResponse`] is the answer to a balance read, whichever way the request came. Balances are shown as
//! they were rendered when they were filled; nothing is serialised twice.

use std::borrow::Cow;

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use serde::Serialize;

use super::{
    failure::{Failure, JSON},
    query::Question,
};
use crate::{
    cache_status::CacheStatus,
    domain::{Catalogue, UnixMillis, UserId},
    read::ReadAnswer,
    render::RenderedSnapshot,
};

pub(super) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// A balance read that is answered: 200, or 304 if the client has these balances already.
#[derive(Debug)]
pub struct BalanceResponse<'a> {
    /// The body and its tag.
    pub held: RenderedSnapshot<Cow<'a, [u8]>>,
    /// The client has it.
    pub known: bool,
    /// In seconds.
    pub age: u64,
    /// How it came about.
    pub cache_status: CacheStatus,
}

impl<'a> BalanceResponse<'a> {
    /// The shown form of `answer`; `known` are the values of `If-None-Match`.
    pub fn new<'v>(
        question: &Question,
        known: impl Iterator<Item = &'v [u8]>,
        answer: ReadAnswer<&'a [u8]>,
        catalogue: &Catalogue,
        now: UnixMillis,
    ) -> Self {
        let held = match question.asset {
            None => answer.held.into_cow(),
            Some(asset) => answer.held.only_asset(catalogue, asset).into_cow(),
        };
        Self {
            known: client_has(known, held.entity_tag()),
            age: held.said_at().seconds_until(now),
            held,
            cache_status: answer.cache_status,
        }
    }

    /// Turns the rendered answer into a response.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(if self.known {
            Full::default()
        } else {
            Full::new(Bytes::copy_from_slice(self.held.body_bytes()))
        });
        if self.known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let out = response.headers_mut();
        out.reserve(8);
        if !self.known {
            out.insert(CONTENT_TYPE, JSON);
        }
        out.insert(X_CONTENT_TYPE_OPTIONS, super::NOSNIFF);
        if let Ok(tag) = HeaderValue::from_bytes(self.held.entity_tag()) {
            out.insert(ETAG, tag);
        }
        out.insert(CACHE_CONTROL, PRIVATE);
        out.insert(AGE, HeaderValue::from(self.age));
        if let Ok(cache_status) = HeaderValue::try_from(self.cache_status.to_string()) {
            out.insert(CACHE_STATUS, cache_status);
        }
        response
    }
}

/// `If-None-Match`: a list of tags, weak or strong, or `*`. Ours have neither commas nor spaces in them.
pub(super) fn client_has<'v>(mut values: impl Iterator<Item = &'v [u8]>, etag: &[u8]) -> bool {
    values.any(|value| {
        value.split(|byte| *byte == b',').any(|tag| {
            let tag = tag.trim_ascii();
            tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag
        })
    })
}

/// Whether the client asks for the ledger: `no-cache` among its `Cache-Control`.
pub fn wants_ledger<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> bool {
    values.any(|value| {
        value
            .split(|byte| *byte == b',')
            .any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
    })
}

/// Returns the values of a header field as bytes.
pub fn header_values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

pub fn batch_response(users: &[UserId], answers: &[ReadAnswer]) -> Response<Body> {
    json_response(batch_body(users, answers))
}

pub fn batch_body(users: &[UserId], answers: &[ReadAnswer]) -> Vec<u8> {
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
        data.extend_from_slice(br#"{"user_id":"#);
        data.extend_from_slice(itoa::Buffer::new().format(user.get()).as_bytes());
        data.extend_from_slice(br#","balances":"#);
        data.extend_from_slice(answer.held.balances_array());
        if let Some(detail) = answer.cache_status.detail {
            data.extend_from_slice(format!(r#","detail":"{}""#, detail.word()).as_bytes());
        }
        data.push(b'}');
    }
    data.extend_from_slice(b"]}");
    data
}

/// Builds a success response with `data` in the envelope.
pub fn done_response(data: &impl Serialize) -> Result<Response<Body>, Failure> {
    done_body(data)
        .map(json_response)
        .map_err(|_| Failure::Bug("an answer cannot be written as JSON"))
}

pub fn done_body(data: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut body = br#"{"status":0,"msg":"ok","data":"#.to_vec();
    serde_json::to_writer(&mut body, data)?;
    body.push(b'}');
    Ok(body)
}

pub fn json_response(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
