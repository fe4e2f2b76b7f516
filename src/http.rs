//! The API on the wire: routes, answers, failures, tokens, and the listener that both APIs of this process use.
//!
//! A request comes in by [`listener`]. A usual balance read is answered from bytes to bytes ([`fast_path`], `balance_read`); every
//! other request goes to the router (`connection`). Both ways give the same answer ([`answer::BalanceResponse`]); one table of tests runs over both.
//!
//! **Invariants.** Every answer carries `x-request-id`. A failure is never an empty balance, and no body carries an error text of
//! another layer: those are logged here, with the request's id.
//!
//! **Cancellation.** A client that hangs up drops its request's future, and with it the calls into [`Backend`].
//!
//! **Limits.** `deadline` per request, counted from the end of its body; [`body`], [`element_budget`], [`json`] and [`listener`] bound the rest.

mod answer;
pub mod auth;
mod backend;
mod balance_read;
mod body;
mod chunked;
mod connection;
pub mod cross_origin;
mod docs;
mod element_budget;
mod failure;
pub mod fast_path;
mod handler;
mod history;
mod hosts;
mod json;
mod ledger;
pub mod listener;
pub mod openapi;
mod query;
mod rates;
mod request_body;
pub mod request_head;
mod request_id;
mod response;
mod results;
mod routes;
mod shutdown;
mod socket;
mod timeouts;
mod totals;
mod value;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::HttpBody};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::{Either, Full};
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt;
use tracing::Instrument;

use self::{
    answer::BalanceResponse,
    auth::Authorization,
    body::Bodies,
    element_budget::ElementBudget,
    fast_path::{BadRequest, BadRequestReason},
    query::Question,
};
pub use self::{
    backend::{Backend, HeldTotals},
    failure::Failure,
    hosts::{HostError, Hosts},
    request_id::{REQUEST_ID, RequestIds},
};
use crate::{
    config::Scope,
    domain::{Catalogue, UnixMillis},
    read::{ReadAnswer, ReadOptions},
    telemetry::{HttpStatus, RateLimitedLog, Route, traces},
};

/// The time past the deadline after which a request is cut here. The called component fails first, with a more exact reason.
const GRACE: Duration = Duration::from_millis(25);

/// The value of `X-Content-Type-Options`, on every answer: no browser takes an answer for something else.
pub const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The options of the API at its start.
#[derive(Debug)]
pub struct Options {
    /// The mode of access.
    pub auth: Authorization,
    /// Names of this service in `Host`.
    pub hosts: Hosts,
    /// Names and scales of assets.
    pub catalogue: Arc<Catalogue>,
    /// `limits.deadline_ms`.
    pub deadline: Duration,
    /// `limits.body_bytes`.
    pub body_bytes: usize,
    /// `limits.header_timeout_ms`, for each wait for more of a body.
    pub body_wait: Duration,
    /// A random number that no other process has.
    pub id_prefix: u64,
    /// The wall clock, for `Age`.
    pub wall: fn() -> UnixMillis,
    /// The document of `/openapi.json`: [`openapi`], with the operators' routes.
    pub openapi: openapi::Document,
}

/// A body on its way out: ours, or the router's.
pub type Body = Either<Full<Bytes>, axum::body::Body>;

/// The API as the listener calls it. Clones share everything.
#[derive(Debug)]
pub struct Service<B> {
    api: Arc<Api<B>>,
    router: Router,
    short: bool,
}

/// The state that the routes share.
#[derive(Debug)]
struct Api<B> {
    backend: B,
    auth: Authorization,
    hosts: Hosts,
    catalogue: Arc<Catalogue>,
    deadline: Duration,
    bodies: Bodies,
    elements: ElementBudget,
    ids: RequestIds,
    wall: fn() -> UnixMillis,
    openapi: openapi::Document,
    log: RateLimitedLog,
}

impl<B: Backend> Service<B> {
    /// The API over this backend.
    pub fn new(backend: B, options: Options) -> Self {
        let api = Arc::new(Api {
            backend,
            auth: options.auth,
            hosts: options.hosts,
            catalogue: options.catalogue,
            deadline: options.deadline,
            bodies: Bodies::new(options.body_bytes, options.body_wait),
            elements: ElementBudget::new(),
            ids: RequestIds::new(options.id_prefix),
            wall: options.wall,
            openapi: options.openapi,
            log: RateLimitedLog::default(),
        });
        Self {
            router: routes::build_router(Arc::clone(&api)),
            api,
            short: true,
        }
    }

    /// Disables the fast path: the router answers every request.
    #[must_use]
    pub const fn through_the_router(mut self) -> Self {
        self.short = false;
        self
    }

    pub async fn answer_request<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: HttpBody<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        let (route, came) = (Route::of_path(request.uri().path()), Instant::now());
        let id = self.api.ids.choose_id(request.headers());
        let changes = !routes::READS_BY_POST.contains(&request.uri().path());
        let mut response =
            if changes && cross_origin::is_refused(request.method(), request.headers()) {
                Failure::CrossOrigin.to_response(&id).map(Either::Left)
            } else {
                self.route_request(request, &id).await
            };
        let headers = response.headers_mut();
        if !headers.contains_key(X_CONTENT_TYPE_OPTIONS) {
            headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        }
        response.headers_mut().insert(REQUEST_ID, id);
        let status = HttpStatus::of_code(response.status().as_u16());
        self.api
            .backend
            .record_response(route, status, came.elapsed());
        response
    }

    async fn route_request<R>(&self, request: Request<R>, id: &http::HeaderValue) -> Response<Body>
    where
        R: HttpBody<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        let request = request.map(axum::body::Body::new);
        let span = traces::request(request.method(), request.uri().path(), request.headers());
        let answer = self.router.clone().oneshot(request).instrument(span);
        let Ok(mut response): Result<_, Infallible> = answer.await;
        if let Some(failure) = response.extensions_mut().remove::<Failure>() {
            self.api.log_failure(&failure, id);
            return failure.to_response(id).map(Either::Left);
        }
        if response.status() == StatusCode::NOT_MODIFIED {
            // The router counts the bytes of the empty body; they are not those of the representation.
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        response.map(Either::Right)
    }
}

impl<B> Clone for Service<B> {
    fn clone(&self) -> Self {
        Self {
            api: Arc::clone(&self.api),
            router: self.router.clone(),
            short: self.short,
        }
    }
}

impl<B: Backend> listener::Answers for Arc<Service<B>> {
    async fn answer_request(&self, request: Request<axum::body::Body>) -> Response<Body> {
        Service::answer_request(self, request).await
    }

    fn render_refusal(&self, refusal: &BadRequest) -> Vec<u8> {
        let id = refusal.request_id.clone();
        let id = id.unwrap_or_else(|| self.api.ids.new_id());
        let failure = match refusal.reason {
            BadRequestReason::Malformed(what) => Failure::malformed_request(what),
            BadRequestReason::HeadTooLarge => Failure::HeadTooLarge,
            BadRequestReason::ForeignHost => Failure::ForeignHost,
        };
        let status = HttpStatus::of_code(failure.client_message("").0.as_u16());
        let backend = &self.api.backend;
        backend.record_response(Route::Other, status, Duration::ZERO);
        failure.on_the_wire(&id)
    }
}

// === impl Api ===

impl<B: Backend> Api<B> {
    fn parse_balance_question<R>(
        &self,
        request: &Request<R>,
    ) -> Result<(Question, ReadOptions), Failure> {
        let mut question = Question::parse_query(request.uri().query(), &self.catalogue)
            .map_err(Failure::malformed_request)?;
        let ask = ReadOptions {
            min_seq: std::mem::take(&mut question.min_seq),
            no_cache: answer::wants_ledger(answer::header_values(request.headers(), CACHE_CONTROL)),
            passed_on: None,
        };
        Ok((question, ask))
    }

    fn render_balances(
        &self,
        question: &Question,
        headers: &HeaderMap,
        answer: &ReadAnswer,
    ) -> Response<Full<Bytes>> {
        let known = answer::header_values(headers, IF_NONE_MATCH);
        let answer = answer.borrowed_view();
        BalanceResponse::new(question, known, answer, &self.catalogue, (self.wall)())
            .into_response()
    }

    fn authorize_request(&self, headers: &HeaderMap, scope: Scope) -> Result<(), Failure> {
        self.auth
            .check_token(answer::header_values(headers, AUTHORIZATION), scope)
    }

    /// The deadline of a request that came at `came`.
    fn request_deadline(&self, came: Instant) -> Instant {
        came.checked_add(self.deadline).unwrap_or(came)
    }

    /// Runs work with its deadline, and cuts it [`GRACE`] later.
    async fn run_with_deadline<T, F: Future<Output = T>>(
        &self,
        work: impl FnOnce(Instant) -> F,
    ) -> Result<T, Failure> {
        let deadline = self.request_deadline(Instant::now());
        let cut = deadline.checked_add(GRACE).unwrap_or(deadline);
        timeout_at(cut, work(deadline))
            .await
            .map_err(|_| Failure::Deadline)
    }

    /// Logs the cause of a failure that the client does not see. Other failures are only counted.
    fn log_failure(&self, failure: &Failure, id: &http::HeaderValue) {
        let id = id.to_str().unwrap_or_default();
        let line = || self.log.permit_line();
        match failure {
            Failure::Source(error) => {
                if let Some(left_out) = line() {
                    tracing::warn!(http.request_id = id, %error, lines.left_out = left_out, "source failed a request");
                }
            }
            Failure::Promise(reason) => {
                if let Some(left_out) = line() {
                    tracing::warn!(http.request_id = id, error = %reason, lines.left_out = left_out, "promise could not be given");
                }
            }
            Failure::RatesUnread(reason) => {
                if let Some(left_out) = line() {
                    tracing::warn!(http.request_id = id, error = %reason, lines.left_out = left_out, "rates could not be read");
                }
            }
            Failure::Bug(reason) => {
                if let Some(left_out) = line() {
                    tracing::error!(http.request_id = id, error = %reason, lines.left_out = left_out, "request met a bug");
                }
            }
            Failure::Malformed(_)
            | Failure::Unauthenticated
            | Failure::Forbidden(_)
            | Failure::CrossOrigin
            | Failure::ForeignHost
            | Failure::HeadTooLarge
            | Failure::NoRoute
            | Failure::Method { .. }
            | Failure::Conflict { .. }
            | Failure::Contradicts(_)
            | Failure::Refused(_)
            | Failure::SeqsElsewhere
            | Failure::ReadOnlyLedger
            | Failure::NoHistories
            | Failure::NothingThere
            | Failure::NoRate
            | Failure::TotalsOff
            | Failure::NoTotal
            | Failure::TooLarge { .. }
            | Failure::NotJson
            | Failure::Shed
            | Failure::NotReached
            | Failure::Deadline => {}
        }
    }
}
