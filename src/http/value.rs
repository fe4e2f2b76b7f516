//! `GET /api/v1/user/total`: what a user's balances are worth in one asset.
//!
//! **Invariants.** The balances are those of an ordinary read, with its promises and headers. The tag is that of the body, so it
//! changes with the balances and with the rates.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
};
use http::{
    HeaderValue, Response, StatusCode,
    header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Backend, answer,
    failure::Failure,
    handler::{HandlerResult, SharedApi},
    openapi::shapes::{self, UnitShape},
    query::{Parameters, parse_min_seq},
    rates::named_quote,
};
use crate::{
    apply::ApplyError,
    config::Scope,
    domain::{
        AssetId, Catalogue, CatalogueTable, Floors, PricedBalance, UnixMillis, UserId, Valuation,
        value_balances,
    },
    read::{ReadAnswer, ReadOptions},
    render::entity_tag,
};

/// The value of a user's balances.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserTotal {
    /// The asset that values are told in.
    quote: String,
    /// The value of all priced balances, rounded half to even once. It may differ from the sum of the values below, each of which
    /// is rounded by itself.
    #[schema(value_type = shapes::WideAmount)]
    total: String,
    /// Balances whose rate is known, by asset id.
    priced: Vec<Priced>,
    /// Assets of the user whose rate is not known. The total lacks them.
    unpriced: Vec<String>,
}

/// One balance and its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PricedBalance)]
pub struct Priced {
    /// Its name, or the number of an asset that the catalogue does not know.
    asset: String,
    /// The sum of what can be used and what is held back.
    #[schema(value_type = shapes::WideAmount)]
    amount: String,
    /// The value of one whole unit.
    #[schema(value_type = shapes::RateText)]
    rate: String,
    /// The value of the amount, rounded half to even once.
    #[schema(value_type = shapes::WideAmount)]
    value: String,
    /// When the rate was made: milliseconds since 1970; null for the quote itself, which counts at 1.
    #[schema(required, minimum = 0_i64, maximum = 253_402_300_799_999_i64)]
    rate_at: Option<i64>,
    /// There where the catalogue does not know the asset: the amount is in raw units then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = UnitShape, required = false)]
    unit: Option<UnitShape>,
}

/// The question of one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ValueQuery {
    pub(super) user: UserId,
    pub(super) quote: AssetId,
    pub(super) decimals: u8,
    pub(super) min_seq: Floors,
}

impl ValueQuery {
    /// The question in a query string.
    /// Errors: the mistake, for the caller to read.
    pub(super) fn parse_query(query: Option<&str>, catalogue: &Catalogue) -> Result<Self, String> {
        let given = Parameters::parse_query(query, &["user_id", "quote", "min_seq"])?;
        let user = given.parse_user()?;
        let named = given.get("quote").ok_or("quote is missing")?;
        let (quote, decimals) = named_quote(named, &catalogue.current_table())?;
        let min_seq = given.get("min_seq");
        let min_seq = min_seq.map(|text| parse_min_seq(text, catalogue));
        Ok(Self {
            user,
            quote,
            decimals,
            min_seq: min_seq.transpose()?.unwrap_or(Floors::NONE),
        })
    }
}

pub(super) async fn user_total<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    api.authorize_request(request.headers(), Scope::Read)?;
    let mut question = ValueQuery::parse_query(request.uri().query(), &api.catalogue)
        .map_err(Failure::malformed_request)?;
    let ask = ReadOptions {
        min_seq: std::mem::take(&mut question.min_seq),
        no_cache: answer::wants_ledger(answer::header_values(request.headers(), CACHE_CONTROL)),
        passed_on: None,
    };
    let work = |deadline| {
        let (api, question) = (Arc::clone(&api), &question);
        async move {
            let rates = api.backend.load_rates(question.quote, deadline).await;
            let rates = rates.map_err(|error| match error {
                ApplyError::Unavailable(reason) => Failure::RatesUnread(reason),
                ApplyError::Deadline => Failure::Deadline,
            })?;
            if rates.0.is_empty() {
                return Err(Failure::NoRate);
            }
            let answer = api
                .backend
                .read_balances(question.user, ask, deadline)
                .await?;
            Ok((rates, answer))
        }
    };
    let (rates, answer) = api.run_with_deadline(work).await??;
    let table = api.catalogue.current_table();
    let quote = (question.quote, question.decimals);
    let valuation = value_balances(&answer.held.read_snapshot(), quote, &rates, &table);
    let known = answer::header_values(request.headers(), IF_NONE_MATCH);
    value_response(
        &describe_value(question.quote, valuation, &table),
        &answer,
        known,
        (api.wall)(),
    )
}

/// The answer that shows a value at `now`; `known` are the values of `If-None-Match`.
pub(super) fn value_response<'v>(
    total: &UserTotal,
    answer: &ReadAnswer,
    known: impl Iterator<Item = &'v [u8]>,
    now: UnixMillis,
) -> Result<Response<Body>, Failure> {
    let body =
        answer::done_body(total).map_err(|_| Failure::Bug("a value cannot be written as JSON"))?;
    let tag = entity_tag(&body);
    let mut response = if answer::client_has(known, &tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(CONTENT_TYPE);
        response
    } else {
        answer::json_response(body)
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_bytes(&tag) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CACHE_CONTROL, answer::PRIVATE);
    let age = answer.held.said_at().seconds_until(now);
    headers.insert(AGE, HeaderValue::from(age));
    if let Ok(cache_status) = HeaderValue::try_from(answer.cache_status.to_string()) {
        headers.insert(answer::CACHE_STATUS, cache_status);
    }
    Ok(response)
}

pub(super) fn describe_value(
    quote: AssetId,
    valuation: Valuation,
    catalogue: &CatalogueTable,
) -> UserTotal {
    let name = |asset: AssetId| {
        let known = catalogue.get_asset(asset);
        known.map_or_else(|| asset.to_string(), |(name, _)| name.to_owned())
    };
    let priced = |priced: PricedBalance| Priced {
        asset: name(priced.asset),
        amount: priced.amount,
        rate: priced.rate.to_string(),
        value: priced.value,
        rate_at: priced.rate_at.map(|at| at.0),
        unit: catalogue
            .get_asset(priced.asset)
            .is_none()
            .then_some(UnitShape::Raw),
    };
    UserTotal {
        quote: name(quote),
        total: valuation.total,
        priced: valuation.priced.into_iter().map(priced).collect(),
        unpriced: valuation.unpriced.into_iter().map(name).collect(),
    }
}
