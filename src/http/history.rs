//! Pages of trades and statements: how they are asked for and shown.
//!
//! **Limits.** `PAGE_MAX` rows a page.

use axum::{
    body::Body,
    extract::{Request, State},
};
use http::{HeaderValue, Response, header::CACHE_CONTROL};
use serde::Serialize;
use utoipa::ToSchema;

use self::{
    cursor::Paged,
    question::{StatementAsked, TradesAsked},
};
use super::{
    Backend, answer,
    failure::Failure,
    handler::{HandlerResult, SharedApi},
};
use crate::{
    config::Scope,
    domain::{Amount, HistoryPage, StatementRow, TradeSideRole, UserTrade},
};

pub(super) mod cursor;
pub(super) mod question;

/// No cache keeps a page: a row that is written a moment later belongs to the next one that asks.
const NOT_STORED: HeaderValue = HeaderValue::from_static("private, no-store");

/// The side of a trade.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TradeRole {
    /// Received base.
    Buyer,
    /// Received quote.
    Seller,
}

/// One side of a trade.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserTrade)]
pub struct TradeLine<'a> {
    /// The trade.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub trade_id: i64,
    /// The symbol's name.
    pub symbol: &'a str,
    /// The user's side. A trade with oneself has two lines.
    #[schema(value_type = String, pattern = "^(BUYER|SELLER)$")]
    pub role: TradeRole,
    /// Quote for one whole base unit, as an exact decimal; null where the writer left it out.
    #[schema(required)]
    pub price: Option<String>,
    /// Base, as an exact decimal; null where the writer left it out.
    #[schema(required)]
    pub quantity: Option<String>,
    /// Quote, as an exact decimal; null where the writer left it out.
    #[schema(required)]
    pub cost: Option<String>,
    /// The order of the user's side; null where the writer left it out.
    #[schema(required, minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub order_id: Option<i64>,
    /// Milliseconds since 1970.
    #[schema(minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub settled_at: i64,
}

/// One row of a statement.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatementRow)]
pub struct StatementLine {
    /// The version of the balance.
    #[schema(minimum = 1_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub seq: i64,
    /// After the event, as an exact decimal.
    pub avail: String,
    /// After the event, as an exact decimal.
    pub frozen: String,
    /// The change, as an exact decimal; null where the writer left it out.
    #[schema(required)]
    pub delta_avail: Option<String>,
    /// The change, as an exact decimal; null where the writer left it out.
    #[schema(required)]
    pub delta_frozen: Option<String>,
    /// The event; null where the writer left it out.
    #[schema(required)]
    pub event_type: Option<String>,
    /// The id that it refers to, as the id of a trade; null where the writer left it out.
    #[schema(required, minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub ref_id: Option<i64>,
    /// Milliseconds since 1970; null where the writer left it out.
    #[schema(required, minimum = -9_223_372_036_854_775_808_i64, maximum = 9_223_372_036_854_775_807_i64)]
    pub created_at: Option<i64>,
    /// Amounts are raw units: the asset is not in the catalogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, pattern = "^raw$")]
    pub unit: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct PageEnvelope<L> {
    status: u8,
    msg: &'static str,
    data: Vec<L>,
    next: Option<String>,
}

pub(super) async fn get_user_trades<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    api.authorize_request(request.headers(), Scope::Read)?;
    let asked = TradesAsked::parse_query(request.uri().query(), &api.catalogue.current_table())
        .map_err(Failure::malformed_request)?;
    if api.backend.shows_balances_only() {
        return Err(Failure::NoHistories);
    }
    let page = api
        .run_with_deadline(|deadline| api.backend.trades_page(asked.question.clone(), deadline))
        .await??;
    page_response(trades_body(&asked, &page))
}

pub(super) async fn get_statement<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    api.authorize_request(request.headers(), Scope::Read)?;
    let asked = StatementAsked::parse_query(request.uri().query(), &api.catalogue.current_table())
        .map_err(Failure::malformed_request)?;
    if api.backend.shows_balances_only() {
        return Err(Failure::NoHistories);
    }
    let page = api
        .run_with_deadline(|deadline| api.backend.statement_page(asked.question.clone(), deadline))
        .await??;
    page_response(statement_body(&asked, &page))
}

fn page_response(body: serde_json::Result<Vec<u8>>) -> HandlerResult {
    body.map(uncached_response)
        .map_err(|_| Failure::Bug("a page cannot be written as JSON"))
}

pub(super) fn uncached_response(body: Vec<u8>) -> Response<Body> {
    let mut response = answer::json_response(body);
    response.headers_mut().insert(CACHE_CONTROL, NOT_STORED);
    response
}

pub(super) fn trades_body(
    asked: &TradesAsked,
    page: &HistoryPage<UserTrade>,
) -> serde_json::Result<Vec<u8>> {
    let decimal = |amount: Option<Amount>, decimals| {
        amount.map(|amount| amount.to_decimal(decimals).to_string())
    };
    let lines = page.rows.iter().map(|row| TradeLine {
        trade_id: row.place.trade_id.get(),
        symbol: &asked.symbol,
        role: match row.place.role {
            TradeSideRole::Buyer => TradeRole::Buyer,
            TradeSideRole::Seller => TradeRole::Seller,
        },
        price: decimal(row.price, asked.quote),
        quantity: decimal(row.quantity, asked.base),
        cost: decimal(row.cost, asked.quote),
        order_id: row.order_id,
        settled_at: row.place.settled_at.0,
    });
    let last = page.rows.last().map(|row| row.place);
    page_body(&asked.question, lines.collect(), last.filter(|_| page.more))
}

pub(super) fn statement_body(
    asked: &StatementAsked,
    page: &HistoryPage<StatementRow>,
) -> serde_json::Result<Vec<u8>> {
    let decimal = |amount: Amount| amount.to_decimal(asked.decimals.unwrap_or(0)).to_string();
    let lines = page.rows.iter().map(|row| StatementLine {
        seq: row.seq.get(),
        avail: decimal(row.avail),
        frozen: decimal(row.frozen),
        delta_avail: row.delta_avail.map(decimal),
        delta_frozen: row.delta_frozen.map(decimal),
        event_type: row.event_type.clone(),
        ref_id: row.ref_id,
        created_at: row.created_at.map(|at| at.0),
        unit: asked.decimals.is_none().then_some("raw"),
    });
    let last = page.rows.last().map(|row| row.seq);
    page_body(&asked.question, lines.collect(), last.filter(|_| page.more))
}

fn page_body<Q: Paged, L: Serialize>(
    question: &Q,
    data: Vec<L>,
    behind: Option<Q::Place>,
) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&PageEnvelope {
        status: 0,
        msg: "ok",
        data,
        next: behind.map(|place| cursor::encode_cursor(question, &place)),
    })
}
