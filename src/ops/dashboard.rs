//! The operators' page: what the service does now, and did in the last quarter of an hour.
//!
//! **Invariants.** All of it is in the binary and comes from this listener: no other host is asked, and the content policy
//! forbids it. The page shows users of slow reads, and amounts of one user where `ops.user_lookup` allows to look it up. Its
//! totals are those of `/metrics`.
//!
//! **Limits.** One answer holds at most 15 minutes of seconds; a page that sends `after` gets only later seconds.
//!
//! **Deliberately absent**: state of its own. What is shown is counted in `telemetry`.

mod data;

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{OperatorFacts, get_route, json_response};
use crate::domain::UserId;

pub use data::{DashboardParts, MemoryUse, PartState, ServicePart};

const HTML: &str = include_str!("dashboard/page.html");
const CSS: &str = include_str!("dashboard/page.css");
const JS: &[&str] = &[
    include_str!("dashboard/format.js"),
    include_str!("dashboard/charts.js"),
    include_str!("dashboard/shown.js"),
    include_str!("dashboard/page.js"),
];
const CHART_JS: &str = include_str!("dashboard/uplot.js");
const CHART_CSS: &str = include_str!("dashboard/uplot.css");
const CHART_LICENCE: &str = include_str!("dashboard/uplot.LICENSE");

/// Nothing but what comes from here, and no code in the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn dashboard_routes() -> Router<Arc<dyn OperatorFacts>> {
    Router::new()
        .route(
            "/dashboard",
            static_file_route("text/html; charset=utf-8", HTML),
        )
        .route(
            "/dashboard/page.css",
            static_file_route("text/css; charset=utf-8", CSS),
        )
        .route("/dashboard/page.js", get_route(get(get_script)))
        .route(
            "/dashboard/uplot.js",
            static_file_route("text/javascript; charset=utf-8", CHART_JS),
        )
        .route(
            "/dashboard/uplot.css",
            static_file_route("text/css; charset=utf-8", CHART_CSS),
        )
        .route(
            "/dashboard/uplot.LICENSE",
            static_file_route("text/plain; charset=utf-8", CHART_LICENCE),
        )
        .route("/dashboard/data", get_route(get(get_data)))
        .route("/dashboard/user", get_route(get(get_user)))
}

fn static_file_route(
    kind: &'static str,
    text: &'static str,
) -> axum::routing::MethodRouter<Arc<dyn OperatorFacts>> {
    get_route(get(async move || page_file_response(kind, text)))
}

pub(super) fn page_file_response(kind: &'static str, text: impl IntoResponse) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        // Asked again after every deployment, or a page would run with another version's script.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let mut response = text.into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value);
    }
    response
}

async fn get_script() -> Response {
    page_file_response("text/javascript; charset=utf-8", JS.concat())
}

/// `?after=N`: only seconds with a higher number.
async fn get_data(
    State(facts): State<Arc<dyn OperatorFacts>>,
    RawQuery(query): RawQuery,
) -> Response {
    let after = match query.as_deref().map(|query| query.strip_prefix("after=")) {
        None => None,
        Some(Some(number)) if let Ok(number) = number.parse() => Some(number),
        Some(_) => {
            return json_response(StatusCode::BAD_REQUEST, r#"{"status":"bad_request"}"#);
        }
    };
    match serde_json::to_string(&data::dashboard_data(&*facts, after)) {
        Ok(body) => json_response(StatusCode::OK, body),
        Err(_) => json_response(StatusCode::INTERNAL_SERVER_ERROR, r#"{"status":"failed"}"#),
    }
}

/// `?user_id=N`: what each tier holds of that user, where `ops.user_lookup` allows it.
async fn get_user(
    State(facts): State<Arc<dyn OperatorFacts>>,
    RawQuery(query): RawQuery,
) -> Response {
    let id = query
        .as_deref()
        .and_then(|query| query.strip_prefix("user_id="));
    let Some(user) = id.and_then(|id| id.parse::<UserId>().ok()) else {
        let body = r#"{"status":"bad_request","msg":"user_id is a number from 1 on"}"#;
        return json_response(StatusCode::BAD_REQUEST, body);
    };
    match facts.lookup_user(user).await {
        Some(seen) => json_response(StatusCode::OK, seen.to_string()),
        None => json_response(
            StatusCode::FORBIDDEN,
            r#"{"status":"forbidden","msg":"ops.user_lookup does not allow it"}"#,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_asset_names_another_host() {
        let ours = JS.iter().copied().chain([HTML, CSS, CHART_CSS]);
        for text in ours {
            for foreign in ["http://", "https://", "url(//", "src=\"//", "@import"] {
                // Addresses of this machine in the line that says how to try it are no requests.
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(foreign), "{foreign}");
            }
        }
        // The library names its home in its first line, and nowhere else.
        assert_eq!(CHART_JS.matches("://").count(), 1);
        assert!(CHART_JS.starts_with("/*! https://github.com/leeoniya/uPlot (v1.6.32) */"));
        assert!(CHART_LICENCE.contains("Leon Sorokin"));
    }

    #[test]
    fn the_page_keeps_to_its_own_policy() {
        for inline in [" style=", "<style", " onclick=", "javascript:"] {
            assert!(!HTML.contains(inline), "{inline}");
        }
        let scripts = HTML.matches("<script").count();
        assert_eq!(scripts, HTML.matches("<script defer src=\"").count());
    }
}
