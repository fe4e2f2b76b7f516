//! The API described as `OpenAPI` 3.1, for `/openapi.json`.
//!
//! Schemas come from the types that read and write ([`NotificationWire`], [`EntryWire`], `json`, `forms`), and from `shapes` where
//! bodies are rendered by hand. Examples and headers are not written here: the functions that serve make them, from sample
//! data and from bad questions.
//!
//! **Invariants.** Every route of the router is described, and only those; every failure shows the status, code, headers and
//! message that a client gets. The document has no secrets and needs no token.
//!
//! **Limits.** Made at start, and again when a reload changes the assets ([`Document`]).
//!
//! **Deliberately absent**: HEAD (it is GET without a body), and the operators' routes, which `ops` adds.

mod failures;
mod histories;
mod ledger;
mod operation;
mod operations;
mod samples;
pub(super) mod shapes;
mod totals;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa::PartialSchema;

use self::samples::Samples;
use super::{
    history::{StatementLine, TradeLine},
    json::{BATCH_MAX, Invalidation, USERS_MAX, Users},
    results::{Invalidated, SettledCounts, WarmedCounts, WrittenEntries},
};
use crate::{
    config::LedgerSide,
    domain::{
        AssetId, BalanceWire, Catalogue, ChangeWire, EntryWire, FeeWire, NotificationWire,
        PaysFrom, Seq, TradeWire, TransactionWire,
    },
};

/// Where it stands, on both listeners.
pub use super::routes::OPENAPI as PATH;

const ABOUT: &str = "What does a user have? Answers come from memory, Redis or the ledger, and say which (`Cache-Status`). \
Success and failure have one envelope: `status` is 0 and `data` is there, or `status` is the code of the failure and `data` is null. \
Amounts that are read are exact decimals of whole units, in strings; amounts that are sent are raw units, whole numbers of the asset's smallest unit: \
with 8 decimals, 920000000000 is sent and \"9200\" is read. Numbers go up to 2⁶³−1: read them with 64 bits, and write them without a fraction. HEAD is GET without a body. Another path is 404 (`4041`), another method 405 (`4051`, `Allow`).";

/// A rendered description that can be replaced while it is served. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Document(Arc<ArcSwap<Bytes>>);

impl Document {
    /// The description in force.
    pub fn get(&self) -> Bytes {
        Bytes::clone(&self.0.load())
    }

    /// Serves another one from here on.
    pub fn replace_document(&self, document: Bytes) {
        self.0.store(Arc::new(document));
    }
}

impl From<Bytes> for Document {
    fn from(document: Bytes) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(document)))
    }
}

/// The description of the API with these assets and this writer of seqs, where a token is needed or not, and where the ledger has
/// nothing but balances or more.
pub fn build_document(
    catalogue: &Catalogue,
    writer: LedgerSide,
    token: bool,
    balances_only: bool,
) -> Value {
    let samples = Samples::new(catalogue);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "balance-cache",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "User balances, cached and never wrong about money.",
            "description": ABOUT,
            "license": {"name": "MIT or Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "tags": [
            {"name": "balances", "description": "What users have."},
            {"name": "settlements", "description": "What changed."},
            {"name": "ledger", "description": "What is written: transactions and trades, exactly once."},
            {"name": "histories", "description": "What happened: trades and statements, page by page."},
            {"name": "totals", "description": "What all users have, and what a user's balances are worth."},
            {"name": "cache", "description": "What is held."},
            {"name": "description", "description": "This document."},
        ],
        "paths": operations::document_paths(&samples, writer, token, balances_only),
        "components": {
            "schemas": component_schemas(catalogue, writer),
            "headers": header_components(),
            "responses": failures::of_no_operation(),
            "parameters": parameter_components(catalogue, &samples),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of this deployment (`balance-cache auth token` makes one). Each has some of the scopes `read`, `settle`, `admin`.",
            }},
        },
    })
}

fn component_schemas(catalogue: &Catalogue, writer: LedgerSide) -> Value {
    let mut schemas = json!({
        "UserId": schema_of::<shapes::UserIdShape>(),
        "Amount": schema_of::<shapes::AmountShape>(),
        "Balance": schema_of::<shapes::BalanceShape>(),
        "BalancesOf": schema_of::<shapes::BalancesOf>(),
        "Unit": schema_of::<shapes::UnitShape>(),
        "Detail": schema_of::<shapes::DetailShape>(),
        "Batch": at_most(schema_of::<Users<'_, BATCH_MAX>>(), BATCH_MAX),
        "Warming": at_most(schema_of::<Users<'_, USERS_MAX>>(), USERS_MAX),
        "Invalidation": at_most(schema_of::<Invalidation<'_>>(), USERS_MAX),
        "Notification": notification_schema(),
        "LedgerEntry": schema_of::<EntryWire>(),
        "Transaction": schema_of::<TransactionWire>(),
        "TransactionEntry": schema_of::<ChangeWire>(),
        "Trade": ledger::trade_schema(schema_of::<TradeWire>(), catalogue, writer),
        "Fee": schema_of::<FeeWire>(),
        "PaysFrom": schema_of::<PaysFrom>(),
        "PostedBalance": schema_of::<BalanceWire>(),
        "SettleResult": schema_of::<shapes::SettleResult>(),
        "SettleState": schema_of::<shapes::SettleStateShape>(),
        "SettledTransaction": schema_of::<shapes::SettledTransactionShape>(),
        "SettledTrade": schema_of::<shapes::SettledTrade>(),
        "StoredTransaction": schema_of::<shapes::StoredTransactionShape>(),
        "StoredTrade": schema_of::<shapes::StoredTrade>(),
        "UserTrade": histories::with_amounts(schema_of::<TradeLine<'_>>()),
        "StatementRow": histories::with_amounts(schema_of::<StatementLine>()),
        "Settled": schema_of::<SettledCounts>(),
        "Written": schema_of::<WrittenEntries>(),
        "Invalidated": schema_of::<Invalidated>(),
        "Warmed": schema_of::<WarmedCounts>(),
        "Failure": {
            "type": "object",
            "description": "Why there is no answer.",
            "required": ["status", "msg", "data"],
            "properties": {
                "status": {"type": "integer", "minimum": 1000, "description": "The code of the failure."},
                "msg": {"type": "string", "description": "For people. Do not parse it."},
                "data": {"type": "null"},
            },
        },
    });
    if let Value::Object(all) = &mut schemas {
        all.extend(totals::totals_schemas(catalogue));
    }
    schemas
}

fn schema_of<T: PartialSchema>() -> Value {
    serde_json::to_value(T::schema()).unwrap_or_default()
}

fn at_most(mut schema: Value, max: usize) -> Value {
    if let Some(users) = schema.pointer_mut("/properties/user_ids") {
        put_field(users, "maxItems", json!(max));
    }
    schema
}

fn put_field(object: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = object {
        map.insert(key.to_owned(), value);
    }
}

/// The forms that a notification may have; a null is an absent field.
fn notification_schema() -> Value {
    let form = |title: &str, said: &[&str]| {
        let fields = ["asset_id", "seq", "avail", "frozen"];
        let kind = |field| {
            if said.contains(&field) {
                "integer"
            } else {
                "null"
            }
        };
        let properties: Map<String, Value> = fields
            .map(|field| (field.to_owned(), json!({"type": kind(field)})))
            .into_iter()
            .collect();
        json!({"title": title, "required": said, "properties": properties})
    };
    let mut schema = schema_of::<NotificationWire>();
    let forms = [
        form(
            "With values: what is held moves forward in place.",
            &["asset_id", "seq", "avail", "frozen"],
        ),
        form(
            "With seq: nothing older is shown any more.",
            &["asset_id", "seq"],
        ),
        form(
            "Asset only: it is read again from the ledger.",
            &["asset_id"],
        ),
        form(
            "User only: all of the user's assets are read again from the ledger.",
            &[],
        ),
    ];
    put_field(&mut schema, "anyOf", json!(forms));
    put_field(
        &mut schema,
        "description",
        json!(
            "A settlement tells that a balance changed. The more it says, the cheaper it is. Fields that are not named here are ignored."
        ),
    );
    schema
}

/// Every header of an answer; which answer has which is found out from real ones.
fn header_components() -> Value {
    let text = |description: &str, schema: Value| json!({"required": true, "description": description, "schema": schema});
    json!({
        "x-request-id": text(
            "The client's, if it is 1 to 128 visible ASCII characters, else a new one.",
            json!({"type": "string", "pattern": "^[!-~]{1,128}$"}),
        ),
        "etag": text(
            "Strong: equal balances have equal tags on every instance.",
            json!({"type": "string", "pattern": "^\"[A-Za-z0-9_-]{16}\"$"}),
        ),
        "age": text(
            "Whole seconds since the ledger, or a notification's values, said so; of several assets the oldest.",
            json!({"type": "integer", "minimum": 0}),
        ),
        "cache-status": text(
            "RFC 9211: one member for each tier that was asked, nearest the source first. The first one answered. \
             `detail=behind`: a floor is known that not even the ledger reaches yet. `detail=stale`: the source is down, this is what was known last.",
            json!({
                "type": "string",
                "pattern": "^(memory|redis|source); hit(; ttl=[0-9]+)?(; detail=(behind|stale))?(, (source|redis|memory); fwd=(miss|stale|request|bypass))*(; collapsed)?$",
            }),
        ),
        "retry-after": text("Seconds.", json!({"type": "integer", "minimum": 1})),
        "allow": text("The methods that the path takes.", json!({"type": "string", "enum": ["GET, HEAD", "POST"]})),
    })
}

fn parameter_components(catalogue: &Catalogue, samples: &Samples<'_>) -> Value {
    let seqs = up_to(&Seq::MAX.to_string());
    let any = up_to(&AssetId::MAX.to_string());
    let (names, numbers): (Vec<String>, Vec<AssetId>) = catalogue
        .asset_ids()
        .filter_map(|id| catalogue.get_asset(id).map(|(name, _)| (name, id)))
        .unzip();
    let mut unnamed = json!({
        "type": "integer",
        "minimum": 1,
        "maximum": AssetId::MAX,
        "description": "The number of an asset that has no name here.",
    });
    let mut asset = vec![];
    let mut item = json!({"type": "string", "pattern": format!("^({any}):({seqs})$")});
    if !names.is_empty() {
        put_field(&mut unnamed, "not", json!({"enum": numbers}));
        asset.push(json!({"type": "string", "enum": names}));
        let escaped: Vec<String> = names.iter().map(|name| name.replace('.', r"\.")).collect();
        let taken: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        item = json!({
            "type": "string",
            "pattern": format!("^({}|{any}):({seqs})$", escaped.join("|")),
            "not": {"pattern": format!("^({}):", taken.join("|"))},
        });
    }
    asset.push(unnamed);
    let asset = json!({
        "name": "asset", "in": "query",
        "description": "That asset only: its name (case counts), or the number of an asset that has no name here.",
        "schema": {"oneOf": asset}, "example": samples.asset_parameter(),
    });
    let of_pages = histories::page_parameters(samples, &asset);
    let mut all = json!({
        "id": {
            "name": "id", "in": "path", "required": true, "description": "The caller's key of idempotence.",
            "schema": {"type": "integer", "minimum": 1, "maximum": i64::MAX}, "example": ledger::ID,
        },
        "user_id": {
            "name": "user_id", "in": "query", "required": true, "description": "Whose balances.",
            "schema": {"$ref": "#/components/schemas/UserId"}, "example": samples::USER,
        },
        "quote": totals::quote_parameter(samples),
        "asset": asset,
        "min_seq": {
            "name": "min_seq", "in": "query", "style": "form", "explode": false,
            "description": "Not older than that, whatever is shown: `asset:seq`, separated by commas. Of an asset named twice the higher seq counts.",
            "schema": {"type": "array", "items": item, "minItems": 1, "maxItems": super::query::MIN_SEQ_MAX},
            "example": [samples.min_seq()],
        },
        "if-none-match": {
            "name": "If-None-Match", "in": "header", "description": "Tags of what the client has, or `*`: the answer may be 304.",
            "schema": {"type": "string"},
        },
        "cache-control": {
            "name": "Cache-Control", "in": "header",
            "description": "`no-cache` reads the ledger and answers the newer of it and of what is held.",
            "schema": {"type": "string"},
        },
        "x-request-id": {
            "name": "X-Request-Id", "in": "header",
            "description": "A name for this request, in the answer and in our log. What is not 1 to 128 visible ASCII characters is replaced.",
            "schema": {"type": "string"},
        },
    });
    if let Value::Object(all) = &mut all {
        all.extend(of_pages);
    }
    all
}

/// A pattern for the whole numbers from 1 to `max`, without leading zeros.
fn up_to(max: &str) -> String {
    let mut forms = Vec::new();
    let digits = max.len();
    if let Some(shorter) = digits.checked_sub(2) {
        forms.push(format!("[1-9][0-9]{{0,{shorter}}}"));
    }
    for (at, digit) in max.char_indices() {
        let lowest = if at == 0 { '1' } else { '0' };
        let (before, rest) = (max.get(..at), digits.saturating_sub(at).saturating_sub(1));
        let below = (lowest..digit).next_back();
        if let (Some(before), Some(below)) = (before, below) {
            let rest = match rest {
                0 => String::new(),
                1 => "[0-9]".to_owned(),
                some => format!("[0-9]{{{some}}}"),
            };
            let below = if lowest == below {
                lowest.to_string()
            } else {
                format!("[{lowest}-{below}]")
            };
            forms.push(format!("{before}{below}{rest}"));
        }
    }
    forms.push(max.to_owned());
    forms.join("|")
}

#[cfg(test)]
mod tests;
