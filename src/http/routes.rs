//! The routes: which path, which method, which scope; what they read and what they hand on.
//!
//! Each changing route goes the same way: method, token, parameters, type, length, form, room, and only then the work.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    handler::Handler,
    routing::{MethodRouter, get, post},
};
use http::Response;

use super::{
    Backend, answer, docs,
    failure::Failure,
    handler::{HandlerResult, SharedApi, read_posted_body},
    history,
    json::{self, BATCH_MAX, USERS_MAX},
    ledger, rates,
    results::{Invalidated, SettledCounts, WarmedCounts, WrittenEntries},
    totals, value,
};
use crate::{config::Scope, telemetry::Via};

/// The paths of a balance read.
pub const BALANCE: [&str; 2] = ["/api/user/balance", "/api/v1/user/balance"];

/// The other paths.
pub const BATCH: &str = "/api/v1/user/balances";
/// Routes that are asked by POST and change nothing.
pub const READS_BY_POST: [&str; 1] = [BATCH];
/// Notifications.
pub const SETTLEMENTS: &str = "/api/v1/settlements";
pub const ENTRIES: &str = "/api/v1/ledger/entries";
pub const TRANSACTIONS: &str = "/api/v1/ledger/transactions";
pub const TRANSACTION: &str = "/api/v1/ledger/transactions/{id}";
pub const TRADES: &str = "/api/v1/ledger/trades";
pub const TRADE: &str = "/api/v1/ledger/trades/{id}";
/// Pages of a user's trades.
pub const USER_TRADES: &str = "/api/v1/order/trades";
/// Pages of a statement.
pub const STATEMENT: &str = "/api/v1/user/ledger";
/// Sums over all users.
pub const TOTALS: &str = "/api/v1/totals";
pub const RATES: &str = "/api/v1/rates";
/// The value of a user's balances.
pub const USER_TOTAL: &str = "/api/v1/user/total";
/// Snapshots are dropped.
pub const INVALIDATE: &str = "/api/v1/cache/invalidate";
/// Users are loaded.
pub const WARM: &str = "/api/v1/cache/warm";
/// All of this, described.
pub const OPENAPI: &str = "/openapi.json";

pub fn build_router<B: Backend>(api: SharedApi<B>) -> Router {
    let mut router = Router::new();
    for (path, route) in route_table::<B>() {
        router = router.route(path, route);
    }
    router.fallback(async || Failure::NoRoute).with_state(api)
}

/// Lists each path with its handler.
pub(super) fn route_table<B: Backend>() -> Vec<(&'static str, MethodRouter<SharedApi<B>>)> {
    let mut table = vec![
        (BATCH, post_route(post_batch::<B>)),
        (SETTLEMENTS, post_route(post_settlements::<B>)),
        (ENTRIES, post_route(write_entries::<B>)),
        (TRANSACTIONS, post_route(ledger::post_transactions::<B>)),
        (TRANSACTION, get_route(ledger::get_transaction::<B>)),
        (TRADES, post_route(ledger::post_trades::<B>)),
        (TRADE, get_route(ledger::get_trade::<B>)),
        (USER_TRADES, get_route(history::get_user_trades::<B>)),
        (STATEMENT, get_route(history::get_statement::<B>)),
        (TOTALS, get_route(totals::get_totals::<B>)),
        (RATES, post_route(rates::set_rates::<B>)),
        (USER_TOTAL, get_route(value::user_total::<B>)),
        (INVALIDATE, post_route(post_invalidate::<B>)),
        (WARM, post_route(post_warm::<B>)),
        (OPENAPI, get_route(get_openapi::<B>)),
    ];
    table.extend(BALANCE.map(|path| (path, get_route(get_balance::<B>))));
    table
        .extend(docs::FILES.map(|file| (file.path, get_route(async move || file.make_response()))));
    table
}

fn get_route<B: Backend, H, T>(handler: H) -> MethodRouter<SharedApi<B>>
where
    H: Handler<T, SharedApi<B>>,
    T: 'static,
{
    get(handler).fallback(async || Failure::Method { allow: "GET, HEAD" })
}

fn post_route<B: Backend, H, T>(handler: H) -> MethodRouter<SharedApi<B>>
where
    H: Handler<T, SharedApi<B>>,
    T: 'static,
{
    post(handler).fallback(async || Failure::Method { allow: "POST" })
}

async fn get_balance<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    api.authorize_request(request.headers(), Scope::Read)?;
    let (question, ask) = api.parse_balance_question(&request)?;
    let user = question.user;
    let answer = api
        .run_with_deadline(|deadline| api.backend.read_balances(user, ask, deadline))
        .await??;
    Ok(api
        .render_balances(&question, request.headers(), &answer)
        .map(Body::new))
}

async fn get_openapi<B: Backend>(State(api): State<SharedApi<B>>) -> Response<Body> {
    docs::with_headers("application/json", api.openapi.get())
}

async fn post_batch<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let body = read_posted_body(&api, request, Scope::Read).await?;
    let users = json::parse_users::<BATCH_MAX>(&body).map_err(Failure::malformed_request)?;
    if users.is_empty() {
        return Ok(answer::batch_response(&[], &[]));
    }
    let _room = api.elements.reserve_users(users.len())?;
    let answers = api
        .run_with_deadline(|deadline| api.backend.read_many(users.clone(), deadline))
        .await??;
    if answers.len() != users.len() {
        return Err(Failure::Bug(
            "a batch read answered for another number of users",
        ));
    }
    Ok(answer::batch_response(&users, &answers))
}

async fn post_settlements<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let body = read_posted_body(&api, request, Scope::Settle).await?;
    let notifications = json::parse_notifications(&body)
        .inspect_err(|_| api.backend.count_malformed(Via::Http))
        .map_err(Failure::malformed_request)?;
    let _room = api.elements.reserve_changes(notifications.len())?;
    let done = if notifications.is_empty() {
        crate::apply::ApplyResult::default()
    } else {
        api.run_with_deadline(|deadline| api.backend.apply_notifications(notifications, deadline))
            .await??
    };
    answer::done_response(&SettledCounts {
        applied: done.applied,
        old: done.old,
    })
}

async fn write_entries<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let body = read_posted_body(&api, request, Scope::Settle).await?;
    let entries = json::parse_entries(&body)
        .inspect_err(|_| api.backend.count_malformed(Via::Ledger))
        .map_err(Failure::malformed_request)?;
    if api.backend.shows_balances_only() {
        return Err(Failure::ReadOnlyLedger);
    }
    let _room = api.elements.reserve_changes(entries.len())?;
    let done = if entries.is_empty() {
        crate::ledger::WrittenCounts::default()
    } else {
        api.run_with_deadline(|deadline| api.backend.write_entries(entries, deadline))
            .await??
    };
    answer::done_response(&WrittenEntries {
        written: done.written,
        repeated: done.repeated,
    })
}

async fn post_invalidate<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let body = read_posted_body(&api, request, Scope::Admin).await?;
    let (users, floors) = json::parse_invalidation(&body).map_err(Failure::malformed_request)?;
    let _room = api.elements.reserve_changes(users.len())?;
    let done = if users.is_empty() {
        0
    } else {
        api.run_with_deadline(|deadline| api.backend.invalidate_users(users, floors, deadline))
            .await??
    };
    answer::done_response(&Invalidated { users: done })
}

async fn post_warm<B: Backend>(State(api): State<SharedApi<B>>, request: Request) -> HandlerResult {
    let body = read_posted_body(&api, request, Scope::Admin).await?;
    let users = json::parse_users::<USERS_MAX>(&body).map_err(Failure::malformed_request)?;
    let _room = api.elements.reserve_users(users.len())?;
    let done = if users.is_empty() {
        crate::apply::WarmResult::default()
    } else {
        api.run_with_deadline(|deadline| api.backend.warm_users(users, deadline))
            .await?
    };
    answer::done_response(&WarmedCounts {
        users: done.users,
        loaded: done.loaded,
        failed: done.failed,
    })
}
