//! `get`: what a running service shows of a user, as a table.

use std::process::ExitCode;

use anyhow::Result;
use balance_cache::{clock, config::Settings};
use serde::Serialize;

use super::{
    arguments::Get,
    client::ServiceClient,
    output::{
        BAD, Cell, FAINT, Table, moment_text, paint_text, print_error, print_line, say_json,
        span_text,
    },
    service_view::{self, ServiceAnswer, ShownBalance},
    start_runtime,
};

/// For programs.
#[derive(Debug, Serialize)]
struct GetPage<'a> {
    user: i64,
    url: &'a str,
    cache_status: &'a str,
    age: Option<u64>,
    balances: &'a [ShownBalance],
}

/// Shows the balances of a user.
pub(crate) fn run_get(what: &Get, settings: &Settings) -> Result<ExitCode> {
    let client = ServiceClient::new(
        what.reach.url.as_deref(),
        settings.http.listen,
        what.reach.token.as_deref(),
    )?;
    let asked = service_view::ask_balances(&client, what.user, what.asset.as_deref());
    let told = start_runtime()?.block_on(asked)?;
    let balances = match &told.balances {
        Ok(balances) => balances,
        Err(reason) => {
            print_error(&format!(
                "balance-cache: {} {}",
                client.base_url(),
                paint_text(BAD, reason)
            ));
            return Ok(ExitCode::FAILURE);
        }
    };
    if what.json {
        say_json(&GetPage {
            user: what.user.get(),
            url: client.base_url(),
            cache_status: &told.way,
            age: told.age,
            balances,
        })?;
    } else {
        print_line(&balance_page(what, &client, &told, balances))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn balance_page(
    what: &Get,
    client: &ServiceClient,
    told: &ServiceAnswer,
    balances: &[ShownBalance],
) -> String {
    let now = clock::wall_now().0;
    let mut table = Table::new(&["ASSET", ">AVAIL", ">FROZEN", ">SEQ", "UPDATED", ">AGE"]);
    for balance in balances {
        let asset = match &balance.unit {
            Some(unit) => format!("{} ({unit})", balance.asset),
            None => balance.asset.clone(),
        };
        let at = balance.updated_at;
        table.add_row(vec![
            Cell::new(asset),
            Cell::new(&balance.avail),
            Cell::new(&balance.frozen),
            Cell::new(balance.seq),
            Cell::new(at.map_or_else(|| "-".to_owned(), moment_text)),
            Cell::new(at.map_or_else(|| "-".to_owned(), |at| span_text(now.saturating_sub(at)))),
        ]);
    }
    let shown = if balances.is_empty() {
        "has nothing".to_owned()
    } else {
        table.to_string()
    };
    let age = told
        .age
        .map_or_else(String::new, |age| format!(", as of {age} s ago"));
    let way = paint_text(FAINT, &format!("({})", told.way));
    format!(
        "user {} at {}\n{shown}\n{}{age} {way}",
        what.user,
        client.base_url(),
        service_view::in_words(&told.way)
    )
}
