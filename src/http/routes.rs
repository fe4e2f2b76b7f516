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
    handler::{Shared, Told, whole},
    history,
    json::{self, BATCH_MAX, USERS_MAX},
    ledger, rates,
    results::{Invalidated, Settled, Warmed, Written},
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
/// Ledger entries.
pub const ENTRIES: &str = "/api/v1/ledger/entries";
/// Transactions.
pub const TRANSACTIONS: &str = "/api/v1/ledger/transactions";
/// One transaction.
pub const TRANSACTION: &str = "/api/v1/ledger/transactions/{id}";
/// Trades.
pub const TRADES: &str = "/api/v1/ledger/trades";
/// One trade.
pub const TRADE: &str = "/api/v1/ledger/trades/{id}";
/// Pages of a user's trades.
pub const USER_TRADES: &str = "/api/v1/order/trades";
/// Pages of a statement.
pub const STATEMENT: &str = "/api/v1/user/ledger";
/// Sums over all users.
pub const TOTALS: &str = "/api/v1/totals";
/// Rates.
pub const RATES: &str = "/api/v1/rates";
/// The value of a user's balances.
pub const USER_TOTAL: &str = "/api/v1/user/total";
/// Snapshots are dropped.
pub const INVALIDATE: &str = "/api/v1/cache/invalidate";
/// Users are loaded.
pub const WARM: &str = "/api/v1/cache/warm";
/// All of this, described.
pub const OPENAPI: &str = "/openapi.json";

/// All routes of the API.
pub fn router<B: Backend>(api: Shared<B>) -> Router {
    let mut router = Router::new();
    for (path, route) in table::<B>() {
        router = router.route(path, route);
    }
    router.fallback(async || Failure::NoRoute).with_state(api)
}

/// Each path with what answers it.
pub(super) fn table<B: Backend>() -> Vec<(&'static str, MethodRouter<Shared<B>>)> {
    let mut table = vec![
        (BATCH, posted(batch::<B>)),
        (SETTLEMENTS, posted(settle::<B>)),
        (ENTRIES, posted(write_entries::<B>)),
        (TRANSACTIONS, posted(ledger::transactions::<B>)),
        (TRANSACTION, shown(ledger::transaction::<B>)),
        (TRADES, posted(ledger::trades::<B>)),
        (TRADE, shown(ledger::trade::<B>)),
        (USER_TRADES, shown(history::trades::<B>)),
        (STATEMENT, shown(history::statement::<B>)),
        (TOTALS, shown(totals::totals::<B>)),
        (RATES, posted(rates::set_rates::<B>)),
        (USER_TOTAL, shown(value::user_total::<B>)),
        (INVALIDATE, posted(invalidate::<B>)),
        (WARM, posted(warm::<B>)),
        (OPENAPI, shown(openapi::<B>)),
    ];
    table.extend(BALANCE.map(|path| (path, shown(balance::<B>))));
    table.extend(docs::FILES.map(|file| (file.path, shown(async move || file.response()))));
    table
}

fn shown<B: Backend, H, T>(handler: H) -> MethodRouter<Shared<B>>
where
    H: Handler<T, Shared<B>>,
    T: 'static,
{
    get(handler).fallback(async || Failure::Method { allow: "GET, HEAD" })
}

fn posted<B: Backend, H, T>(handler: H) -> MethodRouter<Shared<B>>
where
    H: Handler<T, Shared<B>>,
    T: 'static,
{
    post(handler).fallback(async || Failure::Method { allow: "POST" })
}

async fn balance<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    api.allow(request.headers(), Scope::Read)?;
    let (question, ask) = api.question(&request)?;
    let user = question.user;
    let answer = api
        .timed(|deadline| api.backend.read(user, ask, deadline))
        .await??;
    Ok(api
        .balances(&question, request.headers(), &answer)
        .map(Body::new))
}

async fn openapi<B: Backend>(State(api): State<Shared<B>>) -> Response<Body> {
    docs::with_headers("application/json", api.openapi.get())
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
    answer::done(&Settled {
        applied: done.applied,
        old: done.old,
    })
}

async fn write_entries<B: Backend>(State(api): State<Shared<B>>, request: Request) -> Told {
    let body = whole(&api, request, Scope::Settle).await?;
    let entries = json::entries(&body)
        .inspect_err(|_| api.backend.malformed(Via::Ledger))
        .map_err(Failure::malformed)?;
    let _room = api.elements.changes(entries.len())?;
    let done = if entries.is_empty() {
        crate::ledger::Written::default()
    } else {
        api.timed(|deadline| api.backend.write_entries(entries, deadline))
            .await??
    };
    answer::done(&Written {
        written: done.written,
        repeated: done.repeated,
    })
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
    answer::done(&Invalidated { users: done })
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
    answer::done(&Warmed {
        users: done.users,
        loaded: done.loaded,
        failed: done.failed,
    })
}
