//! The operators' listener: whether the process lives, whether it can answer, its metrics, and a page that shows them.
//!
//! **Invariants.** Live means that the process turns; ready means that it can answer. Nothing here waits for another
//! system: what it shows was found out elsewhere.
//!
//! **Deliberately absent**: tokens (keep the address private), and the envelope of the API.

pub mod dashboard;
mod health;
pub mod openapi;
mod runbook;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use futures::future::BoxFuture;
use http::{
    HeaderValue, Request, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Either;
use tokio::time::Instant;
use tower::ServiceExt;

pub use self::health::ReadinessReasons;
use crate::{
    domain::UserId,
    http::{
        Body, HostError, Hosts, NOSNIFF, REQUEST_ID, RequestIds, cross_origin,
        listener::{Answers, BadRequest, BadRequestReason, FastPath},
        openapi::Document,
    },
    telemetry::{HttpStatus, Meters, Route},
};

/// The views of the operators' listener. All but a user is answered at once, without waiting.
pub trait OperatorFacts: Send + Sync + 'static {
    /// Whether the service can answer, and what is wrong.
    fn current_readiness(&self) -> ReadinessReasons;

    /// All metrics in Prometheus' text format.
    fn prometheus_text(&self) -> String;

    /// The counted thing.
    fn shared_meters(&self) -> &Meters;

    fn parts_state(&self) -> dashboard::DashboardParts;

    /// The holdings of each tier for a user; none where the settings forbid to show it.
    fn lookup_user(&self, user: UserId) -> BoxFuture<'_, Option<serde_json::Value>> {
        let _ = user;
        Box::pin(async { None })
    }
}

/// The operators' listener as [`crate::http::listener`] calls it.
#[derive(Clone)]
pub struct OpsService {
    facts: Arc<dyn OperatorFacts>,
    router: Router,
    ids: Arc<RequestIds>,
    hosts: Hosts,
}

impl std::fmt::Debug for OpsService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpsService").finish_non_exhaustive()
    }
}

impl OpsService {
    /// Over these facts; `id_prefix` is random, `hosts` are the names of this listener, `openapi` is the description for this listener.
    pub fn new(
        facts: Arc<dyn OperatorFacts>,
        id_prefix: u64,
        hosts: Hosts,
        openapi: Document,
    ) -> Self {
        let json = || HeaderValue::from_static("application/json");
        let described = async move || {
            (
                [
                    (CONTENT_TYPE, json()),
                    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
                ],
                openapi.get(),
            )
        };
        let router = Router::new()
            .route("/", get_route(get(async || to_dashboard())))
            .route("/livez", get_route(get(get_live)))
            .route("/readyz", get_route(get(get_ready)))
            .route("/metrics", get_route(get(get_metrics)))
            .route(openapi::PATH, get_route(get(described)))
            .merge(dashboard::dashboard_routes())
            .merge(runbook::runbook_routes())
            .fallback(async || json_response(StatusCode::NOT_FOUND, r#"{"status":"not_found"}"#))
            .with_state(Arc::clone(&facts));
        Self {
            facts,
            router,
            ids: Arc::new(RequestIds::new(id_prefix)),
            hosts,
        }
    }

    pub async fn answer_request(&self, request: Request<axum::body::Body>) -> http::Response<Body> {
        let (route, came) = (Route::of_path(request.uri().path()), Instant::now());
        let id = self.ids.choose_id(request.headers());
        let mut response = if cross_origin::is_refused(request.method(), request.headers()) {
            json_response(StatusCode::FORBIDDEN, r#"{"status":"cross_origin"}"#)
        } else {
            let Ok(response): Result<_, Infallible> = self.router.clone().oneshot(request).await;
            response
        };
        response
            .headers_mut()
            .insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        response.headers_mut().insert(REQUEST_ID, id);
        let status = HttpStatus::of_code(response.status().as_u16());
        let took = came.elapsed();
        self.facts.shared_meters().http_request(route, status, took);
        response.map(Either::Right)
    }
}

impl FastPath for OpsService {
    fn check_host(&self, host: &[u8]) -> Result<(), HostError> {
        self.hosts.check_host(host)
    }
}

impl Answers for OpsService {
    async fn answer_request(&self, request: Request<axum::body::Body>) -> http::Response<Body> {
        Self::answer_request(self, request).await
    }

    fn render_refusal(&self, refusal: &BadRequest) -> Vec<u8> {
        let (status, word) = match refusal.reason {
            BadRequestReason::Malformed(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            BadRequestReason::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head_too_large",
            ),
            BadRequestReason::ForeignHost => (StatusCode::FORBIDDEN, "foreign_host"),
        };
        let counted = HttpStatus::of_code(status.as_u16());
        let meters = self.facts.shared_meters();
        meters.http_request(Route::Other, counted, Duration::ZERO);
        let id = refusal.request_id.clone();
        let id = id.unwrap_or_else(|| self.ids.new_id());
        let body = format!(r#"{{"status":"{word}"}}"#);
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n\
             cache-control: no-store\r\nx-request-id: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            id.to_str().unwrap_or_default(),
            body.len()
        )
        .into_bytes()
    }
}

type SharedFacts = State<Arc<dyn OperatorFacts>>;

/// The router says which methods there are (`Allow`).
fn get_route(route: MethodRouter<Arc<dyn OperatorFacts>>) -> MethodRouter<Arc<dyn OperatorFacts>> {
    route.fallback(async || {
        let mut response = json_response(
            StatusCode::METHOD_NOT_ALLOWED,
            r#"{"status":"method_not_allowed"}"#,
        );
        response
            .headers_mut()
            .insert(http::header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    })
}

/// A browser that was given the bare address finds the page. Relative: a proxy may put a path before it.
fn to_dashboard() -> Response {
    let to = [(LOCATION, HeaderValue::from_static("dashboard"))];
    (StatusCode::TEMPORARY_REDIRECT, to).into_response()
}

async fn get_live() -> Response {
    json_response(StatusCode::OK, r#"{"status":"alive"}"#)
}

async fn get_ready(State(facts): SharedFacts) -> Response {
    let (status, body) = facts.current_readiness().render_readiness();
    json_response(status, body)
}

async fn get_metrics(State(facts): SharedFacts) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(CONTENT_TYPE, kind)], facts.prometheus_text()).into_response()
}

fn json_response(status: StatusCode, body: impl Into<axum::body::Body>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, body.into()).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::domain::UnixMillis;

    struct FakeFacts(ReadinessReasons, Arc<Meters>);

    impl OperatorFacts for FakeFacts {
        fn current_readiness(&self) -> ReadinessReasons {
            self.0.clone()
        }

        fn prometheus_text(&self) -> String {
            "balance_cache_up 1\n".to_owned()
        }

        fn shared_meters(&self) -> &Meters {
            &self.1
        }

        fn parts_state(&self) -> dashboard::DashboardParts {
            dashboard::DashboardParts {
                started: UnixMillis(1),
                now: UnixMillis(2),
                api_port: 3001,
                user_lookup: false,
                memory: dashboard::MemoryUse {
                    entries: 0,
                    bytes: 0,
                    bytes_max: 1,
                },
                parts: vec![],
            }
        }
    }

    async fn call_service(
        method: &str,
        path: &str,
        readiness: ReadinessReasons,
    ) -> (u16, String, http::HeaderMap) {
        let service = OpsService::new(
            Arc::new(FakeFacts(readiness, Meters::new())),
            7,
            Hosts::Any,
            Document::from(bytes::Bytes::from_static(b"{}")),
        );
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(axum::body::Body::empty())
            .unwrap();
        let (head, body) = service.answer_request(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            head.status.as_u16(),
            String::from_utf8(body.to_vec()).unwrap(),
            head.headers,
        )
    }

    #[tokio::test]
    async fn ready_degraded_and_not_ready_are_told_apart() {
        let words = |text: &str| vec![text.to_owned()];
        let table = [
            (vec![], vec![], 200, r#"{"status":"ready"}"#),
            (
                vec![],
                words("redis is down"),
                200,
                r#"{"status":"degraded","reasons":["redis is down"]}"#,
            ),
            (
                words("the view is \"not\" built"),
                words("redis is down"),
                503,
                r#"{"status":"not_ready","reasons":["the view is \"not\" built","redis is down"]}"#,
            ),
        ];
        for (not_ready, degraded, status, body) in table {
            let readiness = ReadinessReasons {
                not_ready,
                degraded,
            };
            let told = call_service("GET", "/readyz", readiness).await;
            assert_eq!((told.0, told.1.as_str()), (status, body));
            assert_eq!(told.2[CONTENT_TYPE], "application/json");
        }
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_lives() {
        let readiness = ReadinessReasons {
            not_ready: vec!["no database".to_owned()],
            degraded: vec![],
        };
        let told = call_service("GET", "/livez", readiness).await;
        assert_eq!((told.0, told.1.as_str()), (200, r#"{"status":"alive"}"#));
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let told = call_service("GET", "/metrics", ReadinessReasons::default()).await;
        assert_eq!((told.0, told.1.as_str()), (200, "balance_cache_up 1\n"));
        assert_eq!(told.2[CONTENT_TYPE], "text/plain; version=0.0.4");
        assert!(told.2.contains_key(REQUEST_ID));
    }

    #[tokio::test]
    async fn other_routes_and_methods_are_refused() {
        for (method, path, status) in [
            ("GET", "/", 307),
            ("POST", "/", 405),
            ("GET", "/docs/OPERATIONS.md", 200),
            ("GET", "/docs", 404),
            ("GET", "/dashboard/user?user_id=1001", 403),
            ("GET", "/dashboard/user?user_id=01", 400),
            ("GET", "/dashboard/user?user=1", 400),
            ("GET", "/dashboard/user", 400),
            ("GET", "/api/user/balance", 404),
            ("POST", "/livez", 405),
            ("GET", "/openapi.json", 200),
            ("POST", "/openapi.json", 405),
            ("HEAD", "/livez", 200),
            ("GET", "/dashboard/", 404),
            ("POST", "/dashboard/data", 405),
            ("GET", "/dashboard/data?after=x", 400),
            ("GET", "/dashboard/data?before=1", 400),
            ("GET", "/dashboard/data?after=1", 200),
        ] {
            let told = call_service(method, path, ReadinessReasons::default()).await;
            assert_eq!(told.0, status, "{method} {path}");
            assert_eq!(told.2.contains_key("allow"), status == 405);
        }
    }
}
