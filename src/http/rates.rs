//! `POST /api/v1/rates`: the worth of whole units, posted by an external price service.

use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Backend, answer,
    failure::Failure,
    handler::{HandlerResult, SharedApi, read_posted_body},
    json::{Raws, parse_object, parse_object_text},
};
use crate::{
    config::Scope,
    domain::{
        AssetId, CatalogueTable, DatedRate, RATE_AT_MAX, Rate, RatesTaken, UnixMillis, parse_json,
    },
};

/// Rates in one request.
pub const RATES_MAX: usize = 1_000;

/// Rates in one quote.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewRates)]
#[serde(deny_unknown_fields)]
pub struct RatesWire<'a> {
    /// The asset that values are told in: a name of the catalogue.
    quote: String,
    /// In any order.
    #[serde(borrow)]
    #[schema(value_type = Vec<RateWire>)]
    rates: Raws<'a, RATES_MAX>,
}

/// The rate of one asset.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewRate)]
#[serde(deny_unknown_fields)]
pub struct RateWire {
    /// Its name (case counts), or the number of an asset that has no name here.
    asset: String,
    /// The value of one whole unit in whole units of the quote: a decimal above 0.
    #[schema(
        pattern = r"^(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?$",
        examples("50000.5")
    )]
    rate: String,
    /// When it was made: milliseconds since 1970. The newest wins; of equal ones the later request.
    #[schema(minimum = 0_i64, maximum = 253_402_300_799_999_i64)]
    at: i64,
}

/// The fate of the rates of one request.
#[derive(Debug, Serialize, ToSchema)]
pub struct RatesResult {
    /// Those that are in force now.
    pub applied: u64,
    /// Those older than what was known.
    pub old: u64,
}

/// A quote, and the rates in it, as a body tells them.
type QuotedRates = (AssetId, Vec<(AssetId, DatedRate)>);

pub(super) async fn set_rates<B: Backend>(
    State(api): State<SharedApi<B>>,
    request: Request,
) -> HandlerResult {
    let body = read_posted_body(&api, request, Scope::Settle).await?;
    let (quote, rates) =
        parse_rates(&body, &api.catalogue.current_table()).map_err(Failure::malformed_request)?;
    let _room = api.elements.reserve_changes(rates.len())?;
    let taken = if rates.is_empty() {
        RatesTaken::default()
    } else {
        api.run_with_deadline(|deadline| api.backend.set_rates(quote, rates, deadline))
            .await??
    };
    answer::done_response(&RatesResult {
        applied: taken.applied,
        old: taken.old,
    })
}

/// The rates of a body; all of them are good.
/// Errors: the first mistake, with its index.
pub(super) fn parse_rates(body: &[u8], catalogue: &CatalogueTable) -> Result<QuotedRates, String> {
    let RatesWire { quote, rates } = parse_object(body)?;
    let quote = named_quote(&quote, catalogue)?.0;
    let all = rates.0.into_iter().enumerate().map(|(index, raw)| {
        parse_object_text(raw.get(), |text| parse_rate(text, quote, catalogue))
            .map_err(|what| format!("rates[{index}]: {what}"))
    });
    Ok((quote, all.collect::<Result<_, _>>()?))
}

/// A quote with its decimals.
/// Errors: it is not in the catalogue.
pub(super) fn named_quote(text: &str, catalogue: &CatalogueTable) -> Result<(AssetId, u8), String> {
    let found = catalogue.resolve_asset(text);
    found
        .and_then(|asset| Some((asset, catalogue.get_asset(asset)?.1)))
        .ok_or_else(|| format!("unknown quote: {text}: no name of the catalogue"))
}

fn parse_rate(
    text: &str,
    quote: AssetId,
    catalogue: &CatalogueTable,
) -> Result<(AssetId, DatedRate), String> {
    let wire: RateWire = parse_json(text.as_bytes())?;
    let asset = catalogue.resolve_asset(&wire.asset).ok_or_else(|| {
        format!(
            "unknown asset: {}: neither a name nor the number of an unnamed asset",
            wire.asset
        )
    })?;
    let rate: Rate = wire.rate.parse().map_err(|what| format!("{what}"))?;
    if asset == quote && rate != Rate::one() {
        return Err("the quote itself counts at rate 1".to_owned());
    }
    if !(0..=RATE_AT_MAX).contains(&wire.at) {
        return Err(format!(
            "at must be milliseconds since 1970, from 0 to {RATE_AT_MAX}"
        ));
    }
    let at = UnixMillis(wire.at);
    Ok((asset, DatedRate { rate, at }))
}
