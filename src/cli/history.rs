//! `history`: a user's trades and statement as a running service shows them, page by page.
//!
//! **Limits.** [`PAGE`] rows of one request; `--limit` rows are kept until they are shown.

use std::process::ExitCode;

use anyhow::Result;
use balance_cache::{config::Settings, domain::UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;

use super::{
    arguments::{HistoryCommand, PageArguments},
    client::{ServiceClient, Unanswered},
    output::{BAD, Cell, FAINT, Table, moment_text, paint_text, print_error, print_line, say_json},
    start_runtime,
};

/// The rows that the service gives at once, at most.
const PAGE: u32 = 1_000;

type Row = Map<String, Value>;

/// A page as clients get it.
#[derive(Debug, Deserialize)]
struct Envelope {
    status: i64,
    msg: String,
    data: Option<Vec<Row>>,
    next: Option<String>,
}

/// For programs.
#[derive(Debug, Serialize)]
struct Output<'a> {
    user: i64,
    url: &'a str,
    rows: &'a [Row],
    next: Option<&'a str>,
}

/// The rows, or why there are none; the cursor of the row that follows.
type Found = (Result<Vec<Row>, String>, Option<String>);

/// Everything that a kind of history is asked and shown by.
struct HistoryQuestion<'a> {
    route: &'static str,
    user: UserId,
    /// Parameters beside the user and the page.
    parameters: Vec<(&'static str, String)>,
    pages: &'a PageArguments,
    /// Headings, and the fields below them.
    columns: &'static [(&'static str, &'static str)],
}

const TRADES: &[(&str, &str)] = &[
    ("SETTLED", "settled_at"),
    ("TRADE", "trade_id"),
    ("ROLE", "role"),
    (">PRICE", "price"),
    (">QUANTITY", "quantity"),
    (">COST", "cost"),
    (">ORDER", "order_id"),
];
const STATEMENT: &[(&str, &str)] = &[
    (">SEQ", "seq"),
    ("CREATED", "created_at"),
    ("EVENT", "event_type"),
    (">REF", "ref_id"),
    (">DELTA AVAIL", "delta_avail"),
    (">DELTA FROZEN", "delta_frozen"),
    (">AVAIL", "avail"),
    (">FROZEN", "frozen"),
];

impl<'a> HistoryQuestion<'a> {
    fn new(what: &'a HistoryCommand) -> Self {
        let given = |name, value: Option<i64>| Some((name, value?.to_string()));
        match what {
            HistoryCommand::Trades(trades) => {
                let times = [given("from", trades.from), given("to", trades.to)];
                let symbol = ("symbol", trades.symbol.clone());
                Self {
                    route: "/api/v1/order/trades",
                    user: trades.user,
                    parameters: times.into_iter().flatten().chain([symbol]).collect(),
                    pages: &trades.pages,
                    columns: TRADES,
                }
            }
            HistoryCommand::Statement(statement) => {
                let asset = ("asset", statement.asset.clone());
                let time = given("at", statement.at);
                Self {
                    route: "/api/v1/user/ledger",
                    user: statement.user,
                    parameters: time.into_iter().chain([asset]).collect(),
                    pages: &statement.pages,
                    columns: STATEMENT,
                }
            }
        }
    }

    /// The path of the page behind a cursor.
    fn request_path(&self, limit: u32, cursor: Option<&str>) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("user_id", &self.user.to_string());
        for (name, value) in &self.parameters {
            query.append_pair(name, value);
        }
        if self.pages.oldest_first {
            query.append_pair("order", "asc");
        }
        query.append_pair("limit", &limit.to_string());
        if let Some(cursor) = cursor {
            query.append_pair("cursor", cursor);
        }
        format!("{}?{}", self.route, query.finish())
    }

    async fn ask_service(&self, client: &ServiceClient) -> Result<Found, Unanswered> {
        let mut rows = Vec::new();
        let mut next = self.pages.cursor.clone();
        let mut left = self.pages.limit;
        loop {
            let limit = left.min(PAGE);
            let answer = client
                .get(&self.request_path(limit, next.as_deref()))
                .await?;
            let Ok(page) = serde_json::from_slice::<Envelope>(&answer.body) else {
                let reason = "it is not a balance-cache that answers";
                return Ok((Err(reason.to_owned()), None));
            };
            let Some(more) = page.data.filter(|_| answer.status == 200) else {
                let Envelope { status, msg, .. } = page;
                let reason = format!("HTTP {}, status {status}: {msg}", answer.status);
                return Ok((Err(reason), None));
            };
            let count = u32::try_from(more.len()).unwrap_or(u32::MAX);
            rows.extend(more);
            left = left.saturating_sub(count);
            next = page.next;
            if left == 0 || next.is_none() {
                return Ok((Ok(rows), next));
            }
        }
    }

    fn rows_table(&self, rows: &[Row]) -> Table {
        let heads: Vec<&'static str> = self.columns.iter().map(|(head, _)| *head).collect();
        let mut table = Table::new(&heads);
        for row in rows {
            let cell = |(_, field): &(&str, &str)| Cell::new(shown_field(field, row.get(*field)));
            table.add_row(self.columns.iter().map(cell).collect());
        }
        table
    }
}

/// A field as people read it.
fn shown_field(field: &str, value: Option<&Value>) -> String {
    match value {
        Some(Value::Number(number)) if field.ends_with("_at") => number
            .as_i64()
            .map_or_else(|| number.to_string(), moment_text),
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

pub(crate) fn run(what: &HistoryCommand, settings: &Settings) -> Result<ExitCode> {
    let question = HistoryQuestion::new(what);
    let reach = &question.pages.reach;
    let client = ServiceClient::of_service(reach, settings)?;
    let (found, next) = start_runtime()?.block_on(question.ask_service(&client))?;
    let rows = match found {
        Ok(rows) => rows,
        Err(reason) => {
            print_error(&format!(
                "balance-cache: {} {}",
                client.base_url(),
                paint_text(BAD, &reason)
            ));
            return Ok(ExitCode::FAILURE);
        }
    };
    if question.pages.json {
        say_json(&Output {
            user: question.user.get(),
            url: client.base_url(),
            rows: &rows,
            next: next.as_deref(),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = if rows.is_empty() {
        "has none".to_owned()
    } else {
        question.rows_table(&rows).to_string()
    };
    print_line(&format!(
        "user {} at {}\n{shown}",
        question.user,
        client.base_url()
    ))?;
    if let Some(next) = next {
        let more = format!("there are more: --cursor {next}");
        print_line(&paint_text(FAINT, &more))?;
    }
    Ok(ExitCode::SUCCESS)
}
