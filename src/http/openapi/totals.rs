//! Totals, rates and the value of a user's balances, described.

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{
    failures::header_references,
    operation::{
        Operation, common_failures, done_response, envelope_schema, post_failures, schema_ref,
        single_example,
    },
    samples::{MADE_AT, Samples, parse_json_body as value_of},
    schema_of, shapes,
};
use crate::{
    config::Scope,
    domain::{AssetSum, Catalogue, CatalogueTable, Rates, Totals, value_balances},
    http::{
        Failure, answer,
        rates::{self, RATES_MAX, RateWire, RatesResult, RatesWire},
        totals::{self, AssetTotal},
        value::{self, Priced, UserTotal},
    },
    ledger::LedgerError,
};

/// The schemas of what these routes take and give.
pub fn totals_schemas(catalogue: &Catalogue) -> [(String, Value); 8] {
    let names = asset_names(&catalogue.current_table());
    let mut new_rates = schema_of::<RatesWire<'_>>();
    if let Some(rates) = new_rates.pointer_mut("/properties/rates") {
        super::put_field(rates, "maxItems", json!(RATES_MAX));
    }
    let mut new_rate = schema_of::<RateWire>();
    for (schema, property) in [(&mut new_rates, "quote"), (&mut new_rate, "asset")] {
        let text = schema.pointer_mut(&format!("/properties/{property}"));
        if let Some(text) = text.filter(|_| !names.is_empty()) {
            super::put_field(text, "enum", json!(names));
        }
    }
    [
        ("AssetTotal", schema_of::<AssetTotal>()),
        ("WideAmount", schema_of::<shapes::WideAmount>()),
        ("RateText", schema_of::<shapes::RateText>()),
        ("NewRates", new_rates),
        ("NewRate", new_rate),
        ("RatesResult", schema_of::<RatesResult>()),
        ("UserTotal", schema_of::<UserTotal>()),
        ("PricedBalance", schema_of::<Priced>()),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}

const RATE: &str = "50000.5";

pub fn totals_operation(samples: &Samples<'_>) -> Operation {
    let total = AssetSum {
        avail: 910_000_000_000,
        frozen: 0,
        users: 10,
    };
    let assets = samples
        .sample_balances()
        .iter()
        .map(|balance| (balance.asset, total));
    let sample = Totals {
        assets: assets.collect(),
        began: MADE_AT,
        ended: MADE_AT,
    };
    let shown = totals::totals_response(&sample, &samples.catalogue.current_table(), MADE_AT);
    let headers = shown.map_or_else(|_| HeaderMap::new(), |shown| shown.headers().clone());
    let example =
        totals::totals_body(&sample, &samples.catalogue.current_table()).unwrap_or_default();
    let mut schema = envelope_schema(
        &json!({"type": "array", "items": {"$ref": "#/components/schemas/AssetTotal"}, "description": "By asset id; assets that nobody has a balance in are not there."}),
    );
    super::put_field(
        &mut schema,
        "required",
        json!(["status", "msg", "data", "as_of"]),
    );
    if let Some(properties) = schema.get_mut("properties") {
        let moments = json!({
            "type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2,
            "description": "When the first and the last balance were read: milliseconds since 1970. Equal, or nearly, where all of them were read from one snapshot.",
        });
        super::put_field(properties, "as_of", moments);
    }
    let given = json!({
        "description": "The newest totals. `Age` counts from when the first balance was read.",
        "headers": header_references(&headers),
        "content": {"application/json": {"schema": schema, "examples": single_example("all users", &value_of(&example))}},
    });
    let mut fails = common_failures(
        Scope::Read,
        crate::http::query::refuse_parameters(Some("x=1")).err(),
    );
    fails.extend([Failure::TotalsOff, Failure::NoTotal]);
    Operation {
        id: "totals",
        tag: "totals",
        scope: Some(Scope::Read),
        summary: "What all users have",
        about: "Sums over all users, made on their own clock (`totals.interval_ms`) and never by a request. No write drops them.",
        ok: given,
        fails,
        ..Operation::default()
    }
}

pub fn set_rates(samples: &Samples<'_>) -> Operation {
    let example = sample_rates(samples);
    let table = samples.catalogue.current_table();
    let bad = json!({"quote": samples.quote_name(), "rates": [{}]}).to_string();
    let mut fails = post_failures(
        Scope::Settle,
        rates::parse_rates(bad.as_bytes(), &table).err(),
    );
    fails.push(Failure::Promise("".into()));
    Operation {
        id: "set_rates",
        tag: "totals",
        scope: Some(Scope::Settle),
        summary: "Tells what assets are worth",
        about: "Rates in one quote: the value of one whole unit. The newest `at` wins; of equal ones the later. Other instances use them within `settlement.max_staleness_ms`.",
        takes: Some((schema_ref("NewRates"), single_example("one rate", &example))),
        ok: done_response(
            "RatesResult",
            "They are in force, but for those that are old.",
            &RatesResult { applied: 1, old: 0 },
        ),
        fails,
        ..Operation::default()
    }
}

pub fn user_total(samples: &Samples<'_>) -> Operation {
    let shown = |known: Option<&HeaderValue>| {
        let answer = samples.sample_answer(true, None);
        let table = samples.catalogue.current_table();
        let mut rates = Rates::default();
        let body = sample_rates(samples).to_string();
        if let Ok((_, all)) = rates::parse_rates(body.as_bytes(), &table) {
            for (asset, dated) in all {
                rates.offer_rate(asset, dated);
            }
        }
        let quote = rates::named_quote(&samples.quote_name(), &table).ok()?;
        let valued = value_balances(&answer.held.read_snapshot(), quote, &rates, &table);
        let total = value::describe_value(quote.0, valued, &table);
        let known = known.into_iter().map(HeaderValue::as_bytes);
        let response = value::value_response(&total, &answer, known, MADE_AT).ok()?;
        let body = answer::done_body(&total).ok()?;
        Some((response.headers().clone(), value_of(&body)))
    };
    let (headers, example) = shown(None).unwrap_or_default();
    let (same, _) = shown(Some(&HeaderValue::from_static("*"))).unwrap_or_default();
    let data = schema_ref("UserTotal");
    let examples = if example.is_null() {
        json!({})
    } else {
        single_example("a user with balances", &example)
    };
    let given = json!({
        "description": "The value, and what it is made of.",
        "headers": header_references(&headers),
        "content": {"application/json": {"schema": envelope_schema(&data), "examples": examples}},
    });
    let same = json!({
        "description": "The client has this value.",
        "headers": header_references(&same),
    });
    let mut fails = common_failures(
        Scope::Read,
        value::ValueQuery::parse_query(None, samples.catalogue).err(),
    );
    fails.extend([
        Failure::NoRate,
        Failure::Shed,
        Failure::Source(LedgerError::Timeout),
        Failure::NotReached,
        Failure::RatesUnread("".into()),
    ]);
    Operation {
        id: "user_total",
        tag: "totals",
        scope: Some(Scope::Read),
        summary: "What a user's balances are worth",
        about: "(avail + frozen) × rate of each balance, exact, and rounded half to even once. The balances are read as ever, with the same promises and headers.",
        parameters: &[
            "user_id",
            "quote",
            "min_seq",
            "if-none-match",
            "cache-control",
        ],
        ok: given,
        not_modified: Some(same),
        fails,
        ..Operation::default()
    }
}

/// A rate of an asset that the sample user has, in another asset.
fn sample_rates(samples: &Samples<'_>) -> Value {
    let (quote, asset) = (samples.quote_name(), samples.asset_name());
    // The quote itself counts at rate 1.
    let rate = if quote == asset { "1" } else { RATE };
    json!({
        "quote": quote,
        "rates": [{"asset": asset, "rate": rate, "at": MADE_AT.0}],
    })
}

fn asset_names(table: &CatalogueTable) -> Vec<String> {
    let named = |id| table.get_asset(id).map(|(name, _)| name.to_owned());
    table.asset_ids().filter_map(named).collect()
}

/// The parameter that names the quote.
pub fn quote_parameter(samples: &Samples<'_>) -> Value {
    let names = asset_names(&samples.catalogue.current_table());
    let schema = if names.is_empty() {
        json!({"type": "string"})
    } else {
        json!({"type": "string", "enum": names})
    };
    json!({
        "name": "quote", "in": "query", "required": true,
        "description": "The asset that values are told in: a name of the catalogue (case counts).",
        "schema": schema, "example": samples.quote_name(),
    })
}
