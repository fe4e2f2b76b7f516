//! `GET /api/v1/totals`: what all users have. Shows what is held, with its age; never makes any.

use axum::{
    body::Body,
    extract::{Request, State},
};
use http::{HeaderValue, Response, header::AGE, header::CACHE_CONTROL};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Backend, HeldTotals, answer,
    failure::Failure,
    handler::{HandlerResult, SharedApi},
    openapi::shapes::{self, UnitShape},
    query,
};
use crate::{
    config::Scope,
    domain::{CatalogueTable, Totals, UnixMillis, wide_decimal},
};

/// All users' balances in one asset, together.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetTotal {
    /// Its name, or the number of an asset that the catalogue does not know.
    asset: String,
    /// The sum of what can be used; may have more digits than an amount.
    #[schema(value_type = shapes::WideAmount)]
    avail: String,
    /// The sum of what is held back.
    #[schema(value_type = shapes::WideAmount)]
    frozen: String,
    /// Users that have a balance in it, one of zero too.
    #[schema(minimum = 0_i64)]
    users: u64,
    /// There where the catalogue does not know the asset: the amounts are raw units then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = UnitShape, required = false)]
    unit: Option<UnitShape>,
}

/// The envelope with its second field.
#[derive(Serialize)]
struct TotalsEnvelope<'a> {
    status: u8,
    msg: &'static str,
    data: &'a [AssetTotal],
    as_of: [i64; 2],
}

pub(super) async fn get_totals<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    api.authorize_request(request.headers(), Scope::Read)?;
    query::refuse_parameters(request.uri().query()).map_err(Failure::malformed_request)?;
    match api.backend.current_totals() {
        HeldTotals::Off => Err(Failure::TotalsOff),
        HeldTotals::Pending => Err(Failure::NoTotal),
        HeldTotals::Held(totals) => {
            totals_response(&totals, &api.catalogue.current_table(), (api.wall)())
        }
    }
}

/// The answer that shows these totals at `now`.
pub(super) fn totals_response(
    totals: &Totals,
    catalogue: &CatalogueTable,
    now: UnixMillis,
) -> Result<Response<Body>, Failure> {
    let mut response = answer::json_response(totals_body(totals, catalogue)?);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, answer::PRIVATE);
    let age = totals.began.seconds_until(now);
    headers.insert(AGE, HeaderValue::from(age));
    Ok(response)
}

pub(super) fn totals_body(totals: &Totals, catalogue: &CatalogueTable) -> Result<Vec<u8>, Failure> {
    let shown = totals.assets.iter().map(|(asset, total)| {
        let known = catalogue.get_asset(*asset);
        let decimals = known.map_or(0, |(_, decimals)| decimals);
        AssetTotal {
            asset: known.map_or_else(|| asset.to_string(), |(name, _)| name.to_owned()),
            avail: wide_decimal(total.avail, decimals),
            frozen: wide_decimal(total.frozen, decimals),
            users: total.users,
            unit: known.is_none().then_some(UnitShape::Raw),
        }
    });
    let envelope = TotalsEnvelope {
        status: 0,
        msg: "ok",
        data: &shown.collect::<Vec<_>>(),
        as_of: [totals.began.0, totals.ended.0],
    };
    serde_json::to_vec(&envelope).map_err(|_| Failure::Bug("totals cannot be written as JSON"))
}
