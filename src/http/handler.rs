//! The common part of the route handlers: the shared state, the result, and the body of a request.

use std::sync::Arc;

use axum::{body::Body, extract::Request};
use http::Response;

use super::{Api, Backend, body::BudgetedBody, failure::Failure, query};
use crate::config::Scope;

pub(super) type HandlerResult = Result<Response<Body>, Failure>;
/// The state of a handler.
pub(super) type SharedApi<B> = Arc<Api<B>>;

/// Reads the body of a POST after its token and query were checked.
pub(super) async fn read_posted_body<B: Backend>(
    api: &Api<B>,
    request: Request,
    scope: Scope,
) -> Result<BudgetedBody, Failure> {
    api.authorize_request(request.headers(), scope)?;
    query::refuse_parameters(request.uri().query()).map_err(Failure::malformed_request)?;
    let (head, body) = request.into_parts();
    api.bodies.read_json_body(&head.headers, body).await
}
