//! Failures as the description shows them: each is made, and what a client would get is written down.

use std::collections::BTreeMap;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
};
use serde_json::{Map, Value, json};

use super::samples;
use crate::http::{Failure, REQUEST_ID};

/// The request id of examples.
const ID: &str = "57c49db1a2b308ad0000000000000000";

/// When a client gets it, in the words of the contract.
const fn describe_cause(failure: &Failure) -> &'static str {
    match failure {
        Failure::Malformed(_) => {
            "malformed, missing, out of range, too many elements, unknown asset, unknown or repeated query parameter"
        }
        Failure::Unauthenticated => "no token, or a bad one",
        Failure::Forbidden(_) => "a token without the scope",
        Failure::CrossOrigin => "a web page of another origin asks for a change",
        Failure::ForeignHost => "`Host` names another host, and there are no tokens",
        Failure::HeadTooLarge => "the head is too large",
        Failure::NoRoute => "no such route",
        Failure::Method { .. } => "another method",
        Failure::Conflict { .. } => {
            "a seq is taken by other amounts: nothing of the request is written"
        }
        Failure::Contradicts(_) => {
            "the id stands with other content, or a seq is taken by other amounts: nothing of it is written"
        }
        Failure::Refused(_) => {
            "an amount would be below zero or too large, or another seq stands: nothing of it is written, and the id is free"
        }
        Failure::SeqsElsewhere => {
            "seqs are assigned elsewhere (`ledger.writer`), and this needs one"
        }
        Failure::ReadOnlyLedger => "the ledger is written elsewhere (`postgres.balances_sql`)",
        Failure::NoHistories => "the ledger shows balances only (`postgres.balances_sql`)",
        Failure::NothingThere => "nothing stands under this id",
        Failure::NoRate => "nobody has told a rate in this quote",
        Failure::TotalsOff => {
            "totals are switched off (`totals.interval_ms` is 0), or the ledger shows balances only (`postgres.balances_sql`)"
        }
        Failure::NoTotal => "the first total is not made yet",
        Failure::TooLarge { .. } => "the body is too large",
        Failure::NotJson => "the body says that it is not JSON",
        Failure::Shed => "too much work in flight",
        Failure::Source(_) => "the source cannot answer, and nothing that may be served is held",
        Failure::NotReached => "`min_seq` is not reached in time",
        Failure::Promise(_) => {
            "the change cannot be given its promise now (Redis is down): send it again"
        }
        Failure::RatesUnread(_) => "rates cannot be read now (Redis is down)",
        Failure::Deadline => "the request's deadline, elsewhere than in the source",
        Failure::Bug(_) => "a bug; the body tells nothing but the request's id",
    }
}

/// The responses of an operation that may fail in these ways, by status.
pub fn failure_responses(failures: &[Failure]) -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<&Failure>> = BTreeMap::new();
    for failure in failures {
        let (status, _, _) = failure.client_message("");
        by_status.entry(status.as_u16()).or_default().push(failure);
    }
    by_status
        .into_iter()
        .map(|(status, failures)| (status.to_string(), failure_response(&failures)))
        .collect()
}

/// Failures that belong to no operation, by name.
pub fn of_no_operation() -> Value {
    let method = Failure::Method { allow: "GET, HEAD" };
    json!({
        "NoRoute": failure_response(&[&Failure::NoRoute]),
        "Method": failure_response(&[&method]),
        "ForeignHost": failure_response(&[&Failure::ForeignHost]),
        "HeadTooLarge": failure_response(&[&Failure::HeadTooLarge]),
    })
}

fn failure_response(failures: &[&Failure]) -> Value {
    let all: Vec<u16> = failures
        .iter()
        .map(|failure| failure.client_message(ID).1)
        .collect();
    let texts: Vec<&str> = failures
        .iter()
        .map(|failure| describe_cause(failure))
        .collect();
    let examples: Map<String, Value> = failures
        .iter()
        .zip(&all)
        .enumerate()
        .map(|(at, (failure, code))| {
            let body = samples::parse_json_body(failure.error_envelope(ID).1.as_bytes());
            let named_before = all.iter().take(at).any(|other| other == code);
            (
                if named_before {
                    format!("{code}_{at}")
                } else {
                    code.to_string()
                },
                json!({"summary": describe_cause(failure), "value": body}),
            )
        })
        .collect();
    let mut codes = all;
    codes.dedup();
    let headers = failures
        .first()
        .map(|failure| failure.to_response(&HeaderValue::from_static(ID)));
    json!({
        "description": format!("{}.", capitalise_first(&texts.join(", or "))),
        "headers": headers.map(|response| header_references(response.headers())),
        "content": {"application/json": {
            "schema": {
                "$ref": "#/components/schemas/Failure",
                "properties": {"status": {"enum": codes}},
            },
            "examples": examples,
        }},
    })
}

/// The headers of a real answer: by its name in the components where the value differs from answer to answer, else with
/// this one value. The request's id is put on last, on all of them.
pub fn header_references(headers: &HeaderMap) -> Value {
    let described = headers
        .keys()
        .filter(|name| **name != CONTENT_TYPE && **name != X_CONTENT_TYPE_OPTIONS);
    let reference = |name: &HeaderName| {
        let of = match headers.get(name).and_then(|value| value.to_str().ok()) {
            Some(value) if FIXED.contains(name) => {
                json!({"required": true, "schema": {"type": "string", "const": value}})
            }
            _ => json!({"$ref": format!("#/components/headers/{name}")}),
        };
        (name.to_string(), of)
    };
    let all: Map<String, Value> = described.chain([&REQUEST_ID]).map(reference).collect();
    Value::Object(all)
}

/// Headers that say the same in every answer to one operation with one status.
const FIXED: [HeaderName; 2] = [CACHE_CONTROL, WWW_AUTHENTICATE];

fn capitalise_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
