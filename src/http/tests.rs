//! The API over a fake backend: every row of the contract's tables.

mod auth;
mod balance;
mod bodies;
mod failures;
mod fake;
mod fast_path;
mod history_routes;
mod ledger_routes;
mod openapi;
mod origins;
mod requests;
mod slow;
mod sockets;
mod totals;
mod wire;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;

use self::fake::{FakeBackend, FakeTrouble, sample_catalogue};
use super::{
    fast_path::{FastPath, FastPathOutcome},
    *,
};
use crate::{
    apply,
    cache_status::Detail,
    config::{self, AuthMode},
    domain::UnixMillis,
    ledger, read,
};

/// Now, for every test.
const NOW: i64 = 1_765_352_450_000;
/// The deadline of a request, and of a wait for more of its body: a busy machine does not stand still for as long.
const AMPLE_TIME: Duration = Duration::from_mins(1);

/// The API, its fake, and a way to ask it.
struct TestApi {
    pub fake: Arc<FakeBackend>,
    pub service: Service<Arc<FakeBackend>>,
}

/// An answer, whole.
#[derive(Debug, PartialEq, Eq)]
struct TestResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl TestResponse {
    pub fn envelope_code(&self) -> u64 {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        if self.status >= 400 {
            assert!(body["data"].is_null());
            assert_ne!(body["msg"], "");
            assert_eq!(self.headers["cache-control"], "no-store");
            assert_eq!(body.as_object().unwrap().len(), 3);
        }
        body["status"].as_u64().unwrap()
    }

    /// Asserts both codes of a failure; `of` says whose it is.
    #[track_caller]
    pub fn assert_failure(&self, status: u16, code: u64, of: impl std::fmt::Debug) {
        let codes = (self.status, self.envelope_code());
        assert_eq!(codes, (status, code), "{of:?}: {}", self.body);
    }

    pub fn header_value(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

fn auth_settings(mode: AuthMode, tokens: Vec<config::TokenSettings>) -> config::AuthSettings {
    config::AuthSettings { mode, tokens }
}

impl TestApi {
    pub fn new() -> Self {
        Self::with_auth(&auth_settings(AuthMode::None, vec![]), 8_388_608)
    }

    pub fn with_auth(auth: &config::AuthSettings, body_bytes: usize) -> Self {
        let fake = Arc::new(FakeBackend::new());
        Self {
            service: Self::build_service(&fake, auth, body_bytes, AMPLE_TIME, Hosts::Any),
            fake,
        }
    }

    /// Waits for more of a body for this time only.
    pub fn with_body_wait(body_wait: Duration) -> Self {
        let fake = Arc::new(FakeBackend::new());
        let auth = auth_settings(AuthMode::None, vec![]);
        Self {
            service: Self::build_service(&fake, &auth, 8_388_608, body_wait, Hosts::Any),
            fake,
        }
    }

    fn build_service(
        fake: &Arc<FakeBackend>,
        auth: &config::AuthSettings,
        body_bytes: usize,
        body_wait: Duration,
        hosts: Hosts,
    ) -> Service<Arc<FakeBackend>> {
        let options = Options {
            auth: Authorization::new(auth).unwrap(),
            hosts,
            catalogue: sample_catalogue(),
            deadline: AMPLE_TIME,
            body_bytes,
            body_wait,
            id_prefix: 0xabc,
            wall: || UnixMillis(NOW),
            openapi: super::openapi::Document::from(Bytes::from_static(b"{}")),
        };
        Service::new(Arc::clone(fake), options)
    }

    /// Accepts these names only.
    pub fn set_hosts(&mut self, hosts: Hosts) {
        self.service = Self::build_service(
            &self.fake,
            &auth_settings(AuthMode::None, vec![]),
            8_388_608,
            AMPLE_TIME,
            hosts,
        );
    }

    /// The same API, without the short way.
    pub fn without_fast_path(&self) -> Self {
        Self {
            fake: Arc::clone(&self.fake),
            service: self.service.clone().through_the_router(),
        }
    }

    pub fn with_trouble(trouble: FakeTrouble) -> Self {
        let asked = Self::new();
        *asked.fake.trouble.lock() = Some(trouble);
        asked
    }

    /// By the short way where it answers, else by the router: as a connection does it.
    pub async fn call_service(&self, request: Request<Full<Bytes>>) -> TestResponse {
        if let Some(told) = self.call_fast_path(&request).await {
            return told;
        }
        let (head, body) = self.service.answer_request(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        TestResponse {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// The short way's answer, if it has one, read again from its bytes.
    pub async fn call_fast_path(&self, request: &Request<Full<Bytes>>) -> Option<TestResponse> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: x\r\n",
            request.method(),
            request.uri()
        )
        .into_bytes();
        for (name, value) in request.headers() {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
        let mut room = request_head::empty_fields();
        let request_head::Parsed::Head(head) = request_head::parse_head(&text, &mut room) else {
            return None;
        };
        let mut out = b"before".to_vec();
        let service = Arc::new(self.service.clone());
        if head.framing != request_head::Framing::None || head.close {
            return None;
        }
        match service.try_answer(&head, Instant::now(), false, &mut out) {
            FastPathOutcome::Written => {}
            FastPathOutcome::Pending(later) => {
                assert_eq!(out, b"before", "something was said");
                out.extend_from_slice(&later.await.bytes);
            }
            FastPathOutcome::Unhandled => {
                assert_eq!(out, b"before", "something was said");
                return None;
            }
        }
        let out = out.strip_prefix(b"before").unwrap();
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut fields);
        let len = response.parse(out).unwrap().unwrap();
        let mut headers = HeaderMap::new();
        for field in response.headers.iter() {
            let name = http::HeaderName::from_bytes(field.name.as_bytes()).unwrap();
            let before = headers.insert(name, field.value.try_into().unwrap());
            assert!(before.is_none(), "{} comes twice", field.name);
        }
        assert!(headers.remove("date").is_some());
        Some(TestResponse {
            status: response.code.unwrap(),
            headers,
            body: String::from_utf8(out[len..].to_vec()).unwrap(),
        })
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> TestResponse {
        let request = build_request(method, path, headers, body);
        self.call_service(request).await
    }

    pub async fn get(&self, path: &str) -> TestResponse {
        self.send("GET", path, &[], "").await
    }

    pub async fn post_json(&self, path: &str, body: &str) -> TestResponse {
        let json = [("content-type", "application/json")];
        self.send("POST", path, &json, body).await
    }
}

fn build_request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

fn source_down(words: &str) -> read::ReadError {
    read::ReadError::Source(ledger::LedgerError::unavailable(words))
}
