//! The fast path of balance reads: from the bytes of the request to the bytes of the response. Hits in memory are answered
//! without waiting.
//!
//! **Invariants.** An answer made here is, byte for byte but for date and request id, what the router would have answered. The
//! router answers every other request: a wrong parameter, a bad token, a header field that comes twice, a read of the ledger.

use std::{
    cell::RefCell,
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use httparse::Header;
use tokio::time::Instant;

use super::{
    Api, Backend, HostError, Service,
    answer::{self, BalanceResponse},
    failure::Failure,
    fast_path::{self, CLOSE, FastPath, FastPathOutcome, FastPathResponse, PendingResponse},
    query::Question,
    request_head::RequestHead,
    request_id, routes,
};
use crate::{
    config::Scope,
    domain::UnixMillis,
    read::{PassedOn, ReadAnswer, ReadOptions},
    telemetry::{HttpStatus, Route, traces},
};

/// The header fields that a balance read uses.
#[derive(Debug, Default)]
struct BalanceFields<'b> {
    request_id: Option<&'b [u8]>,
    authorization: Option<&'b [u8]>,
    if_none_match: Option<&'b [u8]>,
    cache_control: Option<&'b [u8]>,
}

impl<'b> BalanceFields<'b> {
    /// None if one of them comes twice.
    fn from_headers(all: &[Header<'b>]) -> Option<Self> {
        let mut fields = Self::default();
        for field in all {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let place = match field.name.len() {
                12 if is("x-request-id") => &mut fields.request_id,
                13 if is("if-none-match") => &mut fields.if_none_match,
                13 if is("authorization") => &mut fields.authorization,
                13 if is("cache-control") => &mut fields.cache_control,
                _ => continue,
            };
            if place.replace(field.value).is_some() {
                return None;
            }
        }
        Some(fields)
    }
}

/// Whether the query has only characters that need no further decoding. The router parses all others.
fn is_plain(query: &str) -> bool {
    query.bytes().all(|byte| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'=' | b'&' | b'_' | b':' | b',' | b'.' | b'-' | b'%' | b'+'
            )
    })
}

/// A parsed balance read, with the header fields that its response needs.
struct ParsedRead<'b> {
    question: Question,
    ask: ReadOptions,
    request_id: Option<&'b [u8]>,
    if_none_match: Option<&'b [u8]>,
}

/// A balance read that waits for the slower tiers.
struct WaitingRead {
    question: Question,
    /// The client's own.
    request_id: Option<HeaderValue>,
    if_none_match: Option<Vec<u8>>,
    came: Instant,
    last: bool,
}

impl<B: Backend> FastPath for Arc<Service<B>> {
    /// Appends the answer of memory to a request that came at `now`; or returns the one of the other tiers, later. With `last` the
    /// answer tells the client that the connection closes behind it.
    fn try_answer(
        &self,
        head: &RequestHead<'_, '_>,
        now: Instant,
        last: bool,
        out: &mut Vec<u8>,
    ) -> FastPathOutcome {
        if !self.short {
            return FastPathOutcome::Unhandled;
        }
        let api = &self.api;
        let Some(usual) = api.parse_plain_read(head) else {
            return FastPathOutcome::Unhandled;
        };
        let shown = api
            .backend
            .read_memory(usual.question.user, &usual.ask, now, |answer| {
                let today = (api.wall)();
                let known = usual.if_none_match.into_iter();
                let shown =
                    BalanceResponse::new(&usual.question, known, answer, &api.catalogue, today);
                if shown.known {
                    api.backend.unchanged_hit();
                }
                match usual.request_id {
                    Some(id) => shown.write_response(id, last, today, out),
                    None => shown.write_response(&api.ids.next_id_bytes(), last, today, out),
                };
            });
        match shown {
            Ok(()) => FastPathOutcome::Written,
            // Following the caller's trace is the router's business.
            Err(_) if traces::FOLLOWED => FastPathOutcome::Unhandled,
            Err(said) => {
                let passed_on = PassedOn { said, came: now };
                FastPathOutcome::Pending(Arc::clone(api).read_slower_tiers(usual, passed_on, last))
            }
        }
    }

    fn check_host(&self, host: &[u8]) -> Result<(), HostError> {
        self.api.hosts.check_host(host)
    }
}

impl<B: Backend> Api<B> {
    fn parse_plain_read<'b>(&self, head: &RequestHead<'_, 'b>) -> Option<ParsedRead<'b>> {
        let mut of_route = routes::BALANCE.iter();
        let query = of_route.find_map(|path| head.target.strip_prefix(path)?.strip_prefix('?'))?;
        if head.method != "GET" {
            return None;
        }
        let fields = BalanceFields::from_headers(head.fields)?;
        self.auth
            .check_token(fields.authorization.into_iter(), Scope::Read)
            .ok()?;
        if answer::wants_ledger(fields.cache_control.into_iter()) {
            return None;
        }
        let mut question = Question::of_user(query).or_else(|| {
            let plain = is_plain(query).then_some(query);
            Question::parse_query(Some(plain?), &self.catalogue).ok()
        })?;
        Some(ParsedRead {
            ask: ReadOptions {
                min_seq: std::mem::take(&mut question.min_seq),
                ..ReadOptions::default()
            },
            question,
            request_id: fields.request_id.filter(|id| request_id::is_fit(id)),
            if_none_match: fields.if_none_match,
        })
    }

    /// Starts the read of the tiers behind memory.
    fn read_slower_tiers(
        self: Arc<Self>,
        usual: ParsedRead<'_>,
        passed_on: PassedOn,
        last: bool,
    ) -> PendingResponse {
        let own = usual.request_id.map(HeaderValue::from_bytes);
        let waiting = WaitingRead {
            question: usual.question,
            request_id: own.and_then(Result::ok),
            if_none_match: usual.if_none_match.map(<[u8]>::to_vec),
            came: passed_on.came,
            last,
        };
        let ask = ReadOptions {
            passed_on: Some(passed_on),
            ..usual.ask
        };
        Box::pin(async move {
            let user = waiting.question.user;
            let deadline = self.request_deadline(passed_on.came);
            let answer = self.backend.read_balances(user, ask, deadline).await;
            self.write_pending_response(&waiting, answer.map_err(Failure::from))
        })
    }

    fn write_pending_response(
        &self,
        waiting: &WaitingRead,
        answer: Result<ReadAnswer, Failure>,
    ) -> FastPathResponse {
        let (now, last, mut out) = (
            (self.wall)(),
            waiting.last,
            fast_path::take_response_buffer(),
        );
        let (fields_end, status) = match answer {
            Ok(answer) => {
                let known = waiting.if_none_match.iter().map(Vec::as_slice);
                let shown = BalanceResponse::new(
                    &waiting.question,
                    known,
                    answer.borrowed_view(),
                    &self.catalogue,
                    now,
                );
                let status = if shown.known {
                    HttpStatus::NotModified
                } else {
                    HttpStatus::Ok
                };
                let fields_end = match &waiting.request_id {
                    Some(id) => shown.write_response(id.as_bytes(), last, now, &mut out),
                    None => shown.write_response(&self.ids.next_id_bytes(), last, now, &mut out),
                };
                (fields_end, status)
            }
            Err(failure) => {
                let own = waiting.request_id.clone();
                let id = own.unwrap_or_else(|| self.ids.new_id());
                self.log_failure(&failure, &id);
                let status = HttpStatus::of_code(failure.client_message("").0.as_u16());
                (failure.write_response(&id, last, now, &mut out), status)
            }
        };
        let took = waiting.came.elapsed();
        self.backend.record_response(Route::Balance, status, took);
        FastPathResponse {
            bytes: out,
            fields_end,
        }
    }
}

impl BalanceResponse<'_> {
    /// The whole answer as bytes, its fields in the order in which router and hyper write them. Says where the id ends.
    fn write_response(&self, id: &[u8], last: bool, now: UnixMillis, out: &mut Vec<u8>) -> usize {
        out.extend_from_slice(if self.known {
            b"HTTP/1.1 304 Not Modified\r\nx-content-type-options: nosniff\r\netag: "
        } else {
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\netag: "
        });
        out.extend_from_slice(self.held.entity_tag());
        out.extend_from_slice(b"\r\ncache-control: private, no-cache\r\nage: ");
        write_number(self.age, out);
        out.extend_from_slice(b"\r\ncache-status: ");
        match self.cache_status.plain_hit() {
            Some(ttl) => {
                out.extend_from_slice(b"memory; hit; ttl=");
                write_number(ttl, out);
            }
            None => self
                .cache_status
                .write_pieces(|piece| out.extend_from_slice(piece.as_bytes())),
        }
        let body = (!self.known).then(|| self.held.body_bytes());
        if let Some(body) = body {
            write_length(body, out);
        }
        let id_end = write_id(id, last, out);
        write_date(now, out);
        if let Some(body) = body {
            out.extend_from_slice(body);
        }
        id_end
    }
}

impl Failure {
    /// Writes a failure in the same form.
    fn write_response(
        &self,
        id: &HeaderValue,
        last: bool,
        now: UnixMillis,
        out: &mut Vec<u8>,
    ) -> usize {
        let (head, body) = self.with_text(id).into_parts();
        // A Vec takes whatever is written to it.
        drop(write!(out, "HTTP/1.1 {}", head.status));
        for (name, value) in &head.headers {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
        }
        let id_end = write_id(id.as_bytes(), last, out);
        write_length(body.as_bytes(), out);
        write_date(now, out);
        out.extend_from_slice(body.as_bytes());
        id_end
    }
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_length(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\ncontent-length: ");
    write_number(u64::try_from(body.len()).unwrap_or(u64::MAX), out);
}

fn write_id(id: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(b"\r\nx-request-id: ");
    out.extend_from_slice(id);
    let end = out.len();
    if last {
        out.extend_from_slice(CLOSE);
    }
    end
}

/// The second that was spelled last on this thread.
struct SpelledSecond {
    second: i64,
    text: String,
}

thread_local! {
    static DATE: RefCell<SpelledSecond> = const { RefCell::new(SpelledSecond { second: i64::MIN, text: String::new() }) };
}

/// Appends the date, and the end of a head.
pub(super) fn write_date(now: UnixMillis, out: &mut Vec<u8>) {
    let second = now.0.div_euclid(1000);
    DATE.with_borrow_mut(|date| {
        if date.second != second {
            date.second = second;
            date.text = http_date(second);
        }
        out.extend_from_slice(b"\r\ndate: ");
        out.extend_from_slice(date.text.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
    });
}

/// Formats a date as RFC 9110 does; seconds before 1970 become 1970.
fn http_date(second: i64) -> String {
    let since = Duration::from_secs(u64::try_from(second).unwrap_or(0));
    let at = SystemTime::UNIX_EPOCH.checked_add(since);
    httpdate::fmt_http_date(at.unwrap_or(SystemTime::UNIX_EPOCH))
}
