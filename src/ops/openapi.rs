//! The operators' routes described, beside the API's: one document for both listeners.
//!
//! **Invariants.** Each copy says where the other listener's routes are; its own are where it came from.
//!
//! **Deliberately absent**: the dashboard's files and data, which are between it and this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::ReadinessReasons;
use crate::http::openapi::{self, Document};

/// The rendered document, for either listener.
#[derive(Debug, Clone)]
pub struct Documents {
    pub api: Document,
    pub operators: Document,
    api_at: SocketAddr,
    operators_at: SocketAddr,
}

impl Documents {
    /// The description of the API and of the operators' routes; where each listens.
    pub fn new(api: &Value, api_at: SocketAddr, operators_at: SocketAddr) -> Self {
        let documents = Self {
            api: Document::default(),
            operators: Document::default(),
            api_at,
            operators_at,
        };
        documents.replace_documents(api);
        documents
    }

    /// Another description of the API, on both listeners.
    pub fn replace_documents(&self, api: &Value) {
        let here = || json!({"url": "/", "description": "where this document came from"});
        let operators = server_entry("the operators' port", self.operators_at);
        self.api
            .replace_document(merge_document(api, &here(), &operators));
        let clients = server_entry("the API's port", self.api_at);
        self.operators
            .replace_document(merge_document(api, &clients, &here()));
    }
}

fn merge_document(api: &Value, api_server: &Value, operators: &Value) -> Bytes {
    let mut document = api.clone();
    if let Some(Value::Array(tags)) = document.get_mut("tags") {
        tags.push(
            json!({"name": "operators", "description": "How the service is. On a port of its own, without tokens."}),
        );
    }
    if let Some(Value::Object(paths)) = document.get_mut("paths") {
        paths.extend(operator_paths().into_iter().map(|(path, get)| {
            let item = json!({"servers": [operators], "get": get});
            (path.to_owned(), item)
        }));
    }
    if let Value::Object(document) = &mut document {
        document.insert("servers".to_owned(), json!([api_server]));
    }
    document.to_string().into()
}

/// A server entry; clients behind a proxy may use another address.
fn server_entry(description: &str, at: SocketAddr) -> Value {
    let host = match at.ip() {
        any if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        one => one,
    };
    let host = match host {
        IpAddr::V4(four) => four.to_string(),
        IpAddr::V6(six) => format!("[{six}]"),
    };
    json!({
        "url": "http://{host}:{port}",
        "description": description,
        "variables": {"host": {"default": host}, "port": {"default": at.port().to_string()}},
    })
}

/// The operators' routes that others rely on.
fn operator_paths() -> [(&'static str, Value); 4] {
    let ready = ReadinessReasons::default();
    let degraded = ReadinessReasons {
        degraded: vec!["redis: connection refused".to_owned()],
        ..ReadinessReasons::default()
    };
    let not_ready = ReadinessReasons {
        not_ready: vec!["source: not connected yet".to_owned()],
        ..ReadinessReasons::default()
    };
    let text = |kind: &str| json!({kind: {"schema": {"type": "string"}}});
    [
        (
            "/livez",
            operator_operation(
                "livez",
                "Whether the process turns",
                &json!({"200": status_response("It does.", &["alive"], false, &json!({"alive": {"value": {"status": "alive"}}}))}),
            ),
        ),
        (
            "/readyz",
            operator_operation(
                "readyz",
                "Whether it can answer, and how well",
                &json!({
                    "200": status_response("It can; `degraded`: less well than it could.", &["ready", "degraded"], true, &readiness_examples(&[ready, degraded])),
                    "503": status_response("It cannot.", &["not_ready"], true, &readiness_examples(&[not_ready])),
                }),
            ),
        ),
        (
            "/metrics",
            operator_operation(
                "metrics",
                "All metrics, as Prometheus reads them",
                &json!({"200": {"description": "Text format.", "headers": request_id_header(), "content": text("text/plain; version=0.0.4")}}),
            ),
        ),
        (
            "/dashboard",
            operator_operation(
                "dashboard",
                "A page that shows what the service does now",
                &json!({"200": {"description": "It.", "headers": cache_headers("no-cache"), "content": text("text/html; charset=utf-8")}}),
            ),
        ),
    ]
}

fn operator_operation(id: &str, summary: &str, responses: &Value) -> Value {
    json!({
        "operationId": id,
        "tags": ["operators"],
        "summary": summary,
        "security": [],
        "parameters": [{"$ref": "#/components/parameters/x-request-id"}],
        "responses": responses,
    })
}

fn status_response(description: &str, words: &[&str], reasons: bool, examples: &Value) -> Value {
    let mut properties = json!({"status": {"type": "string", "enum": words}});
    if let (true, Value::Object(properties)) = (reasons, &mut properties) {
        let list = json!({"type": "array", "items": {"type": "string"}, "minItems": 1});
        properties.insert("reasons".to_owned(), list);
    }
    let schema = json!({"type": "object", "required": ["status"], "properties": properties});
    json!({
        "description": description,
        "headers": cache_headers("no-store"),
        "content": {"application/json": {"schema": schema, "examples": examples}},
    })
}

fn request_id_header() -> Value {
    json!({"x-request-id": {"$ref": "#/components/headers/x-request-id"}})
}

fn cache_headers(cache_control: &str) -> Value {
    json!({
        "x-request-id": {"$ref": "#/components/headers/x-request-id"},
        "cache-control": {"required": true, "schema": {"type": "string", "const": cache_control}},
    })
}

fn readiness_examples(all: &[ReadinessReasons]) -> Value {
    let examples: Map<String, Value> = all
        .iter()
        .map(|readiness| {
            let body: Value =
                serde_json::from_str(&readiness.render_readiness().1).unwrap_or_default();
            let word = body
                .get("status")
                .and_then(Value::as_str)
                .unwrap_or_default();
            (word.to_owned(), json!({"value": body}))
        })
        .collect();
    Value::Object(examples)
}

/// Where the document stands on the operators' listener: where it does on the other.
pub const PATH: &str = openapi::PATH;
