//! The operations of pages. Examples are asked and answered by what asks and answers real ones.

use serde_json::{Map, Value, json};

use super::{
    failures::header_references,
    operation::{Operation, common_failures, schema_ref},
    put_field,
    samples::{NOBODY, Samples, USER, parse_json_body},
    up_to,
};
use crate::{
    config::Scope,
    domain::{
        Amount, CatalogueTable, HistoryPage, PAGE_DEFAULT, PAGE_MAX, Seq, StatementRow, TradeId,
        TradePlace, TradeSideRole, UnixMillis, UserTrade,
    },
    http::{
        Failure,
        history::{
            self,
            cursor::TEXT_MAX,
            question::{StatementAsked, TradesAsked},
        },
    },
    ledger::LedgerError,
};

const MADE_AT: UnixMillis = UnixMillis(1_765_352_441_955);
const PRICE: i64 = 5_000_000_000_000;
const QUANTITY: i64 = 1_000_000;

/// Fields of rows that hold amounts.
const AMOUNTS: [&str; 7] = [
    "price",
    "quantity",
    "cost",
    "avail",
    "frozen",
    "delta_avail",
    "delta_frozen",
];

/// The schema of a row whose texts of amounts are amounts.
pub fn with_amounts(mut row: Value) -> Value {
    let amount = schema_ref("Amount");
    for field in AMOUNTS {
        let Some(schema) = row.pointer_mut(&format!("/properties/{field}")) else {
            continue;
        };
        let or_null = schema.get("type").is_some_and(Value::is_array);
        let description = schema.get("description").cloned().unwrap_or_default();
        *schema = if or_null {
            json!({"oneOf": [{"type": "null"}, amount], "description": description})
        } else {
            json!({"allOf": [amount], "description": description})
        };
    }
    row
}

/// The parameters that pages have beside those of a balance read.
pub fn page_parameters(samples: &Samples<'_>, asset: &Value) -> Map<String, Value> {
    let symbols = samples.catalogue.symbol_names();
    let mut symbol = json!({
        "name": "symbol", "in": "query", "required": true,
        "description": "A name of the catalogue (case counts).",
        "schema": {"type": "string"},
    });
    if let Some(first) = symbols.first() {
        put_field(&mut symbol, "example", json!(first));
        put_field(
            &mut symbol,
            "schema",
            json!({"type": "string", "enum": symbols}),
        );
    }
    let mut of_asset = asset.clone();
    put_field(&mut of_asset, "required", json!(true));
    put_field(
        &mut of_asset,
        "description",
        json!("The asset's name (case counts), or the number of an asset that has no name here."),
    );
    let time = |name: &str, description: &str| {
        let number = format!("^(0|{})$", up_to(&i64::MAX.to_string()));
        json!({
            "name": name, "in": "query", "description": description,
            "schema": {"type": "string", "pattern": number}, "example": MADE_AT.0.to_string(),
        })
    };
    let all = json!({
        "symbol": symbol,
        "statement_asset": of_asset,
        "limit": {
            "name": "limit", "in": "query", "description": "Rows at most. It may change from page to page.",
            "schema": {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT}, "example": 2,
        },
        "cursor": {
            "name": "cursor", "in": "query",
            "description": "`next` of the page before, with the same query beside it; `limit` alone may differ.",
            "schema": {"type": "string", "pattern": cursor_pattern()},
        },
        "from": time("from", "Not settled earlier: milliseconds since 1970."),
        "to": time("to", "Settled earlier than this: milliseconds since 1970."),
        "at": time(
            "at",
            "Begins with the first row from the top whose `created_at` is not later (milliseconds since 1970). Rows without `created_at` are passed over in the search.",
        ),
        "order": {
            "name": "order", "in": "query", "description": "`desc`: the newest row first. `asc`: the oldest.",
            "schema": {"type": "string", "enum": ["desc", "asc"], "default": "desc"}, "example": "asc",
        },
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}

fn cursor_pattern() -> String {
    format!("^[A-Za-z0-9_-]{{1,{TEXT_MAX}}}$")
}

pub fn trades_operation(samples: &Samples<'_>) -> Operation {
    let table = samples.catalogue.current_table();
    let page = HistoryPage {
        rows: [(8, TradeSideRole::Seller), (7, TradeSideRole::Buyer)]
            .into_iter()
            .filter_map(|(id, role)| sample_user_trade(id, role))
            .collect(),
        more: true,
    };
    let symbol = table
        .symbol_names()
        .first()
        .map_or_else(String::new, |name| (*name).to_owned());
    let body = |user: i64, page: &HistoryPage<UserTrade>| {
        let query = format!("user_id={user}&symbol={symbol}&limit=2");
        let asked = TradesAsked::parse_query(Some(&query), &table).ok()?;
        history::trades_body(&asked, page).ok()
    };
    Operation {
        id: "user_trades",
        summary: "A user's trades in one symbol, page by page",
        about: "Both sides of each trade, by time of settlement and id, the newest first. `next` leads to the next page; null: there is none. \
                Paging shows every row that stood when it began exactly once, whatever is written meanwhile, and what was acknowledged \
                before a page is asked for is in it. A user without trades: an empty list.",
        parameters: &[
            "user_id", "symbol", "limit", "cursor", "from", "to", "order",
        ],
        ok: page_of(
            "UserTrade",
            body(USER, &page),
            body(NOBODY, &HistoryPage::default()),
        ),
        ..paged_operation(TradesAsked::parse_query(None, &table).err())
    }
}

pub fn statement_operation(samples: &Samples<'_>) -> Operation {
    let table = samples.catalogue.current_table();
    let page = HistoryPage {
        rows: [17, 16]
            .into_iter()
            .filter_map(sample_statement_row)
            .collect(),
        more: true,
    };
    let body = |user: i64, page: &HistoryPage<StatementRow>| {
        let asked = statement_asked(user, &samples.asset_name(), &table)?;
        history::statement_body(&asked, page).ok()
    };
    Operation {
        id: "statement",
        summary: "The statement of one balance, page by page",
        about: "The rows of the ledger, the highest seq first. `next` leads to the next page; null: there is none. Columns that the writer left out are null. \
                Paging shows every row that stood when it began exactly once, whatever is written meanwhile, and what was acknowledged \
                before a page is asked for is in it. A user without rows: an empty list.",
        parameters: &[
            "user_id",
            "statement_asset",
            "limit",
            "cursor",
            "at",
            "order",
        ],
        ok: page_of(
            "StatementRow",
            body(USER, &page),
            body(NOBODY, &HistoryPage::default()),
        ),
        ..paged_operation(StatementAsked::parse_query(None, &table).err())
    }
}

fn paged_operation(mistake: Option<String>) -> Operation {
    let mut fails = common_failures(Scope::Read, mistake);
    fails.extend([Failure::Shed, Failure::Source(LedgerError::Timeout)]);
    Operation {
        tag: "histories",
        scope: Some(Scope::Read),
        fails,
        ..Operation::default()
    }
}

/// A page, with examples of one that has rows and of one that has none.
fn page_of(line: &str, some: Option<Vec<u8>>, none: Option<Vec<u8>>) -> Value {
    let headers = header_references(history::uncached_response(Vec::new()).headers());
    let examples: Map<String, Value> = [("rows", some), ("none", none)]
        .into_iter()
        .filter_map(|(name, body)| {
            Some((name.to_owned(), json!({"value": parse_json_body(&body?)})))
        })
        .collect();
    let schema = json!({
        "type": "object",
        "required": ["status", "msg", "data", "next"],
        "properties": {
            "status": {"const": 0},
            "msg": {"const": "ok"},
            "data": {"type": "array", "maxItems": PAGE_MAX, "items": {"$ref": format!("#/components/schemas/{line}")}},
            "next": {
                "type": ["string", "null"], "pattern": cursor_pattern(),
                "description": "The cursor of the next page; null: no rows follow.",
            },
        },
    });
    json!({
        "description": "A page.",
        "headers": headers,
        "content": {"application/json": {"schema": schema, "examples": examples}},
    })
}

fn statement_asked(user: i64, asset: &str, table: &CatalogueTable) -> Option<StatementAsked> {
    let query = format!("user_id={user}&asset={asset}&limit=2");
    StatementAsked::parse_query(Some(&query), table).ok()
}

fn sample_user_trade(id: i64, role: TradeSideRole) -> Option<UserTrade> {
    let amount = |raw| Some(Amount::from_raw(raw));
    Some(UserTrade {
        place: TradePlace {
            settled_at: MADE_AT,
            trade_id: TradeId::new(id).ok()?,
            role,
        },
        price: amount(PRICE),
        quantity: amount(QUANTITY),
        cost: amount(50_000_000_000),
        order_id: None,
    })
}

fn sample_statement_row(seq: i64) -> Option<StatementRow> {
    Some(StatementRow {
        seq: Seq::new(seq).ok()?,
        avail: Amount::from_raw(910_000_000_000),
        frozen: Amount::default(),
        delta_avail: Some(Amount::from_raw(QUANTITY)),
        delta_frozen: None,
        event_type: Some("trade".to_owned()),
        ref_id: Some(7),
        created_at: Some(MADE_AT),
    })
}
