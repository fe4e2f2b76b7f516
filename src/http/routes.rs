//! The routes: which path, which method, which scope; what they read and what they hand on.
//!
//! Each changing route goes the same way: method, token, parameters, type, length, form, room, and only then the work.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    handler::Handler,
    routing::{MethodRouter, get, post},
};
use http::Response;

use super::{
    Api, Backend, answer,
    body::Whole,
    failure::Failure,
    json::{self, BATCH_MAX, USERS_MAX},
    query,
};
use crate::{config::Scope, telemetry::Via};

/// The paths of a balance read.
pub const BALANCE: [&str; 2] = ["/api/user/balance", "/api/v1/user/balance"];

type Told = Result<Response<Body>, Failure>;
type Shared<B> = Arc<Api<B>>;

/// All routes of the API.
pub fn router<B: Backend>(api: Shared<B>) -> Router {
    let mut router = Router::new();
    for path in BALANCE {
        let balance = get(balance::<B>).fallback(async || Failure::Method { allow: "GET, HEAD" });
        router = router.route(path, balance);
    }
    router
        .route("/api/v1/user/balances", posted(batch::<B>))
        .route("/api/v1/settlements", posted(settle::<B>))
        .route("/api/v1/ledger/entries", posted(write_entries::<B>))
        .route("/api/v1/cache/invalidate", posted(invalidate::<B>))
        .route("/api/v1/cache/warm", posted(warm::<B>))
        .fallback(async || Failure::NoRoute)
        .with_state(api)
}

fn posted<B: Backend, H, T>(handler: H) -> MethodRouter<Shared<B>>
where
    H: Handler<T, Shared<B>>,
    T: 'static,
{
    post(handler).fallback(async || Failure::Method { allow: "POST" })
}

async fn balance<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    api.auth.check(request.headers(), Scope::Read)?;
    let (question, ask) = api.question(&request)?;
    let user = question.user;
    let answer = api
        .timed(|deadline| api.backend.read(user, ask, deadline))
        .await??;
    Ok(api
        .balances(&question, request.headers(), &answer)
        .map(Body::new))
}

async fn batch<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    let body = whole(&api, request, Scope::Read).await?;
    let users = json::users::<BATCH_MAX>(&body).map_err(Failure::malformed)?;
    if users.is_empty() {
        return Ok(answer::batch(&[], &[]));
    }
    let _room = api.elements.users(users.len())?;
    let answers = api
        .timed(|deadline| api.backend.read_many(users.clone(), deadline))
        .await??;
    if answers.len() != users.len() {
        return Err(Failure::Bug(
            "a batch read answered for another number of users",
        ));
    }
    Ok(answer::batch(&users, &answers))
}

async fn settle<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    let body = whole(&api, request, Scope::Settle).await?;
    let notifications = json::notifications(&body)
        .inspect_err(|_| api.backend.malformed(Via::Http))
        .map_err(Failure::malformed)?;
    let _room = api.elements.changes(notifications.len())?;
    let done = if notifications.is_empty() {
        crate::apply::Applied::default()
    } else {
        api.timed(|deadline| api.backend.settle(notifications, deadline))
            .await??
    };
    Ok(answer::ok(&format!(
        r#"{{"applied":{},"old":{}}}"#,
        done.applied, done.old
    )))
}

async fn write_entries<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    let body = whole(&api, request, Scope::Settle).await?;
    let entries = json::entries(&body)
        .inspect_err(|_| api.backend.malformed(Via::Ledger))
        .map_err(Failure::malformed)?;
    let _room = api.elements.changes(entries.len())?;
    let done = if entries.is_empty() {
        crate::source::Written::default()
    } else {
        api.timed(|deadline| api.backend.write_entries(entries, deadline))
            .await??
    };
    Ok(answer::ok(&format!(
        r#"{{"written":{},"repeated":{}}}"#,
        done.written, done.repeated
    )))
}

async fn invalidate<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    let body = whole(&api, request, Scope::Admin).await?;
    let (users, floors) = json::invalidation(&body).map_err(Failure::malformed)?;
    let _room = api.elements.changes(users.len())?;
    let done = if users.is_empty() {
        0
    } else {
        api.timed(|deadline| api.backend.invalidate(users, floors, deadline))
            .await??
    };
    Ok(answer::ok(&format!(r#"{{"users":{done}}}"#)))
}

async fn warm<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    let body = whole(&api, request, Scope::Admin).await?;
    let users = json::users::<USERS_MAX>(&body).map_err(Failure::malformed)?;
    let _room = api.elements.users(users.len())?;
    let done = if users.is_empty() {
        crate::apply::Warmed::default()
    } else {
        api.timed(|deadline| api.backend.warm(users, deadline))
            .await?
    };
    Ok(answer::ok(&format!(
        r#"{{"users":{},"loaded":{},"failed":{}}}"#,
        done.users, done.loaded, done.failed
    )))
}

/// What a POST brought, once its sender may send it.
async fn whole<B: Backend>(api: &Api<B>, request: Request, scope: Scope) -> Result<Whole, Failure> {
    api.auth.check(request.headers(), scope)?;
    query::none(request.uri().query()).map_err(Failure::malformed)?;
    let (head, body) = request.into_parts();
    api.bodies.read(&head.headers, body).await
}
