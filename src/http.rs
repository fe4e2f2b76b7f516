//! The API on the wire: routes, answers, failures, tokens, and the listener that both APIs of this process use.
//!
//! A request comes in by [`listener`], gets its id, and goes one of two ways: a balance that memory holds is answered at
//! once, everything else takes the router. Both ways end in one function ([`answer::balances`]); a table of tests runs
//! over both.
//!
//! **Invariants.** Every answer carries `x-request-id`. A failure is never an empty balance, and no body carries an error
//! text of another layer: those are logged here, with the request's id.
//!
//! **Cancellation.** A client that hangs up drops its request's future, and with it the calls into [`Backend`].
//!
//! **Limits.** Per request: `deadline`, counted from when its body is there; [`body`], [`elements`] and [`json`] bound what it
//! brings; [`listener`] bounds connections and headers.
//!
//! **Deliberately absent**: tiers (only their words), metrics of reads (the read layer counts them), TLS.

mod answer;
pub mod auth;
mod backend;
mod body;
mod elements;
mod failure;
mod json;
pub mod listener;
mod query;
mod request_id;
mod routes;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, body::HttpBody};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{Either, Full};
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt;
use tracing::Instrument;

use self::{auth::Auth, body::Bodies, elements::Elements, query::Question};
pub use self::{
    backend::Backend,
    failure::Failure,
    request_id::{REQUEST_ID, RequestIds},
};
use crate::{
    config::Scope,
    domain::{Catalogue, UnixMillis},
    read::{Answer, Ask},
    telemetry::{Sparing, traces},
};

/// How much later than the deadline a request is cut here: whoever was told the deadline comes first to say what it was
/// that did not come in time.
const GRACE: Duration = Duration::from_millis(25);

/// What the API is told at start.
#[derive(Debug)]
pub struct Options {
    /// Who may ask.
    pub auth: Auth,
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
}

/// A body on its way out: ours, or the router's.
pub type Body = Either<Full<Bytes>, axum::body::Body>;

/// The API as the listener calls it. Clones share everything.
#[derive(Debug)]
pub struct Service<B> {
    api: Arc<Api<B>>,
    router: Router,
    memory_first: bool,
}

/// What the routes share.
#[derive(Debug)]
struct Api<B> {
    backend: B,
    auth: Auth,
    catalogue: Arc<Catalogue>,
    deadline: Duration,
    bodies: Bodies,
    elements: Elements,
    ids: RequestIds,
    wall: fn() -> UnixMillis,
    log: Sparing,
}

impl<B: Backend> Service<B> {
    /// The API over this backend.
    #[must_use]
    pub fn new(backend: B, options: Options) -> Self {
        let api = Arc::new(Api {
            backend,
            auth: options.auth,
            catalogue: options.catalogue,
            deadline: options.deadline,
            bodies: Bodies::new(options.body_bytes, options.body_wait),
            elements: Elements::new(),
            ids: RequestIds::new(options.id_prefix),
            wall: options.wall,
            log: Sparing::default(),
        });
        Self {
            router: routes::router(Arc::clone(&api)),
            api,
            memory_first: true,
        }
    }

    /// The same without the short way through memory: every request takes the router.
    #[must_use]
    pub const fn through_the_router(mut self) -> Self {
        self.memory_first = false;
        self
    }

    /// Answers one request.
    pub async fn answer<R>(&self, request: Request<R>) -> Response<Body>
    where
        R: HttpBody<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        let id = self.api.ids.of(request.headers());
        let mut response = match self.without_waiting(&request) {
            Some(response) => response.map(Either::Left),
            // Boxed: the router's future is many times the size of the short way's.
            None => Box::pin(self.routed(request, &id)).await,
        };
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    /// The short way. None where anything is unusual: the router finds out what, and says it.
    fn without_waiting<R>(&self, request: &Request<R>) -> Option<Response<Full<Bytes>>> {
        let usual = self.memory_first
            && request.method() == Method::GET
            && routes::BALANCE.contains(&request.uri().path());
        if !usual {
            return None;
        }
        let api = &self.api;
        api.auth.check(request.headers(), Scope::Read).ok()?;
        let (question, ask) = api.question(request).ok()?;
        if ask.no_cache {
            return None;
        }
        let answer = api.backend.held(question.user, &ask)?;
        Some(api.balances(&question, request.headers(), &answer))
    }

    async fn routed<R>(&self, request: Request<R>, id: &http::HeaderValue) -> Response<Body>
    where
        R: HttpBody<Data = Bytes> + Send + 'static,
        R::Error: Into<axum::BoxError>,
    {
        let request = request.map(axum::body::Body::new);
        let span = traces::request(request.method(), request.uri().path(), request.headers());
        let answer = self.router.clone().oneshot(request).instrument(span);
        let Ok(mut response): Result<_, Infallible> = answer.await;
        if let Some(failure) = response.extensions_mut().remove::<Failure>() {
            self.api.log(&failure, id);
            return failure.response(id).map(Either::Left);
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
            memory_first: self.memory_first,
        }
    }
}

impl<B: Backend> listener::Answers for Arc<Service<B>> {
    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Body> {
        Service::answer(self, request).await
    }

    fn refusal(&self) -> Vec<u8> {
        let id = self.api.ids.new_id();
        Failure::malformed("this is no HTTP/1.1 request that can be read").on_the_wire(&id)
    }
}

// === impl Api ===

impl<B: Backend> Api<B> {
    fn question<R>(&self, request: &Request<R>) -> Result<(Question, Ask), Failure> {
        let mut question =
            Question::parse(request.uri().query(), &self.catalogue).map_err(Failure::malformed)?;
        let ask = Ask {
            min_seq: std::mem::take(&mut question.min_seq),
            no_cache: answer::wants_ledger(request.headers()),
        };
        Ok((question, ask))
    }

    fn balances(
        &self,
        question: &Question,
        headers: &HeaderMap,
        answer: &Answer,
    ) -> Response<Full<Bytes>> {
        answer::balances(question, headers, answer, &self.catalogue, (self.wall)())
    }

    /// Work that is told its deadline, and cut a little after it.
    async fn timed<T, F: Future<Output = T>>(
        &self,
        work: impl FnOnce(Instant) -> F,
    ) -> Result<T, Failure> {
        let after = |wait| {
            let now = Instant::now();
            now.checked_add(wait).unwrap_or(now)
        };
        let deadline = after(self.deadline);
        let cut = after(self.deadline.saturating_add(GRACE));
        timeout_at(cut, work(deadline))
            .await
            .map_err(|_| Failure::Deadline)
    }

    /// What a client is not told. Failures that say everything to the client are not logged, only counted elsewhere.
    fn log(&self, failure: &Failure, id: &http::HeaderValue) {
        let id = id.to_str().unwrap_or_default();
        let line = || self.log.line();
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
            Failure::Bug(reason) => {
                if let Some(left_out) = line() {
                    tracing::error!(http.request_id = id, error = %reason, lines.left_out = left_out, "request met a bug");
                }
            }
            Failure::Malformed(_)
            | Failure::Unauthenticated
            | Failure::Forbidden(_)
            | Failure::NoRoute
            | Failure::Method { .. }
            | Failure::Conflict { .. }
            | Failure::TooLarge { .. }
            | Failure::NotJson
            | Failure::Shed
            | Failure::NotReached
            | Failure::Deadline => {}
        }
    }
}
