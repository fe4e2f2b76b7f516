//! Everything that can go wrong with a request, and what the client is told: status codes live here and nowhere else.
//!
//! **Invariants.** A failure is never an empty balance. What a driver, Redis or a file said goes to the log, never into a
//! body: the variants that carry such a text do not show it. No `_` in the table: a new failure must choose its code.

use std::{borrow::Cow, sync::Arc};

use axum::response::IntoResponse;
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;
use rand::seq::IndexedRandom;

use crate::{apply, config::Scope, ledger::LedgerError, read, settle};

/// The type of every body that is JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Seconds after which a client may try again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");
/// `Retry-After` of shed requests: one of these at random, so that their clients do not all return together.
const RETRY_AFTER_SPREAD: [HeaderValue; 3] = [
    HeaderValue::from_static("1"),
    HeaderValue::from_static("2"),
    HeaderValue::from_static("3"),
];
/// Characters of a message: parsers quote what the client sent, and that can be long.
const MSG_MAX_CHARS: usize = 256;

/// Why a request was not answered as asked.
#[derive(Debug, Clone)]
pub enum Failure {
    /// The client's mistake, in words for the client.
    Malformed(Cow<'static, str>),
    /// No token, or one that we do not know.
    Unauthenticated,
    /// A token without this scope.
    Forbidden(Scope),
    /// A web page of another origin asks for a change.
    CrossOrigin,
    /// `Host` names another host.
    ForeignHost,
    /// No such route.
    NoRoute,
    /// The route takes other methods.
    Method {
        /// The methods that the route takes.
        allow: &'static str,
    },
    /// The seq of this element is taken by other amounts.
    Conflict {
        /// Counted from 0.
        index: usize,
    },
    /// A transaction contradicts what stands, in words for the client.
    Contradicts(Cow<'static, str>),
    /// A balance refuses a transaction, in words for the client.
    Refused(Cow<'static, str>),
    /// Seqs are assigned by an external writer.
    SeqsElsewhere,
    /// The ledger is somebody else's tables, which nothing is written to.
    ReadOnlyLedger,
    /// The ledger is somebody else's tables, of which balances alone are read.
    NoHistories,
    /// Nothing stands under this id.
    NothingThere,
    /// No rate in this quote is known.
    NoRate,
    /// Totals are not made here.
    TotalsOff,
    /// The first total is not made yet.
    NoTotal,
    /// The body is longer than `limits.body_bytes`.
    TooLarge {
        /// That many bytes.
        max: usize,
    },
    HeadTooLarge,
    /// The body says that it is not JSON.
    NotJson,
    /// Too much in flight.
    Shed,
    /// The source cannot answer; its words are for the log.
    Source(LedgerError),
    /// `min_seq` was not reached in time.
    NotReached,
    /// A notification cannot be given its promise now; the words are for the log.
    Promise(Arc<str>),
    /// Redis cannot be asked for rates; the words are for the log.
    RatesUnread(Arc<str>),
    /// The request's deadline, elsewhere than in the source.
    Deadline,
    /// A bug, in words for the log.
    Bug(&'static str),
}

impl Failure {
    /// The client's mistake.
    pub fn malformed_request(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(what.into())
    }

    /// The table of contract §2: HTTP status, `status` of the envelope, `msg`.
    pub fn client_message(&self, request_id: &str) -> (StatusCode, u16, Cow<'static, str>) {
        let code = self.envelope_code();
        // But for the first block, a code is the HTTP status and a digit.
        let status = match code {
            1001 => Ok(StatusCode::BAD_REQUEST),
            2001 => Ok(StatusCode::UNAUTHORIZED),
            2003 => Ok(StatusCode::FORBIDDEN),
            _ => StatusCode::from_u16(code / 10),
        };
        (
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            code,
            self.message_text(request_id),
        )
    }

    const fn envelope_code(&self) -> u16 {
        match self {
            Self::Malformed(_) => 1001,
            Self::Unauthenticated => 2001,
            Self::Forbidden(_) | Self::CrossOrigin | Self::ForeignHost => 2003,
            Self::NoRoute | Self::NoHistories | Self::TotalsOff => 4041,
            Self::NothingThere | Self::NoRate => 4042,
            Self::Method { .. } => 4051,
            Self::Conflict { .. } | Self::Contradicts(_) => 4091,
            Self::Refused(_) => 4092,
            Self::SeqsElsewhere | Self::ReadOnlyLedger => 4093,
            Self::TooLarge { .. } => 4131,
            Self::NotJson => 4151,
            Self::Shed => 4291,
            Self::HeadTooLarge => 4311,
            Self::Bug(_) => 5000,
            Self::Source(_) => 5031,
            Self::NotReached => 5032,
            Self::Promise(_) | Self::RatesUnread(_) => 5033,
            Self::NoTotal => 5034,
            Self::Deadline => 5041,
        }
    }

    fn message_text(&self, request_id: &str) -> Cow<'static, str> {
        let fixed = match self {
            Self::Malformed(text) | Self::Contradicts(text) | Self::Refused(text) => {
                return shorten_message(text);
            }
            Self::Forbidden(scope) => {
                return format!("the token lacks the scope {}", scope.as_str()).into();
            }
            Self::Method { allow } => return format!("the route takes {allow}").into(),
            Self::Conflict { index } => {
                return format!("element {index}: its seq is taken by other amounts").into();
            }
            Self::TooLarge { max } => {
                return format!("the body is longer than {max} bytes").into();
            }
            Self::Bug(_) => return format!("internal error, request id {request_id}").into(),
            Self::Unauthenticated => "a bearer token is needed, and this is none that is known",
            Self::CrossOrigin => "a page of another origin may not change anything here",
            Self::ForeignHost => {
                "Host is not a name of this service: without tokens it answers to localhost, loopback addresses and its own address"
            }
            Self::NoRoute => "no such route; GET /docs shows those there are",
            Self::SeqsElsewhere => {
                "seqs are assigned by another writer here (ledger.writer): send trades with their balances, and entries"
            }
            Self::ReadOnlyLedger => {
                "the ledger is written elsewhere (postgres.balances_sql): its writers write it, and notify what they wrote"
            }
            Self::NoHistories => {
                "this ledger shows balances only (postgres.balances_sql): it has no histories"
            }
            Self::NothingThere => "nothing stands under this id",
            Self::NoRate => "no rate in this quote is known",
            Self::TotalsOff => {
                "totals are switched off (totals.interval_ms is 0), or the ledger shows balances only (postgres.balances_sql)"
            }
            Self::NoTotal => "the first total is not made yet",
            Self::HeadTooLarge => {
                "the head of the request is longer than 16384 bytes, or has more than 100 fields"
            }
            Self::NotJson => "the body must be JSON",
            Self::Shed => "too much work in flight",
            Self::Source(_) => "the source of balances cannot answer now",
            Self::NotReached => "min_seq was not reached in time",
            Self::Promise(_) => "the change cannot be given its promise now; send it again",
            Self::RatesUnread(_) => "rates cannot be read now",
            Self::Deadline => "the request's deadline passed",
        };
        fixed.into()
    }

    pub(super) fn error_envelope(&self, request_id: &str) -> (StatusCode, String) {
        let (status, code, msg) = self.client_message(request_id);
        let msg = serde_json::Value::from(msg.as_ref());
        (
            status,
            format!(r#"{{"status":{code},"msg":{msg},"data":null}}"#),
        )
    }

    /// The whole answer as bytes, for a connection that is closed after it.
    pub fn on_the_wire(&self, request_id: &HeaderValue) -> Vec<u8> {
        let id = request_id.to_str().unwrap_or_default();
        let (status, body) = self.error_envelope(id);
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n\
             cache-control: no-store\r\nx-request-id: {id}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Builds the response, without the request id's header.
    pub fn to_response(&self, request_id: &HeaderValue) -> Response<Full<Bytes>> {
        self.with_text(request_id).map(Full::from)
    }

    /// Builds the response with its body as text.
    pub fn with_text(&self, request_id: &HeaderValue) -> Response<String> {
        let (status, body) = self.error_envelope(request_id.to_str().unwrap_or_default());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(X_CONTENT_TYPE_OPTIONS, super::NOSNIFF);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        } else if status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = RETRY_AFTER_SPREAD.choose(&mut rand::rng()).cloned();
            headers.insert(RETRY_AFTER, seconds.unwrap_or(RETRY_AFTER_SECONDS));
        }
        if let Self::Method { allow } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// On its way through the router a failure is an empty response that carries it; the service outside knows the request
/// id, writes the log and fills it in.
impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        let mut response = axum::response::Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

// === Other layers' errors, by name ===

impl From<read::ReadError> for Failure {
    fn from(error: read::ReadError) -> Self {
        match error {
            read::ReadError::Source(error) => Self::Source(error),
            read::ReadError::NotReached => Self::NotReached,
            read::ReadError::Shed => Self::Shed,
            read::ReadError::Deadline => Self::Deadline,
        }
    }
}

impl From<apply::ApplyError> for Failure {
    fn from(error: apply::ApplyError) -> Self {
        match error {
            apply::ApplyError::Unavailable(reason) => Self::Promise(reason),
            apply::ApplyError::Deadline => Self::Deadline,
        }
    }
}

impl From<apply::EntriesError> for Failure {
    fn from(error: apply::EntriesError) -> Self {
        match error {
            apply::EntriesError::Conflict { index } => Self::Conflict { index },
            apply::EntriesError::Source(error) => Self::Source(error),
            apply::EntriesError::Apply(error) => error.into(),
        }
    }
}

impl From<settle::SettleError> for Failure {
    fn from(error: settle::SettleError) -> Self {
        match error {
            settle::SettleError::Source(error) => Self::Source(error),
            settle::SettleError::Apply(error) => error.into(),
        }
    }
}

fn shorten_message(what: &str) -> Cow<'static, str> {
    if what.chars().nth(MSG_MAX_CHARS).is_none() {
        return what.to_owned().into();
    }
    let mut short: String = what.chars().take(MSG_MAX_CHARS).collect();
    short.push('…');
    short.into()
}
