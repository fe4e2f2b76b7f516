//! One operation of the document: what it takes and gives, and the pieces that operations share.

use http::{HeaderMap, HeaderValue, header::CACHE_CONTROL};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    failures::{failure_responses, header_references},
    samples::parse_json_body,
};
use crate::{
    config::Scope,
    http::{Failure, answer},
};

/// One method of one path.
#[derive(Default)]
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) scope: Option<Scope>,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    /// Those that it has beside the request's id.
    pub(super) parameters: &'static [&'static str],
    /// The schema of the body and examples of it.
    pub(super) takes: Option<(Value, Value)>,
    /// The answer where nothing fails.
    pub(super) ok: Value,
    pub(super) not_modified: Option<Value>,
    pub(super) fails: Vec<Failure>,
}

impl Operation {
    pub(super) fn into_json(self, token: bool) -> Value {
        let mut responses = failure_responses(&self.fails);
        responses.insert("200".to_owned(), self.ok);
        let not_modified = self.not_modified.into_iter();
        responses.extend(not_modified.map(|same| ("304".to_owned(), same)));
        let parameters: Vec<Value> = self
            .parameters
            .iter()
            .chain(&["x-request-id"])
            .map(|name| json!({"$ref": format!("#/components/parameters/{name}")}))
            .collect();
        let security = match (self.scope, token) {
            (None, _) => json!([]),
            (Some(scope), true) => json!([{"token": [scope.as_str()]}]),
            // A token is not looked at then, but clients that send one are welcome.
            (Some(scope), false) => json!([{}, {"token": [scope.as_str()]}]),
        };
        let mut shown = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.about,
            "parameters": parameters,
            "security": security,
            "responses": responses,
        });
        if let Some((schema, examples)) = self.takes {
            let body = json!({"required": true, "content": {"application/json": {"schema": schema, "examples": examples}}});
            super::put_field(&mut shown, "requestBody", body);
        }
        shown
    }
}

pub(super) fn schema_ref(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn common_failures(scope: Scope, mistake: Option<String>) -> Vec<Failure> {
    vec![
        Failure::malformed_request(mistake.unwrap_or_default()),
        Failure::Unauthenticated,
        Failure::Forbidden(scope),
        Failure::HeadTooLarge,
        Failure::Deadline,
        Failure::Bug("never shown"),
    ]
}

pub(super) fn post_failures(scope: Scope, mistake: Option<String>) -> Vec<Failure> {
    let mut fails = common_failures(scope, mistake);
    if scope != Scope::Read {
        fails.push(Failure::CrossOrigin);
    }
    fails.extend([
        Failure::TooLarge { max: 8_388_608 },
        Failure::NotJson,
        Failure::Shed,
    ]);
    fails
}

pub(super) fn one_or_many(name: &str, max: usize) -> Value {
    let one = schema_ref(name);
    json!({"anyOf": [one, {"type": "array", "items": one, "maxItems": max}]})
}

pub(super) fn single_example(summary: &str, value: &Value) -> Value {
    json!({"one": {"summary": summary, "value": value}})
}

/// The envelope around this `data`.
pub(super) fn envelope_schema(data: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["status", "msg", "data"],
        "properties": {"status": {"const": 0}, "msg": {"const": "ok"}, "data": data},
    })
}

pub(super) fn ok_response(data: &Value, description: &str, example: &Value) -> Value {
    json!({
        "description": description,
        "headers": header_references(&HeaderMap::new()),
        "content": {"application/json": {"schema": envelope_schema(data), "examples": {"one": {"value": example}}}},
    })
}

pub(super) fn done_response(name: &str, description: &str, example: &impl Serialize) -> Value {
    let data = schema_ref(name);
    let example = answer::done_body(example).unwrap_or_default();
    ok_response(&data, description, &parse_json_body(&example))
}

pub(super) fn file_response(kind: &str, schema: &Value) -> Value {
    let headers = [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    json!({
        "description": "It.",
        "headers": header_references(&HeaderMap::from_iter(headers)),
        "content": {kind: {"schema": schema}},
    })
}
